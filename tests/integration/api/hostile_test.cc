// A hostile client at the API's port: bytes as no library would send them. Each gets an answer of its own fault, soon,
// without a word of the database's or of the program's; and the server goes on serving.
#include <thread>

#include "operator/api/text.h"
#include "tests/integration/api/world.h"

namespace tallygate::testing {
namespace {

const std::string kAuth = "Authorization: Bearer " + kAcmeToken + "\r\n";
const std::string kJson = "Content-Type: application/json\r\n";
const std::string kBody = R"({"amount":"1"})";

struct Row {
  std::string name, bytes;
  int status;
  std::string names = "";  // must be in the answer
};

std::string get(const std::string& target, const std::string& fields = kAuth) {
  return "GET " + target + " HTTP/1.1\r\nHost: api\r\n" + fields + "\r\n";
}
std::string post(const std::string& target, const std::string& body, const std::string& fields = kAuth + kJson,
                 const std::string& key = "Idempotency-Key: key\r\n") {
  return "POST " + target + " HTTP/1.1\r\nHost: api\r\n" + fields + key +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
std::string framed(const std::string& framing, const std::string& body) {
  return "POST /v1/deductions HTTP/1.1\r\nHost: api\r\n" + kAuth + kJson + "Idempotency-Key: key\r\n" + framing +
         "\r\n" + body;
}
std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

void add_framing(std::vector<Row>& rows) {
  const std::string chunked = "Transfer-Encoding: chunked\r\n";
  for (const char* length :
       {"+14", "-1", "0x0e", "14, 14", "14 14", "", "18446744073709551616", "9223372036854775808", "1e1", "\xC2\xB9"}) {
    rows.push_back({std::string("Content-Length ") + length,
                    framed("Content-Length: " + std::string(length) + "\r\n", kBody), 400});
  }
  rows.push_back({"two lengths", framed("Content-Length: 14\r\nContent-Length: 14\r\n", kBody), 400});
  rows.push_back({"length and chunks", framed("Content-Length: 14\r\n" + chunked, "0\r\n\r\n"), 400});
  rows.push_back({"chunked twice", framed(chunked + chunked, "0\r\n\r\n"), 400});
  for (const char* coding : {"gzip, chunked", "chunked, chunked", "xchunked", "identity", "chunked;q=1", ""}) {
    rows.push_back({std::string("coding ") + coding,
                    framed("Transfer-Encoding: " + std::string(coding) + "\r\n", "0\r\n\r\n"), 400});
  }
  for (const char* chunks :
       {"0x5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", "5\nhello\n0\n\n", "5 hello\r\n0\r\n\r\n",
        "5\r\nhelloooo\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "g\r\n\r\n", ";\r\n\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\x01\r\nhello\r\n0\r\n\r\n", "0\r\nA: b\r\n c\r\n\r\n"}) {
    rows.push_back({std::string("chunks ") + chunks, framed(chunked, chunks), 400});
  }
  rows.push_back({"a chunk without end", framed(chunked, "ffffff\r\n" + std::string(300'000, ' ')), 413});
  rows.push_back({"a chunk's extension without end", framed(chunked, "1;" + std::string(100'000, 'x')), 400});
  rows.push_back({"good chunks of no JSON", framed(chunked, "5\r\nhello\r\n0\r\n\r\n"), 400, "MalformedJson"});
  rows.push_back({"a body too large", framed("Content-Length: 262145\r\n", std::string(262'145, '1')), 413});
  rows.push_back({"a body of a terabyte", framed("Content-Length: 1099511627776\r\n", ""), 413});
  rows.push_back({"a head too large", get("/v1/wallet", "X: " + std::string(17'000, 'x') + "\r\n"), 431});
  rows.push_back({"too many fields", get("/v1/wallet", repeated("X: y\r\n", 120)), 431});
  rows.push_back({"a target too long", get("/v1/" + std::string(9'000, 'x')), 414});
  for (const char* head :
       {"GET /v1/wallet\r\n\r\n", "GET  /v1/wallet HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01\r\n\r\n",
        "GET /v1/wallet HTTP/1.1\r\n\r\n", "GET /v1/wallet HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET /v1/wallet HTTP/1.1\r\nHost: a/b\r\n\r\n", "GET /v1/wallet HTTP/1.1\nHost: a\n\n",
        "GET /v1/wallet HTTP/1.1\r\nHost : a\r\n\r\n", "GET /v1/wallet HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n",
        "GET /v1/wallet HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n", "GET /v1/wallet http/1.1\r\nHost: a\r\n\r\n",
        "GET http HTTP/1.1\r\nHost: a\r\n\r\n", "GET /v1/wallet#x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "G\xC3\x89T / HTTP/1.1\r\nHost: a\r\n\r\n"}) {
    rows.push_back({head, head, 400, "MalformedRequest"});
  }
  rows.push_back({"a NUL in a field", get("/v1/wallet", std::string("X: a\0b\r\n", 8)), 400});
  rows.push_back({"a NUL in the target", get(std::string("/v1/\0", 5)), 400});
  rows.push_back({"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505});
  rows.push_back({"CONNECT", "CONNECT api:443 HTTP/1.1\r\nHost: api\r\n\r\n", 501});
  rows.push_back({"an expectation", framed("Expect: 200-ok\r\nContent-Length: 14\r\n", kBody), 417});
}

void add_fields(std::vector<Row>& rows) {
  const std::string key = "Idempotency-Key: key\r\n";
  const auto fields = [&](const std::string& name, const std::string& fields, int status, const std::string& names) {
    rows.push_back({name, post("/v1/deductions", kBody, fields, ""), status, names});
  };
  fields("two credentials", kAuth + kAuth + kJson + key, 401, "Unauthenticated");
  fields("two keys", kAuth + kJson + key + key, 422, "Idempotency-Key");
  fields("two tenants", kAuth + kJson + key + repeated("Tallygate-Tenant: shop/acme\r\n", 2), 422, "Tallygate-Tenant");
  fields("two types", kAuth + kJson + "Content-Type: text/plain\r\n" + key, 415, "Content-Type");
  fields("a compressed body", kAuth + kJson + key + "Content-Encoding: gzip\r\n", 415, "Content-Encoding");
  for (const char* bad : {"a b", " ", "\t", "k\xC3\xA9", "~reserved", "a\tb"}) {
    fields(std::string("key ") + bad, kAuth + kJson + "Idempotency-Key: " + bad + "\r\n", 422,
           bad == std::string("~reserved") ? "" : "Idempotency-Key");
  }
  for (const char* bad :
       {"../acme", "shop/acme/x", "shop", "SHOP/ACME", "shop/acme' or ''='", "shop%2Facme", "*", ""}) {
    fields(std::string("tenant ") + bad, kAuth + kJson + key + "Tallygate-Tenant: " + bad + "\r\n", 422,
           "Tallygate-Tenant");
  }
  for (const std::string& bad :
       {std::string("Bearer"), std::string("Bearer "), "Bearer\t" + kAcmeToken, "Bearer  " + kAcmeToken,
        "Bearer " + kAcmeToken + " x", "Bearer " + kAcmeToken + ",", "Token " + kAcmeToken,
        "Bearer " + std::string(12'000, 'x'), std::string("Bearer tgs_\xFF") + std::string(40, 'x'),
        "Bearer " + std::string(3'000, '.')}) {
    rows.push_back({"credentials " + bad.substr(0, 30), get("/v1/wallet", "Authorization: " + bad + "\r\n"), 401,
                    "Unauthenticated"});
  }
}

void add_targets(std::vector<Row>& rows) {
  for (const char* target :
       {"/v1/reservations/%2e%2e/commit", "/v1/reservations/..%2f..", "/v1/%2E/wallet", "/v1/reservations/a%00b",
        "/v1/reservations/%", "/v1/reservations/%4", "/v1/reservations/%zz", "/v1/reservations/a%0d%0aX:y",
        "/v1/./wallet", "/v1/../v1/wallet", "/v1/wallet%0a"}) {
    rows.push_back({target, get(target), target == std::string("/v1/reservations/..%2f..") ? 404 : 400,
                    target == std::string("/v1/reservations/..%2f..") ? "" : "MalformedPath"});
  }
  for (const char* target :
       {"/v1//wallet", "//v1/wallet", "/V1/wallet", "/v1/wallet/", "/v1/wallet;x=1", "/v1/wallet%20", "/v1/walle%74%74",
        "/", "/v1", "/v1/reservations/", "/v1/reservations/a/b/c", "/v1/reservations/%252e%252e",
        "/v1/reservations/a%2Fb", "/v1/reservations/%E2%80%AE", "/v1/reservations/'%20or%20''='", "/v1/gates/%2A/check",
        "/%F0%9F%92%A3"}) {
    const bool takes_post = std::string_view(target).starts_with("/v1/gates");
    rows.push_back({target, get(target), takes_post ? 405 : 404});
  }
  rows.push_back({"a path of slashes", get(std::string(4'000, '/')), 400, "MalformedPath"});
  for (const char* id : {"%C0%AF", "%FF", "%ED%A0%80", "%F5%80%80%80", "%C2%85"}) {
    rows.push_back({id, get("/v1/reservations/" + std::string(id)), 422, "callId"});
  }
  rows.push_back({"a call id of 256 bytes", get("/v1/reservations/" + repeated("%F0%9F%93%9E", 64)), 422, "callId"});
  for (const char* query : {"?limit=1&limit=1", "?limit=%", "?%00=1", "?limit=1%00", "?limit=%ZZ"}) {
    rows.push_back({query, get("/v1/wallet/transactions" + std::string(query)), 400, "MalformedQuery"});
  }
  // "-1", "r1" of another list, a number beyond 64 bits, SQL, and a cursor with padding.
  for (const char* cursor : {"dC0x", "cjE", "dDk5OTk5OTk5OTk5OTk5OTk5OTk5", "dDEgb3IgMT0x", "dDE=", "dA", "dCAx",
                             "dDAx%00", "////", "dDE%3D"}) {
    const bool query = std::string_view(cursor).ends_with("%00");
    rows.push_back({std::string("cursor ") + cursor, get("/v1/wallet/transactions?cursor=" + std::string(cursor)),
                    query ? 400 : 422, query ? "MalformedQuery" : "cursor"});
  }
  rows.push_back({"a long name of three-byte letters", get("/v1/wallet?" + repeated("%E2%82%AC", 40) + "=1"), 422});
}

void add_json(std::vector<Row>& rows) {
  const auto json = [&](const std::string& path, const std::string& body, int status, const std::string& names) {
    rows.push_back({body.substr(0, 60), post(path, body), status, names});
  };
  const auto malformed = [&](const std::string& body) { json("/v1/deductions", body, 400, "MalformedJson"); };
  malformed(std::string(100'000, '['));
  malformed(repeated(R"({"a":)", 20'000));
  malformed(R"({"amount":"1","\u0061mount":"2"})");
  malformed(R"({"amount":"1","x":{"a":1,"a":2}})");
  malformed(R"({"amount":1e400})");
  malformed(R"({"amount":-1e400})");
  malformed(R"({"amount":01})");
  malformed(R"({"amount":.5})");
  malformed(R"({"amount":+1})");
  malformed(R"({"amount":0x1})");
  malformed(R"({"amount":"\ud800"})");
  malformed(R"({"amount":"\udc00\ud800"})");
  malformed("{\"amount\":\"\xED\xA0\x80\"}");
  malformed("{\"amount\":\"\xC0\xB1\"}");
  malformed("\xFF\xFE{\0}\0");
  malformed(R"({"amount":"1"} // x)");
  malformed(R"({"amount":"1"/**/})");
  malformed(R"({amount:"1"})");
  malformed("{\"amount\":\"1\"}\v");
  json("/v1/deductions", R"({"amount":-0})", 422, "amount");
  json("/v1/deductions", R"({"amount":"-0"})", 422, "amount");
  json("/v1/deductions", R"({"amount":"0.0000000"})", 422, "amount");
  json("/v1/deductions", R"({"amount":"00000000000000000000000000000000000001"})", 422, "amount");
  json("/v1/deductions", R"({"amount":"1","__proto__":{}})", 422, "__proto__");
  json("/v1/deductions", "{\"amount\":\"1\",\"" + repeated("\xE2\x82\xAC", 40) + "\":1}", 422, "no field");
  json("/v1/deductions", R"({"amount":"1","":1})", 422, "no field");
  for (const char* number :
       {"-0", "-0.0", "1e2", "1.0", "1e400", "1e-400", "9223372036854775808", "-9223372036854775809"}) {
    const bool too_large = std::string_view(number) == "1e400";
    json("/v1/reservations", R"({"callId":"c","amount":"1","ttlSeconds":)" + std::string(number) + "}",
         too_large ? 400 : 422, too_large ? "MalformedJson" : "ttlSeconds");
    json("/v1/usage", R"({"id":"u","meter":"api_calls","units":)" + std::string(number) + "}", too_large ? 400 : 422,
         too_large ? "MalformedJson" : "units");
  }
  json("/v1/reservations", R"({"amount":"1","callId":")" + repeated("\xF0\x9F\x93\x9E", 64) + "\"}", 422, "callId");
  json("/v1/usage", R"({"id":"u","meter":"api_calls","units":1,"time":"2026-11-26T10:00:00+25:00"})", 422, "time");
  json("/v1/usage", R"({"id":"u","meter":"api_calls","units":1,"time":"99999-01-01T00:00:00Z"})", 422, "time");
  json("/v1/usage", R"({"id":"u","meter":"api_calls","units":1,"time":"2026-11-26T10:00:60.99999999999999999Z"})", 422,
       "time");
  rows.push_back({"a hundred and one events",
                  post("/v1/events", "[" + repeated("{},", 100) + "{}]",
                       kAuth + "Content-Type: application/cloudevents-batch+json\r\n"),
                  422, "1 to 100"});
  rows.push_back(
      {"events nested",
       post("/v1/events", std::string(60'000, '['), kAuth + "Content-Type: application/cloudevents-batch+json\r\n"),
       400, "MalformedJson"});
}

void expect_no_leak(const Answer& answer, const std::string& what) {
  for (const char* leak :
       {"SQL", "select ", "ERROR", "pqxx", "psql", "function", "column", ".cc", "nlohmann", "exception", "std::"}) {
    EXPECT_EQ(answer.body.find(leak), std::string::npos) << what << answer.body;
  }
  EXPECT_TRUE(api::is_clean_text(answer.body)) << what << answer.body;
}

TEST(ApiHostile, EveryRowGetsItsAnswerAndTheServerServesOn) {
  ApiWorld world;
  world.credit("shop/acme", 100'000'000);
  std::vector<Row> rows;
  add_framing(rows);
  add_fields(rows);
  add_targets(rows);
  add_json(rows);
  EXPECT_GE(rows.size(), 150u);
  RecordProperty("rows", static_cast<int>(rows.size()));
  for (const Row& row : rows) {
    const int64_t began_ms = system_env().mono_ms();
    http::RawClient client(world.server->port());
    client.send(row.bytes);
    const Answer answer = parse_answer(client.read_response());
    EXPECT_EQ(answer.status, row.status) << row.name << " -> " << answer.body;
    EXPECT_NE(answer.body.find(row.names), std::string::npos) << row.name << " -> " << answer.body;
    EXPECT_NE(answer.head.find("application/problem+json"), std::string::npos) << row.name;
    EXPECT_NE(answer.head.find("X-Request-Id: " + answer.member("requestId") + "\r\n"), std::string::npos) << row.name;
    EXPECT_FALSE(answer.member("requestId").empty()) << row.name;
    expect_no_leak(answer, row.name);
    EXPECT_LT(system_env().mono_ms() - began_ms, 2'000) << row.name;
  }
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "100.00") << "nothing had an effect";
  EXPECT_EQ(world.number("select count(*) from credit_transactions"), 1) << "the credit";
}

// The body is still to come, and is not waited for. Nor does what providers may send lift what others may.
TEST(ApiHostile, WhoIsRefusedAnywayIsRefusedByTheHead) {
  ApiWorld world;
  const auto answer = [&](const std::string& path, const std::string& fields) {
    http::RawClient client(world.server->port());
    const std::string begun = fields.starts_with("Transfer") ? "e\r\n{\"amount\"" : "{\"amount\"";
    client.send("POST " + path + " HTTP/1.1\r\nHost: api\r\n" + fields + "\r\n" + begun);
    return parse_answer(client.read_response());
  };
  const std::string length = "Content-Length: 200000\r\n", chunked = "Transfer-Encoding: chunked\r\n";
  for (const std::string& framing : {length, chunked + "Expect: 100-continue\r\n"}) {
    EXPECT_EQ(answer("/v1/deductions", framing).member("reason"), "Unauthenticated");
    EXPECT_EQ(answer("/v1/deductions", framing + "Authorization: Bearer tgs_none\r\n").status, 401);
    EXPECT_EQ(answer("/v1/deductions", framing + kAuth + "Tallygate-Tenant: shop/globex\r\n").status, 403);
    EXPECT_EQ(answer("/v1/wallet/adjustments", framing + kAuth).member("reason"), "ScopeMissing");
    EXPECT_EQ(answer("/v1/deductions", framing + kAuth + "Content-Encoding: gzip\r\n").status, 415);
    EXPECT_EQ(answer("/v1/nothing", framing).status, 404);
  }
  EXPECT_EQ(answer("/v1/deductions", "Content-Length: 262145\r\n" + kAuth).status, 413);
  EXPECT_EQ(world.number("select count(*) from credit_transactions"), 0);
}

TEST(ApiHostile, WrongMethodsAreToldTheRightOnes) {
  ApiWorld world;
  const std::pair<const char*, const char*> paths[] = {
      {"/v1/wallet", "GET, HEAD"},         {"/v1/wallet/adjustments", "POST"},
      {"/v1/deductions", "POST"},          {"/v1/reservations", "GET, HEAD, POST"},
      {"/v1/reservations/x", "GET, HEAD"}, {"/v1/reservations/x/commit", "POST"},
      {"/v1/usage", "GET, HEAD, POST"},    {"/v1/events", "POST"},
      {"/openapi.yaml", "GET, HEAD"}};
  for (const auto& [path, allowed] : paths) {
    for (const char* method : {"PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "PROPFIND"}) {
      const Answer answer = world.send({.method = method, .path = path, .token = kAcmeToken});
      EXPECT_EQ(answer.status, 405) << method << path;
      EXPECT_NE(answer.head.find("\r\nAllow: " + std::string(allowed)), std::string::npos) << answer.head;
    }
  }
  EXPECT_EQ(world.send({.method = "get", .path = "/v1/wallet", .token = kAcmeToken}).status, 400) << "no method at all";
  EXPECT_EQ(world.send({.method = "GET", .path = "/v1/deductions", .token = kAcmeToken}).status, 405);
  for (const char* path :
       {"/v1/wallet", "/v1/reservations", "/openapi.yaml", "/v1/reservations/none", "/v1/nothing", "/v1/deductions"}) {
    const Answer whole = world.send({.path = path, .token = kAcmeToken});
    http::RawClient client(world.server->port());
    const Answer head = parse_answer(client.exchange("HEAD " + std::string(path) +
                                                     " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + kAuth + "\r\n"));
    EXPECT_EQ(head.status, whole.status) << path;
    EXPECT_EQ(head.body, "") << path;
    EXPECT_NE(head.head.find("Content-Length: "), std::string::npos);
  }
}

// In one piece and byte by byte; the answers come in the order of the requests, and a body never becomes a request.
TEST(ApiHostile, PipelinedRequestsAreAnsweredInOrder) {
  ApiWorld world;
  world.credit("shop/acme", 100'000'000);
  std::string bytes;
  const std::string inner = R"({"amount":"1","description":"GET /v1/wallet HTTP/1.1"})";
  for (int i = 0; i < 20; ++i) {
    bytes += get("/v1/wallet");
    bytes += post("/v1/deductions", inner, kAuth + kJson, "Idempotency-Key: p" + std::to_string(i) + "\r\n");
    bytes += "GET /v1/wallet HTTP/1.1\r\nHost: api\r\n" + kAuth +
             "Content-Length: 24\r\n\r\nGET /v1/x HTTP/1.1\r\n\r\nab\r\n";
  }
  http::RawClient whole(world.server->port());
  whole.send(bytes);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(parse_answer(whole.read_response()).member("balance"), std::to_string(100 - i) + ".00");
    EXPECT_EQ(parse_answer(whole.read_response()).status, 201);
    EXPECT_EQ(parse_answer(whole.read_response()).member("balance"), std::to_string(99 - i) + ".00");
  }
  http::RawClient slow(world.server->port());
  for (const char byte : get("/v1/wallet")) slow.send(std::string_view(&byte, 1));
  EXPECT_EQ(parse_answer(slow.read_response()).status, 200);
}

// Three hundred clients send a byte now and then, of a head or of a body. Others are served meanwhile.
TEST(ApiHostile, SlowClientsAreEndedAndHinderNobody) {
  constexpr int64_t kTimeoutMs = 400;
  ApiWorld world(
      {.prepare = [](ApiWorld& w) { w.settings.head_timeout_ms = w.settings.body_timeout_ms = kTimeoutMs; }});
  std::vector<std::unique_ptr<http::RawClient>> slow;
  for (int i = 0; i < 300; ++i) {
    slow.push_back(std::make_unique<http::RawClient>(world.server->port()));
    slow.back()->send(i % 2 == 0 ? "GET /v1/wallet HTTP/1.1\r\nX" : framed("Content-Length: 100000\r\n", "{"));
  }
  const int64_t began_ms = system_env().mono_ms();
  int64_t served_ms_max = 0;
  while (system_env().mono_ms() - began_ms < 2 * kTimeoutMs) {
    for (auto& client : slow) client->send(" ");
    const int64_t at_ms = system_env().mono_ms();
    EXPECT_EQ(world.get("/v1/wallet").status, 200);
    served_ms_max = std::max(served_ms_max, system_env().mono_ms() - at_ms);
  }
  EXPECT_LT(served_ms_max, 1'000);
  for (auto& client : slow) EXPECT_TRUE(client->at_end());
  for (int i = 0; i < 200 && world.metric("tallygate_operator_api_connections") > 0; ++i) system_env().sleep_ms(10);
  EXPECT_EQ(world.metric("tallygate_operator_api_connections"), 0);
}

// 255 bytes are the limit, whatever the letters: through the body, the path, the ledger and back.
TEST(ApiHostile, LongCallIdsOfManyByteLettersGoThroughWhole) {
  ApiWorld world;
  world.credit("shop/acme", 100'000'000);
  const std::string id = repeated("\xF0\x9F\x93\x9E", 63) +
                         "\xC3\xA9"
                         "x",
                    escaped = repeated("%F0%9F%93%9E", 63) + "%C3%A9x";
  ASSERT_EQ(id.size(), 255u);
  ASSERT_EQ(world.post("/v1/reservations", R"({"amount":"1","callId":")" + id + "\"}", "k1").status, 201);
  EXPECT_EQ(world.get("/v1/reservations/" + escaped).member("callId"), id);
  EXPECT_EQ(world.post("/v1/reservations/" + escaped + "/commit", R"({"cost":"1"})", "k2").status, 200);
  EXPECT_EQ(world.post("/v1/reservations", R"({"amount":"1","callId":"a/b c"})", "k3").status, 201);
  EXPECT_EQ(world.get("/v1/reservations/a%2Fb%20c").status, 200);
}

// One that takes long to read is read on a worker, so that it holds up nobody; its answer is the same.
TEST(ApiHostile, ALongBodyIsAnsweredAsAShortOne) {
  ApiWorld world;
  world.credit("shop/acme", 100'000'000);
  const std::string spaces(200'000, ' ');
  EXPECT_EQ(world.post("/v1/deductions", R"({"amount":"1")" + spaces + "}", "long").status, 201);
  EXPECT_TRUE(world.post("/v1/deductions", kBody, "long").replayed());
  EXPECT_EQ(world.post("/v1/deductions", "{" + spaces + "]", "bad").status, 400);
}

// The actor of the audit log is cut between letters, not within one.
TEST(ApiHostile, AnAdministratorWithALongNameMayAdjust) {
  ApiWorld world("", [](ApiWorld& before) { before.settings.jwt_privileged = true; });
  world.credit("shop/acme", 100'000'000);
  for (const size_t letters : {66, 67, 100}) {
    const std::string token =
        sign_hs256(R"({"alg":"HS256"})",
                   R"({"iss":"https://issuer.example/","aud":"tallygate","scope":"tallygate:admin","sub":")" +
                       repeated("\xE2\x82\xAC", static_cast<int>(letters)) + R"(","exp":)" +
                       std::to_string(system_env().wall_s() + 600) + R"(,"app_metadata":{"org_id":"ext-acme"}})");
    const Answer answer = world.send({.method = "POST",
                                      .path = "/v1/wallet/adjustments",
                                      .body = R"({"amount":"1","reason":"missed"})",
                                      .token = token,
                                      .key = "a" + std::to_string(letters)});
    EXPECT_EQ(answer.status, 201) << letters << answer.body;
  }
}

// A cursor is its tenant's: a forged one, or another's, is none.
TEST(ApiHostile, CursorsAreNoWayToAnotherTenant) {
  ApiWorld world;
  world.credit("shop/globex", 7'000'000);
  world.credit("shop/acme", 5'000'000);
  ASSERT_EQ(world.post("/v1/deductions", kBody, "mine").status, 201);
  const std::string acmes = world.get("/v1/wallet/transactions?limit=1").member("nextCursor");
  ASSERT_NE(acmes, "");
  EXPECT_EQ(world.get("/v1/wallet/transactions?cursor=" + acmes).status, 200);
  for (const std::string& cursor :
       {acmes, api::make_cursor('H', 9'000'000'000'000'000'000), api::make_cursor('h', 1)}) {
    const Answer page = world.send({.path = "/v1/wallet/transactions?cursor=" + cursor, .token = kGlobexToken});
    EXPECT_EQ(page.status, 422) << page.body;
    EXPECT_EQ(page.body.find("mine"), std::string::npos) << page.body;
  }
}

}  // namespace
}  // namespace tallygate::testing
