#include "sidecar/log/outbox.h"

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
  }
  return true;
}

}  // namespace tallygate::sidecar
