// Records of one incarnation that the ledger has not booked yet, per shard, in order. Held in memory from logging until
// the watermark passes them; the courier sends from here, again and again if need be.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>

namespace tallygate::sidecar {

class Outbox {
 public:
  struct Shard {
    int64_t generation = 0;  // of the ledger that said so
    int64_t watermark = 0;   // highest seq known to be booked; unacked[i] has seq watermark + 1 + i
    std::deque<std::string> unacked;
    int64_t reopened_upto = 0;  // up to here an earlier generation of the ledger had booked them
    int64_t last_seq() const { return watermark + static_cast<int64_t>(unacked.size()); }
  };

  explicit Outbox(std::string incarnation) : incarnation_(std::move(incarnation)) {}

  const std::string& incarnation() const { return incarnation_; }
  std::map<int, Shard>& shards() { return shards_; }
  const std::map<int, Shard>& shards() const { return shards_; }
  Shard& shard(int number) { return shards_[number]; }

  // `text` is the encoded record with seq last_seq() + 1.
  void add(int shard, std::string text);
  // The ledger has booked up to `watermark`. Lower values than known change nothing. A value beyond last_seq() is a
  // contradiction and is ignored (returns false): never drop what was not sent.
  bool acknowledge(int shard, int64_t watermark);
  // A recovered ledger has booked less than an earlier one: `records`, which end with the watermark, are unacked again.
  void reopen(int shard, std::deque<std::string> records);
  size_t size() const { return size_; }
  // Of these, what is sent again to a recovered ledger: no bound on what may still be admitted counts it.
  size_t reopened() const { return reopened_; }
  bool empty() const { return size_ == 0; }

 private:
  std::string incarnation_;
  std::map<int, Shard> shards_;
  size_t size_ = 0, reopened_ = 0;
};

}  // namespace tallygate::sidecar
