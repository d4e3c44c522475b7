// What the pump read in one turn: records to book, entries that are none, and which entries to acknowledge.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/redis_client/reply.h"
#include "operator/ledger/escrow_store.h"

namespace tallygate::pump {

struct Batch {
  std::vector<ledger::StagedRecord> records;
  std::vector<ledger::PoisonRecord> poison;
  std::map<int, std::vector<std::string>> entry_ids;  // by shard
  int64_t oldest_ms = 0;                              // of the entries' ids; 0: no entry
  size_t entries = 0;
  size_t longest = 0;  // the most entries of one stream

  bool empty() const { return entries == 0; }
};

// Reads the answer of XREADGROUP over streams whose names usage_key() made. Never fails: what is no record is poison.
Batch read_batch(redis::Reply reply);

// Why the ledger could not take this record, for reasons beyond its form: figures out of all bounds. Empty: it can.
std::string refusal(const redis_contract::Record& record);

}  // namespace tallygate::pump
