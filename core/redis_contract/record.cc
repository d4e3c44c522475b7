#include "core/redis_contract/record.h"

#include <charconv>

#include "core/ids.h"
#include "core/redis_contract/bucket_id.h"

namespace tallygate::redis_contract {
namespace {

constexpr size_t kMaxRecordBytes = 64 * 1024;

bool is_plain(char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; }

// Free text may hold anything but the separators and control bytes.
void append_clean(std::string* out, std::string_view text, std::string_view also) {
  for (const char c : text) *out += is_plain(c) && also.find(c) == std::string_view::npos ? c : '_';
}

void add_field(std::string* out, std::string_view field) {
  *out += '\t';
  *out += field.empty() ? std::string_view("-") : field;
}

void add_cleaned(std::string* out, std::string_view field) {
  *out += '\t';
  append_clean(out, field.empty() ? std::string_view("-") : field, "");
}

void add_number(std::string* out, char separator, int64_t value) {
  char text[21];
  text[0] = separator;
  const auto [end, error] = std::to_chars(text + 1, text + sizeof text, value);
  out->append(text, end);
}

class Fields {
 public:
  explicit Fields(std::string_view text) : rest_(text) {}
  bool next(std::string_view* field) {
    if (done_) return false;
    const size_t tab = rest_.find('\t');
    *field = rest_.substr(0, tab);
    if (tab == std::string_view::npos)
      done_ = true;
    else
      rest_.remove_prefix(tab + 1);
    return true;
  }
  bool done() const { return done_; }

 private:
  std::string_view rest_;
  bool done_ = false;
};

tl::unexpected<Error> bad(const char* field) {
  return fail(Errc::kInvalid, std::string("record: missing or malformed field ") + field);
}

// As encode() writes it: no sign, no leading zero.
bool to_count(std::string_view text, int64_t* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && *out >= 0 && text[0] != '-' &&
         (text[0] != '0' || text.size() == 1);
}

bool is_clean(std::string_view text, std::string_view also) {
  for (const char c : text) {
    if (!is_plain(c) || also.find(c) != std::string_view::npos) return false;
  }
  return true;
}

// A bucket id, with its tenant or without: "tenant|bucket".
bool is_member(std::string_view text) {
  const size_t bar = text.find('|');
  if (bar == std::string_view::npos) return BucketId::parse(text).has_value();
  return TenantId::parse(text.substr(0, bar)).has_value() && BucketId::parse(text.substr(bar + 1)).has_value();
}

bool read_text(Fields& fields, std::string* out) {
  std::string_view field;
  if (!fields.next(&field) || field.empty() || !is_clean(field, "")) return false;
  *out = field;
  return true;
}

bool read_count(Fields& fields, int64_t* out) {
  std::string_view field;
  return fields.next(&field) && to_count(field, out);
}

template <class Fn>
bool split(std::string_view text, char separator, Fn&& fn) {
  if (text == "-") return true;
  while (true) {
    const size_t at = text.find(separator);
    if (!fn(text.substr(0, at))) return false;
    if (at == std::string_view::npos) return true;
    text.remove_prefix(at + 1);
  }
}

Result<Record> decode_usage(Fields& fields, Record record) {
  std::string_view dims, buckets;
  if (!read_text(fields, &record.tenant) || !TenantId::parse(record.tenant)) return bad("tenant");
  if (!read_text(fields, &record.meter) || !is_meter_name(record.meter)) return bad("meter");
  if (!read_count(fields, &record.units)) return bad("units");
  if (!read_count(fields, &record.requests)) return bad("requests");
  if (!read_count(fields, &record.second)) return bad("second");
  if (!fields.next(&dims) || dims.empty()) return bad("dims");
  const bool dims_ok = split(dims, ';', [&](std::string_view pair) {
    const size_t eq = pair.find('=');
    if (eq == std::string_view::npos || eq == 0 || !is_clean(pair.substr(0, eq), "") ||
        !is_clean(pair.substr(eq + 1), "=")) {
      return false;
    }
    record.dims.emplace_back(pair.substr(0, eq), pair.substr(eq + 1));
    return true;
  });
  if (!dims_ok) return bad("dims");
  if (!fields.next(&buckets) || buckets.empty()) return bad("buckets");
  const bool buckets_ok = split(buckets, ',', [&](std::string_view id) {
    if (!BucketId::parse(id)) return false;
    record.buckets.emplace_back(id);
    return true;
  });
  if (!buckets_ok) return bad("buckets");
  return record;
}

Result<Record> decode_final(Fields& fields, Record record) {
  std::string_view list;
  if (!fields.next(&list) || list.empty()) return bad("ceilings");
  const bool ok = split(list, ',', [&](std::string_view pair) {
    const size_t eq = pair.rfind('=');
    int64_t ceiling = 0;
    if (eq == std::string_view::npos || !is_member(pair.substr(0, eq)) || !to_count(pair.substr(eq + 1), &ceiling)) {
      return false;
    }
    record.ceilings.emplace_back(pair.substr(0, eq), ceiling);
    return true;
  });
  if (!ok) return bad("ceilings");
  return record;
}

// The fields that every kind begins with.
Result<Record> read_identity(Fields& fields) {
  std::string_view field;
  Record record;
  if (!fields.next(&field) || field != "1") return bad("version");
  if (!fields.next(&field) || field.size() != 1 || std::string_view("HUFT").find(field) == std::string_view::npos) {
    return bad("kind");
  }
  record.kind = static_cast<RecordKind>(field[0]);
  if (!read_text(fields, &record.incarnation) || !is_incarnation(record.incarnation)) return bad("incarnation");
  if (!read_count(fields, &record.seq) || record.seq == 0) return bad("seq");
  return record;
}

}  // namespace

bool is_incarnation(std::string_view text) {
  if (text.empty() || text.size() > 80) return false;
  for (const char c : text) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-')) return false;
  }
  return true;
}

std::string encode(const Record& record) {
  std::string out;
  encode_to(record, &out);
  return out;
}

void encode_to(const Record& record, std::string* out) {
  *out += "1\t";
  *out += static_cast<char>(record.kind);
  add_field(out, record.incarnation);
  add_number(out, '\t', record.seq);
  add_number(out, '\t', record.epoch);
  switch (record.kind) {
    case RecordKind::kHello:
      add_cleaned(out, record.boot_id);
      add_cleaned(out, record.pod);
      add_cleaned(out, record.software);
      break;
    case RecordKind::kUsage: {
      add_field(out, record.tenant);
      add_field(out, record.meter);
      add_number(out, '\t', record.units);
      add_number(out, '\t', record.requests);
      add_number(out, '\t', record.second);
      char separator = '\t';
      for (const auto& [k, v] : record.dims) {
        *out += separator;
        append_clean(out, k, ";=");
        *out += '=';
        append_clean(out, v, ";=");
        separator = ';';
      }
      if (record.dims.empty()) *out += "\t-";
      separator = '\t';
      for (const auto& id : record.buckets) {
        *out += separator;
        *out += id;
        separator = ',';
      }
      if (record.buckets.empty()) *out += "\t-";
      break;
    }
    case RecordKind::kFinal: {
      char separator = '\t';
      for (const auto& [id, n] : record.ceilings) {
        *out += separator;
        *out += id;
        add_number(out, '=', n);
        separator = ',';
      }
      if (record.ceilings.empty()) *out += "\t-";
      break;
    }
    case RecordKind::kTorn:
      add_field(out, record.torn_incarnation);
      break;
  }
}

Result<Record> decode(std::string_view text) {
  if (text.size() > kMaxRecordBytes) return fail(Errc::kInvalid, "record: longer than 64 KiB");
  Fields fields(text);
  auto read = read_identity(fields);
  if (!read) return read;
  Record record = std::move(*read);
  if (!read_count(fields, &record.epoch)) return bad("epoch");
  Result<Record> result = bad("kind");
  switch (record.kind) {
    case RecordKind::kHello:
      if (record.seq != 1) return bad("seq (hello is always the first)");
      if (!read_text(fields, &record.boot_id)) return bad("boot id");
      if (!read_text(fields, &record.pod)) return bad("pod");
      if (!read_text(fields, &record.software)) return bad("software");
      result = std::move(record);
      break;
    case RecordKind::kUsage:
      result = decode_usage(fields, std::move(record));
      break;
    case RecordKind::kFinal:
      result = decode_final(fields, std::move(record));
      break;
    case RecordKind::kTorn:
      if (record.epoch != 0) return bad("epoch (a torn log is of none)");
      if (!read_text(fields, &record.torn_incarnation) || !is_incarnation(record.torn_incarnation)) return bad("torn");
      result = std::move(record);
      break;
  }
  if (result && !fields.done()) return bad("end (there are more fields than the kind has)");
  return result;
}

std::optional<Record> decode_identity(std::string_view text) {
  Fields fields(text);
  auto record = read_identity(fields);
  if (!record) return std::nullopt;
  return std::move(*record);
}

}  // namespace tallygate::redis_contract
