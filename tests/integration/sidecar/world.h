// Sidecars without their sockets on a real Redis: the test plays the operator (publishes, opens epochs, registers,
// funds, books) and the clients (hands heads to Admission, turns the loop, settles).
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/ledger_clock.h"
#include "core/redis_client/client.h"
#include "core/redis_contract/keys.h"
#include "core/redis_contract/record.h"
#include "core/tenant/wire.h"
#include "sidecar/admission/admission.h"
#include "sidecar/escrow/courier.h"
#include "sidecar/escrow/handover.h"
#include "sidecar/log/data_folder.h"
#include "sidecar/log/predecessor.h"
#include "tests/integration/support/redis_server.h"

namespace tallygate::testing {

// The real clocks, the wall one shifted.
class ShiftedEnv final : public Env {
 public:
  int64_t mono_ns() override { return system_env().mono_ns(); }
  int64_t wall_ns() override { return system_env().wall_ns() + shift_s * 1'000'000'000; }
  void random_bytes(void* out, size_t size) override { system_env().random_bytes(out, size); }
  void sleep_ms(int64_t ms) override { system_env().sleep_ms(ms); }
  int64_t shift_s = 0;
};

inline constexpr const char* kTenant = "shop/acme";
inline constexpr const char* kKey = "key-of-acme";
inline constexpr const char* kBootId = "3f0a9c52-0000-4000-8000-000000000001";

tenant::Charge charge(const std::string& meter, int64_t units = 1);
tenant::Route route(const std::string& name, const std::string& path, std::vector<tenant::Charge> charges);
tenant::Meter meter(const std::string& name, tenant::Settlement settlement = tenant::Settlement::kInvoice);
tenant::IdentitySource api_key_source(const std::string& header = "x-api-key");
tenant::IdentitySource trusted_source(std::vector<std::string> cidrs, const std::string& header = "x-tenant");

// What the operator does, as far as a sidecar can see it.
class FakeOperator {
 public:
  explicit FakeOperator(const redis::Endpoint& endpoint);

  redis::Reply call(const redis::Command& command);
  // As after a complete start: everything that was put is published anew under a new generation.
  void publish_all();
  void put(const tenant::Tenant& tenant);
  void put(const tenant::Policy& policy);
  void put_identity(const std::string& kind, const std::string& value, const std::string& tenant);
  void remove_identity(const std::string& kind, const std::string& value);
  void forget_tenant(const std::string& id);  // from what publish_all() publishes

  // Opens the next epoch in every shard; whoever said hello is registered in it.
  int64_t open();
  void fund(const std::string& tenant, const std::string& bucket, int64_t total, bool last = true, int64_t avail = 0);
  int64_t field(const std::string& tenant, const std::string& bucket, const std::string& name);
  std::string hash(const std::string& tenant, const std::string& bucket);  // sorted, for comparisons

  // Reads the streams: registers who says hello; sets watermarks where `booking`.
  void step();
  void forget_streams() { read_to_.clear(); }
  // How far the ledger's clock is ahead of Redis'.
  void set_ahead_ms(int64_t ms);
  bool registering = true;
  bool booking = true;
  // A ledger that was recovered from a backup which knew none of `records`: it is told in every shard.
  void recover_empty();
  int64_t epoch = 0;
  // Every record once, by (shard, incarnation, seq); a second one with another content is a failure.
  std::map<std::tuple<int, std::string, int64_t>, redis_contract::Record> records;
  std::map<std::tuple<int, std::string, int64_t>, int> sent;  // how often each was in the stream
  int64_t booked(const std::string& tenant, const std::string& bucket, int64_t of_epoch = -1) const;

 private:
  void changed(const std::string& name);
  redis::Client client_;
  std::map<int, std::string> read_to_;
  std::map<int, std::vector<std::string>> hellos_;
  std::map<std::string, tenant::Tenant> tenants_;
  std::map<std::string, tenant::Policy> policies_;
  std::map<std::pair<std::string, std::string>, std::string> identities_;
  int64_t ahead_ms_ = 0;
  int64_t version_ = 0;
  int generation_ = 0;
  int ledger_generation_ = 0;
};

struct Ask {
  std::string path = "/";
  std::vector<std::pair<std::string, std::string>> headers = {{"X-Api-Key", kKey}};
  std::string method = "GET";
  std::string peer = "127.0.0.1";
  std::string body{};
  int64_t content_length = -2;  // of it; -1: it comes in chunks; -2: what it has
};

// One request. Its address is stable.
struct Call {
  proxy::Ticket ticket;
  proxy::Admission state;
  proxy::Denial denial;
  proxy::Verdict verdict = proxy::Verdict::kWait;
  bool gone = false;  // settled, denied or abandoned
  bool resumed = false;  // after a pause in its response
  std::string request_body;
  std::string told;   // the app: the gate's fields in the head for it

  bool admitted() const { return verdict == proxy::Verdict::kAdmit; }
  bool waits() const { return verdict == proxy::Verdict::kWait; }
  nlohmann::json body() const { return nlohmann::json::parse(denial.body); }
  std::string reason() const { return admitted() ? "" : waits() ? "waits" : body().at("reason").get<std::string>(); }
};

struct World;

// A sidecar's parts on the world's loop.
class Pod {
 public:
  struct Options {
    std::string folder;  // empty: one of its own
    sidecar::AdmissionOptions admission = {.wait_ms = 5'000, .waiting_max = 10'000};
    sidecar::EscrowOptions escrow = {};
    std::string policy = "shop/gate";
    std::string space = "shop";
    std::optional<sidecar::LedgerEndpoint> ledger = std::nullopt;
    std::string boot_id = kBootId;
    sidecar::LogLimits log = {};
  };
  Pod(World& world, Options options);
  ~Pod();

  Call& begin(const Ask& ask = {});
  void abandon(Call& call);
  std::string headers(Call& call);
  void settle(Call& call, int status = 200, proxy::End end = proxy::End::kCompleted, bool app_reached = true);
  // As the real one at its end.
  void give_back(std::function<void()> done);
  void pump();  // readmits what was resumed
  void decided(Call& call, proxy::Verdict verdict);
  void forget_calls() { calls_.clear(); }

  std::unique_ptr<sidecar::DataFolder> folder;
  std::unique_ptr<sidecar::UsageLog> log;
  redis::Connection redis, notices;
  std::unique_ptr<sidecar::LedgerClient> ledger_client;
  std::unique_ptr<sidecar::LedgerLeases> ledger;
  std::unique_ptr<sidecar::Escrow> escrow;
  std::unique_ptr<sidecar::Courier> courier;
  std::unique_ptr<sidecar::Handover> handover;
  std::unique_ptr<sidecar::Directory> directory;
  std::unique_ptr<sidecar::Admission> admission;
  std::vector<std::string> faults;
  size_t readmits = 0;

 private:
  void commit();
  World& world_;
  sidecar::Spent spent_before_;
  std::map<uint32_t, std::unique_ptr<Call>> calls_;
  std::vector<proxy::Ticket> resumed_;
  uint32_t next_slot_ = 0;
  EventLoop::TimerId timer_ = 0;
};

struct World {
  explicit World(int port_of_another = 0);  // 0: a Redis of its own
  ~World();

  // With a policy that charges one api_calls on every path, and a tenant with one hard limit on it.
  tenant::Tenant tenant(int64_t amount, const std::string& id = kTenant);
  tenant::Limit limit(const std::string& name, int64_t amount, const std::string& meter = "api_calls");
  std::string bucket(const std::string& limit = "calls") const;
  void basics(int64_t amount);                 // publishes both, and the key
  void ready(int64_t amount, int64_t funded);  // basics, an epoch, funds

  Pod& pod(Pod::Options options = {});
  void drop(Pod& pod);
  std::string temporary_folder();
  void pause();
  // Time passes for everybody: the ledger, Redis, the sidecars.
  void pass_s(int64_t seconds);
  void resume();

  void turn(int64_t ms = 2);
  void run_ms(int64_t ms);
  // Generous: what never comes is a failure.
  ::testing::AssertionResult until(const std::function<bool()>& done, int64_t ms = 8'000);
  Call& ask(Pod& pod, const Ask& ask = {});             // begins, and turns until decided
  void warm(Pod& pod);                                  // policy known, epoch known, one admission and release
  std::string outcome(Pod& pod, const Ask& what = {});  // "admitted" (then settled as 200), or "429 QuotaExhausted"
  int64_t admitted_of(Pod& pod, int n,
                      const Ask& what = {});  // of n requests one after the other; admitted ones settled

  ShiftedEnv env;
  LedgerClock clock{env};  // the sidecars'; env.shift_s alone is a machine whose clock is wrong
  EventLoop loop{clock};
  std::unique_ptr<RedisServer> own_server;
  redis::Endpoint endpoint;
  FakeOperator op;
  int64_t start_s = 0, end_s = 0;  // of the windows that limit() makes
  tenant::Policy policy;
  bool operating = true;  // step() with the turns; off while Redis does not answer
  std::vector<std::unique_ptr<Pod>> pods;

 private:
  std::vector<std::string> folders_;
  int64_t stepped_ms_ = 0, passed_s_ = 0;
  bool paused_ = false;
};

}  // namespace tallygate::testing
