#include "tests/integration/support/child_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "core/result.h"

namespace tallygate::testing {
namespace {

void become(const std::string& user) {
  if (user.empty() || geteuid() != 0) return;
  const passwd* entry = getpwnam(user.c_str());
  if (!entry || initgroups(entry->pw_name, entry->pw_gid) != 0 || setgid(entry->pw_gid) != 0 ||
      setuid(entry->pw_uid) != 0)
    _exit(126);
}

}  // namespace

ChildProcess::~ChildProcess() {
  if (!running()) return;
  signal(SIGKILL);
  wait();
}

void ChildProcess::start(const std::vector<std::string>& argv, const Options& options) {
  TG_ASSERT(!running());
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  pid_ = fork();
  TG_ASSERT(pid_ >= 0);
  if (pid_ > 0) return;
  become(options.as_user);
  prctl(PR_SET_PDEATHSIG, options.death_signal);
  if (!options.output_file.empty()) {
    const int fd = open(options.output_file.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0644);
    dup2(fd, 1);
    dup2(fd, 2);
  }
  execv(words[0], words.data());
  _exit(127);
}

void ChildProcess::start(const std::function<int()>& body) {
  TG_ASSERT(!running());
  pid_ = fork();
  TG_ASSERT(pid_ >= 0);
  if (pid_ > 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  _exit(body());
}

void ChildProcess::signal(int number) {
  if (running()) kill(pid_, number);
}

int ChildProcess::wait() {
  if (!running()) return -1;
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  TG_ASSERT(bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0);
  TG_ASSERT(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  close(fd);
  return ntohs(address.sin_port);
}

std::string make_temporary_folder(const std::string& user) {
  const char* base = std::getenv("TMPDIR");
  std::string path = std::string(base ? base : "/tmp") + "/tallygate-test-XXXXXX";
  TG_ASSERT(mkdtemp(path.data()) != nullptr);
  if (!user.empty() && geteuid() == 0) {
    const passwd* entry = getpwnam(user.c_str());
    TG_ASSERT(entry != nullptr && chown(path.c_str(), entry->pw_uid, entry->pw_gid) == 0);
  }
  return path;
}

}  // namespace tallygate::testing
