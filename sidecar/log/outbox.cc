#include "sidecar/log/outbox.h"

#include <algorithm>
#include <iterator>

namespace tallygate::sidecar {

void Outbox::add(int shard, std::string text) {
  shards_[shard].unacked.push_back(std::move(text));
  ++size_;
}

bool Outbox::acknowledge(int number, int64_t watermark) {
  const auto it = shards_.find(number);
  if (it == shards_.end()) return watermark == 0;
  Shard& shard = it->second;
  if (watermark > shard.last_seq()) return false;
  while (shard.watermark < watermark) {
    shard.unacked.pop_front();
    ++shard.watermark;
    --size_;
    if (shard.watermark <= shard.reopened_upto) --reopened_;
  }
  return true;
}

void Outbox::reopen(int number, std::deque<std::string> records) {
  Shard& shard = shards_.at(number);
  size_ += records.size();
  reopened_ += records.size();
  shard.reopened_upto = std::max(shard.reopened_upto, shard.watermark);
  shard.watermark -= static_cast<int64_t>(records.size());
  records.insert(records.end(), std::make_move_iterator(shard.unacked.begin()),
                 std::make_move_iterator(shard.unacked.end()));
  shard.unacked = std::move(records);
}

}  // namespace tallygate::sidecar
