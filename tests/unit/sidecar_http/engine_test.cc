// The exchange: connections kept and reused, bodies streamed, failures and early ends, on the in-memory transport.
#include <arpa/inet.h>
#include <netinet/in.h>

#include "tests/fuzz/memory_world.h"
#include "tests/fuzz/strict_message.h"

namespace tallygate::testing {
namespace {

using proxy::End;
using proxy::Options;
using proxy::Verdict;

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

int status_of(const Peer& client) { return read_strict(client.from_engine, true).status(); }

TEST(Engine, BothConnectionsAreKept) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  for (int i = 0; i < 3; ++i) {
    world.send(client, kGet);
    world.send(world.app(), kOk);
    EXPECT_EQ(read_strict(client.take(), true).body, "hi");
  }
  EXPECT_EQ(world.apps.size(), 1u);
  EXPECT_EQ(world.counters().upstream_reuses.get(), 2u);
  EXPECT_EQ(world.gate.outcomes.size(), 3u);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kCompleted);
  EXPECT_EQ(world.gate.outcomes[0].status, 200);
  EXPECT_EQ(world.gate.outcomes[0].response_body_bytes, 2u);
  EXPECT_TRUE(world.gate.outcomes[0].response_started);
}

TEST(Engine, PipelinedRequestsAreAnsweredInOrderOneAtATime) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                     "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
  for (const char* path : {"/1", "/2", "/3"}) {
    const auto got = read_strict(world.app().from_engine, false);
    EXPECT_NE(got.start_line.find(path), std::string::npos) << got.start_line;
    EXPECT_EQ(got.size, world.app().from_engine.size()) << "the next one was sent too early";
    world.app().take();
    world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + std::string(path));
  }
  std::string answers = client.take();
  for (const char* path : {"/1", "/2", "/3"}) {
    const auto got = read_strict(answers, true);
    EXPECT_EQ(got.body, path);
    answers.erase(0, got.size);
  }
}

TEST(Engine, ThePoolIsLastInFirstOut) {
  MemoryWorld world;
  Peer& a = *world.connect_client();
  Peer& b = *world.connect_client();
  world.send(a, kGet);
  world.send(b, kGet);
  ASSERT_EQ(world.apps.size(), 2u);
  world.send(*world.apps[1], kOk);
  world.send(*world.apps[0], kOk);
  world.apps[0]->take();
  world.send(a, kGet);
  EXPECT_FALSE(world.apps[0]->from_engine.empty());
  EXPECT_EQ(world.counters().upstreams_pooled.get(), 1u);
}

TEST(Engine, ThePoolHasAMaximumAndATimeout) {
  Options options;
  options.upstream_pooled_max = 1;
  MemoryWorld world(options);
  Peer& a = *world.connect_client();
  Peer& b = *world.connect_client();
  world.send(a, kGet);
  world.send(b, kGet);
  world.send(*world.apps[0], kOk);
  world.send(*world.apps[1], kOk);
  EXPECT_FALSE(world.apps[0]->closed);
  EXPECT_TRUE(world.apps[1]->closed);
  world.advance_ms(options.timeouts.upstream_pooled_ms + 200);
  EXPECT_TRUE(world.apps[0]->closed);
}

TEST(Engine, APooledConnectionThatTheAppClosesIsForgotten) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), kOk);
  world.end(world.app());
  EXPECT_TRUE(world.apps[0]->closed);
  world.send(client, kGet);
  EXPECT_EQ(world.apps.size(), 2u);
  EXPECT_EQ(world.counters().upstream_retries.get(), 0u);
}

TEST(Engine, RetriesOnceOnAFreshConnectionWhenAReusedOneWasClosed) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), kOk);
  client.take();
  world.send(client, "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  world.end(*world.apps[0]);  // the race: it had not seen the request
  ASSERT_EQ(world.apps.size(), 2u);
  const auto again = read_strict(world.app().from_engine, false);
  EXPECT_EQ(again.start_line, "PUT /x HTTP/1.1");
  EXPECT_EQ(again.body, "hi");
  world.end(world.app());  // a fresh one that closes is a failure
  EXPECT_EQ(status_of(client), 502);
  EXPECT_EQ(world.apps.size(), 2u);
  EXPECT_EQ(world.counters().upstream_retries.get(), 1u);
  EXPECT_EQ(world.gate.outcomes.back().end, End::kUpstreamFailed);
}

TEST(Engine, DoesNotRepeatWhatMayHaveBeenDone) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), kOk);
  client.take();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  world.end(*world.apps[0]);
  EXPECT_EQ(world.apps.size(), 1u);
  EXPECT_EQ(status_of(client), 502);
}

TEST(Engine, RepeatsAPostOfWhichNotAByteWasDelivered) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), kOk);
  client.take();
  world.reset_silently(*world.apps[0]);  // the write fails at once
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  ASSERT_EQ(world.apps.size(), 2u);
  EXPECT_EQ(read_strict(world.app().from_engine, false).body, "hi");
}

TEST(Engine, DoesNotRetryAfterAByteOfTheResponse) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), kOk);
  client.take();
  world.send(client, kGet);
  world.send(*world.apps[0], "H");
  world.end(*world.apps[0]);
  EXPECT_EQ(world.apps.size(), 1u);
  EXPECT_EQ(status_of(client), 502);
}

TEST(Engine, AnUnreachableAppIsA502) {
  MemoryWorld world;
  world.connect_result = proxy::Connecting::kFailed;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  const auto got = read_strict(client.take(), true);
  EXPECT_EQ(got.status(), 502);
  EXPECT_EQ(got.get("content-type"), "application/problem+json");
  EXPECT_NE(got.body.find(R"("reason":"UpstreamUnreachable")"), std::string::npos);
  EXPECT_NE(got.body.find(world.gate.last_id), std::string::npos);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kUpstreamFailed);
  EXPECT_FALSE(world.gate.outcomes[0].response_started);
  world.connect_result = proxy::Connecting::kInProgress;
  world.send(client, kGet);  // the connection was kept
  world.fail_connect(world.app());
  EXPECT_EQ(status_of(client), 502);
}

TEST(Engine, ARequestWaitsForItsConnection) {
  MemoryWorld world;
  world.connect_result = proxy::Connecting::kInProgress;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  EXPECT_TRUE(world.app().from_engine.empty());
  world.finish_connect(world.app());
  EXPECT_FALSE(world.app().from_engine.empty());
  world.send(world.app(), kOk);
  EXPECT_EQ(status_of(client), 200);
}

TEST(Engine, TheAppDyingMidResponseIsNotACleanEnd) {
  for (const std::string head : {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
                                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"}) {
    MemoryWorld world;
    Peer& client = *world.connect_client();
    world.send(client, kGet);
    world.send(world.app(), head);
    world.end(world.app());
    EXPECT_TRUE(client.closed);
    EXPECT_EQ(read_strict(client.from_engine, true).state, StrictMessage::State::kIncomplete);
    EXPECT_EQ(world.gate.outcomes[0].end, End::kUpstreamFailed);
    EXPECT_EQ(world.gate.outcomes[0].response_body_bytes, 2u);
  }
}

TEST(Engine, ACutResponseToA10ClientEndsInAReset) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "GET / HTTP/1.0\r\n\r\n");
  world.send(world.app(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
  world.end(world.app());
  EXPECT_TRUE(client.closed);
  EXPECT_TRUE(client.reset);
}

TEST(Engine, AResponseWithoutLengthIsChunkedFor11AndClosedFor10) {
  MemoryWorld world;
  Peer& modern = *world.connect_client();
  world.send(modern, kGet);
  world.send(world.app(), "HTTP/1.0 200 OK\r\n\r\nhi");
  world.send(world.app(), "ho");
  world.end(world.app());
  const auto got = read_strict(modern.from_engine, true);
  EXPECT_EQ(got.get("transfer-encoding"), "chunked");
  EXPECT_EQ(got.body, "hiho");
  EXPECT_FALSE(modern.closed);
  Peer& old = *world.connect_client();
  world.send(old, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  world.send(world.app(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
  EXPECT_TRUE(old.from_engine.ends_with("Connection: close\r\n\r\nhi")) << old.from_engine;
  EXPECT_TRUE(old.shut);
}

TEST(Engine, A10ClientMayKeepItsConnection) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  world.send(world.app(), "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
  world.send(world.app(), kOk);
  EXPECT_EQ(read_strict(client.from_engine, true).get("connection"), "keep-alive");
  EXPECT_EQ(client.take().find("103"), std::string::npos);
  world.send(client, "GET / HTTP/1.0\r\n\r\n");
  world.send(world.app(), kOk);
  EXPECT_EQ(read_strict(client.from_engine, true).get("connection"), "close");
  EXPECT_TRUE(client.shut);
  world.end(client);
  EXPECT_TRUE(client.closed);
}

TEST(Engine, HeadHasNoBody) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
  world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
  EXPECT_EQ(read_strict(client.take(), true, true).get("content-length"), "100");
  world.send(client, kGet);
  EXPECT_EQ(world.apps.size(), 1u);
  world.connect_result = proxy::Connecting::kFailed;
  Peer& other = *world.connect_client();
  world.send(other, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(other.from_engine.ends_with("\r\n\r\n"));
}

TEST(Engine, ABodyIsStreamedAndCounted) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
  for (int i = 0; i < 100; ++i) world.send(client, std::string(1000, 'x'));
  EXPECT_EQ(read_strict(world.app().from_engine, false).body.size(), 100'000u);
  world.send(world.app(), kOk);
  EXPECT_EQ(world.gate.outcomes[0].request_body_bytes, 100'000u);
}

TEST(Engine, ASlowReaderStopsTheApp) {
  Options options;
  MemoryWorld world(options);
  Peer& client = *world.connect_client();
  client.window = 1000;
  world.send(client, kGet);
  world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + std::string(10'000'000, 'x'));
  EXPECT_GT(world.app().to_engine.size(), 10'000'000u - 3 * options.buffer_high_bytes);
  EXPECT_LE(client.conn->out.size(), options.buffer_high_bytes + 64 * 1024);
  while (client.from_engine.size() < 10'000'000 && client.conn != nullptr && world.gate.open > 0) {
    world.open_window(client, 300'000);
  }
  EXPECT_EQ(read_strict(client.from_engine, true).body.size(), 10'000'000u);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kCompleted);
  EXPECT_GT(world.counters().backpressure_pauses.get(), 0u);
}

TEST(Engine, ASlowAppStopsTheClient) {
  Options options;
  MemoryWorld world(options);
  world.connect_result = proxy::Connecting::kInProgress;
  Peer& client = *world.connect_client();
  world.send(client, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + std::string(10'000'000, 'x'));
  EXPECT_GT(client.to_engine.size(), 10'000'000u - 3 * options.buffer_high_bytes);
  world.app().window = 100'000;
  world.finish_connect(world.app());
  while (world.app().from_engine.size() < 10'000'000) {
    const size_t before = world.app().from_engine.size();
    world.open_window(world.app(), 500'000);
    ASSERT_GT(world.app().from_engine.size(), before);
  }
  world.open_window(world.app(), 500'000);
  EXPECT_EQ(read_strict(world.app().from_engine, false).body.size(), 10'000'000u);
}

TEST(Engine, AClientThatLeavesMidResponsePaysForWhatItGot) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n12345");
  world.reset(client);
  EXPECT_TRUE(world.app().closed);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kClientAborted);
  EXPECT_EQ(world.gate.outcomes[0].response_body_bytes, 5u);
}

TEST(Engine, AClientThatIsFoundGoneByAWriteIsAborted) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n12345");
  world.reset_silently(client);
  world.send(world.app(), "67890");
  EXPECT_TRUE(client.closed);
  EXPECT_TRUE(world.app().closed);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kClientAborted);
}

TEST(Engine, WhatAnAbortedClientHadNotTakenIsNotCounted) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  client.window = 2000;
  world.send(client, kGet);
  world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + std::string(5000, 'x'));
  EXPECT_EQ(world.gate.open, 1) << "settled before the client had it";
  world.reset(client);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kClientAborted);
  EXPECT_LT(world.gate.outcomes[0].response_body_bytes, 2000u);
}

TEST(Engine, AHalfClosedClientGetsItsResponse) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.end(client);
  world.send(world.app(), kOk);
  EXPECT_EQ(status_of(client), 200);
  EXPECT_TRUE(client.closed);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kCompleted);
}

TEST(Engine, AClientThatEndsInTheMiddleOfItsBodyIsAborted) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
  world.end(client);
  EXPECT_TRUE(client.closed);
  EXPECT_TRUE(world.app().closed);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kClientAborted);
  EXPECT_EQ(world.gate.outcomes[0].request_body_bytes, 3u);
}

TEST(Engine, AnEarlyResponseIsPassedOnWhileTheBodyIsStillComing) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
  world.send(world.app(), "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
  const auto got = read_strict(client.from_engine, true);
  EXPECT_EQ(got.status(), 413);
  EXPECT_EQ(got.get("connection"), "close");
  EXPECT_TRUE(world.app().closed) << "its place in the request is not known";
  EXPECT_TRUE(client.shut);
  EXPECT_FALSE(client.closed) << "closing now could destroy the response on its way";
  world.send(client, std::string(1000, 'x'));
  world.end(client);
  EXPECT_TRUE(client.closed);
}

TEST(Engine, AnEarlyResponseToASmallBodyKeepsTheClient) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
  world.send(world.app(), kOk);
  EXPECT_EQ(read_strict(client.take(), true).get("connection"), "");
  world.send(client, "defghij" + std::string(kGet));
  ASSERT_EQ(world.apps.size(), 2u);
  world.send(world.app(), kOk);
  EXPECT_EQ(status_of(client), 200);
}

TEST(Engine, AnAppThatAnswersAndClosesWhileTheBodyComesIsHeard) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
  world.app().to_engine = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
  world.end_silently(world.app());  // writes fail from here on
  world.send(client, std::string(1000, 'x'));
  EXPECT_EQ(status_of(client), 413);
}

TEST(Engine, BytesAfterAResponseCloseTheAppsConnection) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n");
  EXPECT_EQ(read_strict(client.take(), true).body, "hi");
  EXPECT_TRUE(world.app().closed);
  world.send(client, kGet);
  world.send(world.app(), kOk);
  world.send(world.app(), "unsolicited");
  EXPECT_TRUE(world.app().closed);
}

TEST(Engine, ConnectionsHaveAMaximum) {
  Options options;
  options.client_connections_max = 2;
  options.upstream_connections_max = 1;
  MemoryWorld world(options);
  Peer* a = world.connect_client();
  Peer* b = world.connect_client();
  world.send(*a, kGet);
  world.send(*b, kGet);
  EXPECT_EQ(status_of(*b), 503) << "one connection to the app";
  world.gate.verdict = Verdict::kWait;
  world.send(*b, kGet);
  EXPECT_EQ(world.connect_client(), nullptr) << "both are owed an answer";
  EXPECT_NE(world.engine().refusal().find("ConnectionLimitReached"), std::string::npos);
  world.reset(*b);
  EXPECT_NE(world.connect_client(), nullptr);
}

TEST(Engine, TheLongestIdleConnectionMakesRoom) {
  Options options;
  options.client_connections_max = 4;
  MemoryWorld world(options);
  Peer& silent = *world.connect_client();
  Peer& dripping = *world.connect_client();
  Peer& busy = *world.connect_client();
  Peer& kept = *world.connect_client();
  world.send(kept, kGet);
  world.send(world.app(), kOk);
  world.send(busy, kGet);
  world.send(dripping, "GET / HT");
  world.advance_ms(100);
  world.send(dripping, "TP/1.1\r\n");
  Peer* first = world.connect_client();
  ASSERT_NE(first, nullptr);
  EXPECT_TRUE(silent.closed);
  ASSERT_NE(world.connect_client(), nullptr);
  EXPECT_TRUE(dripping.closed) << "bytes of a head do not make it younger";
  ASSERT_NE(world.connect_client(), nullptr);
  EXPECT_TRUE(kept.closed);
  ASSERT_NE(world.connect_client(), nullptr);
  EXPECT_TRUE(first->closed);
  EXPECT_FALSE(busy.closed) << "it is owed an answer";
  world.send(world.app(), kOk);
  EXPECT_EQ(status_of(busy), 200);
  EXPECT_EQ(world.counters().clients_displaced.get(), 4u);
  EXPECT_EQ(world.counters().clients_active.get(), 4u);
}

TEST(Engine, ManyNewConnectionsDoNotKeepOthersOut) {
  Options options;
  options.client_connections_max = 100;
  MemoryWorld world(options);
  for (int i = 0; i < 10'000; ++i) ASSERT_NE(world.connect_client(), nullptr);
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), kOk);
  EXPECT_EQ(status_of(client), 200);
  EXPECT_EQ(world.counters().clients_active.get(), 100u);
}

TEST(Engine, AnAddressHasAShareOfTheConnections) {
  Options options;
  options.connections_per_address_max = 2;
  MemoryWorld world(options);
  const auto address = [](const char* text) {
    sockaddr_storage storage{};
    if (std::strchr(text, ':') != nullptr) {
      auto& in6 = reinterpret_cast<sockaddr_in6&>(storage);
      in6.sin6_family = AF_INET6;
      inet_pton(AF_INET6, text, &in6.sin6_addr);
    } else {
      auto& in = reinterpret_cast<sockaddr_in&>(storage);
      in.sin_family = AF_INET;
      inet_pton(AF_INET, text, &in.sin_addr);
    }
    return storage;
  };
  const auto connect = [&](const char* text) {
    const sockaddr_storage from = address(text);
    return world.connect_client(reinterpret_cast<const sockaddr*>(&from));
  };
  const auto busy = [&](const char* text) {
    Peer* client = connect(text);
    if (client != nullptr) world.send(*client, kGet);
    return client;
  };
  Peer* first = busy("203.0.113.7");
  ASSERT_NE(first, nullptr);
  ASSERT_NE(busy("::ffff:203.0.113.7"), nullptr);
  EXPECT_EQ(connect("203.0.113.7"), nullptr) << "both are owed an answer";
  EXPECT_NE(connect("203.0.113.8"), nullptr);
  world.reset(*first);
  Peer* idle = connect("203.0.113.7");
  ASSERT_NE(idle, nullptr);
  Peer* next = connect("203.0.113.7");
  ASSERT_NE(next, nullptr) << "of its own connections an idle one makes room";
  EXPECT_TRUE(idle->closed);
  world.send(*next, kGet);
  EXPECT_EQ(connect("203.0.113.7"), nullptr);
  ASSERT_NE(busy("2001:db8:1:2::1"), nullptr);
  ASSERT_NE(busy("2001:db8:1:2::2"), nullptr);
  EXPECT_EQ(connect("2001:db8:1:2:ffff::3"), nullptr) << "a network of 64 bits is one customer's";
  EXPECT_NE(connect("2001:db8:1:3::1"), nullptr);
  EXPECT_EQ(world.counters().clients_displaced.get(), 1u);
  for (int i = 0; i < 5; ++i) EXPECT_NE(world.connect_client(), nullptr) << "without an address nothing is counted";
}

TEST(Engine, AnAppThatWritesInPiecesIsAcknowledgedAtOnce) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), "HTTP/1.1 200 OK\r\n");
  EXPECT_EQ(world.app().acknowledged, 1);
  world.send(world.app(), "Content-Length: 4\r\n\r\n");
  EXPECT_EQ(world.app().acknowledged, 2);
  world.send(world.app(), "ab");
  EXPECT_EQ(world.app().acknowledged, 3);
  world.send(world.app(), "cd");
  EXPECT_EQ(status_of(client), 200);
  client.take();
  for (int i = 0; i < 3; ++i) {
    world.send(client, kGet);
    world.send(world.app(), kOk);
  }
  EXPECT_EQ(world.app().acknowledged, 3) << "what comes whole needs no system call more";
}

TEST(Engine, SteadyStateReusesItsObjects) {
  MemoryWorld world;
  for (int i = 0; i < 100; ++i) {
    Peer& client = *world.connect_client();
    world.send(client, kGet);
    world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    world.end(client);
    EXPECT_TRUE(client.closed);
    EXPECT_EQ(world.gate.last_ticket.slot, 0u);
    EXPECT_EQ(world.gate.last_ticket.generation, static_cast<uint32_t>(i + 1));
  }
  EXPECT_EQ(world.counters().clients_active.get(), 0u);
  EXPECT_EQ(world.counters().upstreams_active.get(), 0u);
}

// An app that gives up on who reads slowly would else make the answer free, as often as one likes.
TEST(Engine, AnAppThatGivesUpOnASlowReaderHasNotFailed) {
  const auto end_of = [](int64_t pause_ms, std::string_view end) {
    MemoryWorld world;
    Peer& client = *world.connect_client();
    client.window = 1000;
    world.send(client, kGet);
    world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + std::string(500'000, 'x'));
    world.advance_ms(pause_ms);
    world.app().ended = true;
    world.app().broken = end == "reset";
    if (end == "told") world.event(world.app(), proxy::Engine::kReadable | proxy::Engine::kPeerClosed);
    for (int i = 0; i < 100 && client.conn != nullptr; ++i) {
      world.open_window(client, 100'000);
      if (world.app().to_engine.empty())
        world.event(world.app(), proxy::Engine::kReadable | proxy::Engine::kPeerClosed);
    }
    EXPECT_TRUE(client.closed);
    EXPECT_EQ(world.gate.outcomes.size(), 1u);
    EXPECT_TRUE(world.gate.outcomes[0].app_reached);
    return world.gate.outcomes[0].end;
  };
  for (const char* end : {"eof", "reset", "told"}) {
    EXPECT_EQ(end_of(31'000, end), End::kClientAborted) << end;
    EXPECT_EQ(end_of(100, end), End::kUpstreamFailed) << end << ": reading on at once is not slow";
  }
}

TEST(Engine, ASlowReaderOfOneResponseIsNotOneOfTheNext) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  client.window = 1000;
  world.send(client, kGet);
  world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + std::string(200'000, 'x'));
  world.advance_ms(10'000);
  world.open_window(client, SIZE_MAX);
  EXPECT_EQ(world.gate.outcomes.back().end, End::kCompleted);
  world.send(client, kGet);
  world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
  world.end(world.app());
  ASSERT_EQ(world.gate.outcomes.size(), 2u);
  EXPECT_EQ(world.gate.outcomes.back().end, End::kUpstreamFailed);
}

// Both sides closed is reported as a failure, before what is queued has been taken.
TEST(Engine, TheTailOfAResponseThatEndsByClosingIsNotReset) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
  world.send(world.app(), "HTTP/1.1 200 OK\r\n\r\nabc");
  client.ended = true;
  world.end(world.app());
  world.event(client, proxy::Engine::kReadable | proxy::Engine::kPeerClosed | proxy::Engine::kFailed);
  EXPECT_TRUE(client.closed);
  EXPECT_FALSE(client.reset);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kCompleted);

  Peer& cut = *world.connect_client();
  world.send(cut, "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
  world.send(world.app(), "HTTP/1.1 200 OK\r\n\r\nabc");
  world.engine().close_all();
  EXPECT_TRUE(cut.reset) << "it must not take this for the end";
}

TEST(Engine, AnAppThatMovedGetsNothingMoreAtItsOldAddress) {
  MemoryWorld world;
  Peer& a = *world.connect_client();
  Peer& b = *world.connect_client();
  world.send(a, kGet);
  world.send(b, kGet);
  world.send(*world.apps[0], kOk);
  world.engine().note_upstream_moved();
  world.run();
  EXPECT_TRUE(world.apps[0]->closed);
  EXPECT_FALSE(world.apps[1]->closed) << "in the middle of a request";
  world.send(*world.apps[1], kOk);
  EXPECT_EQ(status_of(b), 200);
  EXPECT_TRUE(world.apps[1]->closed);
  world.send(a, kGet);
  ASSERT_EQ(world.apps.size(), 3u);
  world.send(world.app(), kOk);
  world.send(b, kGet);
  EXPECT_EQ(world.apps.size(), 3u);
}

}  // namespace
}  // namespace tallygate::testing
