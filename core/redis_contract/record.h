// What a sidecar tells the ledger, one entry of a shard's stream each. Immutable once logged: a record's id (shard,
// incarnation, seq) and content are written to the segment log before the first send, and never formed again (rule 11).
//
// Text form, fields separated by tabs, first the format's version:
//   1 H <incarnation> <seq> <epoch> <boot id> <pod> <software version>                 hello: registration, always seq
//   1 1 U <incarnation> <seq> <epoch> <tenant> <meter> <units> <requests> <second> <dims> <buckets>   usage 1 F
//   <incarnation> <seq> <epoch> <bucket=ceiling,…>      final report: at most so much will ever be booked of that
//   epoch;
//                                    each bucket as "tenant|bucket" (keys.h member()), or bare where there is but one
//                                    tenant
//   1 T <incarnation> <seq> 0 <incarnation of the torn log> its disk lost its last second: it returns nothing
// <epoch> 0 on usage: admitted without a lease, under `onUnavailable: Allow`. <dims> k=v;k=v or "-"; <buckets> ids
// joined by commas, or "-"; units count against each of them. <second>: Unix time of admission.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"

namespace tallygate::redis_contract {

enum class RecordKind : char { kHello = 'H', kUsage = 'U', kFinal = 'F', kTorn = 'T' };

struct Record {
  RecordKind kind = RecordKind::kUsage;
  std::string incarnation;  // [a-z0-9.-]{1,80}
  int64_t seq = 0;          // from 1, without gaps, per incarnation and shard
  int64_t epoch = 0;
  // kHello
  std::string boot_id, pod, software;
  // kUsage
  std::string tenant, meter;
  int64_t units = 0, requests = 0, second = 0;
  std::vector<std::pair<std::string, std::string>> dims;
  std::vector<std::string> buckets;
  // kFinal
  std::vector<std::pair<std::string, int64_t>> ceilings;
  // kTorn
  std::string torn_incarnation;

  bool operator==(const Record&) const = default;
};

bool is_incarnation(std::string_view text);  // [a-z0-9.-]{1,80}
std::string encode(const Record& record);
void encode_to(const Record& record, std::string* out);  // appends
// Refuses anything that encode() would not have written; the message names the field. A refused record is poison: the
// pump quarantines it (rule 16).
Result<Record> decode(std::string_view text);
// Of a text that decode() or the ledger refuses: whose record it is, if that much can be read: incarnation, seq and
// kind. Of formats and kinds that this version does not know, nothing can be read: a later one may.
std::optional<Record> decode_identity(std::string_view text);

}  // namespace tallygate::redis_contract
