// A child process of a test: ended when the object goes, and by the kernel when the test dies.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace tallygate::testing {

class ChildProcess {
 public:
  struct Options {
    std::string as_user = "";      // only where the test runs as root
    std::string output_file = "";  // standard output and error; empty: inherited
    int death_signal = 9;          // what it gets when the test dies
  };
  ChildProcess() = default;
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void start(const std::vector<std::string>& argv, const Options& options);
  // Forks and runs `body` in the child, which exits with its answer. Only before the test has threads of its own.
  void start(const std::function<int()>& body);
  void signal(int number);
  // Waits; the exit code, or 128 + the signal that ended it.
  int wait();
  bool running() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

// A port of the loopback interface that was free a moment ago.
int free_port();
// A new folder under the system's temporary one, owned by `user` where that is not empty and the test runs as root.
std::string make_temporary_folder(const std::string& user = "");

}  // namespace tallygate::testing
