// Amounts that are not one per request, against a real Redis: held, held further while a response passes, settled to what
// they came to (A7, A13, I1, I2).
#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

using namespace sidecar;
using proxy::End;
using proxy::Flow;
using tenant::AmountFrom;

tenant::Charge amount(AmountFrom from, int64_t fallback, int64_t max = 0, const std::string& where = "") {
  tenant::Charge c = charge("api_calls");
  c.from = from;
  if (from == AmountFrom::kRequestHeader || from == AmountFrom::kResponseHeader) c.header = where;
  if (from == AmountFrom::kRequestJson || from == AmountFrom::kResponseJson) c.pointer = where;
  c.estimate.fallback = fallback;
  c.estimate.max = max;
  return c;
}

tenant::Charge header_amount(int64_t fallback, int64_t max = 0) {
  return amount(AmountFrom::kResponseHeader, fallback, max, "x-tokens");
}

// A response as the proxy would hand it on.
class Answer {
 public:
  Answer(World& world, Pod& pod, Call& call) : world_(world), pod_(pod), call_(call) {}

  void head(int status, std::vector<proxy::Header> headers, bool may_grow = true) {
    status_ = status;
    if ((call_.state.listens & proxy::kResponseHead) == 0) return;
    proxy::ResponseView view;
    view.status = status;
    view.headers = headers;
    view.has_body = true;
    view.may_grow = may_grow;
    pod_.admission->response_head(call_.ticket, call_.state, view);
  }
  // Until all of it has passed, or the response was ended; waits for units where it must.
  bool piece(std::string_view bytes, bool last = false) {
    kept_ += bytes;
    if ((call_.state.listens & proxy::kResponseBody) == 0) return pass(kept_.size());
    while (true) {
      const Flow flow = pod_.admission->response_body(call_.state, kept_, last);
      pass(last && flow.next == Flow::kGoOn ? kept_.size() : flow.pass, flow.instead);
      if (flow.next == Flow::kEnd) {
        tail_ = flow.tail;
        cut_ = true;
        settle(End::kCut);
        return false;
      }
      if (flow.next != Flow::kPause) return true;
      ++pauses_;
      call_.resumed = false;
      EXPECT_TRUE(world_.until([&] { return call_.resumed; }));
    }
  }
  void settle(End end = End::kCompleted) {
    proxy::Outcome outcome;
    outcome.end = end;
    outcome.status = status_;
    outcome.app_reached = outcome.response_started = true;
    outcome.response_body_bytes = passed_.size();
    outcome.duration_ns = 2'500'000'000;
    call_.gone = true;
    pod_.admission->settle(call_.state, outcome);
  }
  const std::string& passed() const { return passed_; }
  const std::string& tail() const { return tail_; }
  bool cut() const { return cut_; }
  int pauses() const { return pauses_; }

 private:
  bool pass(size_t bytes, std::string_view instead = {}) {
    passed_ += instead.data() != nullptr ? instead : std::string_view(kept_).substr(0, bytes);
    kept_.erase(0, bytes);
    return true;
  }
  World& world_;
  Pod& pod_;
  Call& call_;
  int status_ = 200, pauses_ = 0;
  bool cut_ = false;
  std::string kept_, passed_, tail_;
};

// A tenant with `units`, all of them funded, and a policy of this one charge.
Pod& begin_with(World& world, int64_t units, tenant::Charge c, tenant::Streaming streaming = {}) {
  world.policy.default_route.charges = {std::move(c)};
  world.policy.streaming = streaming;
  world.ready(units, units);
  return world.pod();
}

int64_t booked(World& world) { return world.op.booked(kTenant, world.bucket()); }

const AdmissionCounters::Amounts& counted(const Pod& pod) {
  return pod.admission->counters().amounts[AdmissionCounters::kDefaultRoute];
}

// One request that is answered with these headers; "" where it is admitted.
std::string answered(World& world, Pod& pod, std::vector<proxy::Header> headers, int status = 200) {
  Call& call = world.ask(pod);
  if (!call.admitted()) return call.reason();
  Answer answer(world, pod, call);
  answer.head(status, std::move(headers));
  answer.settle();
  return "";
}

TEST(Amounts, SettleToLessAndToMore) {
  World world;
  Pod& pod = begin_with(world, 10'000, header_amount(100));
  EXPECT_EQ(answered(world, pod, {{"X-Tokens", "30"}}), "");
  EXPECT_TRUE(world.until([&] { return booked(world) == 30; }));
  EXPECT_EQ(answered(world, pod, {{"X-Tokens", "2500.001"}}), "");
  EXPECT_TRUE(world.until([&] { return booked(world) == 2531; })) << booked(world);
  EXPECT_EQ(world.op.booked(kTenant, world.bucket(), world.op.epoch), 2531) << "all of it on lease";
  EXPECT_EQ(counted(pod).overshoot_units.load(), 0u);
}

TEST(Amounts, BeyondTheCapIsBookedWithoutALeaseAndShown) {
  World world;
  Pod& pod = begin_with(world, 200, header_amount(100));
  EXPECT_EQ(answered(world, pod, {{"X-Tokens", "250"}}), "");
  EXPECT_TRUE(world.until([&] { return booked(world) == 250; })) << booked(world);
  EXPECT_EQ(world.op.booked(kTenant, world.bucket(), world.op.epoch), 200);
  EXPECT_EQ(world.op.booked(kTenant, world.bucket(), 0), 50);
  EXPECT_EQ(counted(pod).overshoot_units.load(), 50u);
  EXPECT_EQ(answered(world, pod, {}), "QuotaExhausted");
}

// I1: with a declared maximum no two requests are let through that could pass the cap together.
TEST(Amounts, AHardCapHoldsTheMaximum) {
  World world;
  Pod& pod = begin_with(world, 100, header_amount(10, 60));
  Call& first = world.ask(pod);
  ASSERT_TRUE(first.admitted());
  Call& second = world.ask(pod);
  EXPECT_EQ(second.reason(), "QuotaExhausted") << second.denial.body;
  Answer answer(world, pod, first);
  answer.head(200, {{"X-Tokens", "60"}});
  answer.settle();
  EXPECT_TRUE(world.until([&] { return booked(world) == 60; }));
  EXPECT_EQ(counted(pod).overshoot_units.load(), 0u);
}

TEST(Amounts, WithoutANumberTheEstimateIsChargedAndCounted) {
  World world;
  Pod& pod = begin_with(world, 10'000, header_amount(7));
  for (const char* bad : {"-1", "NaN", "1e400", "nine", ""}) {
    EXPECT_EQ(answered(world, pod, {{"X-Tokens", bad}}), "") << bad;
  }
  EXPECT_EQ(answered(world, pod, {{"X-Tokens", "1"}, {"x-tokens", "2"}}), "") << "which of them?";
  EXPECT_EQ(answered(world, pod, {}), "");
  EXPECT_TRUE(world.until([&] { return booked(world) == 49; })) << booked(world);
  EXPECT_EQ(counted(pod).requests[static_cast<size_t>(Basis::kUnreadable)].load(), 6u);
  EXPECT_EQ(counted(pod).requests[static_cast<size_t>(Basis::kAbsent)].load(), 1u);
  EXPECT_EQ(counted(pod).units[static_cast<size_t>(Basis::kAbsent)].load(), 7u);
}

TEST(Amounts, AFailureCostsNothingNorDoesAnAnswerThatIsNone) {
  World world;
  Pod& pod = begin_with(world, 10'000, header_amount(7));
  EXPECT_EQ(answered(world, pod, {{"X-Tokens", "30"}}, 500), "");
  EXPECT_EQ(answered(world, pod, {}, 404), "");
  EXPECT_EQ(answered(world, pod, {}, 302), "");
  EXPECT_EQ(answered(world, pod, {{"X-Tokens", "5"}}, 404), "") << "it says what it cost";
  EXPECT_TRUE(world.until([&] { return booked(world) == 5; }));
  world.policy.default_route.charge_on_success = false;
  world.op.put(world.policy);
  world.run_ms(1'000);
  EXPECT_EQ(answered(world, pod, {}, 404), "");
  EXPECT_EQ(answered(world, pod, {{"X-Tokens", "30"}}, 500), "");
  EXPECT_TRUE(world.until([&] { return booked(world) == 5 + 7 + 30; })) << booked(world);
}

TEST(Amounts, OfTheRequestAreExactBeforeItPasses) {
  World world;
  Pod& pod = begin_with(world, 100, amount(AmountFrom::kRequestHeader, 50, 0, "x-cost"));
  EXPECT_EQ(world.outcome(pod, {"/", {{"X-Api-Key", kKey}, {"X-Cost", "101"}}}), "429 QuotaExhausted");
  EXPECT_EQ(world.outcome(pod, {"/", {{"X-Api-Key", kKey}, {"X-Cost", "99.5"}}}), "admitted");
  EXPECT_EQ(world.outcome(pod, {"/", {{"X-Api-Key", kKey}, {"X-Cost", "1"}}}), "429 QuotaExhausted");
  EXPECT_EQ(world.outcome(pod, {"/", {{"X-Api-Key", kKey}, {"X-Cost", "0"}}}), "admitted") << "nothing is asked for";
  EXPECT_TRUE(world.until([&] { return booked(world) == 100; }));
}

TEST(Amounts, OfARequestsBodyAreReadBeforeItPasses) {
  World world;
  world.policy.request_bodies.bytes_max = 100;
  Pod& pod = begin_with(world, 1'000, amount(AmountFrom::kRequestJson, 3, 0, "/n"));
  const auto ask = [&](std::string body, int64_t length = -2) {
    Ask what;
    what.method = "POST";
    what.body = std::move(body);
    what.content_length = length;
    return world.outcome(pod, what);
  };
  EXPECT_EQ(ask(R"({"n": 40})"), "admitted");
  EXPECT_EQ(ask(R"({"n": "2.5"})"), "admitted");
  EXPECT_EQ(ask(R"({"m": 40})", -1), "admitted") << "the estimate";
  EXPECT_EQ(ask(R"({"n": 1, "n": 2})"), "400 AmbiguousBody");
  EXPECT_EQ(ask("{\"n\": 1"), "400 AmbiguousBody");
  EXPECT_EQ(ask("n=1"), "400 AmbiguousBody");
  EXPECT_EQ(ask(R"({"n": 1, "text": ")" + std::string(100, 'x') + "\"}"), "413 BodyTooLarge");
  EXPECT_TRUE(world.until([&] { return booked(world) == 46; })) << booked(world);
  world.policy.request_bodies.refuse_larger = false;
  world.op.put(world.policy);
  world.run_ms(1'000);
  EXPECT_EQ(ask(R"({"n": 1, "text": ")" + std::string(100, 'x') + "\"}"), "admitted");
  EXPECT_TRUE(world.until([&] { return booked(world) == 49; })) << booked(world);
}

TEST(Amounts, WaitForATenantThatIsNotKnownYet) {
  World world;
  world.policy.default_route.charges = {amount(AmountFrom::kRequestJson, 3, 0, "/n")};
  world.ready(100, 100);
  Pod& pod = world.pod();
  Ask what;
  what.body = R"({"n": 40})";
  Call& call = pod.begin(what);
  ASSERT_TRUE(call.waits());
  // The proxy is asked for the body once the tenant is known, and then for units.
  ASSERT_TRUE(world.until([&] { return call.admitted(); }));
  pod.settle(call);
  EXPECT_TRUE(world.until([&] { return booked(world) == 40; }));
}

TEST(Amounts, ABoundInTheRequestIsWhatIsHeld) {
  World world;
  tenant::Charge c = header_amount(10, 500);
  c.estimate.request_pointer = "/max_tokens";
  Pod& pod = begin_with(world, 100, c);
  Ask what;
  what.body = R"({"max_tokens": 80})";
  Call& first = world.ask(pod, what);
  ASSERT_TRUE(first.admitted());
  EXPECT_EQ(world.ask(pod, what).reason(), "QuotaExhausted");
  Answer answer(world, pod, first);
  answer.head(200, {});
  answer.settle();
  EXPECT_TRUE(world.until([&] { return booked(world) == 80; })) << "the estimate is what the request says";
}

std::vector<proxy::Header> of_type(const char* type) { return {{"Content-Type", type}}; }

TEST(Amounts, OfAWholeAnswerAndOfAStreamAreReadByOneRule) {
  World world;
  Pod& pod = begin_with(world, 10'000, amount(AmountFrom::kResponseJson, 50, 0, "/usage/total"));
  const auto ask = [&](const char* type, std::vector<std::string> pieces) {
    Call& call = world.ask(pod);
    Answer answer(world, pod, call);
    answer.head(200, of_type(type));
    for (size_t i = 0; i < pieces.size(); ++i) answer.piece(pieces[i], i + 1 == pieces.size());
    answer.settle();
  };
  ask("application/json", {R"({"text": "{\"usage\":{\"total\":9}}", "usa)", R"(ge": {"total": 12}})"});
  EXPECT_TRUE(world.until([&] { return booked(world) == 12; })) << booked(world);
  ask("text/event-stream; charset=utf-8",
      {"data: {\"usage\": null}\n\ndata: {\"usage\": {\"total\": 1", "00}}\n\n", "data: [DONE]\n\n"});
  EXPECT_TRUE(world.until([&] { return booked(world) == 112; })) << booked(world);
  ask("application/x-ndjson", {"{\"usage\": {\"total\": 7}}\n{\"usage\"", ": {\"total\": 1000}}\n"});
  EXPECT_TRUE(world.until([&] { return booked(world) == 1112; })) << booked(world);
  ask("text/plain", {"none"});
  EXPECT_TRUE(world.until([&] { return booked(world) == 1162; })) << "the estimate";
  EXPECT_EQ(counted(pod).requests[static_cast<size_t>(Basis::kUnreadable)].load(), 1u);
}

TEST(Amounts, DurationIsInSecondsRoundedUp) {
  World world;
  Pod& pod = begin_with(world, 100, amount(AmountFrom::kDuration, 1));
  Call& call = world.ask(pod);
  Answer answer(world, pod, call);
  answer.head(200, {});
  answer.piece("x", true);
  answer.settle();  // after two and a half
  EXPECT_TRUE(world.until([&] { return booked(world) == 3; }));
}

TEST(Amounts, WithoutAnEstimateRecentRequestsSayWhatIsHeld) {
  World world;
  Pod& pod = begin_with(world, 1'000, header_amount(0));
  for (int i = 0; i < 40; ++i) EXPECT_EQ(answered(world, pod, {{"X-Tokens", "64"}}), "");
  EXPECT_EQ(answered(world, pod, {}), "") << "the next is charged by them where it does not say";
  const uint64_t units = counted(pod).units[static_cast<size_t>(Basis::kAbsent)].load();
  EXPECT_GE(units, 64u);
  EXPECT_LE(units, 80u);
}

// --- Streams ----------------------------------------------------------------------------------------------------

std::string event(int n) { return "data: {\"n\":" + std::to_string(10 + n) + "}\n\n"; }  // 16 bytes

tenant::Charge bytes(int64_t fallback, int64_t slice) {
  tenant::Charge c = amount(AmountFrom::kResponseBytes, fallback);
  c.estimate.slice = slice;
  return c;
}

TEST(Streams, EndWellFormedAtTheQuotaToTheByte) {
  World world;
  Pod& pod = begin_with(world, 16 * 20 + 7, bytes(16, 32), {tenant::OnExhausted::kErrorEvent, {}});
  Call& call = world.ask(pod);
  Answer answer(world, pod, call);
  answer.head(200, of_type("text/event-stream"));
  std::string sent;
  for (int i = 0; i < 80; ++i) {
    const std::string e = event(i);
    sent += e;
    if (!answer.piece(e.substr(0, 5)) || !answer.piece(e.substr(5))) break;
  }
  ASSERT_TRUE(answer.cut());
  EXPECT_EQ(answer.passed(), sent.substr(0, 16 * 20)) << "whole events";
  EXPECT_TRUE(answer.tail().starts_with("event: error\ndata: {")) << answer.tail();
  EXPECT_TRUE(answer.tail().ends_with("}\n\n"));
  const auto told = nlohmann::json::parse(answer.tail().substr(answer.tail().find('{')));
  EXPECT_EQ(told["reason"], "QuotaExhausted");
  EXPECT_EQ(told["error"]["type"], "insufficient_quota");
  EXPECT_TRUE(world.until([&] { return booked(world) == 16 * 20; })) << booked(world);
  EXPECT_EQ(counted(pod).overshoot_units.load(), 0u);
}

TEST(Streams, CommentsPassAtOnceAndPartsOfLinesDoNot) {
  World world;
  Pod& pod = begin_with(world, 1'000, bytes(100, 100), {tenant::OnExhausted::kErrorEvent, {}});
  Call& call = world.ask(pod);
  Answer answer(world, pod, call);
  answer.head(200, of_type("text/event-stream"));
  answer.piece(": still here\n\n");
  EXPECT_EQ(answer.passed(), ": still here\n\n");
  answer.piece("da");
  EXPECT_EQ(answer.passed(), ": still here\n\n");
  answer.piece("ta: {}\n\n");
  EXPECT_EQ(answer.passed(), ": still here\n\ndata: {}\n\n");
  answer.piece("data: 1", true);
  EXPECT_TRUE(answer.passed().ends_with("data: 1")) << "at its end all of it passes";
  answer.settle();
}

TEST(Streams, AreCutOrFinishedAsThePolicySays) {
  for (const auto how : {tenant::OnExhausted::kClose, tenant::OnExhausted::kFinish}) {
    World world;
    Pod& pod = begin_with(world, 100, bytes(16, 16), {how, {}});
    Call& call = world.ask(pod);
    Answer answer(world, pod, call);
    answer.head(200, {});
    bool whole = true;
    for (int i = 0; i < 10 && whole; ++i) whole = answer.piece(std::string(16, 'x'), i == 9);
    const bool finishes = how == tenant::OnExhausted::kFinish;
    EXPECT_EQ(whole, finishes);
    if (finishes) answer.settle();
    EXPECT_EQ(answer.passed().size(), finishes ? 160u : 100u);
    EXPECT_EQ(answer.tail(), "");
    const int64_t bill = finishes ? 160 : 100;
    EXPECT_TRUE(world.until([&] { return booked(world) == bill; })) << booked(world);
    EXPECT_EQ(counted(pod).overshoot_units.load(), finishes ? 60u : 0u);
  }
}

TEST(Streams, AValueThatGrowsIsHeldBeforeItsEventPasses) {
  World world;
  tenant::Charge c = amount(AmountFrom::kResponseJson, 10, 0, "/total");
  Pod& pod = begin_with(world, 100, c, {tenant::OnExhausted::kErrorEvent, {}});
  Call& call = world.ask(pod);
  Answer answer(world, pod, call);
  answer.head(200, of_type("application/x-ndjson"));
  for (int total = 30; total <= 210 && !answer.cut(); total += 30) {
    answer.piece("{\"total\": " + std::to_string(total) + "}\n");
  }
  EXPECT_TRUE(answer.passed().ends_with("{\"total\": 90}\n"));
  EXPECT_TRUE(answer.tail().starts_with("{\"type\":\"error\"")) << answer.tail();
  EXPECT_TRUE(world.until([&] { return booked(world) == 90; })) << booked(world);
}

// Others wait for the same units: what all of them got is what the tenant has, to the unit.
TEST(Streams, EightAtOnceNeverPassTheCap) {
  World world;
  Pod& first = begin_with(world, 5'000, bytes(64, 64), {tenant::OnExhausted::kClose, {}});
  std::vector<Pod*> pods{&first};
  for (int i = 0; i < 3; ++i) pods.push_back(&world.pod());
  std::vector<std::unique_ptr<Answer>> answers;
  for (Pod* pod : pods) {
    for (int i = 0; i < 2; ++i) {
      Call& call = world.ask(*pod);
      ASSERT_TRUE(call.admitted());
      answers.push_back(std::make_unique<Answer>(world, *pod, call));
      answers.back()->head(200, {});
    }
  }
  for (int round = 0; round < 200; ++round) {
    for (auto& answer : answers) {
      if (!answer->cut()) answer->piece(std::string(37, 'x'));
    }
    world.turn(0);
  }
  size_t passed = 0;
  for (auto& answer : answers) {
    EXPECT_TRUE(answer->cut());
    passed += answer->passed().size();
  }
  EXPECT_LE(passed, 5'000u);
  EXPECT_GE(passed, 4'500u) << "and little was left over";
  EXPECT_TRUE(world.until([&] { return booked(world) == static_cast<int64_t>(passed); })) << booked(world);
  EXPECT_EQ(world.op.booked(kTenant, world.bucket(), world.op.epoch), static_cast<int64_t>(passed));
}

TEST(Streams, AClientThatLeavesPaysAsThePolicySays) {
  for (const auto how : {tenant::OnAbort::kReceived, tenant::OnAbort::kWhole, tenant::OnAbort::kDrain}) {
    World world;
    Pod& pod = begin_with(world, 10'000, amount(AmountFrom::kResponseJson, 500, 0, "/total"), {{}, how});
    Call& call = world.ask(pod);
    Answer answer(world, pod, call);
    answer.head(200, of_type("application/x-ndjson"));
    answer.piece("{\"total\": 30}\n");
    EXPECT_EQ(pod.admission->drains(call.state), how == tenant::OnAbort::kDrain);
    if (how == tenant::OnAbort::kDrain) answer.piece("{\"total\": 800}\n", true);
    answer.settle(End::kClientAborted);
    const int64_t bill = how == tenant::OnAbort::kReceived ? 30 : how == tenant::OnAbort::kWhole ? 500 : 800;
    EXPECT_TRUE(world.until([&] { return booked(world) == bill; })) << booked(world);
  }
}

// Killed in the middle: the bill is what was held last, a slice at the most above what had passed.
TEST(Streams, AreBilledToTheLastSliceByWhoeverComesAfter) {
  World world;
  world.policy.default_route.charges = {bytes(100, 100)};
  world.policy.streaming.on_exhausted = tenant::OnExhausted::kClose;
  world.ready(10'000, 10'000);
  Pod::Options options;
  options.folder = world.temporary_folder();
  Pod& dying = world.pod(options);
  Call& call = world.ask(dying);
  Answer answer(world, dying, call);
  answer.head(200, {});
  for (int i = 0; i < 7; ++i) answer.piece(std::string(50, 'x'));
  world.drop(dying);
  world.pod(options);
  EXPECT_TRUE(world.until([&] { return booked(world) > 0; }));
  world.run_ms(100);
  EXPECT_GE(booked(world), 350);
  EXPECT_LE(booked(world), 450);
}

// Minutes live in Redis alone and ask for nothing once they are over; the month is held on.
TEST(Streams, GoOnWhereTheirMinuteIsOverAndTheMonthIsNot) {
  World world;
  world.policy.default_route.charges = {bytes(10, 10)};
  world.policy.streaming.on_exhausted = tenant::OnExhausted::kClose;
  world.ready(300, 300);
  auto t = world.tenant(300);
  t.limits.push_back(world.limit("minute", 100));
  t.limits.back().window = tenant::WindowKind::kMinute;
  world.op.put(t);
  world.pass_s(60 - world.clock.wall_s() % 60);
  Pod& pod = world.pod();
  Call& call = world.ask(pod);
  Answer answer(world, pod, call);
  answer.head(200, {});
  EXPECT_TRUE(answer.piece(std::string(90, 'x')));
  world.pass_s(60);
  world.run_ms(60);
  EXPECT_TRUE(answer.piece(std::string(150, 'x')));
  EXPECT_FALSE(answer.piece(std::string(150, 'x')));
  EXPECT_EQ(answer.passed().size(), 300u);
  EXPECT_TRUE(world.until([&] { return booked(world) == 300; })) << booked(world);
  EXPECT_EQ(counted(pod).overshoot_units.load(), 0u);
}

TEST(Streams, InShadowNothingIsEndedAndNothingHeld) {
  World world;
  world.policy.enforcement = tenant::Enforcement::kShadow;
  Pod& pod = begin_with(world, 10, bytes(16, 16), {tenant::OnExhausted::kClose, {}});
  Call& call = world.ask(pod);
  ASSERT_TRUE(call.admitted());
  Answer answer(world, pod, call);
  answer.head(200, {});
  EXPECT_TRUE(answer.piece(std::string(160, 'x'), true));
  answer.settle();
  EXPECT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket(), 0) == 160; })) << booked(world);
}

// --- Tokens -----------------------------------------------------------------------------------------------------

tenant::Charge tokens(const std::string& api, std::vector<int64_t> weights = {}) {
  tenant::Charge c = amount(AmountFrom::kTokens, 100);
  c.tokens.api = api;
  for (size_t i = 0; i < tenant::kTokenOnlyKinds; ++i) {
    c.tokens.weights[i] = weights.empty() ? 1'000'000 : i < weights.size() ? weights[i] : 0;
  }
  return c;
}

constexpr std::string_view kUsage =
    R"("usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4}})";

TEST(Tokens, AreWeighedByKindAndRoundedUpOnce) {
  World world;
  // input, cachedInput, cacheWrite5m, cacheWrite1h, output
  Pod& pod = begin_with(world, 10'000, tokens("", {1'000'000, 100'000, 0, 0, 4'000'000}));
  Ask what;
  what.method = "POST";
  what.path = "/v1/chat/completions";
  Call& call = world.ask(pod, what);
  Answer answer(world, pod, call);
  answer.head(200, of_type("application/json"));
  answer.piece(R"({"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":99999}"}}],)");
  answer.piece(std::string(kUsage) + "}", true);
  answer.settle();
  EXPECT_TRUE(world.until([&] { return booked(world) == 27; })) << "6 + 0.4 + 20: " << booked(world);
  EXPECT_EQ(counted(pod).requests[static_cast<size_t>(Basis::kMeasured)].load(), 1u);
}

TEST(Tokens, OfAStreamAreItsLastWordElseWhatPassedIsCounted) {
  for (const bool told : {true, false}) {
    World world;
    Pod& pod = begin_with(world, 10'000, tokens("OpenAIChat"));
    Ask what;
    what.body = std::string(40, ' ');
    Call& call = world.ask(pod, what);
    Answer answer(world, pod, call);
    answer.head(200, of_type("text/event-stream"));
    for (int i = 0; i < 5; ++i) answer.piece("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n");
    if (told) answer.piece("data: {\"choices\":[]," + std::string(kUsage) + "}\n\n");
    answer.piece("data: [DONE]\n\n", true);
    answer.settle();
    EXPECT_TRUE(world.until([&] { return booked(world) == 15; })) << told << ": " << booked(world);
    EXPECT_EQ(counted(pod).requests[static_cast<size_t>(told ? Basis::kMeasured : Basis::kCounted)].load(), 1u);
  }
}

// OpenAI tells a stream's usage where it is asked to: it is, and the client does not see it who did not ask.
TEST(Tokens, AStreamIsAskedForItsUsage) {
  for (const bool client_asks : {false, true}) {
    World world;
    Pod& pod = begin_with(world, 10'000, tokens(""));
    Ask what;
    what.method = "POST";
    what.path = "/v1/chat/completions";
    what.body = client_asks ? R"({"stream":true,"stream_options":{"include_usage":true}})" : R"({"stream":true})";
    Call& call = world.ask(pod, what);
    ASSERT_TRUE(call.admitted());
    const auto sent = nlohmann::json::parse(call.request_body);
    EXPECT_EQ(sent["stream_options"]["include_usage"], true);
    EXPECT_EQ(call.state.accept_encoding, "identity");
    Answer answer(world, pod, call);
    answer.head(200, of_type("text/event-stream"));
    const std::string word = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n";
    const std::string usage = "data: {\"choices\":[]," + std::string(kUsage) + "}\n\n";
    answer.piece(word);
    answer.piece(usage.substr(0, 30));
    answer.piece(usage.substr(30));
    answer.piece("data: [DONE]\n\n", true);
    answer.settle();
    EXPECT_EQ(answer.passed(), word + (client_asks ? usage : "") + "data: [DONE]\n\n");
    EXPECT_TRUE(world.until([&] { return booked(world) == 15; })) << booked(world);
    EXPECT_EQ(counted(pod).requests[static_cast<size_t>(Basis::kMeasured)].load(), 1u);
  }
}

TEST(Tokens, WithoutAnApiThatIsKnownTheEstimateIsCharged) {
  World world;
  Pod& pod = begin_with(world, 10'000, tokens(""));
  Call& call = world.ask(pod, {"/v1/parrot"});
  Answer answer(world, pod, call);
  answer.head(200, of_type("application/json"));
  answer.piece("{" + std::string(kUsage) + "}", true);
  answer.settle();
  EXPECT_TRUE(world.until([&] { return booked(world) == 100; })) << booked(world);
}

// An answer is cut off where its tokens are used up, and pays for those that passed.
TEST(Tokens, AStreamEndsWhereTheyAreUsedUp) {
  World world;
  tenant::Charge c = tokens("OpenAIChat");
  c.estimate.fallback = 10;
  Pod& pod = begin_with(world, 60, c, {tenant::OnExhausted::kErrorEvent, {}});
  Call& call = world.ask(pod);
  Answer answer(world, pod, call);
  answer.head(200, of_type("text/event-stream"));
  int sent = 0;
  while (sent < 200 && !answer.cut()) {
    ++sent;
    answer.piece("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n");
  }
  ASSERT_TRUE(answer.cut());
  EXPECT_EQ(sent, 61);
  EXPECT_TRUE(answer.tail().starts_with("event: error\n"));
  EXPECT_TRUE(world.until([&] { return booked(world) == 60; })) << booked(world);
  EXPECT_EQ(counted(pod).overshoot_units.load(), 0u);
}

}  // namespace
}  // namespace tallygate::testing
