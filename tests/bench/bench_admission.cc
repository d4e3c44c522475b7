// What admission costs on a warm tenant, without sockets: all four calls for one request, with
// one and with 10,000 tenants known, and the heap they take; that figure holds the records that the test's own ledger keeps
// as well. Needs redis-server; prints, decides nothing.
#include <linux/perf_event.h>
#include <malloc.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include <netinet/in.h>

#include "tests/integration/sidecar/world.h"

using namespace tallygate;
using namespace tallygate::testing;

namespace {

constexpr int kBatch = 20'000;
constexpr int kBatches = 25;
constexpr int64_t kFunded = 1'000'000'000;

// User-space instructions of this thread, where the kernel lets us count.
class Instructions {
 public:
  Instructions() {
    perf_event_attr attr{};
    attr.type = PERF_TYPE_HARDWARE;
    attr.size = sizeof attr;
    attr.config = PERF_COUNT_HW_INSTRUCTIONS;
    attr.exclude_kernel = attr.exclude_hv = 1;
    fd_ = static_cast<int>(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
  }
  ~Instructions() {
    if (fd_ >= 0) close(fd_);
  }
  int64_t read_now() const {
    int64_t n = 0;
    return fd_ >= 0 && read(fd_, &n, sizeof n) == sizeof n ? n : -1;
  }

 private:
  int fd_;
};

void measure(World& world, Pod& pod, const char* name, const std::vector<Ask>& asks) {
  std::vector<std::vector<proxy::Header>> fields;
  sockaddr_in peer{};
  peer.sin_family = AF_INET;
  peer.sin_addr.s_addr = htonl(0x7f000001);
  for (const auto& ask : asks) {
    auto& f = fields.emplace_back();
    f.push_back({"Host", "api.example.com"});
    f.push_back({"User-Agent", "bench/1.0"});
    f.push_back({"Accept", "*/*"});
    for (const auto& [n, v] : ask.headers) f.push_back({n, v});
  }
  const Instructions instructions;
  int64_t best_ns = INT64_MAX, fewest = INT64_MAX, refused = 0;
  size_t next = 0;
  char text[4096];
  for (int batch = 0; batch < kBatches; ++batch) {
    world.run_ms(70);  // refills, commits, books
    Call& first = world.ask(pod, asks[0]);
    if (first.admitted()) pod.settle(first);
    pod.forget_calls();
    const int64_t from_ns = world.env.mono_ns(), from = instructions.read_now();
    for (int i = 0; i < kBatch; ++i) {
      if (++next == asks.size()) next = 0;
      proxy::RequestView view;
      view.method = "GET";
      view.path = "/v1/items";
      view.headers = fields[next];
      view.peer = reinterpret_cast<const sockaddr*>(&peer);
      proxy::Admission state;
      proxy::Denial denial;
      const proxy::Ticket ticket{static_cast<uint32_t>(1'000'000 + i), 1};
      const auto verdict = pod.admission->admit(view, "0a1b2c3d", ticket, state, denial);
      if (verdict != proxy::Verdict::kAdmit) [[unlikely]] {
        if (verdict == proxy::Verdict::kWait) pod.admission->abandon(ticket, state);
        ++refused;
        continue;
      }
      (void)pod.admission->request_headers(state, text);
      (void)pod.admission->response_headers(state, text);
      proxy::Outcome outcome;
      outcome.status = 200;
      outcome.app_reached = true;
      pod.admission->settle(state, outcome);
    }
    best_ns = std::min(best_ns, (world.env.mono_ns() - from_ns) / kBatch);
    if (from >= 0) fewest = std::min(fewest, (instructions.read_now() - from) / kBatch);
  }
  std::printf("%-44s %5ld ns", name, best_ns);
  if (fewest != INT64_MAX) std::printf("  %5ld instructions", fewest);
  if (refused != 0) std::printf("  (%ld were not admitted)", refused);
  std::printf("\n");
}

std::string tenant_id(int i) { return "shop/tenant-" + std::to_string(i); }

void run(int tenants) {
  World world;
  world.policy.identity = {api_key_source(), trusted_source({"127.0.0.0/8"})};
  world.policy.routes = {route("health", "/healthz", {}), route("chat", "/v1/chat", {charge("api_calls")})};
  world.op.publish_all();
  world.op.put(world.policy);
  world.op.open();
  std::vector<Ask> keys, names, two;
  for (int i = 0; i < tenants; ++i) {
    auto t = world.tenant(kFunded, tenant_id(i));
    t.stale_after_ms = 600'000;
    world.op.put(t);
    world.op.put_identity("apikey", "0123456789abcdef-key-" + std::to_string(i), tenant_id(i));
    world.op.put_identity("external", "customer-" + std::to_string(i), tenant_id(i));
    world.op.fund(tenant_id(i), world.bucket(), kFunded);
    keys.push_back({"/", {{"X-Api-Key", "0123456789abcdef-key-" + std::to_string(i)}}});
    names.push_back({"/", {{"X-Tenant", "customer-" + std::to_string(i)}}});
  }
  Pod::Options options;
  options.escrow.target_min = tenants == 1 ? 500'000 : 5'000;
  options.escrow.target_max = 10'000'000;
  options.escrow.idle_return_ms = options.escrow.idle_return_scarce_ms = 3'600'000;
  Pod& pod = world.pod(options);
  const size_t before = mallinfo2().uordblks;
  for (const auto* asks : {&keys, &names}) {
    for (size_t i = 0; i < asks->size(); i += 500) {
      std::vector<Call*> calls;
      for (size_t k = i; k < std::min(asks->size(), i + 500); ++k) calls.push_back(&pod.begin((*asks)[k]));
      (void)world.until([&] { return std::none_of(calls.begin(), calls.end(), [](Call* c) { return c->waits(); }); });
      for (Call* c : calls) {
        if (c->admitted()) pod.settle(*c);
        else std::printf("%s\n", c->denial.body.c_str());
      }
      pod.forget_calls();
    }
  }
  (void)world.until([&] { return pod.log->outbox().empty(); });
  std::printf("%d tenants known: %.2f MB of heap for what is kept of them\n", tenants,
              static_cast<double>(mallinfo2().uordblks - before) / 1e6);
  measure(world, pod, "API key, 1 limit", keys);
  measure(world, pod, "trusted header, 1 limit", names);
  if (tenants > 1) return;
  auto t = world.tenant(kFunded, tenant_id(0));
  t.stale_after_ms = 600'000;
  t.limits.push_back(world.limit("second-limit", kFunded));
  world.op.fund(tenant_id(0), world.bucket("second-limit"), kFunded);
  world.op.put(t);
  world.run_ms(200);
  Call& call = world.ask(pod, keys[0]);
  if (call.admitted()) pod.settle(call);
  measure(world, pod, "API key, 2 limits", keys);
}

}  // namespace

int main() {
  run(1);
  run(10'000);
}
