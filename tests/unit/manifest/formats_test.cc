#include "operator/manifest/formats.h"

#include <gtest/gtest.h>

namespace tallygate::manifest {
namespace {

TEST(Formats, DurationsFollowGep2257) {
  EXPECT_EQ(parse_duration_ms("24h").value(), 86'400'000);
  EXPECT_EQ(parse_duration_ms("1h30m").value(), 5'400'000);
  EXPECT_EQ(parse_duration_ms("500ms").value(), 500);
  EXPECT_EQ(parse_duration_ms("1h2m3s4ms").value(), 3'723'004);
  EXPECT_EQ(parse_duration_ms("0s").value(), 0);
  EXPECT_EQ(parse_duration_ms("99999h").value(), 99'999LL * 3'600'000);
  for (const char* bad : {"", "1", "h", "1d", "1.5h", "-1h", "100000s", "1h1h1h1h1h", "1 h", "1H", "1m ", "1us"}) {
    EXPECT_FALSE(parse_duration_ms(bad)) << bad;
  }
}

TEST(Formats, TimesAreRfc3339) {
  EXPECT_EQ(parse_rfc3339("1970-01-01T00:00:00Z").value(), 0);
  EXPECT_EQ(parse_rfc3339("2026-01-15T00:00:00Z").value(), 1'768'435'200);
  EXPECT_EQ(parse_rfc3339("2026-01-15T01:00:00+01:00").value(), 1'768'435'200);
  EXPECT_EQ(parse_rfc3339("2024-02-29T23:59:59Z").value(), 1'709'251'199);
  for (const char* bad :
       {"2026-01-15", "2026-01-15T00:00:00", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-15T24:00:00Z",
        "2026-01-15T00:00:60Z", "2026-01-15 00:00:00Z", "2026-01-15T00:00:00.5Z", "2026-01-15T00:00:00z",
        "2026-01-15T00:00:00+1:00", "26-01-15T00:00:00ZZZ"}) {
    EXPECT_FALSE(parse_rfc3339(bad)) << bad;
  }
}

TEST(Formats, CidrsAreCanonicalOrSayHow) {
  EXPECT_EQ(canonical_cidr("10.0.4.0/24").value(), "10.0.4.0/24");
  EXPECT_EQ(canonical_cidr("0.0.0.0/0").value(), "0.0.0.0/0");
  EXPECT_EQ(canonical_cidr("FD00:0:0::/8").value(), "fd00::/8");
  EXPECT_EQ(canonical_cidr("::1/128").value(), "::1/128");
  EXPECT_NE(canonical_cidr("10.0.4.7/24").error().message.find("10.0.4.0/24"), std::string::npos);
  EXPECT_NE(canonical_cidr("10.0.4.7").error().message.find("10.0.4.7/32"), std::string::npos);
  for (const char* bad : {"", "/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.0/8x", "::/129", "10.0.0/8",
                          "a/8", "10.0.0.0/+8", "::/08", "::/00", "10.0.0.0/08", "10.0.0.0/008"}) {
    EXPECT_FALSE(canonical_cidr(bad)) << bad;
  }
  EXPECT_FALSE(canonical_cidr(std::string_view("fd00::\0junk/8", 13))) << "everything of fd00::/8 would be trusted";
  EXPECT_FALSE(canonical_cidr("::/" + std::string(61, '0') + "8")) << "cut to 64 bytes it is ::/0: everyone";
}

TEST(Formats, Text) {
  EXPECT_TRUE(is_time_zone("Europe/London"));
  EXPECT_TRUE(is_time_zone("UTC"));
  EXPECT_FALSE(is_time_zone("Europe/Londn"));
  EXPECT_FALSE(is_time_zone("../../etc/passwd"));
  EXPECT_TRUE(is_currency("JPY"));
  EXPECT_FALSE(is_currency("GBB"));
  EXPECT_FALSE(is_currency("gbp"));
  EXPECT_TRUE(is_path("/"));
  EXPECT_TRUE(is_path("/v1/chat/"));
  EXPECT_TRUE(is_path("/a%20b"));
  for (const char* bad : {"", "v1", "/a?b", "/a#b", "/a//b", "/../a", "/a/.", "/a%2", "/a b", "/é"}) {
    EXPECT_FALSE(is_path(bad)) << bad;
  }
  EXPECT_TRUE(is_json_pointer("/usage/a~1b"));
  EXPECT_FALSE(is_json_pointer("usage"));
  EXPECT_FALSE(is_json_pointer("/a~2"));
  EXPECT_TRUE(is_email("billing@acme.example"));
  EXPECT_FALSE(is_email("acme.example"));
  for (const char* origin : {"https://app.example.com", "http://localhost:3000", "http://127.0.0.1:8080",
                             "http://[::1]:3000", "https://[2001:db8::1]", "capacitor://localhost"}) {
    EXPECT_TRUE(is_web_origin(origin)) << origin;
  }
  for (const char* none :
       {"", "null", "*", "https://", "app.example.com", "https://App.example.com", "https://a.example/",
        "https://a.example:443", "http://a.example:80", "https://a.example:", "https://a.example:08",
        "https://*.example.com", "https://a b", "HTTPS://a.example", "https://u@a.example", "https://[]"}) {
    EXPECT_FALSE(is_web_origin(none)) << none;
  }
  EXPECT_TRUE(is_https_url("https://id.example.com:8443/jwks.json"));
  EXPECT_FALSE(is_https_url("http://id.example.com"));
  EXPECT_TRUE(is_label_key("app.kubernetes.io/name"));
  EXPECT_FALSE(is_label_key("/name"));
}

TEST(Formats, Utf8) {
  EXPECT_EQ(first_bad_utf8_line("plain\ttext\r\nZürich € 𝄞"), 0);
  EXPECT_EQ(first_bad_utf8_line("a\nb\n\xff"), 3);
  for (const char* bad : {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80", "\x01", "\x7f"}) {
    EXPECT_EQ(first_bad_utf8_line(bad), 1) << bad;
  }
}

}  // namespace
}  // namespace tallygate::manifest
