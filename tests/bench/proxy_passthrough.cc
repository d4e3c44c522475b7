// The real proxy with a gate that admits everything: `proxy_passthrough LISTEN UPSTREAM`, as in "127.0.0.1:9201"
// and "127.0.0.1:9000" or "unix:/path". Prints the bound address; drains on SIGTERM and SIGINT.
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "sidecar/proxy/proxy.h"
#include "tests/bench/passthrough_gate.h"

namespace {

class Signals final : public tallygate::EventLoop::Watcher {
 public:
  Signals(tallygate::EventLoop& loop, tallygate::proxy::Proxy& proxy) : loop_(loop), proxy_(proxy) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    fd_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    loop_.add(fd_, EPOLLIN, this);
  }
  ~Signals() {
    loop_.remove(fd_, this);
    close(fd_);
  }
  void on_ready(uint32_t) override {
    signalfd_siginfo info;
    if (read(fd_, &info, sizeof info) == sizeof info) proxy_.drain([this] { loop_.stop(); });
  }

 private:
  tallygate::EventLoop& loop_;
  tallygate::proxy::Proxy& proxy_;
  int fd_ = -1;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: proxy_passthrough LISTEN UPSTREAM\n");
    return 64;
  }
  tallygate::EventLoop loop(tallygate::system_env());
  tallygate::bench::PassthroughGate gate;
  tallygate::proxy::Options options;
  options.listen = argv[1];
  options.upstream = argv[2];
  auto proxy = tallygate::proxy::Proxy::create(loop, options, gate);
  if (!proxy) {
    std::fprintf(stderr, "%s\n", proxy.error().message.c_str());
    return 64;
  }
  if (auto started = (*proxy)->start(); !started) {
    std::fprintf(stderr, "%s\n", started.error().message.c_str());
    return 1;
  }
  std::printf("listening on %s\n", (*proxy)->bound_address().c_str());
  std::fflush(stdout);
  const Signals signals(loop, **proxy);
  loop.run();
  return 0;
}
