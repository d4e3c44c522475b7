// What the fields of a head mean for framing and forwarding.
#include "core/http1/chars.h"
#include "core/http1/field_id.h"
#include "core/http1/head.h"

namespace tallygate::http1 {
namespace {

// Calls fn(token) for each non-empty member of a comma-separated list; stops and returns false when fn does.
template <class Fn>
bool for_each_member(std::string_view list, Fn fn) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    const std::string_view member = trim(list.substr(0, comma));
    if (!member.empty() && !fn(member)) return false;
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return true;
}

bool all_digits(std::string_view text) { return all_of_class(text, kDigitChar); }

}  // namespace

bool valid_authority(std::string_view text) {
  std::string_view host = text;
  std::string_view port;
  if (!text.empty() && text.front() == '[') {
    const size_t close = text.find(']');
    if (close == std::string_view::npos || close < 3) return false;
    for (const char c : text.substr(1, close - 1)) {
      if (!has_class(c, kHostChar) && c != ':') return false;
    }
    host = text.substr(0, close + 1);
    const std::string_view rest = text.substr(close + 1);
    if (rest.empty()) return true;
    if (rest.front() != ':') return false;
    port = rest.substr(1);
  } else {
    const size_t colon = text.find(':');
    host = text.substr(0, colon);
    if (colon != std::string_view::npos) port = text.substr(colon + 1);
    if (!all_of_class(host, kHostChar)) return false;
  }
  return !host.empty() && port.size() <= 5 && all_digits(port);
}

bool Head::note_length(std::string_view value) {
  // 18 digits cannot overflow, and no message is longer.
  if (content_length >= 0 || value.empty() || value.size() > 18 || !all_digits(value)) {
    return fail(ParseError::kContentLength);
  }
  content_length = 0;
  for (const char c : value) content_length = content_length * 10 + (c - '0');
  return true;
}

bool Head::note_connection(const char* data, const Field& field) {
  if (equals_lower(value(data, field), "keep-alive")) return keep_alive = true;
  const bool ok = for_each_member(value(data, field), [&](std::string_view token) {
    if (equals_lower(token, "close")) {
      close = true;
    } else if (equals_lower(token, "keep-alive")) {
      keep_alive = true;
    } else if (equals_lower(token, "upgrade")) {
      connection_upgrade_ = true;
    } else {
      if (listed_count_ == kListedMax || !all_of_class(token, kTokenChar)) return false;
      listed_[listed_count_++] = {static_cast<uint32_t>(token.data() - data), static_cast<uint32_t>(token.size())};
    }
    return true;
  });
  return ok || fail(ParseError::kConnectionField);
}

bool Head::note_field(const char* data, Field& field) {
  const std::string_view text = value(data, field);
  switch (field.id) {
    case FieldId::kHost:
      if (kind_ != Kind::kRequest) return true;
      if (host_seen_) return fail(ParseError::kHostRepeated);
      host_seen_ = true;
      if (!valid_authority(text)) return fail(ParseError::kHostInvalid);
      if (absolute_form)
        field.hop_by_hop = true;  // RFC 9112 3.2.2: the target's authority replaces it
      else
        authority = {field.value, field.value_size};
      return true;
    case FieldId::kContentLength:
      field.hop_by_hop = true;  // said anew by whoever writes the head
      return note_length(text);
    case FieldId::kTransferEncoding:
      field.hop_by_hop = true;
      if (chunked || minor_version == 0 || !equals_lower(text, "chunked")) return fail(ParseError::kTransferEncoding);
      chunked = true;
      return true;
    case FieldId::kConnection:
      field.hop_by_hop = true;
      return note_connection(data, field);
    case FieldId::kTe:
      field.hop_by_hop = true;
      for_each_member(text, [this](std::string_view member) {
        te_trailers |= equals_lower(member, "trailers");
        return true;
      });
      return true;
    case FieldId::kUpgrade:
      field.hop_by_hop = true;
      for_each_member(text, [this](std::string_view member) {
        upgrade_other_ |= !equals_lower(member, "h2c");
        return true;
      });
      return true;
    case FieldId::kKeepAlive:
    case FieldId::kProxyConnection:
    case FieldId::kProxyAuthenticate:
    case FieldId::kProxyAuthorization:
    case FieldId::kHttp2Settings:
      field.hop_by_hop = true;
      return true;
    case FieldId::kExpect:
      has_expect = true;
      expect_continue = equals_lower(text, "100-continue");
      return true;
    case FieldId::kForwardedFor:
      has_forwarded_for = true;
      return true;
    case FieldId::kForwardedProto:
      has_forwarded_proto = true;
      return true;
    case FieldId::kRequestId:
      if (request_id_count++ == 0) request_id = {field.value, field.value_size};
      return true;
    case FieldId::kOther:
    case FieldId::kProtected:
      return true;
  }
  return true;
}

// RFC 9110 7.6.1: what Connection names stays on this hop. It cannot name what frames, routes or authenticates a
// message: those have an id of their own and are dealt with by it.
void Head::drop_listed(const char* data) {
  for (size_t i = 0; i < field_count; ++i) {
    Field& field = fields[i];
    if (field.id != FieldId::kOther) continue;
    for (size_t k = 0; k < listed_count_; ++k) {
      const std::string_view token = view(data, listed_[k]);
      if (token.size() != field.name_size) continue;
      size_t at = 0;
      while (at < token.size() && lower(token[at]) == lower(data[field.line + at])) ++at;
      if (at == token.size()) field.hop_by_hop = true;
    }
  }
}

bool Head::finish(const char* data) {
  if (kind_ == Kind::kTrailer) return true;
  if (chunked && content_length >= 0) return fail(ParseError::kLengthAndEncoding);
  if (kind_ == Kind::kRequest && !host_seen_ && minor_version == 1) return fail(ParseError::kHostMissing);
  upgrade = connection_upgrade_ && upgrade_other_;
  if (listed_count_ > 0) drop_listed(data);
  return true;
}

}  // namespace tallygate::http1
