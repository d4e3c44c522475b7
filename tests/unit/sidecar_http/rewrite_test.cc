// What the app and the client get to see of each other's heads, and what the gate sees.
#include <arpa/inet.h>
#include <netinet/in.h>

#include "tests/fuzz/memory_world.h"
#include "tests/fuzz/strict_message.h"

namespace tallygate::testing {
namespace {

using proxy::Options;

constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

StrictMessage forwarded(MemoryWorld& world, std::string_view request) {
  Peer& client = *world.connect_client();
  world.send(client, request);
  if (world.apps.empty()) return {};
  return read_strict(world.app().from_engine, false);
}

TEST(Rewrite, HopByHopFieldsStayOnTheirHop) {
  MemoryWorld world;
  const auto got = forwarded(world,
                             "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Secret\r\nKeep-Alive: timeout=5\r\n"
                             "Proxy-Connection: x\r\nProxy-Authorization: Basic x\r\nProxy-Authenticate: y\r\n"
                             "x-secret: 1\r\nX-Kept: 2\r\nTE: gzip\r\n\r\n");
  for (const char* name : {"connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate",
                           "x-secret", "te"}) {
    EXPECT_EQ(got.count(name), 0u) << name;
  }
  EXPECT_EQ(got.get("x-kept"), "2");
}

TEST(Rewrite, ConnectionCannotStripWhatFramesRoutesOrAuthenticates) {
  MemoryWorld world;
  const auto got = forwarded(world,
                             "POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length, authorization, cookie, "
                             "x-forwarded-for, x-forwarded-proto, forwarded, x-request-id, expect\r\n"
                             "Content-Length: 1\r\nAuthorization: Bearer t\r\nCookie: c\r\nX-Forwarded-For: 1.2.3.4\r\n"
                             "X-Forwarded-Proto: https\r\nForwarded: for=1.2.3.4\r\nX-Request-Id: abc\r\n\r\nx");
  EXPECT_EQ(got.get("host"), "a");
  EXPECT_EQ(got.get("content-length"), "1");
  EXPECT_EQ(got.get("authorization"), "Bearer t");
  EXPECT_EQ(got.get("cookie"), "c");
  EXPECT_EQ(got.get("x-forwarded-for"), "1.2.3.4");
  EXPECT_EQ(got.get("x-forwarded-proto"), "https");
  EXPECT_EQ(got.get("forwarded"), "for=1.2.3.4");
  EXPECT_EQ(got.get("x-request-id"), "abc");
}

TEST(Rewrite, TraceIsRefusedAndEchoesNothing) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "TRACE / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\nMax-Forwards: 3\r\n\r\n");
  const auto got = read_strict(client.take(), true);
  EXPECT_EQ(got.status(), 405);
  EXPECT_EQ(got.get("allow"), "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
  EXPECT_EQ(got.body.find("secret"), std::string::npos);
  EXPECT_EQ(world.gate.asked, 0);
  EXPECT_TRUE(world.apps.empty());
}

// Many apps take `post` for POST, and it is of another route, or none; a `head` would be answered without the body that
// its length announces.
TEST(Rewrite, AMethodInSmallLettersIsRefused) {
  for (const char* method : {"post", "Post", "POSt", "head", "get", "options", "trace", "purge", "x-y"}) {
    MemoryWorld world;
    Peer& client = *world.connect_client();
    world.send(client, std::string(method) + " / HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(read_strict(client.from_engine, true).status(), 400) << method;
    EXPECT_EQ(world.gate.asked, 0) << method;
    EXPECT_TRUE(world.apps.empty()) << method;
  }
  for (const char* method : {"PURGE", "VERSION-CONTROL", "M_2"}) {
    MemoryWorld world;
    EXPECT_TRUE(
        forwarded(world, std::string(method) + " / HTTP/1.1\r\nHost: a\r\n\r\n").start_line.starts_with(method));
  }
}

// An app behind CGI or WSGI takes each of them for the field of the same name in its usual spelling.
TEST(Rewrite, WhatTheProxyWritesIsInNoOtherSpelling) {
  MemoryWorld world;
  const auto got =
      forwarded(world,
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent_Length: 7\r\nTransfer_Encoding: chunked\r\n"
                "X_Forwarded_For: 10.0.0.1\r\nx_forwarded.proto: https\r\nX_Request_Id: b\r\nX_Y: z\r\n"
                "X-Forwarded-Proto: https\r\n\r\n");
  std::string names;
  for (const auto& field : got.fields) names += field.first + " ";
  EXPECT_EQ(names, "host x_y x-forwarded-proto x-request-id content-length ");
  Peer& client = *world.connect_client();
  world.send(client,
             "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX_Forwarded_For: 10.0.0.1\r\nX-Sum: "
             "1\r\n\r\n");
  EXPECT_TRUE(world.app().from_engine.ends_with("\r\n\r\n0\r\nX-Sum: 1\r\n\r\n")) << world.app().from_engine;
}

TEST(Rewrite, MaxForwardsEndsHereOrIsCountedDown) {
  const auto said = [](const std::string& method, const std::string& fields) {
    MemoryWorld world;
    return forwarded(world, method + " / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n");
  };
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "OPTIONS * HTTP/1.1\r\nHost: a\r\nMAX-FORWARDS: 0\r\n\r\n");
  EXPECT_EQ(read_strict(client.from_engine, true).status(), 204);
  EXPECT_NE(read_strict(client.take(), true).get("allow"), "");
  EXPECT_TRUE(world.apps.empty());
  EXPECT_EQ(world.gate.asked, 0);
  EXPECT_EQ(said("OPTIONS", "Max-Forwards: 1\r\nX: y\r\n").get("max-forwards"), "0");
  EXPECT_EQ(said("OPTIONS", "Max-Forwards: 010\r\n").get("max-forwards"), "9");
  EXPECT_EQ(said("OPTIONS", "Max-Forwards: 99999999999999999999\r\n").get("max-forwards"), "2147483646");
  EXPECT_EQ(said("OPTIONS", "Max-Forwards: many\r\n").get("max-forwards"), "many");
  EXPECT_EQ(said("OPTIONS", "X: y\r\n").count("max-forwards"), 0u);
  const auto twice = said("OPTIONS", "Max-Forwards: 5\r\nmax-forwards: 3\r\n");
  EXPECT_EQ(twice.count("max-forwards"), 1u);
  EXPECT_EQ(twice.get("max-forwards"), "2");
  EXPECT_EQ(said("GET", "Max-Forwards: 0\r\n").get("max-forwards"), "0") << "of no meaning here";
}

TEST(Rewrite, AResponseHasADate) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  const auto answered = [&](const std::string& fields) {
    world.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    world.send(world.app(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + fields + "\r\n");
    return read_strict(client.take(), true);
  };
  EXPECT_EQ(answered("").get("date"), "Tue, 14 Nov 2023 22:13:20 GMT");
  const auto own = answered("dATE: Sat, 21 Nov 2026 07:34:22 GMT\r\n");
  EXPECT_EQ(own.get("date"), "Sat, 21 Nov 2026 07:34:22 GMT");
  EXPECT_EQ(own.count("date"), 1u);
}

TEST(Rewrite, AnIPv4PeerIsPlainOnASocketOfBothFamilies) {
  MemoryWorld world;
  sockaddr_in6 mapped{};
  mapped.sin6_family = AF_INET6;
  inet_pton(AF_INET6, "::ffff:203.0.113.7", &mapped.sin6_addr);
  int family = 0;
  world.gate.on_admit = [&](const proxy::RequestView& view) { family = view.peer->sa_family; };
  Peer& client = *world.connect_client(reinterpret_cast<const sockaddr*>(&mapped));
  world.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(read_strict(world.app().from_engine, false).get("x-forwarded-for"), "203.0.113.7");
  EXPECT_EQ(family, AF_INET) << "the gate compares addresses too";
}

TEST(Rewrite, AbsoluteFormBecomesOriginFormAndItsAuthorityHost) {
  MemoryWorld world;
  const auto got = forwarded(world, "GET http://b:81/x?y=1 HTTP/1.1\r\nHost: a\r\nX: z\r\n\r\n");
  EXPECT_EQ(got.start_line, "GET /x?y=1 HTTP/1.1");
  EXPECT_EQ(got.count("host"), 1u);
  EXPECT_EQ(got.get("host"), "b:81");
  EXPECT_EQ(world.gate.last_host, "b:81");
  EXPECT_EQ(world.gate.last_path, "/x");
  MemoryWorld other;
  EXPECT_EQ(forwarded(other, "GET http://b HTTP/1.1\r\nHost: a\r\n\r\n").start_line, "GET / HTTP/1.1");
  MemoryWorld query;
  EXPECT_EQ(forwarded(query, "GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n").start_line, "GET /?q HTTP/1.1");
  MemoryWorld options;
  EXPECT_EQ(forwarded(options, "OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n").start_line, "OPTIONS * HTTP/1.1");
}

TEST(Rewrite, LinesGetOneForm) {
  MemoryWorld world;
  const auto got = forwarded(world, "GET / HTTP/1.1\r\nHost:a\r\nA:  b \t\r\nC: d\r\nE:\r\n\r\n");
  EXPECT_EQ(got.state, StrictMessage::State::kComplete) << got.why;
  EXPECT_EQ(got.get("host"), "a");
  EXPECT_EQ(got.get("a"), "b");
  EXPECT_EQ(got.get("c"), "d");
  EXPECT_EQ(got.count("e"), 1u);
}

TEST(Rewrite, RequestIdIsKeptIfItIsHarmlessAndElseMade) {
  MemoryWorld world;
  EXPECT_EQ(forwarded(world, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc-1\r\n\r\n").get("x-request-id"), "abc-1");
  EXPECT_EQ(world.gate.last_id, "abc-1");
  for (const std::string given : {"a\"b", "a b", "", "caf\xc3\xa9"}) {
    MemoryWorld other;
    const auto got = forwarded(other, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: " + given + "\r\n\r\n");
    EXPECT_EQ(got.count("x-request-id"), 1u);
    EXPECT_EQ(got.get("x-request-id").size(), 36u);
    EXPECT_EQ(got.get("x-request-id"), other.gate.last_id);
  }
  MemoryWorld longer;
  EXPECT_EQ(forwarded(longer, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: " + std::string(65, 'a') + "\r\n\r\n")
                .get("x-request-id")
                .size(),
            36u);
  MemoryWorld twice;
  EXPECT_EQ(forwarded(twice, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: b\r\nX-Request-Id: c\r\n\r\n")
                .count("x-request-id"),
            1u);
}

TEST(Rewrite, GuardedFieldsDoNotReachTheAppInAnySpelling) {
  MemoryWorld world;
  world.gate.guarded_fields = proxy::NameSet({"x-tenant-id", "x_org"});
  world.gate.guarded_fields.add("x-api-key", /*but_itself=*/true);
  const auto got =
      forwarded(world,
                "GET / HTTP/1.1\r\nHost: a\r\nX-Tenant-Id: 1\r\nX_Tenant_Id: 2\r\nx.tenant.id: 3\r\n"
                "X-TENANT_ID: 4\r\nX-Tenant.Id: 5\r\nX~Tenant~Id: 6\r\nX-Org: 7\r\nx_org: 8\r\n"
                "X_Api_Key: 9\r\nX-API-Key: key\r\nX-Tenant-Ids: a\r\nXTenantId: b\r\nX-Tenant-Ic: c\r\n\r\n");
  std::string names;
  for (const auto& field : got.fields) names += field.first + " ";
  EXPECT_EQ(names, "host x-api-key x-tenant-ids xtenantid x-tenant-ic x-forwarded-proto x-request-id ");
}

TEST(Rewrite, GuardedFieldsDoNotReachTheAppAsTrailers) {
  MemoryWorld world;
  world.gate.guarded_fields = proxy::NameSet({"x-tenant-id"});
  world.gate.guarded_fields.add("x-api-key", /*but_itself=*/true);
  Peer& client = *world.connect_client();
  world.send(client,
             "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Tenant-Id: 1\r\n"
             "X-Sum: 1\r\nX_TENANT.ID: 2\r\nX-Api-Key: k\r\nX-Md: 2\r\n\r\n");
  EXPECT_TRUE(world.app().from_engine.ends_with("\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\nX-Md: 2\r\n\r\n"))
      << world.app().from_engine;
}

TEST(Rewrite, ConnectionCannotHideWhatIsGuarded) {
  MemoryWorld world;
  world.gate.guarded_fields = proxy::NameSet({"x-tenant-id"});
  world.gate.guarded_fields.add("x-api-key", /*but_itself=*/true);
  world.gate.on_admit = [](const proxy::RequestView& view) {
    EXPECT_EQ(view.header("x-api-key"), "k");
    EXPECT_EQ(view.header("x-tenant-id"), "t");
    EXPECT_EQ(view.find("x-hop").count, 0u);
  };
  const auto got = forwarded(world,
                             "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Api-Key, x-tenant-id, x-hop\r\n"
                             "X-Api-Key: k\r\nX-Tenant-Id: t\r\nX-Hop: 1\r\n\r\n");
  EXPECT_EQ(world.gate.asked, 1);
  EXPECT_EQ(got.get("x-api-key"), "k");
  EXPECT_EQ(got.count("x-tenant-id") + got.count("x-hop"), 0u);
}

// What the gate says of a request goes with it however it gets there: at once, after a wait, a second time.
TEST(Rewrite, TheAppGetsTheGatesFields) {
  const std::string request = "GET / HTTP/1.1\r\nHost: a\r\nX-Tallygate-Tenant: shop/globex\r\n\r\n";
  const auto expect_told = [](const Peer& app) {
    const auto got = read_strict(app.from_engine, false);
    EXPECT_EQ(got.count("x-tallygate-tenant"), 1u) << app.from_engine;
    EXPECT_EQ(got.get("x-tallygate-tenant"), "shop/acme");
  };
  MemoryWorld world;
  world.gate.guarded_fields = proxy::NameSet({"X-Tallygate-Tenant"});
  world.gate.request_fields = "X-Tallygate-Tenant: shop/acme\r\n";
  Peer& client = *world.connect_client();
  world.send(client, request);
  expect_told(world.app());
  world.send(world.app(), "HTTP/1.1 204 No Content\r\n\r\n");

  world.app().take();
  world.gate.verdict = proxy::Verdict::kWait;
  world.send(client, request);
  EXPECT_EQ(world.app().from_engine, "") << "not before it is admitted";
  world.engine().resume(world.gate.last_ticket);
  world.run();
  expect_told(world.app());
  world.app().take();
  world.end(world.app());  // the app closes the pooled connection just then
  ASSERT_EQ(world.apps.size(), 2u);
  expect_told(world.app());
  EXPECT_FALSE(world.gate.broken);
}

TEST(Rewrite, TheGateSeesWhatTheAppMustNot) {
  MemoryWorld world;
  world.gate.guarded_fields = proxy::NameSet({"x-api-key", "authorization"});
  std::string key;
  world.gate.on_admit = [&](const proxy::RequestView& view) {
    key = view.header("x-api-key");
    EXPECT_EQ(view.find("x-api-key").count, 1u);
    EXPECT_EQ(view.header("x-none").data(), nullptr);
  };
  const auto got = forwarded(world, "GET / HTTP/1.1\r\nHost: a\r\nX-API-Key: k\r\nAuthorization: b\r\nX: y\r\n\r\n");
  EXPECT_EQ(key, "k");
  EXPECT_EQ(got.count("x-api-key") + got.count("authorization"), 0u);
  EXPECT_EQ(got.get("x"), "y");
}

TEST(Rewrite, TheGateSeesTheHead) {
  MemoryWorld world;
  world.gate.on_admit = [](const proxy::RequestView& view) {
    EXPECT_EQ(view.method, "POST");
    EXPECT_EQ(view.path, "/p");
    EXPECT_EQ(view.query, "q=1?2");
    EXPECT_EQ(view.content_length, -1);
    EXPECT_EQ(view.find("a").count, 2u);
    EXPECT_EQ(view.header("a"), "1");
    EXPECT_EQ(view.find("secret").count, 0u);
  };
  forwarded(world, "POST /p?q=1?2 HTTP/1.1\r\nHost: a\r\nA: 1\r\na: 2\r\nConnection: secret\r\nSecret: x\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n");
  EXPECT_EQ(world.gate.asked, 1);
}

TEST(Rewrite, TeTrailersIsKeptForThisHop) {
  MemoryWorld world;
  const auto got = forwarded(world, "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers, gzip;q=0.5\r\nConnection: TE\r\n\r\n");
  EXPECT_EQ(got.get("te"), "trailers");
  EXPECT_EQ(got.get("connection"), "TE");
}

TEST(Rewrite, TheResponseGetsTheGatesFieldsAndTheRequestId) {
  Options options;
  options.gate_response_headers = {"ratelimit"};
  options.via = "tallygate";
  MemoryWorld world(options);
  Peer& client = *world.connect_client();
  world.send(client, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: r1\r\n\r\n");
  EXPECT_EQ(read_strict(world.app().from_engine, false).get("via"), "1.1 tallygate");
  world.send(world.app(),
             "HTTP/1.1 201 Made It\r\nRateLimit: spoofed\r\nX-Request-Id: other\r\nConnection: keep-alive, X-Hop\r\n"
             "X-Hop: 1\r\nX-App: 2\r\nContent-Length: 2\r\n\r\nhi");
  const auto got = read_strict(client.from_engine, true);
  EXPECT_EQ(got.start_line, "HTTP/1.1 201 Made It");
  EXPECT_EQ(got.count("ratelimit"), 1u);
  EXPECT_EQ(got.get("ratelimit"), "\"a\";r=1");
  EXPECT_EQ(got.count("x-request-id"), 1u);
  EXPECT_EQ(got.get("x-request-id"), "r1");
  EXPECT_EQ(got.get("x-app"), "2");
  EXPECT_EQ(got.count("x-hop") + got.count("connection"), 0u);
  EXPECT_EQ(got.body, "hi");
  EXPECT_EQ(world.writes, 2) << "one send per message";
}

TEST(Rewrite, TheAppsOwnQuotaFieldsPassWhereTheGateHasNone) {
  Options options;
  options.gate_response_headers = {"ratelimit", "x-ratelimit-limit"};
  const std::string answer =
      "HTTP/1.1 200 OK\r\nX-RateLimit-Limit: 7\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-RateLimit-Limit: 8\r\n\r\n";
  MemoryWorld world(options);
  world.gate.fields = "";
  Peer& client = *world.connect_client();
  world.send(client, kRequest);
  world.send(world.app(), answer);
  const std::string untouched = client.take();
  EXPECT_NE(untouched.find("\r\nX-RateLimit-Limit: 7\r\n"), std::string::npos) << untouched;
  EXPECT_TRUE(untouched.ends_with("\r\n0\r\nX-RateLimit-Limit: 8\r\n\r\n")) << untouched;
  world.gate.fields = "RateLimit: \"a\";r=1\r\n";
  world.send(client, kRequest);
  world.send(world.app(), answer);
  const std::string replaced = client.take();
  EXPECT_EQ(replaced.find("X-RateLimit-Limit"), std::string::npos) << replaced;
  EXPECT_NE(replaced.find("\r\nRateLimit: \"a\";r=1\r\n"), std::string::npos) << replaced;
}

TEST(Rewrite, TrailersPassBothWaysWithoutFieldsThatFrame) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  world.send(client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;ext=1\r\nx\r\n0\r\nX-Sum:  1\r\n"
                     "Content-Length: 9\r\n\r\n");
  EXPECT_TRUE(world.app().from_engine.ends_with("\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n"));
  world.send(world.app(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 2\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(client.from_engine.ends_with("\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 2\r\n\r\n")) << client.from_engine;
}

}  // namespace
}  // namespace tallygate::testing
