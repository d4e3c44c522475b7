// A Redis that somebody else writes to: what is forged, altered, swapped, unsigned or old goes in force nowhere.
#include <filesystem>
#include <fstream>

#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

namespace rc = redis_contract;
using rc::Distrust;
using sidecar::Trust;

rc::Signer signer(char fill) { return rc::Signer::from_seed(std::string(32, fill)).value(); }

class SignedPublication : public ::testing::Test {
 protected:
  SignedPublication() {
    file = world.temporary_folder() + "/publication-key";
    world.op.signer = signer('o');
    world.ready(1000, 1000);
    world.op.put(world.tenant(1000, "shop/globex"));
  }
  void trust(const std::vector<rc::PublicKey>& keys) {
    std::ofstream out(file + ".new");
    for (const auto& key : keys) out << key.pem();
    out.close();
    std::filesystem::rename(file + ".new", file);
  }
  Pod::Options options() {
    Pod::Options options;
    options.publication_key_file = file;
    options.admission.wait_ms = 300;
    return options;
  }
  Pod& start_trusting() {
    trust({signer('o').public_key()});
    return world.pod(options());
  }
  static Ask with_key(const std::string& key) { return {"/", {{"X-Api-Key", key}}}; }
  uint64_t refused(Pod& pod, Distrust why) { return pod.trust->counters().refused[static_cast<size_t>(why)].load(); }
  // Asks with the key until it is refused for that: never admitted.
  bool refuses(Pod& pod, const std::string& key, Distrust why) {
    bool admitted = false;
    const bool came = world.until([&] {
      admitted = admitted || world.outcome(pod, with_key(key)) == "admitted";
      return admitted || refused(pod, why) >= 1;
    });
    return came && !admitted;
  }
  static std::string key_of(const std::string& api_key) { return rc::identity_key("apikey", sidecar::sha256_hex(api_key)); }
  void set(const std::string& key, const std::string& value) { world.op.call({"SET", key, value}); }
  std::string get(const std::string& key) { return world.op.call({"GET", key}).text; }
  // Sidecars hear of it.
  void announce(const std::string& name) {
    world.op.call({"ZADD", rc::changes_key(), "9999", name});
    world.op.put_identity("external", "bystander", kTenant);
  }

  World world;
  std::string file;
};

TEST_F(SignedPublication, WhatIsSignedIsInForce) {
  Pod& pod = start_trusting();
  EXPECT_EQ(world.outcome(pod), "admitted");
  EXPECT_EQ(pod.trust->trouble(), "");
  EXPECT_GE(pod.trust->counters().verified.load(), 4u) << "head, policy, identity, tenant";
  for (size_t why = 0; why < pod.trust->counters().refused.size(); ++why) {
    EXPECT_EQ(pod.trust->counters().refused[why].load(), 0u);
  }
}

TEST_F(SignedPublication, RequestsCostNoSignature) {
  Pod& pod = start_trusting();
  EXPECT_EQ(world.outcome(pod), "admitted");
  const uint64_t before = pod.trust->counters().verified.load();
  EXPECT_EQ(world.admitted_of(pod, 50), 50);
  EXPECT_EQ(pod.trust->counters().verified.load(), before);
}

// SET tg:{pub}:id:apikey:<hash> shop/globex
TEST_F(SignedPublication, AMadeUpKeyIsNobodys) {
  Pod& pod = start_trusting();
  set(key_of("made-up"), "shop/globex");
  EXPECT_NE(world.outcome(pod, with_key("made-up")), "admitted");
  EXPECT_GE(refused(pod, Distrust::kUnsigned), 1u);
  EXPECT_NE(pod.trust->trouble().find("not signed"), std::string::npos);
  // Signed for another key.
  set(rc::signature_key(key_of("made-up")), get(rc::signature_key(key_of(kKey))));
  set(key_of("made-up"), get(key_of(kKey)));
  EXPECT_TRUE(refuses(pod, "made-up", Distrust::kForged));
  // Signed by somebody.
  const rc::Signer somebody = signer('x');
  set(rc::signature_key(key_of("made-up")),
      somebody.sign("Iapikey:" + sidecar::sha256_hex("made-up"), kTenant, {0, 100'000}));
  EXPECT_TRUE(refuses(pod, "made-up", Distrust::kUnknownKey));
  EXPECT_EQ(world.outcome(pod), "admitted") << "others are served as before";
}

TEST_F(SignedPublication, AnAlteredPolicyOrPlanChangesNothing) {
  Pod& pod = start_trusting();
  EXPECT_EQ(world.outcome(pod), "admitted");
  tenant::Policy open = world.policy;
  open.default_route.action = open.routes.empty() ? tenant::RouteAction::kExempt : open.default_route.action;
  for (auto& r : open.routes) r.action = tenant::RouteAction::kExempt;
  set(rc::policy_key("shop/gate"), tenant::to_json(open));
  tenant::Tenant shut = world.tenant(1000);
  shut.suspended = true;
  set(rc::tenant_key(kTenant), tenant::to_json(shut));
  announce("Pshop/gate");
  announce(std::string("T") + kTenant);
  EXPECT_TRUE(world.until([&] { return refused(pod, Distrust::kForged) >= 2; }));
  EXPECT_EQ(world.outcome(pod), "admitted");
  EXPECT_EQ(pod.directory->policy()->routes, world.policy.routes);
}

TEST_F(SignedPublication, AnotherTenantsPlanIsNotOnes) {
  Pod& pod = start_trusting();
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.op.put_identity("apikey", "key-of-globex", "shop/globex");
  set(rc::tenant_key("shop/globex"), get(rc::tenant_key(kTenant)));
  set(rc::signature_key(rc::tenant_key("shop/globex")), get(rc::signature_key(rc::tenant_key(kTenant))));
  EXPECT_NE(world.outcome(pod, with_key("key-of-globex")), "admitted");
  EXPECT_GE(refused(pod, Distrust::kForged), 1u);
}

TEST_F(SignedPublication, WhatWasTrueOnceDoesNotComeBack) {
  Pod& pod = start_trusting();
  EXPECT_EQ(world.outcome(pod), "admitted");
  const std::string key = rc::tenant_key(kTenant), beside = rc::signature_key(key);
  const std::string document = get(key), signature = get(beside);
  const std::string name = get(key_of(kKey)), name_signature = get(rc::signature_key(key_of(kKey)));
  tenant::Tenant shut = world.tenant(1000);
  shut.suspended = true;
  world.op.put(shut);
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "403 Suspended"; }));
  set(key, document);
  set(beside, signature);
  announce(std::string("T") + kTenant);
  EXPECT_TRUE(world.until([&] { return refused(pod, Distrust::kReplayed) >= 1; }));
  EXPECT_EQ(world.outcome(pod), "403 Suspended");
  // A key that was taken back.
  world.op.remove_identity("apikey", kKey);
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "401 InvalidCredential"; }));
  set(key_of(kKey), name);
  set(rc::signature_key(key_of(kKey)), name_signature);
  announce("Iapikey:" + sidecar::sha256_hex(kKey));
  const uint64_t replays = refused(pod, Distrust::kReplayed);
  EXPECT_TRUE(world.until([&] { return refused(pod, Distrust::kReplayed) > replays; }));
  EXPECT_EQ(world.outcome(pod), "401 InvalidCredential");
  // And may be given again.
  world.op.put(world.tenant(1000));
  world.op.put_identity("apikey", kKey, kTenant);
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "admitted"; }));
}

TEST_F(SignedPublication, AForgedHeadIsNotFollowed) {
  Pod& pod = start_trusting();
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.op.call({"HSET", rc::meta_key(), "version", "9000000000000000"});
  EXPECT_TRUE(world.until([&] { return refused(pod, Distrust::kForged) >= 1; }));
  EXPECT_EQ(world.outcome(pod), "admitted");
  tenant::Tenant shut = world.tenant(1000);
  shut.suspended = true;
  world.op.put(shut);  // a later head is whole again
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "403 Suspended"; }));
}

TEST_F(SignedPublication, ARefusedDocumentIsLookedAtAgain) {
  Pod& pod = start_trusting();
  EXPECT_EQ(world.outcome(pod), "admitted");
  tenant::Tenant shut = world.tenant(1000);
  shut.suspended = true;
  world.op.put(shut);
  const std::string key = rc::tenant_key(kTenant), newer = get(key);
  set(key, "{}");
  EXPECT_TRUE(world.until([&] { return refused(pod, Distrust::kForged) >= 1 || world.outcome(pod) != "admitted"; }));
  set(key, newer);  // and nobody is told
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "403 Suspended"; }));
}

TEST_F(SignedPublication, TwoKeysWhileOneTakesTheOthersPlace) {
  Pod& pod = start_trusting();
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.op.signer = signer('n');
  world.op.put_identity("apikey", "second", kTenant);
  EXPECT_NE(world.outcome(pod, with_key("second")), "admitted") << "the next key is not known here";
  trust({signer('n').public_key(), signer('o').public_key()});
  EXPECT_TRUE(world.until([&] { return world.outcome(pod, with_key("second")) == "admitted"; }));
  world.op.publish_all();
  trust({signer('n').public_key()});
  world.op.signer = signer('o');
  const uint64_t before = refused(pod, Distrust::kUnknownKey);
  world.op.put_identity("apikey", "third", kTenant);
  EXPECT_TRUE(world.until([&] { return refused(pod, Distrust::kUnknownKey) > before; })) << "the head is not believed";
  EXPECT_NE(world.outcome(pod, with_key("third")), "admitted");
  EXPECT_EQ(world.outcome(pod), "admitted");
}

TEST_F(SignedPublication, KeysThatAreNotThereYetAreWaitedFor) {
  world.pods.push_back(std::make_unique<Pod>(world, options()));
  Pod& pod = *world.pods.back();
  EXPECT_TRUE(world.until([&] { return pod.directory->age_ns({}) < 1'000'000'000; })) << "the publication was seen";
  EXPECT_EQ(pod.directory->policy(), nullptr);
  EXPECT_EQ(refused(pod, Distrust::kUnknownKey), 0u);
  EXPECT_NE(pod.trust->trouble().find("cannot be read"), std::string::npos);
  trust({signer('o').public_key()});
  EXPECT_TRUE(world.until([&] { return pod.directory->policy() != nullptr; }));
  EXPECT_EQ(world.outcome(pod), "admitted");
  // One that cannot be used changes nothing.
  std::ofstream(file) << "no keys";
  EXPECT_TRUE(world.until([&] { return !pod.trust->trouble().empty(); }));
  world.op.put_identity("apikey", "second", kTenant);
  EXPECT_EQ(world.outcome(pod, with_key("second")), "admitted");
}

// Thousands of keys that nobody has cost Redis one command each, and one a turn of the loop.
TEST_F(SignedPublication, GuessesAreLookedUpTogether) {
  Pod& pod = start_trusting();
  EXPECT_EQ(world.outcome(pod), "admitted");
  const auto commands = [&] {
    const std::string info = world.op.call({"INFO", "commandstats"}).text;
    const auto calls = [&](const std::string& command) {
      const size_t at = info.find("cmdstat_" + command + ":calls=");
      return at == std::string::npos ? 0 : std::stoll(info.substr(at + command.size() + 15));
    };
    return std::pair(calls("mget"), calls("hget"));
  };
  const auto [gets, heads] = commands();
  constexpr int kGuesses = 200;
  std::vector<Call*> calls;
  for (int i = 0; i < kGuesses; ++i) calls.push_back(&pod.begin(with_key("guess-" + std::to_string(i))));
  EXPECT_TRUE(world.until([&] {
    return std::all_of(calls.begin(), calls.end(), [](Call* call) { return !call->waits(); });
  }));
  const auto [gets_after, heads_after] = commands();
  EXPECT_EQ(gets_after - gets, kGuesses);
  EXPECT_LE(heads_after - heads, 20) << "the world's own turns have some";
}

// Who tries keys out uses up what its own address has.
TEST_F(SignedPublication, GuessesFromOneAddressAreBounded) {
  world.policy.identity = {api_key_source()};
  world.op.put_identity("apikey", "fresh", kTenant);
  Pod& pod = start_trusting();
  EXPECT_EQ(world.outcome(pod), "admitted");
  int refused = 0;
  for (int i = 0; i < 3'000; ++i) {  // in one turn of the loop: no time passes
    Ask guess = with_key("guess-" + std::to_string(i));
    guess.peer = "2001:db8::" + std::to_string(i % 9'000 + 1);  // one /64
    const Call& call = pod.begin(guess);
    if (!call.waits() && call.reason() == "TooManyWaiting") ++refused;
  }
  EXPECT_EQ(refused, 1'000);
  Ask other = with_key("fresh");
  other.peer = "2001:db8:0:1::1";
  EXPECT_EQ(world.outcome(pod, other), "admitted") << "from another address";
  EXPECT_EQ(world.outcome(pod), "admitted") << "a key that is known";
}

}  // namespace
}  // namespace tallygate::testing
