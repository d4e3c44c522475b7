#include "core/core_dumps.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace tallygate {
namespace {

struct State {
  bool dumpable;
  rlim_t limit, most;
};

State state_now() {
  rlimit limit{};
  getrlimit(RLIMIT_CORE, &limit);
  return {prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1, limit.rlim_cur, limit.rlim_max};
}

TEST(CoreDumps, AreForbiddenUntilTheyAreAllowed) {
  const pid_t child = fork();  // so that this process stays as it is
  if (child == 0) {
    const rlim_t most = state_now().most;
    forbid_core_dumps();
    const State forbidden = state_now();
    allow_core_dumps();
    const State allowed = state_now();
    const bool right = !forbidden.dumpable && forbidden.limit == 0 && forbidden.most == most && allowed.dumpable &&
                       allowed.limit == most;
    _exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace tallygate
