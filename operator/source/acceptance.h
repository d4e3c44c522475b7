// What of a source's looks goes in force, one after the other. Pure.
//
// A source that suddenly shows nothing, or less than half of the tenants where there were four or more, has more likely
// been lost than emptied: the wrong folder or cluster, a right that was taken away, a CRD that is gone. Then nothing
// changes at all (`lost` says why), until enough is shown again, or somebody says that it is meant. The same where a look
// is of another cluster than what is in force.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "operator/manifest/accept.h"
#include "operator/source/source.h"

namespace tallygate::source {

// What was in force when this process began.
struct Baseline {
  manifest::Resources resources;
  std::string cluster;  // whose objects they are; empty: nobody's or a folder's
};

struct Snapshot {
  int64_t number = 0;  // counts the looks that were taken
  std::shared_ptr<const manifest::Accepted> accepted;
  manifest::Files files;           // of the look
  std::string cluster;             // whose objects are in force
  bool resources_changed = false;  // against the last snapshot, or against the baseline
  bool news = false;               // anything differs from the last
  std::string lost;                // "SourceLost: …"; empty: all that the source shows is in force, or has its faults told
  std::string trouble;             // of the look
};

struct AcceptanceOptions {
  bool accept_removals = false;  // the first look is believed, however little it shows
  bool adopt_cluster = false;    // another cluster than the baseline's takes its place
};

class Acceptance {
 public:
  explicit Acceptance(Baseline baseline, AcceptanceOptions options = {});
  Snapshot take(const Look& look);
  // Of the last look, or the baseline.
  const Snapshot& now() const { return now_; }

 private:
  std::string why_lost(const Look& look, const manifest::Resources& after);

  const bool adopt_cluster_;
  bool believe_;
  std::set<std::string> wiped_;  // objects that went in a look that was wiped, and are not back
  Snapshot now_;
};

// "3 of 5 tenants are gone" and so on, where it is too much to be believed; else empty.
std::string too_much_gone(const manifest::Resources& before, const manifest::Resources& after);

}  // namespace tallygate::source
