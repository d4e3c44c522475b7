#include "operator/controller/reconcile.h"

#include <gtest/gtest.h>

#include "operator/controller/observed.h"
#include "tests/unit/manifest/manifests.h"

namespace tallygate::controller {
namespace {

using manifest::plan_yaml;
using manifest::tenant_yaml;

// Objects of a cluster in memory, each of a generation.
class Cluster {
 public:
  void set(const std::string& key, const std::string& text, int64_t generation) {
    auto content = manifest::read_manifest(key, text);
    content.generation = generation;
    for (auto& object : content.objects) std::visit([&](auto& o) { o.metadata.version.generation = generation; }, object);
    files_[key] = std::make_shared<const manifest::FileContent>(std::move(content));
  }
  source::Snapshot look() {
    source::Look look;
    for (const auto& [key, file] : files_) look.files.push_back(file);
    return acceptance_.take(look);
  }

 private:
  std::map<std::string, std::shared_ptr<const manifest::FileContent>> files_;
  source::Acceptance acceptance_{{}};
};

constexpr char kPlan[] = "BillingPlan standard";
constexpr char kTenant[] = "BillingTenant shop/acme";

InForce publish(const source::Snapshot& snapshot) {
  return {snapshot.accepted, std::make_shared<const plan::Compiled>(plan::compile(snapshot.accepted->resources, 1'700'000'000).value())};
}

// "Accepted=True/Accepted Programmed=…"
std::string shown(const std::optional<Status>& status) {
  if (!status) return "nothing yet";
  std::string text;
  for (const auto& c : status->conditions) {
    text += (text.empty() ? "" : " ") + c.type + "=" + (c.status == Truth::kTrue ? "True" : c.status == Truth::kFalse ? "False" : "Unknown") +
            "/" + c.reason;
  }
  return text;
}

TEST(Reconcile, FromSeenToInForce) {
  Cluster cluster;
  cluster.set(kPlan, plan_yaml(), 1);
  cluster.set(kTenant, tenant_yaml(), 1);
  const auto snapshot = cluster.look();
  EXPECT_EQ(shown(judge(Observed(snapshot, {}).view(kTenant, 2))), "nothing yet") << "the source has not seen generation 2";
  EXPECT_EQ(shown(judge(Observed(snapshot, {}).view(kTenant, 1))), "Accepted=True/Accepted Programmed=False/Pending Ready=False/Pending");
  const Observed in_force(snapshot, publish(snapshot));
  const auto status = judge(in_force.view(kTenant, 1));
  EXPECT_EQ(shown(status), "Accepted=True/Accepted Programmed=True/Programmed Ready=True/InForce");
  EXPECT_EQ(status->observed_generation, 1);
  EXPECT_EQ(in_force.tenants_on("standard"), 1);
}

TEST(Reconcile, ARefusedVersionSaysWhyAndWhichStaysInForce) {
  Cluster cluster;
  cluster.set(kPlan, plan_yaml(), 1);
  cluster.set(kTenant, tenant_yaml(), 1);
  const auto good = cluster.look();
  cluster.set(kTenant, tenant_yaml("acme", "org_1", "gold"), 2);
  const auto status = judge(Observed(cluster.look(), publish(good)).view(kTenant, 2));
  EXPECT_EQ(shown(status), "Accepted=False/NotFound Programmed=False/NotAccepted Ready=False/NotFound");
  EXPECT_NE(status->condition(kAccepted)->message.find("spec.planRef.name: there is no accepted BillingPlan gold"), std::string::npos);
  EXPECT_EQ(status->condition(kProgrammed)->message, "generation 1 stays in force");
  EXPECT_EQ(status->condition(kReady)->observed_generation, 2);
}

TEST(Reconcile, AFaultOfFormIsToldWithItsFix) {
  Cluster cluster;
  cluster.set(kTenant, tenant_yaml("acme", "org_1", "Gold!"), 1);
  const auto status = judge(Observed(cluster.look(), {}).view(kTenant, 1));
  EXPECT_EQ(status->condition(kAccepted)->status, Truth::kFalse);
  EXPECT_EQ(status->condition(kAccepted)->reason, "InvalidValue");
  EXPECT_EQ(status->condition(kProgrammed)->message, "nothing of it is in force");
}

TEST(Reconcile, AnIdentityOfAForeignTenantIsRefusedWithoutItsName) {
  Cluster cluster;
  cluster.set(kPlan, plan_yaml(), 1);
  cluster.set(kTenant, tenant_yaml(), 1);
  cluster.look();
  std::string other = tenant_yaml("thief", "org_1");
  other.replace(other.find("namespace: shop"), 15, "namespace: evil");
  cluster.set("BillingTenant evil/thief", other, 1);
  const auto status = judge(Observed(cluster.look(), {}).view("BillingTenant evil/thief", 1));
  EXPECT_EQ(status->condition(kAccepted)->reason, "Conflict");
  EXPECT_EQ(status->condition(kAccepted)->message.find("shop"), std::string::npos) << status->condition(kAccepted)->message;
}

TEST(Reconcile, TheSameFactsGiveTheSameStatus) {
  Cluster cluster;
  cluster.set(kPlan, plan_yaml(), 1);
  cluster.set(kTenant, tenant_yaml(), 1);
  const auto snapshot = cluster.look();
  const auto in_force = publish(snapshot);
  TenantFacts facts;
  const auto make = [&] {
    auto status = *judge(Observed(snapshot, in_force).view(kTenant, 1));
    add_tenant(status, in_force.compiled->tenants[0], in_force.compiled->billing[0], &facts, true, 1'700'000'000);
    return status;
  };
  EXPECT_EQ(make(), make());
  const auto status = make();
  ASSERT_EQ(status.usage.size(), 1u);
  EXPECT_EQ(status.usage[0].limit, "calls-month");
  EXPECT_EQ(status.usage[0].window, "Month");
  EXPECT_EQ(status.usage[0].resets_at_s, 1'701'388'800);  // 2023-12-01
  EXPECT_EQ(status.period_start_s, 1'698'796'800);
  EXPECT_EQ(status.period_end_s, 1'701'388'800);
  EXPECT_EQ(status.state, LimitState::kOk);
  EXPECT_EQ(status.condition(kBillingSynced)->reason, "NoCustomer");
  EXPECT_EQ(status.condition(kBalanceHealthy), nullptr) << "it has no wallet";
}

TEST(Reconcile, StatesOfALimit) {
  struct Row {
    const char* name;
    tenant::Cap cap;
    int64_t capacity, grace_s, used, crossed_s;
    LimitState state;
  };
  constexpr int64_t kNow = 1'000'000;
  using tenant::Cap;
  for (const Row& row : {
           Row{"nothing", Cap::kHard, 100, 0, 0, 0, LimitState::kOk},
           Row{"79 of 100", Cap::kHard, 100, 0, 79, 0, LimitState::kOk},
           Row{"80 of 100", Cap::kHard, 100, 0, 80, 0, LimitState::kWarned},
           Row{"the last but one", Cap::kHard, 100, 0, 99, 0, LimitState::kWarned},
           Row{"the last", Cap::kHard, 100, 0, 100, 0, LimitState::kHard},
           Row{"soft, exactly", Cap::kSoft, tenant::kUnbounded, 0, 100, 0, LimitState::kWarned},
           Row{"soft, one over", Cap::kSoft, tenant::kUnbounded, 0, 101, kNow, LimitState::kSoftOver},
           Row{"grace of ten percent", Cap::kSoft, 110, 0, 101, kNow, LimitState::kGrace},
           Row{"grace of ten percent used up", Cap::kSoft, 110, 0, 110, kNow, LimitState::kHard},
           Row{"an hour's grace", Cap::kSoft, tenant::kUnbounded, 3600, 101, kNow - 3599, LimitState::kGrace},
           Row{"an hour's grace is over", Cap::kSoft, tenant::kUnbounded, 3600, 101, kNow - 3600, LimitState::kHard},
       }) {
    tenant::Limit limit;
    limit.amount = 100;
    limit.capacity = row.capacity;
    limit.cap = row.cap;
    limit.grace_duration_s = row.grace_s;
    EXPECT_EQ(state_of(limit, {row.used, row.crossed_s}, kNow), row.state) << row.name;
  }
}

TEST(Reconcile, PeopleAreToldOfChangesOnly) {
  Status before, now;
  now.usage = {{"calls", "api_calls", "Month", 100, 100, LimitState::kHard, 0}};
  auto told = events(before, now);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].reason, "LimitReached");
  EXPECT_EQ(told[0].type, kube::EventText::Type::kWarning);
  EXPECT_TRUE(events(now, now).empty());
  EXPECT_EQ(events(now, {}).size(), 0u) << "the limit is gone";
  Status reset = now;
  reset.usage[0].used = 0;
  reset.usage[0].state = LimitState::kOk;
  ASSERT_EQ(events(now, reset).size(), 1u);
  EXPECT_EQ(events(now, reset)[0].reason, "LimitCleared");
  Status warned = reset;
  warned.usage[0].state = LimitState::kWarned;
  EXPECT_TRUE(events(reset, warned).empty()) << "states have their metric and column; Events are for what denies or costs";
  Status refused;
  refused.conditions = {{kAccepted, Truth::kFalse, "NotFound", "no plan", 2, 0}};
  EXPECT_EQ(events({}, refused).at(0).reason, "Refused");
}

}  // namespace
}  // namespace tallygate::controller
