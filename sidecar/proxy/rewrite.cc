#include "sidecar/proxy/rewrite.h"

#include <algorithm>
#include <charconv>

#include "core/http1/chars.h"
#include "core/http1/field_id.h"

namespace tallygate::proxy {

using http1::Field;
using http1::FieldId;
using http1::Head;

void Out::put_number(uint64_t value) { at = std::to_chars(at, at + 20, value).ptr; }
void Out::put_hex(uint64_t value) { at = std::to_chars(at, at + 16, value, 16).ptr; }

namespace {

// Copies the fields for which keep() says so.
template <class Keep>
void put_fields(const Head& head, const char* data, Out& out, Keep keep) {
  const char* run = nullptr;  // of lines to be copied as they are
  const char* run_end = nullptr;
  const auto flush = [&] {
    if (run != nullptr) out.put({run, static_cast<size_t>(run_end - run)});
    run = nullptr;
  };
  for (size_t i = 0; i < head.field_count; ++i) {
    const Field& field = head.fields[i];
    if (field.hop_by_hop || !keep(field)) continue;
    const char* line = data + field.line;
    if (field.plain) {
      if (run == nullptr || line != run_end) {
        flush();
        run = line;
      }
      run_end = data + field.value + field.value_size + 2;
      continue;
    }
    flush();
    out.put(head.name(data, field));
    out.put(": ");
    out.put(head.value(data, field));
    out.put("\r\n");
  }
  flush();
}

void put_target(const Head& head, const char* data, std::string_view path, Out& out) {
  if (path.data() != nullptr)
    out.put(path);
  else if (head.path.size > 0)
    out.put(head.view(data, head.path));
  else
    out.put(head.view(data, head.method) == "OPTIONS" && !head.has_query ? '*' : '/');
  if (!head.has_query) return;
  out.put('?');
  out.put(head.view(data, head.query));
}

// All values in one field: many readers look at the first alone, which the client wrote.
void put_forwarded_for(const Head& head, const char* data, std::string_view address, Out& out) {
  out.put("X-Forwarded-For: ");
  if (head.has_forwarded_for) {
    for (size_t i = 0; i < head.field_count; ++i) {
      const Field& field = head.fields[i];
      if (field.id != FieldId::kForwardedFor || field.value_size == 0) continue;
      out.put(head.value(data, field));
      out.put(", ");
    }
  }
  out.put(address);
  out.put("\r\n");
}

// What is written here, in the spellings that an app may take for it: as they are, they have a FieldId.
const NameSet kOwnNames({"content-length", "transfer-encoding", "x-forwarded-for", "x-forwarded-proto",
                         "x-request-id"});

// In any spelling that an app may take for it.
bool is_accept_encoding(std::string_view name) {
  return name.size() == 15 && http1::fold_name(name) == "accept-encoding";
}

}  // namespace

bool mimics_own(std::string_view name) { return kOwnNames.contains(name); }

bool has_date(const Head& head, const char* data) {
  for (size_t i = 0; i < head.field_count; ++i) {
    const Field& field = head.fields[i];
    if (field.name_size == 4 && http1::detail::same_name(data + field.line, "date")) return !field.hop_by_hop;
  }
  return false;
}

int64_t take_max_forwards(Head& head, const char* data) {
  int64_t forwards = -1;
  for (size_t i = 0; i < head.field_count; ++i) {
    Field& field = head.fields[i];
    if (!http1::equals_lower(head.name(data, field), "max-forwards")) continue;
    const std::string_view text = head.value(data, field);
    if (text.empty() || !http1::all_of_class(text, http1::kDigitChar)) continue;
    field.hop_by_hop = true;
    int64_t value = INT32_MAX;  // what is larger goes on as this
    std::from_chars(text.data(), text.data() + text.size(), value);
    value = std::min<int64_t>(value, INT32_MAX);
    forwards = forwards < 0 ? value : std::min(forwards, value);
  }
  return forwards;
}

size_t write_request_head(const Head& head, const char* data, const RequestRewrite& how, char* begin) {
  Out out{begin};
  out.put(head.view(data, head.method));
  out.put(' ');
  put_target(head, data, how.path, out);
  out.put(" HTTP/1.1\r\n");
  if (head.absolute_form)
    out.field("Host: ", head.view(data, head.authority));
  else if (head.authority.size == 0)
    out.field("Host: ", how.default_host);
  const bool other_encodings = how.accept_encoding.data() != nullptr;
  put_fields(head, data, out, [&](const Field& field) {
    if (field.id == FieldId::kRequestId || field.id == FieldId::kExpect) return false;
    if (other_encodings && is_accept_encoding(head.name(data, field))) [[unlikely]]
      return false;
    if (field.id == FieldId::kForwardedFor && !how.forwarded_for.empty()) return false;
    const std::string_view name = head.name(data, field);
    return !how.strip->contains(name) && !(field.id == FieldId::kOther && mimics_own(name));
  });
  if (!how.forwarded_for.empty()) put_forwarded_for(head, data, how.forwarded_for, out);
  if (how.forwarded_proto && !head.has_forwarded_proto) out.put("X-Forwarded-Proto: http\r\n");
  out.field("X-Request-Id: ", how.request_id);
  if (how.max_forwards >= 0) {
    out.put("Max-Forwards: ");
    out.put_number(static_cast<uint64_t>(how.max_forwards));
    out.put("\r\n");
  }
  if (!how.accept_encoding.empty()) out.field("Accept-Encoding: ", how.accept_encoding);
  if (how.expect_continue) out.put("Expect: 100-continue\r\n");
  if (head.te_trailers) out.put("TE: trailers\r\nConnection: TE\r\n");  // RFC 9110 10.1.4
  if (!how.via.empty()) out.field("Via: ", how.via);
  if (head.chunked) {
    out.put("Transfer-Encoding: chunked\r\n");
  } else if (head.content_length >= 0) {
    out.put("Content-Length: ");
    out.put_number(static_cast<uint64_t>(head.content_length));
    out.put("\r\n");
  }
  return static_cast<size_t>(out.at - begin);
}

size_t write_response_head(const Head& head, const char* data, const ResponseRewrite& how, char* begin) {
  Out out{begin};
  out.put("HTTP/1.1 ");
  out.put_number(static_cast<uint64_t>(head.status));
  out.put(' ');
  out.put(head.view(data, head.reason));
  out.put("\r\n");
  put_fields(head, data, out, [&](const Field& field) {
    return field.id != FieldId::kRequestId && (how.drop == nullptr || !how.drop->contains(head.name(data, field)));
  });
  out.put(how.extra);
  if (!how.date.empty()) out.field("Date: ", how.date);
  if (!how.request_id.empty()) out.field("X-Request-Id: ", how.request_id);
  if (!how.via.empty()) out.field("Via: ", how.via);
  if (how.content_length >= 0) {
    out.put("Content-Length: ");
    out.put_number(static_cast<uint64_t>(how.content_length));
    out.put("\r\n");
  } else if (how.chunked) {
    out.put("Transfer-Encoding: chunked\r\n");
  }
  if (!how.connection.empty()) out.field("Connection: ", how.connection);
  out.put("\r\n");
  return static_cast<size_t>(out.at - begin);
}

}  // namespace tallygate::proxy
