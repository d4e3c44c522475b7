// Which of the objects that were read go in force: the rules between objects, and the rule that what is bad never
// displaces what was good. Pure and deterministic.
//
// - A file with any fault keeps its last accepted objects, all of them; a file that was never accepted contributes its
//   faultless objects. Other files are not held up.
// - An object that was accepted before and has not changed stays, whatever happened to the objects it names: what it
//   refers to is reported, and kept where keeping it is possible (a plan that is in use).
// - Whoever held a name or an identity first keeps it; between newcomers, the order of files and documents decides.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "operator/manifest/read.h"

namespace tallygate::manifest {

// The outcome of one acceptance, and the memory that the next needs.
struct Accepted {
  Resources resources;
  Faults faults;    // of all files, in order of file and line; not empty: degraded
  Faults warnings;  // one a feature
  bool degraded() const { return !faults.empty(); }
};

// `files` is the whole of the source, not what changed. A file that cannot be read this time is in it with a fault and
// no objects; its objects stay.
Accepted accept(const Resources& previous, const Files& files);
// The same, of files that are given away.
Accepted accept(const Resources& previous, std::vector<FileContent> files);

}  // namespace tallygate::manifest
