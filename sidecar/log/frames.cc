#include "sidecar/log/frames.h"

#include <zlib.h>

#include <charconv>
#include <cstring>

#include "core/ids.h"
#include "core/redis_contract/bucket_id.h"
#include "core/redis_contract/keys.h"
#include "core/redis_contract/record.h"

namespace tallygate::sidecar {
namespace {

constexpr size_t kHeaderBytes = 16;
constexpr uint32_t kMaxPayload = 1 << 24;
constexpr size_t kMaxRouteBytes = 253;
constexpr size_t kMaxBuckets = 256;  // of one charge: a record's text stays well below its bound

uint32_t read_u32(const char* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

void append_u32(std::string* out, uint32_t value) { out->append(reinterpret_cast<const char*>(&value), sizeof value); }

uint32_t checksum(std::string_view bytes) {
  return static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

void append_number(std::string* out, int64_t value) {
  char text[20];
  out->append(text, std::to_chars(text, text + sizeof text, value).ptr);
}

size_t begin_frame(std::string* out, FrameKind kind, uint32_t batch) {
  const size_t at = out->size();
  append_u32(out, 0);
  append_u32(out, 0);
  append_u32(out, batch);
  append_u32(out, static_cast<uint32_t>(kind));
  return at;
}

void end_frame(std::string* out, size_t at) {
  const size_t payload = out->size() - at - kHeaderBytes;
  TG_ASSERT(payload < kMaxPayload);
  const auto length = static_cast<uint32_t>(payload);
  const uint32_t sum = checksum(std::string_view(*out).substr(at + 8));
  std::memcpy(out->data() + at, &length, sizeof length);
  std::memcpy(out->data() + at + 4, &sum, sizeof sum);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  if (text.empty()) return parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

template <class T>
bool number(std::string_view text, T* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size();
}

bool shard_number(std::string_view text, int* out) {
  return number(text, out) && *out >= 0 && *out < redis_contract::kShards && text == std::to_string(*out);
}

}  // namespace

void append_frame(std::string* out, FrameKind kind, uint32_t batch, std::string_view payload) {
  const size_t at = begin_frame(out, kind, batch);
  *out += payload;
  end_frame(out, at);
}

bool next_frame(std::string_view* bytes, Frame* frame) {
  if (bytes->size() < kHeaderBytes) return false;
  const uint32_t length = read_u32(bytes->data());
  if (length >= kMaxPayload || bytes->size() - kHeaderBytes < length) return false;
  if (read_u32(bytes->data() + 4) != checksum(bytes->substr(8, 8 + length))) return false;
  frame->batch = read_u32(bytes->data() + 8);
  frame->kind = static_cast<FrameKind>(read_u32(bytes->data() + 12));
  frame->payload = bytes->substr(kHeaderBytes, length);
  bytes->remove_prefix(kHeaderBytes + length);
  return true;
}

void append_record_frame(std::string* out, uint32_t batch, int shard, std::string_view record) {
  const size_t at = begin_frame(out, FrameKind::kRecord, batch);
  append_number(out, shard);
  *out += '\t';
  *out += record;
  end_frame(out, at);
}

Result<std::pair<int, std::string_view>> decode_record_frame(std::string_view payload) {
  const size_t tab = payload.find('\t');
  int shard = -1;
  if (tab == std::string_view::npos || !shard_number(payload.substr(0, tab), &shard)) {
    return fail(Errc::kInvalid, "usage log: malformed record frame");
  }
  return std::pair{shard, payload.substr(tab + 1)};
}

// index \t bytes before \t incarnation
void append_title_frame(std::string* out, const FileTitle& title) {
  append_frame(out, FrameKind::kFile, 0,
               std::to_string(title.index) + "\t" + std::to_string(title.bytes_before) + "\t" + title.incarnation);
}

Result<FileTitle> decode_title(std::string_view payload) {
  const auto fields = split(payload, '\t');
  FileTitle title;
  if (fields.size() != 3 || !number(fields[0], &title.index) || !number(fields[1], &title.bytes_before) ||
      !redis_contract::is_incarnation(fields[2])) {
    return fail(Errc::kInvalid, "usage log: malformed title of a file");
  }
  title.incarnation = fields[2];
  return title;
}

Result<void> check_definition(const Definition& definition) {
  const auto bad = [](const std::string& what) { return fail(Errc::kInvalid, "usage log: a definition's " + what); };
  if (!TenantId::parse(definition.tenant)) return bad("tenant is no tenant: " + definition.tenant);
  if (definition.epoch < 0) return bad("epoch is negative");
  for (const char c : definition.route) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return bad("route has a control character");
  }
  if (definition.route.size() > kMaxRouteBytes) return bad("route is too long");
  if (definition.charges.size() > kMaxCharges) return bad("charges are too many");
  for (const auto& charge : definition.charges) {
    if (!is_meter_name(charge.meter)) return bad("meter is no meter: " + charge.meter);
    if (charge.buckets.size() > kMaxBuckets) return bad("buckets are too many");
    for (const auto& bucket : charge.buckets) {
      if (!redis_contract::BucketId::parse(bucket)) return bad("bucket is no bucket: " + bucket);
    }
  }
  return {};
}

// id \t epoch \t tenant \t route { \t meter=bucket,bucket }
std::string encode_definition(uint32_t id, const Definition& definition) {
  std::string out =
      std::to_string(id) + "\t" + std::to_string(definition.epoch) + "\t" + definition.tenant + "\t" + definition.route;
  for (const auto& charge : definition.charges) {
    out += "\t" + charge.meter + "=";
    for (size_t i = 0; i < charge.buckets.size(); ++i) out += (i > 0 ? "," : "") + charge.buckets[i];
  }
  return out;
}

Result<std::pair<uint32_t, Definition>> decode_definition(std::string_view text) {
  const auto fields = split(text, '\t');
  std::pair<uint32_t, Definition> result;
  if (fields.size() < 4 || fields.size() > 4 + kMaxCharges || !number(fields[0], &result.first) ||
      !number(fields[1], &result.second.epoch)) {
    return fail(Errc::kInvalid, "usage log: malformed definition");
  }
  result.second.tenant = fields[2];
  result.second.route = fields[3];
  for (size_t i = 4; i < fields.size(); ++i) {
    const size_t eq = fields[i].find('=');
    if (eq == std::string_view::npos) return fail(Errc::kInvalid, "usage log: malformed definition");
    ChargeTarget charge{std::string(fields[i].substr(0, eq)), {}};
    for (const auto bucket : split(fields[i].substr(eq + 1), ',')) charge.buckets.emplace_back(bucket);
    result.second.charges.push_back(std::move(charge));
  }
  return result;
}

int64_t window_end_s(std::string_view member) {
  const auto bucket = redis_contract::BucketId::parse(member.substr(member.find('|') + 1));
  return bucket && !bucket->wallet ? bucket->start_s + bucket->length_s : INT64_MAX;
}

// Lines: "s <epoch> <units> <tenant|bucket>", "n <shard> <last seq>" and "f 0 <forgotten until>", the last one where
// anything was.
std::vector<std::string> encode_snapshot(const Spent& spent, const std::map<int, int64_t>& last_seq,
                                         int64_t forgotten_until_s, size_t max_bytes) {
  std::vector<std::string> parts(1);
  std::string line;
  const auto add = [&](const char* kind, int64_t a, int64_t b, std::string_view member) {
    line = kind;
    append_number(&line, a);
    line += '\t';
    append_number(&line, b);
    if (!member.empty()) line += '\t';
    line += member;
    line += '\n';
    if (!parts.back().empty() && parts.back().size() + line.size() > max_bytes) parts.emplace_back();
    parts.back() += line;
  };
  for (const auto& [key, units] : spent) add("s\t", key.first, units, key.second);
  for (const auto& [shard, seq] : last_seq) add("n\t", shard, seq, "");
  if (forgotten_until_s > 0) add("f\t", 0, forgotten_until_s, "");
  return parts;
}

Result<void> decode_snapshot(std::string_view text, Snapshot* snapshot) {
  for (const auto line : split(text, '\n')) {
    if (line.empty()) continue;
    const auto fields = split(line, '\t');
    int64_t epoch = 0, value = 0;
    int shard = 0;
    const bool counted = fields.size() >= 3 && number(fields[2], &value) && value >= 0;
    if (counted && fields[0] == "s" && fields.size() == 4 && number(fields[1], &epoch)) {
      snapshot->spent[{epoch, std::string(fields[3])}] = value;
    } else if (counted && fields[0] == "n" && fields.size() == 3 && shard_number(fields[1], &shard)) {
      snapshot->last_seq[shard] = value;
    } else if (counted && fields[0] == "f" && fields.size() == 3 && fields[1] == "0") {
      snapshot->forgotten_until_s = value;
    } else {
      return fail(Errc::kInvalid, "usage log: malformed snapshot");
    }
  }
  return {};
}

}  // namespace tallygate::sidecar
