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

// The records of a shard in `folder` that end with number `upto`: as many as are there without a gap, none of `after`
// or before. Reads files; meant for the rare case. The first one's number is upto + 1 − size.
std::deque<std::string> read_kept(const std::string& folder, int shard, int64_t after, int64_t upto);
// The last record of each shard in `folder`.
std::map<int, int64_t> last_kept(const std::string& folder);

struct KeptBounds {
  int64_t age_s = 0;  // 0: nothing is kept
  int64_t bytes = 0;
};
// Deletes what is older, or past the bytes, oldest first. `now_s`: Unix time. Returns the bytes that are left.
int64_t sweep_kept(const std::string& data_folder, const KeptBounds& bounds, int64_t now_s);

}  // namespace tallygate::sidecar
