// Records that the ledger has booked and that are kept for a while: should it be restored from an older backup, they
// are sent again (docs/adr/0008-a-restored-ledger.md). Whole files, as the log left them: `booked-N` in a folder that
// is still in use, and everything in `kept-<incarnation>`, the folder of one that is finished.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

namespace tallygate::sidecar {

// What is kept in one folder, for a ledger that lacks it. Its shards are asked for one after the other, within a second:
// the files are read once for all of them, and what was read is held until it is taken, or clear().
class KeptRecords {
 public:
  explicit KeptRecords(std::string folder) : folder_(std::move(folder)) {}
  // The records of a shard that end with number `upto`: as many as are there without a gap, none of `after` or before.
  // The first one's number is upto + 1 − size.
  std::deque<std::string> take(int shard, int64_t after, int64_t upto);
  bool is_read() const { return is_read_; }
  void clear();

 private:
  struct Run {  // without a gap, up to the last record
    int64_t last = 0;
    std::deque<std::string> records;
  };
  void read();
  std::string folder_;
  bool is_read_ = false;
  std::map<int, Run> by_shard_;
};
// The last record of each shard in `folder`.
std::map<int, int64_t> last_kept(const std::string& folder);

struct KeptBounds {
  int64_t age_s = 0;  // 0: nothing is kept
  int64_t bytes = 0;
};
// Deletes what is older, or past the bytes, oldest first. `now_s`: Unix time. Returns the bytes that are left.
int64_t sweep_kept(const std::string& data_folder, const KeptBounds& bounds, int64_t now_s);

}  // namespace tallygate::sidecar
