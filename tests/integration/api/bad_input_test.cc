// Bad input is the caller's fault, and is told with the field: 4xx, never a 500, never a word of the database's.
#include "tests/integration/api/world.h"

namespace tallygate::testing {
namespace {

struct Row {
  std::string path, body;
  int status;
  std::string names;  // must be in the answer
  std::string method = "POST";
  std::string key = "key";
  std::string content_type = "application/json";
};

std::string with(const std::string& members) { return "{" + members + "}"; }

// What every body of JSON must withstand.
void add_malformed(std::vector<Row>& rows, const std::string& path) {
  const std::string deep = "{\"a\":" + std::string(50, '[') + std::string(50, ']') + "}";
  for (const std::string& body :
       {std::string(), std::string("{"), std::string("nonsense"), std::string("{\"amount\":}"),
        std::string("{'amount':'1'}"), std::string("{\"amount\":\"1\",}"), std::string("{\"a\":1}{"),
        std::string("{\"amount\":\"\xFF\"}"), std::string("{\"amount\":\"1\",\"amount\":\"2\"}"), deep,
        std::string("{\"amount\":\"\x01\"}"), std::string("\xEF\xBB\xBF{"), std::string("{\"a\":NaN}"),
        std::string("{\"amount\":\"1\"}\0{}", 17)}) {
    rows.push_back({path, body, 400, "MalformedJson"});
  }
  for (const std::string& body :
       {std::string("[]"), std::string("1"), std::string("\"text\""), std::string("null"), std::string("true")}) {
    rows.push_back({path, body, 400, "no object"});
  }
  for (const char* type :
       {"text/plain", "application/xml", "", "application/jsonp", "application/x-www-form-urlencoded"}) {
    rows.push_back({path, R"({"amount":"1"})", 415, "application/json", "POST", "key", type});
  }
}

void add_amounts(std::vector<Row>& rows, const std::string& path, const std::string& field, const std::string& others) {
  for (const char* value : {"null",
                            "1",
                            "1.5",
                            "true",
                            "[]",
                            "{}",
                            "\"\"",
                            "\" 1\"",
                            "\"1 \"",
                            "\"+1\"",
                            "\"-1\"",
                            "\"1e3\"",
                            "\"0x10\"",
                            "\"1,5\"",
                            "\"1.0000001\"",
                            "\".\"",
                            "\"1.\"",
                            "\".5\"",
                            "\"NaN\"",
                            "\"Infinity\"",
                            "\"1000000000\"",
                            "\"0000000001\"",
                            "\"0000000001.5\"",
                            "\"1000000000.01\"",
                            "\"99999999999999999999999999\"",
                            "\"1'; drop table wallets; --\"",
                            "\"\\u0000\"",
                            "\"\u0661\""}) {
    rows.push_back({path, with("\"" + field + "\":" + value + others), 422, "\"field\":\"" + field + "\""});
  }
}

std::vector<Row> bad_rows() {
  std::vector<Row> rows;
  add_malformed(rows, "/v1/deductions");
  add_amounts(rows, "/v1/deductions", "amount", "");
  add_amounts(rows, "/v1/reservations", "amount", R"(,"callId":"c")");
  add_amounts(rows, "/v1/reservations/c/commit", "cost", "");
  const std::string long_text(600, 'x');
  const auto refuse = [&](const std::string& path, const std::string& body, const std::string& field) {
    rows.push_back({path, body, 422, "\"field\":\"" + field + "\""});
  };
  refuse("/v1/deductions", "{}", "amount");
  refuse("/v1/deductions", R"({"amount":"0"})", "amount");
  refuse("/v1/deductions", R"({"amount":"1","extra":1})", "extra");
  refuse("/v1/deductions", R"({"amount":"1","tenant":"shop/globex"})", "tenant");
  refuse("/v1/deductions", R"({"amount":"1","currency":"gbp"})", "currency");
  refuse("/v1/deductions", R"({"amount":"1","currency":"GBPX"})", "currency");
  refuse("/v1/deductions", R"({"amount":"1","currency":1})", "currency");
  refuse("/v1/deductions", R"({"amount":"1","description":1})", "description");
  refuse("/v1/deductions", R"({"amount":"1","description":"a\u0000b"})", "description");
  refuse("/v1/deductions", R"({"amount":"1","description":"a\nb"})", "description");
  refuse("/v1/deductions", R"({"amount":"1","description":")" + long_text + "\"}", "description");
  refuse("/v1/deductions?x=1", R"({"amount":"1"})", "x");
  refuse("/v1/reservations", R"({"amount":"1"})", "callId");
  refuse("/v1/reservations", R"({"amount":"1","callId":""})", "callId");
  refuse("/v1/reservations", R"({"amount":"1","callId":7})", "callId");
  refuse("/v1/reservations", R"({"amount":"1","callId":"a\u0007"})", "callId");
  refuse("/v1/reservations", R"({"amount":"1","callId":")" + long_text + "\"}", "callId");
  refuse("/v1/reservations", R"({"amount":"1","callId":"c","ttlSeconds":0})", "ttlSeconds");
  refuse("/v1/reservations", R"({"amount":"1","callId":"c","ttlSeconds":604801})", "ttlSeconds");
  refuse("/v1/reservations", R"({"amount":"1","callId":"c","ttlSeconds":"60"})", "ttlSeconds");
  refuse("/v1/reservations", R"({"amount":"1","callId":"c","ttlSeconds":1.5})", "ttlSeconds");
  refuse("/v1/reservations", R"({"amount":"1","callId":"c","ttlSeconds":99999999999999999999})", "ttlSeconds");
  refuse("/v1/reservations", R"({"amount":"1","callId":"c","expiresAt":"tomorrow"})", "expiresAt");
  refuse("/v1/reservations", R"({"amount":"1","callId":"c","expiresAt":"2020-01-01T00:00:00Z"})", "expiresAt");
  refuse("/v1/reservations", R"({"amount":"1","callId":"c","expiresAt":"2200-01-01T00:00:00Z"})", "expiresAt");
  refuse("/v1/reservations", R"({"amount":"1","callId":"c","expiresAt":"2026-13-01T00:00:00Z"})", "expiresAt");
  refuse("/v1/reservations", R"({"amount":"1","callId":"c","expiresAt":"2026-02-30T00:00:00Z"})", "expiresAt");
  refuse("/v1/reservations", R"({"amount":"1","callId":"c","expiresAt":"2026-11-21 10:00:00Z"})", "expiresAt");
  refuse("/v1/reservations", R"({"amount":"1","callId":"c","expiresAt":"2026-11-21T10:00:00"})", "expiresAt");
  refuse("/v1/reservations/%FF/commit", R"({"cost":"1"})", "callId");
  refuse("/v1/reservations/" + long_text + "/commit", R"({"cost":"1"})", "callId");
  refuse("/v1/reservations/c/commit", R"({"amount":"1"})", "cost");
  refuse("/v1/reservations/c/release", R"({"cost":"1"})", "cost");
  refuse("/v1/status-check", R"({"callid":"x"})", "callid");
  refuse("/v1/status-check", R"({"callId":1})", "callId");
  refuse("/v1/gates/sms-send/check", R"({"times":0})", "times");
  refuse("/v1/gates/sms-send/check", R"({"times":1000001})", "times");
  refuse("/v1/gates/sms-send/check", R"({"policy":5})", "policy");
  refuse("/v1/gates/sms-send/check", R"({"policy":"voice"})", "policy");
  refuse("/v1/usage", "{}", "id");
  refuse("/v1/usage", R"({"id":"u","meter":"api_calls"})", "units");
  refuse("/v1/usage", R"({"id":"u","meter":"api_calls","units":0})", "units");
  refuse("/v1/usage", R"({"id":"u","meter":"api_calls","units":-1})", "units");
  refuse("/v1/usage", R"({"id":"u","meter":"api_calls","units":1.5})", "units");
  refuse("/v1/usage", R"({"id":"u","meter":"api_calls","units":18446744073709551615})", "units");
  refuse("/v1/usage", R"({"id":"u","meter":"API","units":1})", "meter");
  refuse("/v1/usage", R"({"id":"u","meter":"unsold","units":1})", "meter");
  refuse("/v1/usage", R"({"id":"u","meter":"api_calls","units":1,"time":"2020-01-01T00:00:00Z"})", "time");
  refuse("/v1/usage", R"({"id":"u","meter":"api_calls","units":1,"time":"2200-01-01T00:00:00Z"})", "time");
  refuse("/v1/usage", R"({"id":"u","meter":"api_calls","units":1,"time":0})", "time");
  refuse("/v1/usage", R"({"id":"u","meter":"api_calls","units":1,"dimensions":[]})", "dimensions");
  refuse("/v1/usage", R"({"id":"u","meter":"api_calls","units":1,"dimensions":{"a":1}})", "dimensions");
  refuse("/v1/usage", R"({"id":"u","meter":"api_calls","units":1,"dimensions":{"":"x"}})", "dimensions");
  refuse("/v1/usage", R"({"id":"u","meter":"api_calls","units":1,"dimensions":{"a":"\u0000"}})", "dimensions");
  const auto event = [&](const std::string& body, const std::string& field) {
    rows.push_back(
        {"/v1/events", body, 422, "\"field\":\"" + field + "\"", "POST", "", "application/cloudevents+json"});
  };
  const std::string good = R"("specversion":"1.0","type":"dev.tallygate.usage.v1","id":"1","source":"/s")";
  const std::string data = R"(,"data":{"meter":"api_calls","units":1})";
  const std::string other = R"(,"data":{"meter":"api_calls","units":2})";
  event("{}", "specversion");
  event("[]", "body");
  event(with(good), "data.");
  event(with(good + R"(,"data":{})"), "data.meter");
  event(with(good + R"(,"data":{"meter":"api_calls","units":"1"})"), "data.units");
  event(with(good + R"(,"data":{"meter":"api_calls","units":1,"x":1})"), "data.x");
  event(with(good + data + R"(,"time":"now")"), "time");
  event(with(good + data + R"(,"time":"2020-01-01T00:00:00Z")"), "time");
  event(with(good + data + R"(,"Upper":"x")"), "Upper");
  event(with(good + data + R"(,"datacontenttype":"text/xml")"), "datacontenttype");
  event(with(good + data + R"(,"subject":"")"), "subject");
  rows.push_back({"/v1/events", "[]", 422, "1 to 100", "POST", "", "application/cloudevents-batch+json"});
  rows.push_back({"/v1/events", "[1]", 422, "events[0]", "POST", "", "application/cloudevents-batch+json"});
  rows.push_back({"/v1/events", "[" + with(good + data) + "," + with(good + other) + "]", 422, "events[1].id", "POST",
                  "", "application/cloudevents-batch+json"});
  rows.push_back({"/v1/events", "{}", 415, "cloudevents", "POST", ""});
  for (const std::string& key : {std::string(), std::string(256, 'k'), std::string("two words")}) {
    rows.push_back({"/v1/deductions", R"({"amount":"1"})", 422, "Idempotency-Key", "POST", key});
    rows.push_back({"/v1/reservations", R"({"amount":"1","callId":"c"})", 422, "Idempotency-Key", "POST", key});
  }
  const auto query = [&](const std::string& path, const std::string& names, int status = 422) {
    rows.push_back({path, "", status, names, "GET"});
  };
  for (const char* limit : {"0", "-1", "501", "x", "1.5", "", "99999999999999999999"})
    query("/v1/wallet/transactions?limit=" + std::string(limit), "limit");
  for (const char* cursor : {"x", "MQ", "dDA", "cjE", "dC0x", "%00", "dDE%27"})
    query("/v1/wallet/transactions?cursor=" + std::string(cursor),
          cursor == std::string("%00") ? "MalformedQuery" : "cursor", cursor == std::string("%00") ? 400 : 422);
  query("/v1/wallet?currency=pounds", "currency");
  query("/v1/wallet?currency=%27--", "currency");
  query("/v1/wallet?unknown=1", "unknown");
  query("/v1/wallet?currency=GBP&currency=EUR", "MalformedQuery", 400);
  query("/v1/wallet?currency=%G1", "MalformedQuery", 400);
  query("/v1/reservations?state=open", "state");
  query("/v1/reservations/%C0%AF", "callId");
  query("/v1/usage?x=", "x");
  query("/v1/usage/history?step=minute", "step");
  query("/v1/usage/history?meter=A", "meter");
  query("/v1/usage/history?from=yesterday", "from");
  query("/v1/usage/history?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from");
  query("/v1/usage/history?from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from");
  query("/v1/nothing", "NotFound", 404);
  query("/v1/deductions", "MethodNotAllowed", 405);
  query("/v1/../etc/passwd", "MalformedPath", 400);
  return rows;
}

TEST(ApiBadInput, IsRefusedWithItsFieldAndNothingElseIsTold) {
  ApiWorld world;
  world.credit("shop/acme", 100'000'000);
  const auto rows = bad_rows();
  EXPECT_GE(rows.size(), 120u);
  RecordProperty("rows", static_cast<int>(rows.size()));
  ApiClient client(world.server->port());
  for (const Row& row : rows) {
    const Answer answer = client.send({.method = row.method,
                                       .path = row.path,
                                       .body = row.body,
                                       .token = kAcmeToken,
                                       .key = row.key,
                                       .content_type = row.content_type});
    const std::string what =
        row.method + " " + row.path.substr(0, 80) + " " + row.body.substr(0, 120) + " -> " + answer.body;
    EXPECT_EQ(answer.status, row.status) << what;
    EXPECT_NE(answer.body.find(row.names), std::string::npos) << what << " does not name " << row.names;
    EXPECT_NE(answer.head.find("application/problem+json"), std::string::npos) << what;
    for (const char* leak :
         {"SQL", "select ", "ERROR", "pqxx", "psql", "function", "column", ".cc", "nlohmann", "exception"}) {
      EXPECT_EQ(answer.body.find(leak), std::string::npos) << what;
    }
  }
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "100.00") << "nothing had an effect";
}

}  // namespace
}  // namespace tallygate::testing
