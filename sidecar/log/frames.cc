#include "sidecar/log/frames.h"

#include <zlib.h>

#include <charconv>
#include <cstring>

namespace tallygate::sidecar {
namespace {

constexpr size_t kHeaderBytes = 16;
constexpr uint32_t kMaxPayload = 1 << 24;

uint32_t read_u32(const char* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

void append_u32(std::string* out, uint32_t value) { out->append(reinterpret_cast<const char*>(&value), sizeof value); }

uint32_t checksum(std::string_view bytes) {
  return static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
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

}  // namespace

void append_frame(std::string* out, FrameKind kind, uint32_t batch, std::string_view payload) {
  TG_ASSERT(payload.size() < kMaxPayload);
  std::string body;
  append_u32(&body, batch);
  append_u32(&body, static_cast<uint32_t>(kind));
  body += payload;
  append_u32(out, static_cast<uint32_t>(payload.size()));
  append_u32(out, checksum(body));
  *out += body;
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
  append_frame(out, FrameKind::kRecord, batch, std::to_string(shard) + "\t" + std::string(record));
}

Result<std::pair<int, std::string_view>> decode_record_frame(std::string_view payload) {
  const size_t tab = payload.find('\t');
  int shard = -1;
  if (tab == std::string_view::npos || !number(payload.substr(0, tab), &shard) || shard < 0) {
    return fail(Errc::kInvalid, "usage log: malformed record frame");
  }
  return std::pair{shard, payload.substr(tab + 1)};
}

// id \t epoch \t tenant \t route { \t meter=bucket,bucket }
std::string encode_definition(uint32_t id, const Definition& definition) {
  std::string out = std::to_string(id) + "\t" + std::to_string(definition.epoch) + "\t" + definition.tenant + "\t" +
                    definition.route;
  for (const auto& charge : definition.charges) {
    out += "\t" + charge.meter + "=";
    for (size_t i = 0; i < charge.buckets.size(); ++i) out += (i > 0 ? "," : "") + charge.buckets[i];
  }
  return out;
}

Result<std::pair<uint32_t, Definition>> decode_definition(std::string_view text) {
  const auto fields = split(text, '\t');
  std::pair<uint32_t, Definition> result;
  if (fields.size() < 4 || !number(fields[0], &result.first) || !number(fields[1], &result.second.epoch)) {
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

// Lines: "s <epoch> <units> <tenant|bucket>" and "n <shard> <last seq>".
std::string encode_snapshot(const Snapshot& snapshot) {
  std::string out;
  for (const auto& [key, units] : snapshot.spent) {
    out += "s\t" + std::to_string(key.first) + "\t" + std::to_string(units) + "\t" + key.second + "\n";
  }
  for (const auto& [shard, seq] : snapshot.last_seq) {
    out += "n\t" + std::to_string(shard) + "\t" + std::to_string(seq) + "\n";
  }
  return out;
}

Result<Snapshot> decode_snapshot(std::string_view text) {
  Snapshot snapshot;
  const auto bad = [] { return fail(Errc::kInvalid, "usage log: malformed snapshot"); };
  for (const auto line : split(text, '\n')) {
    if (line.empty()) continue;
    const auto fields = split(line, '\t');
    int64_t a = 0, b = 0;
    if (fields.size() < 3 || !number(fields[1], &a) || !number(fields[2], &b)) return bad();
    if (fields[0] == "s" && fields.size() == 4) snapshot.spent[{a, std::string(fields[3])}] = b;
    else if (fields[0] == "n" && fields.size() == 3) snapshot.last_seq[static_cast<int>(a)] = b;
    else return bad();
  }
  return snapshot;
}

}  // namespace tallygate::sidecar
