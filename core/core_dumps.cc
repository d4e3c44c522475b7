#include "core/core_dumps.h"

#include <sys/prctl.h>
#include <sys/resource.h>

namespace tallygate {
namespace {

// The hard limit stays, so that it can be undone.
void set_core_limit(bool allowed) {
  rlimit limit{};
  if (getrlimit(RLIMIT_CORE, &limit) != 0) return;
  limit.rlim_cur = allowed ? limit.rlim_max : 0;
  setrlimit(RLIMIT_CORE, &limit);
}

}  // namespace

// Both: the limit does not bind where the kernel hands core files to a program.
void forbid_core_dumps() {
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  set_core_limit(false);
}

void allow_core_dumps() {
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  set_core_limit(true);
}

}  // namespace tallygate
