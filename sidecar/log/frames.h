// The frames of a records file: {length, CRC-32, batch, kind} and a payload of text.
//
// batch 0: valid as soon as it is whole (definitions, hello, snapshots); otherwise valid once the head's committed
// batch has reached it. A torn or foreign tail ends the file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"

namespace tallygate::sidecar {

enum class FrameKind : uint32_t { kFile = 'F', kDefinition = 'D', kRecord = 'R', kSnapshot = 'S' };

struct Frame {
  FrameKind kind = FrameKind::kRecord;
  uint32_t batch = 0;
  std::string_view payload;
};

void append_frame(std::string* out, FrameKind kind, uint32_t batch, std::string_view payload);
// A record's frame also says which shard's stream it belongs to.
void append_record_frame(std::string* out, uint32_t batch, int shard, std::string_view record);
Result<std::pair<int, std::string_view>> decode_record_frame(std::string_view payload);
// Takes the next whole frame off `bytes`; false at the end or where the rest is not a whole, sound frame.
bool next_frame(std::string_view* bytes, Frame* frame);

// The first frame of each file: which one it is, whose, and how long the one before it was when it was closed.
struct FileTitle {
  uint32_t index = 0;
  uint64_t bytes_before = 0;
  std::string incarnation;
};
void append_title_frame(std::string* out, const FileTitle& title);
Result<FileTitle> decode_title(std::string_view payload);

// What one request is charged: units of each meter against each of its buckets.
struct ChargeTarget {
  std::string meter;
  std::vector<std::string> buckets;  // bucket ids (core/redis_contract/bucket_id.h)
  bool operator==(const ChargeTarget&) const = default;
};

inline constexpr size_t kMaxCharges = 8;

// What slots refer to by number.
struct Definition {
  std::string tenant;
  std::string route;
  int64_t epoch = 0;                  // 0: no lease stands behind it
  std::vector<ChargeTarget> charges;  // at most kMaxCharges
  bool operator==(const Definition&) const = default;
};

// kInvalid where a reader of the log or of its records would refuse it: such a definition must never be logged.
Result<void> check_definition(const Definition& definition);
std::string encode_definition(uint32_t id, const Definition& definition);
Result<std::pair<uint32_t, Definition>> decode_definition(std::string_view text);

// Units booked so far per (epoch, "tenant|bucket"): what a successor subtracts from the grants.
using Spent = std::map<std::pair<int64_t, std::string>, int64_t>;

// The state at the start of a records file, so that older files can be deleted.
struct Snapshot {
  Spent spent;
  std::map<int, int64_t> last_seq;  // per shard
  int64_t forgotten_until_s = 0;    // of windows that end later nothing of `spent` was forgotten
  bool operator==(const Snapshot&) const = default;
};

// The payloads of as many snapshot frames as it takes; never none.
std::vector<std::string> encode_snapshot(const Spent& spent, const std::map<int, int64_t>& last_seq,
                                         int64_t forgotten_until_s, size_t max_bytes = 1 << 20);
// Adds what one of them says.
Result<void> decode_snapshot(std::string_view text, Snapshot* snapshot);
// When the window of a "tenant|bucket" ends; never, for a wallet's.
int64_t window_end_s(std::string_view member);
// Spent totals saturate: whoever is told of more spent than was ever granted returns nothing.
inline void add_saturating(int64_t* total, int64_t units) {
  if (__builtin_add_overflow(*total, units, total)) *total = INT64_MAX;
}

}  // namespace tallygate::sidecar
