// Moments, texts, cursors, rate limits, service tokens.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "core/base64.h"
#include "core/rate_limiter.h"
#include "operator/api/rate_shares.h"
#include "operator/api/service_tokens.h"
#include "operator/api/text.h"

namespace tallygate::api {
namespace {

TEST(ApiText, ReadsAndWritesMoments) {
  EXPECT_EQ(parse_moment("1970-01-01T00:00:00Z"), 0);
  EXPECT_EQ(parse_moment("2026-11-21T10:07:46.5Z"), 1'795'255'666'500'000'000);
  EXPECT_EQ(parse_moment("2026-11-21T11:07:46+01:00"), 1'795'255'666'000'000'000);
  EXPECT_TRUE(parse_moment("2024-02-29T00:00:00Z"));
  for (const char* bad :
       {"", "2026-02-29T00:00:00Z", "2026-11-21", "2026-11-21T24:00:00Z", "2026-11-21T10:60:00Z",
        "2026-11-21T10:00:60Z", "1969-12-31T23:59:59Z", "2300-01-01T00:00:00Z", "2026-11-21T10:00:00",
        "2026-11-21T10:00:00.Z", "2026-11-21T10:00:00+0100", "2026-11-21T10:00:00Zx", "+026-11-21T10:00:00Z"}) {
    EXPECT_FALSE(parse_moment(bad)) << bad;
  }
  EXPECT_EQ(format_moment(1'795'255'666'500'000'000), "2026-11-21T10:07:46.500000Z");
  EXPECT_EQ(format_moment_sql("2026-11-21 10:07:46.1+00"), "2026-11-21T10:07:46.1Z");
}

TEST(ApiText, KnowsCleanTexts) {
  EXPECT_TRUE(is_clean_text("plain, ünïcödé, 😀"));
  for (const char* bad :
       {"\x01", "a\x7F", "\xFF", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\xC2\x85"})
    EXPECT_FALSE(is_clean_text(bad));
}

TEST(ApiText, CursorsBelongToTheirList) {
  EXPECT_EQ(read_cursor('t', make_cursor('t', 42)), 42);
  EXPECT_FALSE(read_cursor('r', make_cursor('t', 42)));
  for (const char* bad : {"", "t42", "dA", "dC0x", "dDA"}) EXPECT_FALSE(read_cursor('t', bad)) << bad;
}

TEST(ApiText, Base64urlHasOneTextPerValue) {
  for (const std::string& bytes :
       {std::string(), std::string("a"), std::string("ab"), std::string("abc"), std::string("\0\xFF", 2)}) {
    EXPECT_EQ(base64url_decode(base64url_encode(bytes)), bytes);
  }
  for (const char* bad : {"A", "AB", "YR", "YQ==", "Y+", "Y/", "Y Q", "YWJ"})
    EXPECT_FALSE(base64url_decode(bad)) << bad;
}

TEST(ApiRateLimiter, GivesTheBurstThenTheRate) {
  RateLimiter limiter({10, 3}, 100);
  constexpr int64_t kMs = 1'000'000;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limiter.take("a", 0), 0);
  EXPECT_EQ(limiter.take("a", 0), 100);
  EXPECT_EQ(limiter.take("b", 0), 0) << "another tenant's";
  EXPECT_EQ(limiter.take("a", 99 * kMs), 1);
  EXPECT_EQ(limiter.take("a", 100 * kMs), 0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limiter.take("a", 3'600'000 * kMs), 0);
  EXPECT_GT(limiter.take("a", 3'600'000 * kMs), 0) << "no more than the burst, however long the rest";
  EXPECT_GT(limiter.take("a", 0), 0) << "a clock that goes back gives nothing";
}

TEST(ApiRateShares, NobodyUsesUpWhatOthersNeed) {
  RateShares shares({40, 40}, 100);
  const auto passed = [&](Share share, const char* tenant, const char* caller, int asked) {
    int n = 0;
    for (int i = 0; i < asked; ++i) n += shares.take(share, tenant, caller, 0) == 0;
    return n;
  };
  EXPECT_EQ(passed(Share::kUsers, "shop/acme", "jwt:mallory", 1000), 10) << "a quarter";
  EXPECT_EQ(passed(Share::kUsers, "shop/acme", "jwt:ann", 10), 10);
  EXPECT_EQ(passed(Share::kUsers, "shop/acme", "jwt:bob", 1000) + passed(Share::kUsers, "shop/acme", "jwt:cid", 1000),
            20);
  EXPECT_EQ(passed(Share::kUsers, "shop/acme", "jwt:dan", 10), 0) << "all of the users' share";
  EXPECT_EQ(passed(Share::kServices, "shop/acme", "token:a", 1000), 30) << "services have their own";
  EXPECT_EQ(passed(Share::kServices, "shop/acme", "token:b", 1000), 10);
  EXPECT_EQ(passed(Share::kStatus, "shop/acme", "token:a", 30), 30) << "and so has the kill switch";
  EXPECT_EQ(passed(Share::kLeases, "shop/acme", "token:pods", 1000), 400);
  EXPECT_EQ(passed(Share::kEvents, "shop/acme", "provider:voice", 1000), 40);
  EXPECT_EQ(passed(Share::kEvents, "shop/globex", "provider:voice", 40), 40)
      << "a provider's events for another tenant";
  EXPECT_EQ(passed(Share::kEvents, "shop/acme", "provider:sms", 40), 40) << "another provider's";
  EXPECT_EQ(passed(Share::kStatusEvents, "shop/acme", "provider:voice", 40), 40);
  EXPECT_EQ(passed(Share::kUsers, "shop/globex", "jwt:mallory", 10), 10) << "another tenant";
}

TEST(ApiRateLimiter, IsBounded) {
  RateLimiter limiter({1, 1}, 10);
  for (int i = 0; i < 1000; ++i) limiter.take("t" + std::to_string(i), 0);
  EXPECT_EQ(limiter.size(), 10u);
}

TEST(ApiServiceTokens, AreFoundByTheirHashOnly) {
  const std::string token = "tgs_0123456789abcdef0123456789abcdef";
  const std::string good =
      R"({"name":"voice","sha256":")" + sha256_hex(token) + R"(","scopes":["wallet:read"],"tenants":["shop/acme"]})";
  const auto tokens = ServiceTokens::parse(R"({"tokens":[)" + good + "]}");
  ASSERT_TRUE(tokens) << tokens.error().message;
  ASSERT_NE(tokens->find(token), nullptr);
  EXPECT_EQ(tokens->find(token)->actor, "token:voice");
  EXPECT_FALSE(tokens->find(token)->has(Scope::kWalletWrite));
  EXPECT_EQ(tokens->find(token + "x"), nullptr);
  for (const std::string& bad :
       {std::string("{}"), std::string("[]"), R"({"tokens":[)" + good + "," + good + "]}",
        std::string(R"({"tokens":[{"name":"x"}]})"),
        R"({"tokens":[{"name":"x","sha256":"AB","scopes":[],"tenants":[]}]})" + std::string(),
        R"({"tokens":[{"name":"x","sha256":")" + std::string(64, 'a') + R"(","scopes":["root"],"tenants":[]}]})",
        R"({"tokens":[{"name":"x","sha256":")" + std::string(64, 'a') + R"(","scopes":[],"tenants":["acme"]}]})"}) {
    EXPECT_FALSE(ServiceTokens::parse(bad)) << bad;
  }
}

TEST(ApiServiceTokens, AllFaultsAreToldAtOnce) {
  const std::string hash(64, 'a');
  const auto tokens = ServiceTokens::parse(
      R"({"tokens":[{"name":"A b","sha256":"xyz","scopes":["wallet:read","root",1],"tenants":["acme","*",7],"token":"tgs_x"},
      {"name":"good","sha256":")" +
      hash + R"(","scopes":[],"tenants":[]}, "text",
      {"name":"twin","sha256":")" +
      hash + R"(","scopes":"admin"}, {"sha256":5,"name":""}]})");
  ASSERT_FALSE(tokens);
  EXPECT_EQ(tokens.error().message,
            "token 1: it has an unknown member: use name, sha256, scopes, tenants; "
            "token 1: its name is no DNS label: use lower-case letters, digits and '-'; "
            "token 1: its sha256 is not 64 lower-case hexadecimal digits: take those of sha256sum; "
            "token 1: scope 2 is unknown: use wallet:read, wallet:write, usage:write, lease:write, admin; "
            "token 1: scope 3 is unknown: use wallet:read, wallet:write, usage:write, lease:write, admin; "
            "token 1: tenant 1 is malformed: write namespace/name, or \"*\" for all; "
            "token 1: tenant 3 is malformed: write namespace/name, or \"*\" for all; "
            "token 3: it is no object: write {\"name\": ...}; "
            "token 4: its scopes are no array: write [\"...\"]; "
            "token 4: it has no \"tenants\": add it; "
            "token 4: its sha256 is another's too: make a token for each; "
            "token 5: its name is no text: write \"...\"; "
            "token 5: its sha256 is no text: write \"...\"; "
            "token 5: it has no \"scopes\": add it; "
            "token 5: it has no \"tenants\": add it");
}

TEST(ApiServiceTokens, TheExampleIsGood) {
  std::ifstream in("examples/api/service_tokens.json");
  std::stringstream text;
  text << in.rdbuf();
  const auto tokens = ServiceTokens::parse(text.str());
  ASSERT_TRUE(tokens) << tokens.error().message;
  // As examples/README.md has them.
  const Principal* app = tokens->find("tgs_demo-app_not_fit_for_production");
  ASSERT_NE(app, nullptr);
  EXPECT_TRUE(app->has(Scope::kUsageWrite) && app->may_act_for("shop/vandelay") && !app->has(Scope::kAdmin));
  const Principal* operations = tokens->find("tgs_demo-operations_not_fit_for_production");
  ASSERT_NE(operations, nullptr);
  EXPECT_TRUE(operations->has(Scope::kAdmin) && operations->all_tenants);
  const Principal* sidecar = tokens->find("tgs_demo-sidecar_not_fit_for_production");
  ASSERT_NE(sidecar, nullptr);
  EXPECT_TRUE(sidecar->has(Scope::kLeaseWrite) && !sidecar->has(Scope::kWalletRead));
}

}  // namespace
}  // namespace tallygate::api
