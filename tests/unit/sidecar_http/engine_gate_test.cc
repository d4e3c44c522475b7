// Denials, waiting, Expect, time-outs and draining.
#include "tests/fuzz/memory_world.h"
#include "tests/fuzz/strict_message.h"

namespace tallygate::testing {
namespace {

using proxy::End;
using proxy::Options;
using proxy::Verdict;

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
constexpr std::string_view kExpect = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";

int status_of(const Peer& client) { return read_strict(client.from_engine, true).status(); }

TEST(Denial, ReachesTheClientAndNothingReachesTheApp) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kDeny;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  const auto got = read_strict(client.take(), true);
  EXPECT_EQ(got.start_line, "HTTP/1.1 429 Too Many Requests");
  EXPECT_EQ(got.get("retry-after"), "7");
  EXPECT_EQ(got.get("content-type"), "application/problem+json");
  EXPECT_EQ(got.get("x-request-id"), world.gate.last_id);
  EXPECT_EQ(got.get("date"), "Tue, 14 Nov 2023 22:13:20 GMT");
  EXPECT_EQ(got.body, R"({"reason":"QuotaExceeded"})");
  EXPECT_TRUE(world.apps.empty());
  EXPECT_TRUE(world.gate.outcomes.empty());
  world.send(client, kGet);
  EXPECT_EQ(status_of(client), 429) << "the connection was kept";
}

TEST(Refusal, OfTheProxyItselfIsToldOnceEach) {
  std::vector<std::string> told;
  Options options;
  options.on_refusal = [&](const proxy::Refusal& refusal) {
    told.push_back(std::string(proxy::problem(refusal.reason).reason) + " " + std::string(refusal.request_id));
  };
  MemoryWorld world(options);
  world.send(*world.connect_client(), "GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
  Peer& client = *world.connect_client();
  world.send(client, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: r-1\r\n\r\n");
  world.send(world.app(), "nonsense\r\n");
  world.gate.verdict = Verdict::kDeny;
  world.send(client, kGet);
  EXPECT_EQ(told, (std::vector<std::string>{"MalformedRequest ", "UpstreamMalformedResponse r-1"}));
}

TEST(Denial, ManyPipelinedDenialsComeInOrder) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kDeny;
  Peer& client = *world.connect_client();
  std::string many;
  for (int i = 0; i < 3000; ++i) many += kGet;
  world.send(client, many);
  EXPECT_EQ(world.gate.asked, 3000);
}

TEST(Denial, ASmallBodyIsReadAndForgotten) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kDeny;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(read_strict(client.take(), true).get("connection"), "");
  world.send(client, "defghij" + std::string(kGet));
  EXPECT_EQ(status_of(client), 429);
  EXPECT_EQ(world.gate.asked, 2);
}

TEST(Denial, ALargeBodyIsNotRead) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kDeny;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nabc");
  EXPECT_EQ(read_strict(client.from_engine, true).get("connection"), "close");
  EXPECT_TRUE(client.shut);
  world.advance_ms(3'000);
  EXPECT_TRUE(client.closed);
}

TEST(Denial, ComesBeforeTheBodyOfARequestThatExpects100) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kDeny;
  Peer& client = *world.connect_client();
  world.send(client, kExpect);
  EXPECT_EQ(status_of(client), 429);
  EXPECT_EQ(client.from_engine.find("100 Continue"), std::string::npos);
  EXPECT_EQ(read_strict(client.from_engine, true).get("connection"), "close");
}

TEST(Expect, TheAppSays100AndTheClientHearsIt) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kExpect);
  EXPECT_NE(world.app().from_engine.find("Expect: 100-continue\r\n"), std::string::npos);
  world.send(world.app(), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(client.take(), "HTTP/1.1 100 Continue\r\n\r\n");
  world.send(client, "abc");
  world.send(world.app(), kOk);
  EXPECT_EQ(status_of(client), 200);
  EXPECT_FALSE(client.shut);
}

TEST(Expect, TheProxySays100ForAnAppThatDoesNot) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kExpect);
  world.advance_ms(1'200);
  EXPECT_EQ(client.take(), "HTTP/1.1 100 Continue\r\n\r\n");
  world.send(world.app(), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(client.take(), "") << "once is enough";
  world.send(client, "abc");
  world.send(world.app(), kOk);
  EXPECT_EQ(status_of(client), 200);
}

TEST(Expect, AnAppOfHttp10IsNotAsked) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
  client.take();
  world.send(client, kExpect);
  EXPECT_EQ(world.app().from_engine.find("Expect"), std::string::npos);
  EXPECT_EQ(client.take(), "HTTP/1.1 100 Continue\r\n\r\n");
}

TEST(Expect, AFinalResponseInsteadClosesTheConnection) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kExpect);
  world.send(world.app(), "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(status_of(client), 401);
  EXPECT_EQ(read_strict(client.from_engine, true).get("connection"), "close");
}

TEST(Wait, ARequestIsHeldUntilTheGateResumesIt) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kWait;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
  EXPECT_TRUE(world.apps.empty());
  EXPECT_EQ(world.counters().requests_waiting.get(), 1u);
  world.gate.readmit_verdict = Verdict::kWait;
  world.engine().resume(world.gate.last_ticket);
  world.run();
  EXPECT_TRUE(world.apps.empty());
  world.gate.readmit_verdict = Verdict::kAdmit;
  world.engine().resume(world.gate.last_ticket);
  world.run();
  ASSERT_EQ(world.apps.size(), 1u);
  EXPECT_EQ(read_strict(world.app().from_engine, false).body, "abc");
  world.send(world.app(), kOk);
  EXPECT_EQ(status_of(client), 200);
  EXPECT_FALSE(world.gate.broken);
  world.engine().resume(world.gate.last_ticket);  // of a request that is gone
  world.run();
}

TEST(ForwardPath, TakesTheTargetsPlaceAndKeepsTheQuery) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  const auto forwarded = [&](std::string_view target) {
    world.send(client, "GET " + std::string(target) + " HTTP/1.1\r\nHost: a\r\n\r\n");
    world.send(world.app(), kOk);
    client.take();
    const std::string bytes = world.app().take();
    return bytes.substr(0, bytes.find('\r'));
  };
  world.gate.forward_path = "/plain";
  EXPECT_EQ(forwarded("/a/../plain?x=%2e"), "GET /plain?x=%2e HTTP/1.1");
  EXPECT_EQ(forwarded("http://a/%70lain"), "GET /plain HTTP/1.1");
  EXPECT_EQ(forwarded("http://a?q"), "GET /plain?q HTTP/1.1");
  world.gate.forward_path = "/" + std::string(20'000, 'x');
  EXPECT_EQ(forwarded("/"), "GET " + world.gate.forward_path + " HTTP/1.1") << "however long";
  world.gate.forward_path.clear();
  EXPECT_EQ(forwarded("/a/../b"), "GET /a/../b HTTP/1.1") << "nothing is left of the last one";
  EXPECT_FALSE(world.gate.broken);
}

TEST(ForwardPath, IsTakenWhenTheGateWaits) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kWait;
  world.gate.forward_path = "/plain";
  Peer& client = *world.connect_client();
  world.send(client, "GET /a/../plain HTTP/1.1\r\nHost: a\r\n\r\n");
  world.gate.forward_path = "gone";
  world.engine().resume(world.gate.last_ticket);
  world.run();
  EXPECT_EQ(world.app().from_engine.substr(0, 20), "GET /plain HTTP/1.1\r");
}

TEST(Wait, MayEndInADenial) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kWait;
  world.gate.readmit_verdict = Verdict::kDeny;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.engine().resume(world.gate.last_ticket);
  world.run();
  EXPECT_EQ(status_of(client), 429);
  EXPECT_EQ(world.counters().requests_waiting.get(), 0u);
}

TEST(Wait, IsAbandonedWhenTheClientLeaves) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kWait;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.reset(client);
  EXPECT_EQ(world.gate.abandoned, 1);
  EXPECT_TRUE(client.closed);
  world.engine().resume(world.gate.last_ticket);
  world.run();
  EXPECT_TRUE(world.apps.empty());
}

// nc -N, and whoever says "that was all" with a shutdown.
TEST(Wait, AHalfCloseIsNotLeaving) {
  for (const std::string_view request :
       {kGet, std::string_view("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
        std::string_view("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")}) {
    for (const bool at_once : {false, true}) {
      for (const auto verdict : {Verdict::kAdmit, Verdict::kDeny}) {
        MemoryWorld world;
        world.gate.verdict = Verdict::kWait;
        Peer& client = *world.connect_client();
        if (at_once)
          client.to_engine = request;
        else
          world.send(client, request);
        world.end(client);
        EXPECT_FALSE(client.closed);
        world.gate.readmit_verdict = verdict;
        world.engine().resume(world.gate.last_ticket);
        world.run();
        if (verdict == Verdict::kAdmit) {
          ASSERT_EQ(world.apps.size(), 1u);
          world.send(world.app(), kOk);
        }
        EXPECT_EQ(status_of(client), verdict == Verdict::kAdmit ? 200 : 429);
        EXPECT_TRUE(client.closed) << "once answered";
        EXPECT_FALSE(world.gate.broken);
        EXPECT_EQ(world.gate.abandoned, 0);
      }
    }
  }
}

TEST(Wait, AHalfCloseInTheMiddleOfABodyIsLeaving) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kWait;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabc");
  world.end(client);
  EXPECT_TRUE(client.closed);
  EXPECT_EQ(world.gate.abandoned, 1);
}

TEST(Wait, ALargeBodyBehindAHalfCloseIsReadWhole) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kWait;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + std::string(1'000'000, 'x'));
  world.end(client);
  EXPECT_FALSE(client.closed);
  EXPECT_GT(client.to_engine.size(), 800'000u) << "no more than a buffer of it is taken before there is a decision";
  world.engine().resume(world.gate.last_ticket);
  world.run();
  EXPECT_EQ(read_strict(world.app().from_engine, false).body.size(), 1'000'000u);
}

// The gate charges what the app may have acted upon.
TEST(Reached, NothingOfARequestThatEndsBeforeItWasSent) {
  constexpr std::string_view kChunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const auto outcome_of = [](Options options, auto act) {
    MemoryWorld world(options);
    act(world);
    EXPECT_EQ(world.gate.outcomes.size(), 1u);
    return world.gate.outcomes.empty() ? proxy::Outcome{} : world.gate.outcomes[0];
  };
  for (const char* chunk : {"zz", "zz\r\n", "+3\r\nabc", ";\r\n", "0\r\nX Y: z\r\n\r\n"}) {
    const auto broken =
        outcome_of({}, [&](MemoryWorld& world) { world.send(*world.connect_client(), std::string(kChunked) + chunk); });
    EXPECT_EQ(broken.end, End::kClientAborted);
    EXPECT_FALSE(broken.app_reached) << chunk;
  }
  Options small;
  small.request_body_bytes_max = 4;
  EXPECT_FALSE(outcome_of(small, [&](MemoryWorld& world) {
                 world.send(*world.connect_client(), std::string(kChunked) + "5\r\nabcde\r\n");
               }).app_reached);
  EXPECT_FALSE(outcome_of({}, [](MemoryWorld& world) {
                 world.connect_result = proxy::Connecting::kFailed;
                 world.send(*world.connect_client(), kGet);
               }).app_reached);
  const auto connecting = [&](auto then) {
    return outcome_of({}, [&](MemoryWorld& world) {
      world.connect_result = proxy::Connecting::kInProgress;
      Peer& client = *world.connect_client();
      world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc");
      then(world, client);
    });
  };
  EXPECT_FALSE(connecting([](MemoryWorld& world, Peer&) { world.fail_connect(world.app()); }).app_reached);
  EXPECT_FALSE(connecting([](MemoryWorld& world, Peer& client) { world.reset(client); }).app_reached);
  EXPECT_FALSE(connecting([](MemoryWorld& world, Peer& client) { world.end(client); }).app_reached);
  EXPECT_TRUE(connecting([](MemoryWorld& world, Peer& client) {
                world.finish_connect(world.app());
                world.reset(client);
              }).app_reached);
}

TEST(Reached, AByteIsEnough) {
  for (int how = 0; how < 4; ++how) {
    MemoryWorld world;
    Peer& client = *world.connect_client();
    world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    if (how == 0) world.send(client, "zz");
    if (how == 1) world.reset(client);
    if (how == 2) world.end(world.app());
    if (how == 3) {
      world.send(client, "0\r\n\r\n");
      world.send(world.app(), kOk);
    }
    ASSERT_EQ(world.gate.outcomes.size(), 1u);
    EXPECT_TRUE(world.gate.outcomes[0].app_reached) << how;
  }
}

// The first connection got the request before it broke.
TEST(Reached, CountsWhatARetryLeftBehind) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), kOk);
  world.send(client, kGet);
  world.connect_result = proxy::Connecting::kInProgress;
  world.end(*world.apps[0]);
  ASSERT_EQ(world.apps.size(), 2u);
  world.fail_connect(world.app());
  EXPECT_EQ(world.gate.outcomes[1].end, End::kUpstreamFailed);
  EXPECT_TRUE(world.gate.outcomes[1].app_reached);
  EXPECT_EQ(world.counters().upstream_resends.get(), 1u);
}

TEST(Retry, CanBeSwitchedOffForWhatTheAppMayHaveSeen) {
  Options options;
  options.resend = false;
  MemoryWorld world(options);
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), kOk);
  client.take();
  world.send(client, kGet);
  world.end(world.app());
  EXPECT_EQ(status_of(client), 502);
  EXPECT_EQ(world.apps.size(), 1u);
  // What never left can go elsewhere.
  world.send(client, kGet);
  world.send(world.app(), kOk);
  client.take();
  world.end_silently(world.app());
  world.send(client, kGet);
  ASSERT_EQ(world.apps.size(), 3u);
  world.send(world.app(), kOk);
  EXPECT_EQ(status_of(client), 200);
  EXPECT_EQ(world.counters().upstream_retries.get(), 1u);
  EXPECT_EQ(world.counters().upstream_resends.get(), 0u);
}

TEST(Wait, HasAMaximum) {
  Options options;
  options.waiting_requests_max = 1;
  MemoryWorld world(options);
  world.gate.verdict = Verdict::kWait;
  world.send(*world.connect_client(), kGet);
  Peer& second = *world.connect_client();
  world.send(second, kGet);
  EXPECT_EQ(status_of(second), 503);
  EXPECT_EQ(world.gate.abandoned, 1);
}

TEST(Timeout, ASlowHeadIsCutWhateverItsPace) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "GET / HTTP/1.1\r\nHost: a\r\n");
  for (int i = 0; i < 11; ++i) {
    world.send(client, "X: y\r\n");
    world.advance_ms(1'000);
  }
  EXPECT_EQ(status_of(client), 408);
  EXPECT_TRUE(client.shut);
  EXPECT_EQ(world.gate.asked, 0);
}

TEST(Timeout, SilentConnectionsAreClosed) {
  Options options;
  MemoryWorld world(options);
  Peer& fresh = *world.connect_client();
  Peer& used = *world.connect_client();
  world.send(used, kGet);
  world.send(world.app(), kOk);
  world.advance_ms(options.timeouts.client_head_ms + 200);
  EXPECT_TRUE(fresh.closed);
  EXPECT_FALSE(used.closed);
  world.advance_ms(options.timeouts.client_idle_ms);
  EXPECT_TRUE(used.closed);
  EXPECT_EQ(world.counters().clients_active.get(), 0u);
}

TEST(Timeout, ABodyThatStopsIsA408) {
  Options options;
  MemoryWorld world(options);
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\na");
  world.advance_ms(options.timeouts.client_body_idle_ms - 1'000);
  world.send(client, "b");
  world.advance_ms(options.timeouts.client_body_idle_ms - 1'000);
  EXPECT_EQ(client.from_engine, "");
  world.advance_ms(2'000);
  EXPECT_EQ(status_of(client), 408);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kClientAborted);
  EXPECT_TRUE(world.app().closed);
}

TEST(Timeout, ABodyThatDripsIsA408WhereARateIsAsked) {
  Options options;
  options.upload_bytes_per_second_min = 100;
  MemoryWorld world(options);
  Peer& steady = *world.connect_client();
  Peer& dripping = *world.connect_client();
  for (Peer* client : {&steady, &dripping}) {
    world.send(*client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
  }
  for (int second = 0; second < 60; ++second) {
    world.send(steady, std::string(150, 'x'));
    world.send(dripping, "x");
    world.advance_ms(1'000);
  }
  EXPECT_EQ(steady.from_engine, "");
  EXPECT_EQ(status_of(dripping), 408);
  EXPECT_EQ(world.gate.outcomes.size(), 1u);
}

TEST(Timeout, AnAppThatTakesABodySlowlyIsNotItsClientsFault) {
  Options options;
  options.upload_bytes_per_second_min = 1'000'000;
  MemoryWorld world(options);
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
  world.app().window = 0;
  world.send(client, std::string(200'000, 'x'));
  for (int second = 0; second < 60; ++second) {
    world.advance_ms(1'000);
    world.open_window(world.app(), 1'000);
  }
  EXPECT_EQ(client.from_engine, "");
  EXPECT_FALSE(world.app().closed);
}

// Web pages cannot read an answer that does not name them: the gate knows which it may.
TEST(Engine, TheGateIsToldTheOriginOfWhatTheProxyRefuses) {
  Options options;
  options.request_body_bytes_max = 10;
  options.waiting_requests_max = 0;
  MemoryWorld world(options);
  const auto origin_of = [&](
                             const std::string& head, const std::function<void()>& then = [] {}) {
    Peer& client = *world.connect_client();
    world.send(client, head);
    then();
    const auto got = read_strict(client.take(), true);
    return std::to_string(got.status()) + " " + std::string(got.get("origin-of-problem"));
  };
  const std::string host = " / HTTP/1.1\r\nHost: a\r\n", origin = "X-Origin: no\r\noRigin:  https://a.example \r\n";
  EXPECT_EQ(origin_of("POST" + host + origin + "Content-Length: 11\r\n\r\n"), "413 https://a.example");
  EXPECT_EQ(origin_of("TRACE" + host + origin + "\r\n"), "405 https://a.example");
  EXPECT_EQ(origin_of("GET" + host + origin + "Expect: more\r\n\r\n"), "417 https://a.example");
  EXPECT_EQ(origin_of("POST" + host + origin + "Transfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n"),
            "413 https://a.example");
  const auto app_leaves = [&] { world.end(world.app()); };
  EXPECT_EQ(origin_of("POST" + host + origin + "Content-Length: 1\r\n\r\nx", app_leaves), "502 https://a.example");
  EXPECT_EQ(origin_of("POST" + host + "Content-Length: 9\r\n\r\nOrigin: x", app_leaves), "502 ");
  EXPECT_EQ(origin_of("POST" + host + "Content-Length: 10\r\n\r\n\r\nOrigin: ", app_leaves), "502 ") << "of the body";
  EXPECT_EQ(origin_of("GET / HTTP/1.1\r\nOrigin: https://a.example\r\n\r\n"), "400 ");
  world.connect_result = proxy::Connecting::kFailed;
  EXPECT_EQ(origin_of("GET" + host + origin + "\r\n"), "502 https://a.example");
  world.gate.verdict = proxy::Verdict::kWait;
  EXPECT_EQ(origin_of("GET" + host + origin + "\r\n"), "503 https://a.example");
}

TEST(BodyLimit, IsSaidBeforeAnythingIsAskedOrForwarded) {
  Options options;
  options.request_body_bytes_max = 10;
  MemoryWorld world(options);
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789");
  world.send(world.app(), kOk);
  EXPECT_EQ(status_of(client), 200);
  client.take();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n0123456789a");
  EXPECT_EQ(status_of(client), 413);
  EXPECT_EQ(world.gate.asked, 1);
  Peer& expecting = *world.connect_client();
  world.send(expecting, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n");
  EXPECT_EQ(status_of(expecting), 413);
  Peer& chunked = *world.connect_client();
  world.send(chunked, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n");
  EXPECT_EQ(chunked.from_engine, "");
  world.send(chunked, "6\r\n56789a\r\n0\r\n\r\n");
  EXPECT_EQ(status_of(chunked), 413);
  EXPECT_TRUE(world.app().closed) << "it must not take what it got for the whole";
}

// Python's http.client, curl and many others send the whole body before they look.
TEST(Linger, AClientThatGoesOnSendingGetsItsAnswer) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kDeny;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n");
  for (int i = 0; i < 20; ++i) {
    world.send(client, std::string(1'000'000, 'x'));
    world.advance_ms(1'000);
    ASSERT_FALSE(client.closed) << i;
  }
  world.end(client);
  EXPECT_TRUE(client.closed);
  EXPECT_EQ(status_of(client), 429);
}

TEST(Linger, EndsForWhoSendsNextToNothingAndForAllAtLast) {
  Options options;
  MemoryWorld world(options);
  world.gate.verdict = Verdict::kDeny;
  Peer& dripping = *world.connect_client();
  Peer& endless = *world.connect_client();
  for (Peer* client : {&dripping, &endless}) {
    world.send(*client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n");
  }
  int64_t dripped_ms = 0, endless_ms = 0;
  for (int i = 0; i < 500; ++i) {
    if (!dripping.closed) world.send(dripping, "x");
    if (!endless.closed) world.send(endless, std::string(10'000, 'x'));
    world.advance_ms(100);
    dripped_ms += dripping.closed ? 0 : 100;
    endless_ms += endless.closed ? 0 : 100;
  }
  EXPECT_LE(dripped_ms, options.timeouts.linger_idle_ms + 300);
  EXPECT_GE(endless_ms, options.timeouts.linger_ms - 300);
  EXPECT_LE(endless_ms, options.timeouts.linger_ms + 300);
}

TEST(Interim, AreBoundedByRateAndBytesNotByNumber) {
  Options options;
  options.timeouts.upstream_head_ms = 10'000;
  MemoryWorld world(options);
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  for (int i = 0; i < 300; ++i) {
    world.send(world.app(), "HTTP/1.1 102 Processing\r\n\r\n");
    world.advance_ms(1'000);
  }
  EXPECT_FALSE(world.app().closed);
  EXPECT_EQ(client.take().size(), 300 * std::string_view("HTTP/1.1 102 Processing\r\n\r\n").size());
  world.send(world.app(), kOk);
  EXPECT_EQ(status_of(client), 200);
  client.take();
  world.send(client, kGet);
  const std::string large = "HTTP/1.1 103 Early Hints\r\nLink: " + std::string(10'000, 'x') + "\r\n\r\n";
  int sent = 0;
  for (; sent < 100 && !world.app().closed; ++sent) {
    world.send(world.app(), large);
    world.advance_ms(1'000);
  }
  EXPECT_EQ(sent, 27);
}

TEST(Timeout, AnAppThatDoesNotAnswerIsA504) {
  Options options;
  options.timeouts.upstream_head_ms = 90'000;  // more than once around the wheel
  MemoryWorld world(options);
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.advance_ms(89'900);
  EXPECT_EQ(client.from_engine, "");
  world.advance_ms(400);
  EXPECT_EQ(status_of(client), 504);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kUpstreamFailed);
  EXPECT_TRUE(world.app().closed);
}

TEST(Timeout, AConnectThatHangsIsA504) {
  Options options;
  MemoryWorld world(options);
  world.connect_result = proxy::Connecting::kInProgress;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.advance_ms(options.timeouts.upstream_connect_ms + 200);
  EXPECT_EQ(status_of(client), 504);
}

TEST(Timeout, AResponseThatStopsIsCut) {
  Options options;
  MemoryWorld world(options);
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\na");
  world.advance_ms(options.timeouts.upstream_idle_ms + 200);
  EXPECT_TRUE(client.closed);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kUpstreamFailed);
}

TEST(Timeout, AClientThatReadsNothingIsCut) {
  Options options;
  MemoryWorld world(options);
  Peer& client = *world.connect_client();
  client.window = 100;
  world.send(client, kGet);
  world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + std::string(1'000'000, 'x'));
  world.advance_ms(options.timeouts.client_write_idle_ms - 1'000);
  world.open_window(client, 10);
  world.advance_ms(options.timeouts.client_write_idle_ms - 1'000);
  EXPECT_FALSE(client.closed);
  world.advance_ms(2'000);
  EXPECT_TRUE(client.closed);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kClientAborted);
}

TEST(Drain, FinishesWhatIsInFlightAndClosesTheRest) {
  MemoryWorld world;
  Peer& idle = *world.connect_client();
  Peer& busy = *world.connect_client();
  Peer& partial = *world.connect_client();
  world.send(idle, kGet);
  world.send(world.app(), kOk);
  world.send(busy, kGet);
  world.send(partial, "GET / HT");
  Peer& app = world.app();
  world.engine().drain();
  world.run();
  EXPECT_TRUE(idle.closed);
  EXPECT_FALSE(busy.closed);
  EXPECT_EQ(world.connect_client(), nullptr);
  world.send(app, kOk);
  EXPECT_EQ(read_strict(busy.from_engine, true).get("connection"), "close");
  EXPECT_TRUE(busy.shut);
  world.send(partial, "TP/1.1\r\nHost: a\r\n\r\n");
  world.send(world.app(), kOk);
  EXPECT_EQ(read_strict(partial.from_engine, true).get("connection"), "close");
  world.end(busy);
  world.end(partial);
  EXPECT_TRUE(world.engine().empty());
  EXPECT_EQ(world.counters().upstreams_active.get(), 0u);
}

TEST(Drain, CuttingSettlesEverything) {
  MemoryWorld world;
  Peer& a = *world.connect_client();
  Peer& b = *world.connect_client();
  world.send(a, kGet);
  world.send(b, kGet);
  world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
  world.engine().close_all();
  ASSERT_EQ(world.gate.outcomes.size(), 2u);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kUpstreamFailed);
  EXPECT_TRUE(world.gate.outcomes[0].app_reached);
  EXPECT_EQ(world.gate.outcomes[1].end, End::kClientAborted);
  EXPECT_TRUE(world.gate.outcomes[1].app_reached);
  EXPECT_EQ(world.gate.open, 0);
}

TEST(Drain, CuttingDoesNotSayThatTheAppGotWhatItDidNot) {
  MemoryWorld world;
  world.connect_result = proxy::Connecting::kInProgress;
  world.send(*world.connect_client(), kGet);
  world.engine().close_all();
  ASSERT_EQ(world.gate.outcomes.size(), 1u);
  EXPECT_FALSE(world.gate.outcomes[0].app_reached);
}

// Answered clients hold nothing up, whether they were so before it or in it.
TEST(Drain, DoesNotWaitForWhoHasItsAnswer) {
  Options options;
  MemoryWorld world(options);
  world.gate.verdict = Verdict::kDeny;
  Peer& uploading = *world.connect_client();
  Peer& silent = *world.connect_client();
  Peer& late = *world.connect_client();
  world.send(uploading, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n");
  world.send(silent, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
  world.send(late, "POST / HTTP/1.1\r\nHost: a\r\nContent-");
  world.engine().drain();
  world.run();
  world.send(late, "Length: 20000000\r\n\r\n");
  for (int i = 0; i < 25; ++i) {
    for (Peer* client : {&uploading, &late}) {
      if (!client->closed) world.send(*client, std::string(100'000, 'x'));
    }
    world.advance_ms(100);
  }
  for (Peer* client : {&uploading, &silent, &late}) EXPECT_EQ(status_of(*client), 429);
  EXPECT_TRUE(world.engine().empty());
}

TEST(Drain, AnswersWhatHadArrived) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), kOk);
  client.take();
  client.to_engine = kGet;  // and no event yet
  world.engine().drain();
  world.run();
  ASSERT_FALSE(client.closed);
  world.send(world.app(), kOk);
  EXPECT_EQ(status_of(client), 200);
  EXPECT_EQ(read_strict(client.from_engine, true).get("connection"), "close");
}

TEST(Drain, ABlankLineIsNoRequest) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "\r\n");
  world.engine().drain();
  world.run();
  EXPECT_TRUE(client.closed);
}

// Some send one after a body. A 408 for it would be taken for the answer to their next request.
TEST(Timeout, ABlankLineIsNotAnsweredByA408) {
  for (const char* bytes : {"\r\n", "\r", "\r\nG"}) {
    Options options;
    MemoryWorld world(options);
    Peer& client = *world.connect_client();
    world.send(client, kGet);
    world.send(world.app(), kOk);
    client.take();
    world.send(client, bytes);
    world.advance_ms(options.timeouts.client_head_ms + 200);
    if (std::strchr(bytes, 'G') != nullptr) {
      EXPECT_EQ(status_of(client), 408);
    } else {
      EXPECT_EQ(client.from_engine, "");
      EXPECT_TRUE(client.closed);
    }
  }
}

}  // namespace
}  // namespace tallygate::testing
