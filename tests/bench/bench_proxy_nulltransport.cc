// User-space nanoseconds per request through the whole engine on a transport that does nothing: parse both heads, ask
// the gate, rewrite both heads, account. Targets: 250 ns for the minimal head, 400 ns for the browser's.
#include <cstdio>
#include <cstring>
#include <string>

#include "core/env.h"
#include "sidecar/proxy/engine.h"
#include "tests/bench/passthrough_gate.h"

using namespace tallygate;

namespace {

const std::string kMinimal = "GET / HTTP/1.1\r\nHost: 127.0.0.1:9203\r\nX-Tenant: tenant-0042\r\n\r\n";
const std::string kBrowser =
    "GET /api/v1/items?id=42 HTTP/1.1\r\nHost: app.example.com\r\nX-Tenant: tenant-0042\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
    "Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; csrf=abcdefghijklmnopqrstuvwxyz; theme=dark\r\n"
    "X-Request-Id: 7c9e6679-7425-40de-944b-e07fc1f90ae7\r\nX-Forwarded-For: 203.0.113.7\r\n"
    "X-Forwarded-Proto: https\r\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
    "Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0."
    "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P\r\n"
    "Cache-Control: no-cache\r\nConnection: keep-alive\r\n\r\n";
const std::string kResponse =
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21 Nov 2026 07:34:22 GMT\r\nContent-Type: text/plain\r\n"
    "Content-Length: 100\r\nConnection: keep-alive\r\n\r\n" + std::string(100, 'x');

class NullTransport final : public proxy::Transport {
 public:
  ssize_t read(proxy::Conn&, char* data, size_t) override {
    std::memcpy(data, next->data(), next->size());  // stands for the kernel's copy
    return static_cast<ssize_t>(next->size());
  }
  ssize_t write(proxy::Conn&, const iovec* parts, int count) override {
    ssize_t total = 0;
    for (int i = 0; i < count; ++i) total += static_cast<ssize_t>(parts[i].iov_len);
    asm volatile("" ::"r"(parts->iov_base) : "memory");
    return total;
  }
  proxy::Connecting connect(proxy::Conn& conn) override {
    conn.io = upstream = &conn;
    return proxy::Connecting::kConnected;
  }
  void shutdown_write(proxy::Conn&) override {}
  void acknowledge(proxy::Conn&) override {}
  void close(proxy::Conn&, bool) override {}
  const std::string* next = nullptr;
  proxy::Conn* upstream = nullptr;
};

int64_t now() { return system_env().mono_ns(); }

double measure(const std::string& request, int requests) {
  ManualEnv env;
  bench::PassthroughGate gate;
  NullTransport transport;
  proxy::Options options;
  proxy::Engine engine(env, options, "app", gate, transport, env.mono_ns());
  proxy::Client* client = engine.accept(&transport, nullptr);
  double best = 1e9;
  for (int round = 0; round < 7; ++round) {
    const int64_t begin = now();
    for (int i = 0; i < requests; ++i) {
      transport.next = &request;
      engine.on_event(*client, proxy::Engine::kReadable);
      transport.next = &kResponse;
      engine.on_event(*transport.upstream, proxy::Engine::kReadable);
      if (engine.has_ready()) engine.run_ready();
    }
    best = std::min(best, static_cast<double>(now() - begin) / requests);
  }
  if (gate.settled != static_cast<uint64_t>(requests) * 7) {
    std::fprintf(stderr, "%d requests were sent, %d settled\n", requests * 7, static_cast<int>(gate.settled));
    std::exit(1);
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const int requests = argc > 1 ? std::atoi(argv[1]) : 200'000;
  std::printf("minimal head (%zu B): %6.0f ns per request, target 250\n", kMinimal.size(), measure(kMinimal, requests));
  if (argc > 2) return 0;  // for a profile of the one
  std::printf("browser head (%zu B): %6.0f ns per request, target 400\n", kBrowser.size(), measure(kBrowser, requests));
}
