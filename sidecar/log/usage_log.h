// One incarnation's usage log: admissions in, numbered records out (rules 1, 2, 10, 11; README.md beside this
// file).
//
// Threading: the data plane's thread only. admit() and settle() make no system call but for the rare new segment;
// commit_batch() makes one write(2). Durability against a crash of the process is immediate; against a crash of the
// node it is the Syncer's, each second.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/redis_contract/record.h"
#include "core/result.h"
#include "sidecar/log/frames.h"
#include "sidecar/log/outbox.h"
#include "sidecar/log/record_files.h"
#include "sidecar/log/segments.h"

namespace tallygate::sidecar {

struct LogIdentity {
  std::string incarnation;  // [a-z0-9.-]{1,80}, never used before
  std::string boot_id;      // kernel_boot_id()
  std::string pod;
};

struct LogLimits {
  size_t max_segments = 256;          // of 1 MiB
  uint64_t max_file_bytes = 4 << 20;  // then the next records file starts
  bool keep_booked = false;           // files whose records are booked stay, as booked-N
  size_t max_unacked = 200'000;       // records that wait for the ledger; past that nothing is admitted
};

class UsageLog {
 public:
  // Makes `folder`, which must not exist; its name is "inc-" and the incarnation.
  ~UsageLog();
  static Result<std::unique_ptr<UsageLog>> create(std::string folder, LogIdentity identity, LogLimits limits = {});

  // The number of a definition; the same for equal ones. The first of a shard also logs the hello record. kInvalid: it
  // could not be read back. Definitions name windows and epochs, so new ones come for ever:
  Result<uint32_t> define(const Definition& definition);
  // the counterpart of one define(): after the last one, nothing more is admitted under that number. Once all of its
  // admissions are booked, it may stand for another definition.
  void release(uint32_t definition);

  // Logs an admission before it is forwarded; `units` as the definition's charges. Null: the log is full
  // (last_error()).
  Slot* admit(uint32_t definition, std::span<const int64_t> units, int64_t second);
  // Of an admission in flight: one charge's units are more by now. A successor books what it finds.
  void raise(Slot* slot, size_t charge, int64_t units) {
    __atomic_store_n(&slot->units[charge], units, __ATOMIC_RELEASE);
  }
  // The metered units are final; the slot is not the caller's any more.
  void settle(Slot* slot, std::span<const int64_t> units);

  // Forms one record per (definition, charge, second) out of what was settled, writes them, and adds them to the
  // outbox. On failure nothing is lost: the next call tries again.
  Result<void> commit_batch();
  // Reports a predecessor whose disk may have lost its last second (rule 2).
  Result<void> report_torn(int shard, const std::string& incarnation);

  Outbox& outbox() { return outbox_; }
  const Outbox& outbox() const { return outbox_; }
  // Call after the outbox was acknowledged: deletes files that are no longer needed.
  void trim();

  // Units in records so far, per (epoch, "tenant|bucket").
  const Spent& spent() const { return spent_; }
  // Those of windows that end until then may be less than was spent.
  int64_t forgotten_until_s() const { return forgotten_until_s_; }
  // The same with what is in no record yet: what was admitted in all.
  Spent admitted() const;
  // Looks whether a successor would find the folder, and whether there is room in it; `around`: what is known of the
  // data folder. kConflict: it would not, for the folder or a file of it was deleted or replaced: nothing is admitted
  // until it is back. kExhausted: the disk is full, or a write has failed and would again.
  Result<void> examine(const Result<void>& around);

  // Forgets what was spent in windows that ended before `second`: nobody leases from those any more, so what a
  // successor would return to them matters to nobody, and it returns nothing: the clock may have been wrong. Without it
  // the totals of a long life would fill the memory.
  void forget_ended(int64_t second);
  size_t definitions() const { return ids_.size(); }
  size_t in_flight() const { return segments_.in_flight(); }
  bool settled_pending() const { return settled_since_commit_; }
  size_t segments() const { return segments_.count(); }
  const std::string& last_error() const { return last_error_; }
  const std::string& folder() const { return folder_; }
  const std::string& incarnation() const { return identity_.incarnation; }

  // After a drain: nothing in flight, everything committed. A successor has nothing to book. admit() refuses from now
  // on.
  void finish();
  // Duplicates of the files' and the folder's descriptors, for fdatasync on another thread; the caller closes them.
  std::vector<int> duplicate_descriptors() const;

 private:
  struct Sum {
    int64_t second;
    int64_t requests;
    int64_t units[kMaxCharges];
  };
  struct Entry {
    Definition definition;
    int shard;
    bool logged = false;  // its frame stands in a file that still exists
    bool dirty = false;
    bool recent = false;     // was dirty since the last rotation
    bool releasing = false;  // in released_
    size_t users = 0;        // define() less release()
    size_t in_flight = 0;
    std::vector<Sum> sums;         // settled, not in a record yet
    std::vector<int64_t*> totals;  // in spent_, per charge and bucket; empty: not looked up yet
  };

  UsageLog(std::string folder, LogIdentity identity, LogLimits limits);
  Result<void> log_definition(uint32_t id);
  Result<void> log_hello(int shard);
  Result<void> log_now(int shard, redis_contract::Record record);
  Result<void> append(std::string_view bytes);
  [[gnu::cold, gnu::noinline]] Slot* refuse(const char* why);
  void rotate();
  void add_sum(Entry& entry, const Slot& slot);
  void count_spent(Entry& entry, const Sum& sum);
  void collect_released();

  std::string folder_;
  LogIdentity identity_;
  LogLimits limits_;
  int folder_fd_ = -1;
  HeadFile head_;
  RecordFiles files_;
  Segments segments_;
  Outbox outbox_;
  Spent spent_;
  int64_t forgotten_until_s_ = 0;
  uint32_t open_batch_ = kFirstBatch;
  bool settled_since_commit_ = false;
  std::vector<Entry> entries_;
  std::unordered_map<std::string, uint32_t> ids_;  // by encoded definition
  std::vector<uint32_t> dirty_;
  std::vector<uint32_t> released_, free_ids_;
  bool finished_ = false;
  bool closed_ = false;                                  // finished, or gone_
  std::string gone_;                                     // why no successor would find the folder
  bool write_failed_ = false;                            // since examine() last found room
  std::map<uint32_t, std::map<int, int64_t>> file_end_;  // per file: last seq of each shard in it or before
  std::string last_error_;
};

// The record of one charge of a definition, but for its incarnation; shared by the log and by recovery.
void fill_usage_record(redis_contract::Record* record, int64_t seq, const Definition& definition, size_t charge,
                       int64_t units, int64_t requests, int64_t second);
// Adds `n` counts to sums, or changes nothing and says false where one would pass 2^53 − 1, the most that a record may
// say: then they take a record of their own.
bool add_units(int64_t* sums, const int64_t* units, size_t n);
void add_spent(Spent* spent, const Definition& definition, size_t charge, int64_t units);

}  // namespace tallygate::sidecar
