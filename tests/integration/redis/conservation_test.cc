// Thousands of random calls, duplicated, stale and late ones among them, against a model of a few lines: after each one
// every bucket holds f = free + rc + sum of (g - r), and exactly what the model says.
#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "tests/integration/redis/scratch_redis.h"

namespace tallygate::testing {
namespace {

struct Bucket {
  bool known = false, redis_only = false;
  int64_t f = 0, rc = 0, free = 0, avail = 0, used = 0;
  std::string dry;
  std::map<std::string, int64_t> g, r;
  std::map<std::string, int64_t> spent;  // as told: nobody tells of any here, but who gives back
  int64_t lying_beside(const std::string& inc) const {
    int64_t units = 0;
    for (const auto& [name, granted] : g) {
      const auto value = [&name = name](const auto& of) { return of.contains(name) ? of.at(name) : 0; };
      if (name != inc) units += std::max<int64_t>(0, granted - value(r) - value(spent));
    }
    return units;
  }
};

class Model {
 public:
  std::set<std::string> registered, closed;
  std::map<std::string, Bucket> buckets;

  LeaseAnswer lease(const std::string& inc, const std::vector<Want>& wants) {
    LeaseAnswer answer{"GRANT", 1, 0, {}, 0};
    if (!registered.contains(inc) || closed.contains(inc)) return {"REG", 1, 0, {}, 0};
    std::vector<Bucket> after;
    std::vector<bool> short_of;
    for (const Want& want : wants) {
      Bucket b = buckets[want.bucket];
      if (!b.known && want.mint > 0) {
        b.known = b.redis_only = true;
        b.f = b.free = want.mint;
      }
      if (b.g.contains(inc) && want.returned > b.r[inc] && want.returned <= b.g[inc]) {
        b.free += want.returned - b.r[inc];
        b.r[inc] = want.returned;
      }
      const bool lacks = want.least - b.g[inc] > b.free;
      short_of.push_back(lacks);
      if (lacks) {
        if (b.redis_only || !b.dry.empty())
          answer.status = "DRY";
        else if (answer.status == "GRANT")
          answer.status = "WAIT";
      }
      after.push_back(b);
    }
    const auto holders =
        std::max<int64_t>(1, static_cast<int64_t>(registered.size()) - static_cast<int64_t>(closed.size()));
    for (size_t i = 0; i < wants.size(); ++i) {
      Bucket& b = after[i];
      int64_t give = 0;
      if (answer.status == "GRANT") {
        const int64_t need = std::max<int64_t>(0, wants[i].least - b.g[inc]);
        const int64_t fair = b.free / (2 * holders);
        give = std::max(need, std::min(wants[i].best - b.g[inc], std::max(need, fair)));
      }
      b.g[inc] += give;
      b.free -= give;
      answer.grants.push_back({b.g[inc], b.free + b.avail, b.used, short_of[i] ? b.dry : "", b.lying_beside(inc)});
      const bool minted = b.redis_only && !buckets[wants[i].bucket].known;
      if (!minted || give > 0) buckets[wants[i].bucket] = b;
    }
    return answer;
  }

  std::string fund(const std::string& bucket, const Funding& call) {
    Bucket& b = buckets[bucket];
    if (b.f < call.acknowledged) return "LOST";
    if (call.total >= b.f) {
      b.known = true;
      b.free += call.total - b.f;
      b.f = call.total;
      b.avail = call.avail;
      b.used = call.used;
      b.dry = call.dry;
    }
    return std::to_string(b.f);
  }

  int64_t recall(const std::string& bucket, int64_t target) {
    Bucket& b = buckets[bucket];
    if (!b.known) return 0;
    const int64_t take = std::min(b.free, std::max<int64_t>(0, target - b.rc));
    b.rc += take;
    b.free -= take;
    return b.rc;
  }

  int64_t give_back(const std::string& inc, const std::vector<std::pair<std::string, int64_t>>& spent) {
    int64_t total = 0;
    for (const auto& [bucket, units] : spent) {
      Bucket& b = buckets[bucket];
      const int64_t rest = std::max<int64_t>(0, b.g[inc] - units - b.r[inc]);
      b.free += rest;
      b.r[inc] += rest;
      total += rest;
      b.spent[inc] = b.g[inc] - b.r[inc];
    }
    return total;
  }
};

class Conservation : public ::testing::TestWithParam<int> {};

TEST_P(Conservation, HoldsUnderAnySequenceOfCalls) {
  ScratchRedis server;
  redis::Client client(system_env(), server.unix_endpoint());
  Scripts s(client);
  Model model;
  std::mt19937_64 random(static_cast<uint64_t>(GetParam()));
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  ASSERT_EQ(s.open(1), 1);
  const int64_t minute_s = system_env().wall_s();
  const std::vector<std::string> ledger{"day@0+86400", "hour@0+3600", "units$"};
  const std::vector<std::string> all{"day@0+86400", "hour@0+3600", "units$",
                                     "burst@" + std::to_string(minute_s) + "+60"};
  std::vector<std::string> names{"a", "b", "c", "d", "e", "f"};
  std::vector<std::pair<std::string, std::vector<Want>>> past_leases;
  std::vector<std::pair<std::string, Funding>> past_funds;
  int granted = 0, refused = 0;

  const auto do_lease = [&](const std::string& inc, const std::vector<Want>& wants) {
    const LeaseAnswer expected = model.lease(inc, wants), got = s.lease(1, inc, wants);
    ASSERT_EQ(got.status, expected.status);
    ASSERT_EQ(got.grants, expected.grants);
    ++(got.status == "GRANT" ? granted : refused);
  };
  const auto do_fund = [&](const std::string& bucket, const Funding& call) {
    const auto reply = s.fund(1, bucket, call);
    ASSERT_EQ(reply.is_integer() ? std::to_string(reply.integer) : reply.text, model.fund(bucket, call));
  };

  for (int step = 0; step < 3000 && !HasFatalFailure(); ++step) {
    const std::string inc = names[static_cast<size_t>(below(6))];
    const std::string bucket = ledger[static_cast<size_t>(below(3))];
    switch (below(20)) {
      case 0:
        s.enrol(1, {inc});
        model.registered.insert(inc);
        break;
      case 1:
        if (below(12) != 0) break;
        s.close(1, inc);
        model.closed.insert(inc);
        break;
      case 2: {
        std::vector<std::pair<std::string, int64_t>> spent;
        for (const auto& b : all) {
          const auto at = model.buckets.find(b);
          if (at != model.buckets.end() && at->second.g.contains(inc)) {
            spent.emplace_back(b, below(at->second.g[inc] + 1));
          }
        }
        const auto reply = s.give_back(1, inc, spent);
        if (!model.closed.contains(inc)) {
          ASSERT_EQ(reply.text, "OPEN");
          break;
        }
        ASSERT_EQ(reply.integer, model.give_back(inc, spent));
        ASSERT_EQ(s.give_back(1, inc, spent).integer, 0);
        *std::find(names.begin(), names.end(), inc) += "x";  // closed for good: a successor takes its place
        break;
      }
      case 3:
      case 4: {
        const int64_t target = model.buckets[bucket].rc + below(60) - 20;
        ASSERT_EQ(s.recall(1, bucket, target).to_integer(-1), model.recall(bucket, target));
        break;
      }
      case 5:
      case 6:
      case 7: {
        const int64_t f = model.buckets[bucket].f;
        Funding call{std::max<int64_t>(0, f - below(50) + (below(30) == 0 ? 100 : 0)),
                     f + below(300),
                     below(1000),
                     below(1000),
                     below(5) == 0 ? "v" + std::to_string(step) : "",
                     below(100)};
        past_funds.emplace_back(bucket, call);
        do_fund(bucket, call);
        break;
      }
      case 8:
        if (past_funds.empty()) break;
        {
          const auto past = past_funds[static_cast<size_t>(below(static_cast<int64_t>(past_funds.size())))];
          do_fund(past.first, past.second);
        }
        break;
      case 9:
      case 10:
        if (past_leases.empty()) break;
        {
          const auto past = past_leases[static_cast<size_t>(below(static_cast<int64_t>(past_leases.size())))];
          do_lease(past.first, past.second);
        }
        break;
      default: {
        std::vector<Want> wants;
        for (const auto& b : all) {
          if (below(2) == 0) continue;
          Bucket& known = model.buckets[b];
          Want want{b, 0, 0, 0, b.starts_with("burst") ? 500 : 0};
          const int64_t g = known.g.contains(inc) ? known.g[inc] : 0;
          want.least = g + below(40) - 10;
          want.best = want.least + below(60);
          want.returned = below(3) == 0 ? below(g + 5) : 0;
          wants.push_back(want);
        }
        past_leases.emplace_back(inc, wants);
        do_lease(inc, wants);
      }
    }
    for (const auto& [name, b] : model.buckets) {
      const auto reply = s.call({"HGETALL", s.key(name, 1)});
      std::map<std::string, int64_t> fields;
      for (size_t i = 0; i + 1 < reply.elements.size(); i += 2) {
        fields[reply.elements[i].text] = reply.elements[i + 1].to_integer(-1);
      }
      int64_t out = 0;
      for (const auto& [field, value] : fields) {
        if (field.starts_with("g:")) out += value;
        if (field.starts_with("r:")) out -= value;
      }
      ASSERT_EQ(fields["f"], fields["free"] + fields["rc"] + out) << name << " at step " << step;
      ASSERT_EQ(fields["f"], b.f) << name << " at step " << step;
      ASSERT_EQ(fields["free"], b.free) << name << " at step " << step;
      ASSERT_EQ(fields["rc"], b.rc) << name << " at step " << step;
      ASSERT_GE(fields["free"], 0);
    }
  }
  EXPECT_GT(granted, 100);
  EXPECT_GT(refused, 100);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Conservation, ::testing::Range(1, 5));

}  // namespace
}  // namespace tallygate::testing
