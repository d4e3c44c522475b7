// Mixed operations at random, from several threads, each answer compared with a model that shares nothing with the SQL
// but requirements B2–B4, B11 and B12; then the ledger audits itself. TALLYGATE_WALLET_OPS sets how many (100,000 take some
// minutes).
#include <cstdlib>
#include <map>
#include <random>
#include <thread>

#include "tests/integration/wallet/world.h"

namespace tallygate::testing {
namespace {

struct ModelCall {
  int64_t hold = 0, cost = -1;
  enum { kHeld, kCommitted, kReleased, kExpired } state = kHeld;
};

struct Model {
  int64_t balance = 0, reserved = 0, debt = 0;
  std::map<std::string, std::string> keys;  // what each key was used for
  std::map<std::string, ModelCall> calls;
  int64_t effective() const { return balance - reserved; }
};

struct Expected {
  bool success = true, duplicate = false;
};

class Thread {
 public:
  Thread(unsigned seed, int operations) : random_(seed), operations_(operations) {}

  void run() {
    std::vector<std::unique_ptr<WalletWorld>> worlds;
    std::vector<Model> models(3);
    for (Model& model : models) {
      model.debt = pick(0, 500);
      worlds.push_back(std::make_unique<WalletWorld>(0, model.debt));
    }
    for (int i = 0; i < operations_ && !::testing::Test::HasFailure(); ++i) {
      const size_t at = random_() % models.size();
      step(*worlds[at], models[at], i);
    }
  }
  const std::map<std::string, int>& outcomes() const { return outcomes_; }

 private:
  int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }

  // True where this key is new; else what a repetition must answer.
  bool fresh(Model& m, const std::string& key, const std::string& request, Expected& expected) {
    const auto at = m.keys.find(key);
    if (at == m.keys.end()) return true;
    expected = at->second == request ? Expected{true, true} : Expected{false, false};
    return false;
  }

  void step(WalletWorld& w, Model& m, int i) {
    const std::string call = "c" + std::to_string(pick(std::max(0, i - 60), i) / 3);
    const std::string key = "k" + std::to_string(pick(std::max(0, i - 20), i) / 3);
    const auto kind = random_() % 8;
    // Mostly the same amount for the same key or call, so that repetitions are repetitions.
    const std::string subject = kind < 2 ? key : call;
    int64_t amount = pick(1, 300);
    if (random_() % 4 != 0) amount = 1 + static_cast<int64_t>(std::hash<std::string>{}(subject) % 300);
    Expected expected;
    Answer got;
    std::string what;
    switch (kind) {
      case 0: {
        amount *= 4;
        what = "credit " + std::to_string(amount);
        if (fresh(m, key, what, expected)) m.keys[key] = what, m.balance += amount;
        got = w.api.credit(key, amount);
        break;
      }
      case 1: {
        what = "purchase " + std::to_string(amount);
        if (fresh(m, key, what, expected)) {
          expected.success = amount <= m.effective();
          if (expected.success) m.keys[key] = what, m.balance -= amount;
        }
        got = w.api.purchase(key, amount);
        break;
      }
      case 2:
      case 3: {
        what = "reserve " + call + " " + std::to_string(amount);
        if (const auto at = m.calls.find(call); at != m.calls.end()) {
          const bool held = at->second.state == ModelCall::kHeld && at->second.cost < 0;
          expected = held && at->second.hold == amount ? Expected{true, true} : Expected{false, false};
        } else {
          expected.success = amount <= m.effective();
          if (expected.success) m.calls[call].hold = amount, m.reserved += amount;
        }
        got = w.api.reserve(call, amount);
        break;
      }
      case 4:
      case 5: {
        what = "commit " + call + " " + std::to_string(amount);
        const auto at = m.calls.find(call);
        if (at != m.calls.end() && at->second.cost >= 0) {
          expected = at->second.cost == amount ? Expected{true, true} : Expected{false, false};
        } else if (at != m.calls.end() && at->second.state == ModelCall::kReleased) {
          expected.success = false;
        } else {
          const int64_t hold = at != m.calls.end() && at->second.state == ModelCall::kHeld ? at->second.hold : 0;
          expected.success = amount <= hold || amount <= hold + m.effective() + m.debt;
          if (expected.success) {
            ModelCall& c = m.calls[call];
            m.reserved -= hold;
            m.balance -= amount;
            c.cost = amount;
            if (c.state != ModelCall::kExpired) c.state = ModelCall::kCommitted;
          }
        }
        got = w.api.commit(call, amount);
        break;
      }
      case 6: {
        what = "release " + call;
        const auto at = m.calls.find(call);
        if (at == m.calls.end() || at->second.cost >= 0) {
          expected.success = false;
        } else if (at->second.state != ModelCall::kHeld) {
          expected.duplicate = true;
        } else {
          at->second.state = ModelCall::kReleased;
          m.reserved -= at->second.hold;
        }
        got = w.api.release(call);
        break;
      }
      default: {
        const std::string id = std::to_string(pick(std::max(0, i - 30), i) / 5);
        amount = 1 + (amount + static_cast<int64_t>(std::hash<std::string>{}(id) % 7)) % 7;
        if (random_() % 4 == 0) {  // all of this tenant's holds run out
          what = "expire";
          must(
              w.owner.exec("update credit_reservations set expires_at = '2026-11-21 12:30:00+00' where tenant = $1 and "
                           "state = 'pending'",
                           {w.tenant}));
          must(w.owner.exec("select * from cleanup_expired_reservations('2026-11-21 12:30:00+00', 10000)"));
          for (auto& [name, c] : m.calls) {
            if (c.state == ModelCall::kHeld) c.state = ModelCall::kExpired, m.reserved -= c.hold;
          }
          got = w.api.facts();
        } else {
          what = "refund " + id + " " + std::to_string(amount);
          if (fresh(m, "refund " + id, what, expected)) m.keys["refund " + id] = what, m.balance -= amount;
          ledger::Session& owner = w.owner;
          got = to_answer(must(owner.exec(std::string(kAnswer) + "post_refund($1, $2, null, $3, '', $4)",
                                          {w.tenant, id, amount, kNow})));
        }
      }
    }
    SCOPED_TRACE(w.tenant + " " + std::to_string(i) + " " + what + " " + key + ": " + got.reason);
    ++outcomes_[what.substr(0, what.find(' ')) + (expected.duplicate ? " duplicate"
                                                  : expected.success ? " done"
                                                                     : " refused")];
    EXPECT_EQ(got.success, expected.success);
    EXPECT_EQ(got.duplicate, expected.duplicate);
    if (expected.duplicate) got = w.api.facts();
    EXPECT_EQ(got.balance, m.balance);
    EXPECT_EQ(got.reserved, m.reserved);
  }

  std::mt19937 random_;
  std::map<std::string, int> outcomes_;
  int operations_;
};

TEST(Property, EveryAnswerIsTheModels) {
  const char* set = std::getenv("TALLYGATE_WALLET_OPS");
  const int operations = set ? std::atoi(set) : 4000;
  constexpr int kThreads = 4;
  owner_url();
  std::vector<std::unique_ptr<Thread>> workers;
  std::vector<std::thread> threads;
  for (unsigned n = 0; n < kThreads; ++n) {
    workers.push_back(std::make_unique<Thread>(n + 1, operations / kThreads));
    threads.emplace_back([worker = workers.back().get()] { worker->run(); });
  }
  for (auto& thread : threads) thread.join();
  // What is compared has all been seen.
  std::map<std::string, int> seen;
  for (const auto& worker : workers) {
    for (const auto& [outcome, count] : worker->outcomes()) seen[outcome] += count;
  }
  for (const char* outcome :
       {"credit done", "credit refused", "credit duplicate", "purchase done", "purchase refused", "purchase duplicate",
        "reserve done", "reserve refused", "reserve duplicate", "commit done", "commit refused", "commit duplicate",
        "release done", "release refused", "release duplicate", "refund done", "refund duplicate", "expire done"}) {
    EXPECT_GT(seen[outcome], 0) << outcome;
    ::testing::Test::RecordProperty(outcome, seen[outcome]);
  }
}

}  // namespace
}  // namespace tallygate::testing
