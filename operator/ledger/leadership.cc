#include "operator/ledger/leadership.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "core/io/event_loop.h"
#include "core/telemetry/log.h"
#include "operator/ledger/bounded_connection.h"

namespace tallygate::ledger {
namespace {

constexpr int64_t kAnswer_ms = 1'000;  // an answer that takes longer counts as none
// No renewal waits for the disk, or for a lock longer than its caller waits for it.
constexpr const char* kSetup = "set synchronous_commit = off; set statement_timeout = 1000; set jit = off";
constexpr const char* kLead = "select o_leads, o_term, (extract(epoch from o_now) * 1000000)::bigint from lead($1, $2)";

int64_t integer(const std::string& text) {
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// Tells people which process it is, and no two apart wrongly.
std::string name_of_this_process(Env& env) {
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  return std::string(host) + "/" + std::to_string(::getpid()) + "/" + env.random_hex(6);
}

}  // namespace

Leadership::Leadership(LedgerClock& clock, std::string database_url)
    : clock_(clock), database_url_(std::move(database_url)) {}
Leadership::~Leadership() { stop(); }

void Leadership::start() {
  if (thread_.joinable()) return;
  stopping_ = false;
  loop_ = std::make_unique<EventLoop>(clock_);
  thread_ = std::thread([this] { run(); });
}

void Leadership::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  loop_->post([] {});
  thread_.join();
}

void Leadership::run() {
  BoundedConnection connection(clock_, database_url_, kSetup);
  const std::string holder = name_of_this_process(clock_);
  bool led = false;
  while (!stopping_) {
    const bool was_connected = connection.connected();
    const int64_t sent_ns = clock_.mono_ns();
    const auto answer = connection.row(kLead, {holder, std::to_string(kLease_ms)}, kAnswer_ms);
    const bool leads = answer && answer->size() == 3 && (*answer)[0] == "t";
    if (answer && answer->size() == 3) {
      clock_.heard(integer((*answer)[2]) * 1'000, sent_ns, clock_.mono_ns());
      answered_until_ms_ = sent_ns / 1'000'000 + kHold_ms;
      if (leads) term_ = integer((*answer)[1]);
      leads_until_ms_ = leads ? sent_ns / 1'000'000 + kHold_ms : kNever;
      if (const std::string fault = clock_.machine_fault(); !fault.empty()) {
        static log::Throttle throttle(60);
        log::warn(throttle, "a clock is wrong", {{"error", fault}});
      }
    }
    // One renewal that fails is none: what the last one gave still counts.
    if (is_leader() != led) {
      led = !led;
      log::info(led ? "leading" : "leading no more",
                {{"holder", holder}, {"term", term()}, {"why", answer ? "" : answer.error().message}});
    }
    // A connection may have been closed while nobody looked: a new one is tried at once.
    const int64_t took_ms = (clock_.mono_ns() - sent_ns) / 1'000'000;
    if (!answer && was_connected && took_ms < kInterval_ms) continue;
    loop_->run_once(std::max<int64_t>(0, kInterval_ms - took_ms));
  }
  leads_until_ms_ = answered_until_ms_ = kNever;
  if (led) (void)connection.row("select resign($1)", {holder}, kAnswer_ms);
}

}  // namespace tallygate::ledger
