// What a gate that looks at bodies sees, and what it can do to them.
#include "tests/fuzz/memory_world.h"
#include "tests/fuzz/strict_message.h"

namespace tallygate::testing {
namespace {

using proxy::End;
using proxy::Flow;
using proxy::Options;
using proxy::Verdict;

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
constexpr std::string_view kStream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

std::string chunk(std::string_view payload) {
  char size[20];
  std::snprintf(size, sizeof size, "%zx\r\n", payload.size());
  return size + std::string(payload) + "\r\n";
}
constexpr std::string_view kLastChunk = "0\r\n\r\n";

std::string post(size_t length, std::string_view more = "") {
  return "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(length) + "\r\n" + std::string(more) + "\r\n";
}

// --- Request bodies ---------------------------------------------------------------------------------------------

TEST(CollectedBody, IsSeenBeforeAnythingReachesTheApp) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kBody;
  Peer& client = *world.connect_client();
  world.send(client, post(6) + "abc");
  EXPECT_TRUE(world.apps.empty());
  EXPECT_TRUE(world.gate.bodies.empty());
  world.send(client, "def");
  EXPECT_EQ(world.gate.bodies, (std::vector<std::string>{"abcdef"}));
  EXPECT_TRUE(world.gate.bodies_whole[0]);
  const std::string sent = world.app().take();
  EXPECT_NE(sent.find("Content-Length: 6\r\n"), sent.npos);
  EXPECT_TRUE(sent.ends_with("\r\n\r\nabcdef")) << sent;
  world.send(world.app(), kOk);
  EXPECT_EQ(read_strict(client.take(), true).body, "hi");
  EXPECT_EQ(world.gate.outcomes.at(0).request_body_bytes, 6u);
  world.send(client, post(1) + "x");
  EXPECT_TRUE(world.app().take().ends_with("\r\n\r\nx")) << "the connection goes on";
  EXPECT_FALSE(world.gate.broken);
}

TEST(CollectedBody, ChunkedOneComesAsOneChunkWithItsTrailers) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kBody;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("abc") + chunk("defg"));
  world.send(client, "0\r\nX-Sum: 7\r\n\r\n");
  EXPECT_EQ(world.gate.bodies, (std::vector<std::string>{"abcdefg"}));
  EXPECT_TRUE(world.app().take().ends_with("\r\n\r\n7\r\nabcdefg\r\n0\r\nX-Sum: 7\r\n\r\n"));
}

TEST(CollectedBody, OfARequestWithoutOneIsEmpty) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kBody;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  EXPECT_EQ(world.gate.bodies, (std::vector<std::string>{""}));
  EXPECT_EQ(world.apps.size(), 1u);
}

TEST(CollectedBody, TooLongIsToldBeforeItIsSent) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kBody;
  world.gate.body_verdict = Verdict::kDeny;
  Peer& client = *world.connect_client();
  world.send(client, post(1001, "Expect: 100-continue\r\n"));
  EXPECT_EQ(world.gate.bodies_whole, (std::vector<bool>{false}));
  EXPECT_EQ(read_strict(client.take(), true).status(), 429);
  EXPECT_TRUE(world.apps.empty());
}

TEST(CollectedBody, TooLongAndAdmittedGoesOnAsItComes) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kBody;
  world.gate.body_bytes_max = 4;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("abcdef"));
  EXPECT_EQ(world.gate.bodies_whole, (std::vector<bool>{false}));
  world.send(client, chunk("gh") + std::string(kLastChunk));
  EXPECT_TRUE(world.app().take().ends_with("\r\n\r\n6\r\nabcdef\r\n2\r\ngh\r\n0\r\n\r\n"));
  world.send(world.app(), kOk);
  EXPECT_EQ(world.gate.outcomes.at(0).request_body_bytes, 8u);
}

TEST(CollectedBody, AClientThatAsksIsToldToGoOn) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kBody;
  Peer& client = *world.connect_client();
  world.send(client, post(3, "Expect: 100-continue\r\n"));
  EXPECT_EQ(client.take(), "HTTP/1.1 100 Continue\r\n\r\n");
  world.send(client, "abc");
  world.send(world.app(), std::string("HTTP/1.1 100 Continue\r\n\r\n") + std::string(kOk));
  EXPECT_EQ(read_strict(client.take(), true).status(), 200) << "once is enough";
}

TEST(CollectedBody, WaitsForItsTenantBeforeOrAfter) {
  for (const bool before : {true, false}) {
    MemoryWorld world;
    world.gate.verdict = before ? Verdict::kWait : Verdict::kBody;
    world.gate.readmit_verdict = before ? Verdict::kBody : Verdict::kAdmit;
    world.gate.body_verdict = before ? Verdict::kAdmit : Verdict::kWait;
    Peer& client = *world.connect_client();
    world.send(client, post(3) + "abc");
    EXPECT_TRUE(world.apps.empty());
    world.engine().resume(world.gate.last_ticket);
    world.run();
    ASSERT_EQ(world.apps.size(), 1u);
    EXPECT_TRUE(world.app().take().ends_with("\r\n\r\nabc"));
    world.send(world.app(), kOk);
    EXPECT_EQ(read_strict(client.take(), true).status(), 200);
    EXPECT_EQ(world.counters().requests_waiting.get(), 0u);
    EXPECT_EQ(world.counters().collected_bytes.get(), 0u);
  }
}

TEST(CollectedBody, AnotherMayGoInItsPlace) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kBody;
  world.gate.body_instead = "abcdefghijkl";
  world.gate.request_fields = "X-Told: yes\r\n";
  Peer& client = *world.connect_client();
  world.send(client, post(3) + "abc");
  const std::string sent = world.app().take();
  EXPECT_NE(sent.find("\r\nContent-Length: 12\r\n"), sent.npos) << sent;
  EXPECT_EQ(sent.find("Content-Length: 3"), sent.npos);
  EXPECT_TRUE(sent.ends_with("X-Told: yes\r\n\r\nabcdefghijkl")) << sent;
  world.send(world.app(), kOk);
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("abc") + std::string(kLastChunk));
  EXPECT_TRUE(world.app().take().ends_with("\r\n\r\nc\r\nabcdefghijkl\r\n0\r\n\r\n"));
}

TEST(CollectedBody, IsSentAgainWhereAPooledConnectionWasClosed) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), kOk);
  client.take();
  world.gate.verdict = Verdict::kBody;
  world.end_silently(world.app());
  world.send(client, post(3) + "abc");
  ASSERT_EQ(world.apps.size(), 2u);
  EXPECT_TRUE(world.app().take().ends_with("\r\n\r\nabc"));
}

TEST(CollectedBody, ABrokenOrAbandonedOneChangesNothing) {
  MemoryWorld world;
  world.gate.verdict = Verdict::kBody;
  Peer& broken = *world.connect_client();
  world.send(broken, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
  EXPECT_EQ(read_strict(broken.take(), true).status(), 400);
  Peer& gone = *world.connect_client();
  world.send(gone, post(3) + "a");
  world.reset(gone);
  Peer& slow = *world.connect_client();
  world.send(slow, post(3) + "a");
  world.advance_ms(61'000);
  EXPECT_EQ(read_strict(slow.take(), true).status(), 408);
  EXPECT_EQ(world.gate.abandoned, 3);
  EXPECT_TRUE(world.gate.bodies.empty());
  EXPECT_TRUE(world.apps.empty());
  EXPECT_EQ(world.counters().collected_bytes.get(), 0u);
}

TEST(CollectedBody, AllOfThemTogetherHaveABound) {
  Options options;
  options.collected_bytes_max = 100;
  MemoryWorld world(options);
  world.gate.verdict = Verdict::kBody;
  Peer& first = *world.connect_client();
  world.send(first, post(90) + std::string(80, 'a'));
  Peer& second = *world.connect_client();
  world.send(second, post(90) + std::string(80, 'b'));
  EXPECT_EQ(read_strict(second.take(), true).status(), 503);
  world.send(first, std::string(10, 'a'));
  EXPECT_EQ(world.gate.bodies.size(), 1u);
}

TEST(AcceptEncoding, IsWhatTheGateSays) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.gate.accept_encoding = "gzip";
  world.send(client, "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: snappy\r\naccept_encoding: x\r\n\r\n");
  const std::string sent = world.app().take();
  EXPECT_NE(sent.find("Accept-Encoding: gzip\r\n"), sent.npos);
  EXPECT_EQ(sent.find("snappy"), sent.npos);
  EXPECT_EQ(sent.find("accept_encoding"), sent.npos);
}

// --- Responses --------------------------------------------------------------------------------------------------

TEST(WatchedResponse, IsSeenPieceByPieceAndUnchanged) {
  MemoryWorld world;
  std::string seen;
  int pieces = 0, lasts = 0;
  world.gate.listens = proxy::kAll;
  world.gate.on_body = [&](std::string_view offered, bool last) {
    seen += offered;
    ++pieces;
    lasts += last;
    return Flow{offered.size()};
  };
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), std::string(kStream) + chunk("one") + chunk("two"));
  world.send(world.app(), chunk("three") + std::string(kLastChunk));
  EXPECT_EQ(world.gate.heads, (std::vector<std::string>{"200 grows Content-Type=text/event-stream"}));
  EXPECT_EQ(seen, "onetwothree");
  EXPECT_EQ(lasts, 1);
  EXPECT_EQ(read_strict(client.take(), true).body, "onetwothree");
  EXPECT_EQ(world.gate.outcomes.at(0).response_body_bytes, 11u);
  world.gate.listens = proxy::kNothing;
  world.send(client, kGet);
  world.send(world.app(), kOk);
  EXPECT_EQ(read_strict(client.take(), true).body, "hi");
  EXPECT_EQ(pieces, 4) << "the next request is not listened to";
  EXPECT_EQ(world.apps.size(), 1u) << "and the connection was kept";
}

TEST(WatchedResponse, WhatIsKeptBackComesWithTheNext) {
  MemoryWorld world;
  std::vector<std::string> offers;
  world.gate.listens = proxy::kAll;
  world.gate.on_body = [&](std::string_view offered, bool) {
    offers.emplace_back(offered);
    const size_t end = offered.rfind('\n');
    return Flow{end == offered.npos ? 0 : end + 1};
  };
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), std::string(kStream) + chunk("ab"));
  world.send(world.app(), chunk("c\nd"));
  EXPECT_TRUE(client.from_engine.ends_with("\r\n\r\n4\r\nabc\n\r\n")) << client.from_engine;
  world.send(world.app(), chunk("e") + std::string(kLastChunk));
  EXPECT_EQ(offers, (std::vector<std::string>{"ab", "abc\nd", "de", "de"}));
  EXPECT_EQ(read_strict(client.take(), true).body, "abc\nde") << "at the end all of it passes";
}

TEST(WatchedResponse, APauseReadsNoMoreUntilItIsOver) {
  MemoryWorld world;
  bool paused = true;
  world.gate.listens = proxy::kAll;
  world.gate.on_body = [&](std::string_view offered, bool) {
    return paused ? Flow{1, Flow::kPause} : Flow{offered.size()};
  };
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), std::string(kStream) + chunk("one") + chunk("two"));
  world.send(world.app(), chunk("three") + std::string(kLastChunk));
  EXPECT_TRUE(client.from_engine.ends_with("\r\n\r\n1\r\no\r\n")) << client.from_engine;
  EXPECT_FALSE(world.app().to_engine.empty());
  world.advance_ms(400'000);
  EXPECT_FALSE(client.closed) << "nobody but the gate is slow";
  paused = false;
  world.engine().resume(world.gate.last_ticket);
  world.run();
  EXPECT_EQ(read_strict(client.take(), true).body, "onetwothree");
  EXPECT_EQ(world.gate.outcomes.at(0).end, End::kCompleted);
}

TEST(WatchedResponse, APauseInItsLastPieceAndOneOfALength) {
  for (const std::string_view response :
       {std::string_view("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        std::string_view("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        std::string_view("HTTP/1.0 200 OK\r\n\r\nhi")}) {
    MemoryWorld world;
    int pauses = 2;
    world.gate.listens = proxy::kAll;
    world.gate.on_body = [&](std::string_view offered, bool) {
      return pauses-- > 0 ? Flow{0, Flow::kPause} : Flow{offered.size()};
    };
    Peer& client = *world.connect_client();
    world.send(client, kGet);
    world.send(world.app(), response);
    world.end(world.app());
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(client.from_engine.find("hi"), std::string::npos);
      world.engine().resume(world.gate.last_ticket);
      world.run();
    }
    EXPECT_EQ(read_strict(client.take(), true).body, "hi") << response;
    EXPECT_EQ(world.gate.outcomes.at(0).end, End::kCompleted);
  }
}

TEST(WatchedResponse, OtherBytesMayGoInPlaceOfWhatPasses) {
  MemoryWorld world;
  std::string mine;
  world.gate.listens = proxy::kAll;
  world.gate.on_body = [&](std::string_view offered, bool) {
    mine = offered == "two" ? "" : "<" + std::string(offered) + ">";
    Flow flow{offered.size()};
    flow.instead = mine;
    return flow;
  };
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), std::string(kStream) + chunk("one") + chunk("two") + chunk("three") + std::string(kLastChunk));
  EXPECT_EQ(read_strict(client.take(), true).body, "<one><three><>");
}

TEST(CutResponse, EndsWellFormedBehindTheGatesLastWord) {
  MemoryWorld world;
  world.gate.listens = proxy::kAll;
  world.gate.on_body = [&](std::string_view offered, bool) {
    return offered == "two" ? Flow{0, Flow::kEnd, "event: error\n\n"} : Flow{offered.size()};
  };
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  Peer& app = *world.apps.at(0);
  world.send(app, std::string(kStream) + chunk("one") + chunk("two") + chunk("three"));
  EXPECT_EQ(read_strict(client.take(), true).body, "oneevent: error\n\n");
  EXPECT_TRUE(app.closed) << "the app is told";
  EXPECT_FALSE(client.closed);
  ASSERT_EQ(world.gate.outcomes.size(), 1u);
  EXPECT_EQ(world.gate.outcomes[0].end, End::kCut);
  EXPECT_EQ(world.gate.outcomes[0].response_body_bytes, 3u);
  world.gate.listens = proxy::kNothing;
  world.send(client, kGet);
  world.send(world.app(), kOk);
  EXPECT_EQ(read_strict(client.take(), true).body, "hi") << "the client's connection goes on";
}

TEST(CutResponse, CannotBeTakenForWholeWhereItsLengthWasTold) {
  MemoryWorld world;
  world.gate.listens = proxy::kAll;
  world.gate.on_body = [&](std::string_view, bool) { return Flow{1, Flow::kEnd, "more"}; };
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), kOk);
  EXPECT_EQ(world.gate.heads, (std::vector<std::string>{"200"}));
  EXPECT_TRUE(client.closed);
  EXPECT_TRUE(client.from_engine.ends_with("\r\n\r\nh")) << client.from_engine;
}

TEST(CutResponse, WithoutALastWordTheConnectionIsCut) {
  MemoryWorld world;
  world.gate.listens = proxy::kAll;
  world.gate.on_body = [&](std::string_view, bool) { return Flow{1, Flow::kEnd}; };
  Peer& client = *world.connect_client();
  world.send(client, kGet);
  world.send(world.app(), std::string(kStream) + chunk("one"));
  EXPECT_TRUE(client.closed);
  EXPECT_EQ(client.from_engine.find("0\r\n\r\n"), std::string::npos);
}

TEST(Drain, WhatTheClientLeftIsReadToItsEnd) {
  for (const bool begun : {false, true}) {
    MemoryWorld world;
    std::string seen;
    world.gate.listens = proxy::kAll;
    world.gate.drain = true;
    world.gate.on_body = [&](std::string_view offered, bool) {
      seen += offered;
      return Flow{offered.size()};
    };
    Peer& client = *world.connect_client();
    world.send(client, kGet);
    if (begun) world.send(world.app(), std::string(kStream) + chunk("one"));
    world.reset(client);
    EXPECT_TRUE(client.closed);
    EXPECT_TRUE(world.gate.outcomes.empty());
    world.send(world.app(), (begun ? "" : std::string(kStream) + chunk("one")) + chunk("two"));
    world.send(world.app(), std::string(kLastChunk));
    EXPECT_EQ(seen, "onetwo");
    ASSERT_EQ(world.gate.outcomes.size(), 1u);
    EXPECT_EQ(world.gate.outcomes[0].end, End::kClientAborted);
    EXPECT_EQ(world.gate.outcomes[0].response_body_bytes, 6u);
    EXPECT_TRUE(world.engine().empty());
    EXPECT_EQ(world.counters().drained.get(), 1u);
  }
}

TEST(Drain, EndsWithTheAppOrWithUs) {
  for (const int how : {0, 1, 2}) {
    MemoryWorld world;
    world.gate.listens = proxy::kAll;
    world.gate.drain = true;
    Peer& client = *world.connect_client();
    world.send(client, kGet);
    if (how != 2) world.send(world.app(), std::string(kStream) + chunk("one"));
    world.reset(client);
    if (how == 0) world.end(world.app());
    if (how == 1) world.engine().close_all();
    if (how == 2) world.end(world.app());
    world.run();
    EXPECT_EQ(world.gate.outcomes.size(), 1u) << how;
    EXPECT_TRUE(world.engine().empty()) << how;
  }
}

}  // namespace
}  // namespace tallygate::testing
