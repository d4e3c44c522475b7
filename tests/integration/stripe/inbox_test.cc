// The inbox on a real PostgreSQL: who works on what, what a fault does, what an outage does, and what people can do.
#include <gtest/gtest.h>

#include <deque>
#include <thread>

#include "operator/http_client/http_client.h"
#include "operator/stripe/event.h"
#include "operator/stripe/event_workers.h"
#include "tests/integration/stripe/events.h"
#include "tests/integration/support/postgres_server.h"

namespace tallygate::testing {
namespace {

using stripe::EventWorkers;

template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

// Stripe as a list of answers; after the last it is away.
class Answers : public HttpClient {
 public:
  Result<HttpResponse> send(const HttpRequest& request) override {
    const std::lock_guard lock(mutex_);
    asked.push_back(request.url);
    if (answers.empty()) return fail(Errc::kUnavailable, "connection refused");
    HttpResponse response = answers.front();
    answers.pop_front();
    return response;
  }
  std::deque<HttpResponse> answers;
  std::vector<std::string> asked;

 private:
  std::mutex mutex_;
};

class Inbox : public ::testing::Test {
 protected:
  Inbox() : url(PostgresServer::shared().create_database()), session(url) {}

  std::unique_ptr<EventWorkers> workers(int64_t count = 5) {
    stripe::EventWorkersOptions options;
    options.database_url = url;
    options.workers = count;
    options.look_interval_ms = 100;
    if (!client) {
      stripe::ClientOptions calls;
      calls.api_base = "http://stripe";
      calls.attempts_max = 1;
      client = std::make_unique<stripe::Client>(system_env(), http, calls, registry);
    }
    return std::make_unique<EventWorkers>(system_env(), *client, options, registry);
  }
  void accept(const std::string& id, const std::string& type, const std::string& object = R"({"id":"x_1"})",
              const std::string& version = stripe::kApiVersion) {
    const std::string text = event_text(id, type, object, system_env().wall_s(), version);
    must(session.exec(stripe::kAcceptEvent,
                      stripe::accept_params(must(stripe::read_event(text)), text, "webhook", system_env().wall_ns())));
  }
  int64_t number(const std::string& sql) { return must(session.exec(sql)).integer(0, 0); }
  std::string text(const std::string& sql) { return std::string(must(session.exec(sql)).text(0, 0)); }
  std::string status(const std::string& id) { return text("select status from webhook_events where id = '" + id + "'"); }
  void make_due() { must(session.exec("update webhook_events set next_attempt_at = now() - interval '1 second'")); }

  std::string url;
  ledger::Session session;
  metrics::Registry registry;
  Answers http;
  std::unique_ptr<stripe::Client> client;
};

TEST_F(Inbox, WorkersOfThreeOperatorsDoEachEventOnce) {
  // What it does is written down once for each time that it is done.
  must(session.exec("create table done (id text); create or replace function stripe_effect(e webhook_events, p_object jsonb, "
                    "p_suspends boolean, p_now timestamptz) returns text language plpgsql as $$ begin insert into done values "
                    "(e.id); return 'ignored'; end $$"));
  std::vector<std::unique_ptr<EventWorkers>> operators;
  for (int i = 0; i < 3; ++i) operators.push_back(workers(8));
  for (auto& one : operators) one->start();
  for (int i = 0; i < 300; ++i) accept("evt_" + std::to_string(i), "ping");
  for (int i = 0; i < 200 && number("select count(*) from webhook_events where status <> 'completed'") > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  for (auto& one : operators) one->stop();
  EXPECT_EQ(number("select count(*) from webhook_events where status = 'completed'"), 300);
  EXPECT_EQ(number("select count(*) from done"), 300);
  EXPECT_EQ(number("select count(distinct id) from done"), 300);
}

TEST_F(Inbox, ThreeFaultsAndItIsForPeople) {
  must(session.exec("create or replace function stripe_effect(e webhook_events, p_object jsonb, p_suspends boolean, p_now timestamptz) "
                    "returns text language plpgsql as $$ begin raise exception 'no such thing'; end $$"));
  const auto one = workers();
  accept("evt_1", "ping");
  for (const char* expected : {"failed", "failed", "dead"}) {
    make_due();
    EXPECT_TRUE(must(one->work(session)));
    EXPECT_EQ(status("evt_1"), expected);
  }
  EXPECT_EQ(text("select last_error from webhook_events"), "P0001: no such thing");
  make_due();
  EXPECT_FALSE(must(one->work(session))) << "nobody takes it any more";

  must(session.exec("create or replace function stripe_effect(e webhook_events, p_object jsonb, p_suspends boolean, p_now timestamptz) "
                    "returns text language plpgsql as $$ begin return 'mended'; end $$"));
  EXPECT_TRUE(must(session.exec("select replay_stripe_event('evt_1', 'ann', 'mended', now())")).boolean(0, 0));
  EXPECT_FALSE(must(session.exec("select replay_stripe_event('evt_2', 'ann', 'mended', now())")).boolean(0, 0));
  make_due();
  EXPECT_TRUE(must(one->work(session)));
  EXPECT_EQ(status("evt_1"), "completed");
  EXPECT_EQ(number("select count(*) from audit_log where action = 'stripe.replay' and actor = 'ann'"), 1);
}

TEST_F(Inbox, AnOutageOfOursIsNoFault) {
  must(session.exec("create or replace function stripe_effect(e webhook_events, p_object jsonb, p_suspends boolean, p_now timestamptz) "
                    "returns text language plpgsql as $$ begin raise exception 'try again' using errcode = '40P01'; end $$"));
  const auto one = workers();
  accept("evt_1", "ping");
  for (int i = 0; i < 5; ++i) {
    make_due();
    EXPECT_TRUE(must(one->work(session)));
    EXPECT_EQ(status("evt_1"), "waiting");
    EXPECT_FALSE(must(one->work(session))) << "it is in nobody's way";
  }
  EXPECT_EQ(number("select faults from webhook_events"), 0);
}

TEST_F(Inbox, AnotherVersionsEventHasItsObjectAskedFor) {
  const auto one = workers();
  accept("evt_1", "refund.created", R"({"id":"re_1"})", "2020-08-27");
  accept("evt_2", "customer.created", R"({"id":"cus_1"})", "2020-08-27");
  http.answers.push_back({200, {}, R"({"id":"re_1","object":"refund","status":"succeeded"})"});
  for (int i = 0; i < 3; ++i) {
    make_due();
    must(one->work(session));
  }
  EXPECT_EQ(http.asked, std::vector<std::string>{"http://stripe/v1/refunds/re_1"}) << "what is none of ours is not asked for";
  EXPECT_EQ(number("select count(*) from webhook_events where status = 'completed'"), 2);
  EXPECT_EQ(text("select fetched ->> 'status' from webhook_events where id = 'evt_1'"), "succeeded");
}

TEST_F(Inbox, AnOutageOfStripePostponesAndIsNoFault) {
  const auto one = workers();
  accept("evt_1", "refund.created", R"({"id":"re_1"})", "2020-08-27");
  for (int i = 0; i < 6; ++i) {
    make_due();
    EXPECT_TRUE(must(one->work(session)));
    EXPECT_EQ(status("evt_1"), "waiting");
  }
  EXPECT_EQ(number("select faults from webhook_events"), 0);
  EXPECT_EQ(number("select count(*) from webhook_events where next_attempt_at > now()"), 1);
  for (int refused : {401, 403, 429, 500, 503}) {
    http.answers.push_back({refused, {}, R"({"error":{"message":"no"}})"});
    make_due();
    EXPECT_TRUE(must(one->work(session)));
    EXPECT_EQ(status("evt_1"), "waiting") << refused;
  }
  http.answers.push_back({404, {}, R"({"error":{"code":"resource_missing","message":"No such refund"}})"});
  make_due();
  EXPECT_TRUE(must(one->work(session)));
  EXPECT_EQ(status("evt_1"), "failed") << "that is a fault";
  http.answers.push_back({200, {}, R"({"id":"re_1","object":"refund","status":"succeeded"})"});
  for (int i = 0; i < 2; ++i) {
    make_due();
    EXPECT_TRUE(must(one->work(session)));
  }
  EXPECT_EQ(status("evt_1"), "completed");
}

TEST_F(Inbox, WhoDiesBetweenTheTwoTransactionsLeavesItToOthers) {
  accept("evt_1", "refund.created", R"({"id":"re_1"})", "2020-08-27");
  must(session.exec("select * from work_stripe_event('" + std::string(stripe::kApiVersion) + "', true, now())"));
  EXPECT_EQ(status("evt_1"), "active");
  const auto one = workers();
  EXPECT_FALSE(must(one->work(session))) << "somebody else has it, for a minute";
  http.answers.push_back({200, {}, R"({"id":"re_1","object":"refund","status":"succeeded"})"});
  for (int i = 0; i < 2; ++i) {
    make_due();
    EXPECT_TRUE(must(one->work(session)));
  }
  EXPECT_EQ(status("evt_1"), "completed");
}

TEST_F(Inbox, TellsHowLongItsQueueIs) {
  const auto one = workers(1);
  must(session.exec("create or replace function stripe_effect(e webhook_events, p_object jsonb, p_suspends boolean, p_now timestamptz) "
                    "returns text language plpgsql as $$ begin if e.id = 'evt_1' then raise exception 'no'; end if; return 'done'; end $$"));
  accept("evt_1", "ping");
  accept("evt_2", "ping");
  must(session.exec("update webhook_events set faults = 2 where id = 'evt_1'"));
  one->start();
  for (int i = 0; i < 100 && (one->status().dead < 1 || one->status().completed < 1); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  one->stop();
  EXPECT_EQ(one->status().dead, 1);
  EXPECT_EQ(one->status().completed, 1);
  EXPECT_EQ(one->status().waiting, 0);
  EXPECT_EQ(one->status().trouble, "");
}

}  // namespace
}  // namespace tallygate::testing
