#include "core/path/readings.h"

#include <gtest/gtest.h>

#include <set>

namespace tallygate::path {
namespace {

std::set<std::string> readings_of(std::string_view path, Fault expected = Fault::kNone) {
  std::set<std::string> seen;
  EXPECT_EQ(each_reading(path, [&](std::string_view reading) { return seen.emplace(reading), true; }), expected)
      << path;
  return seen;
}

TEST(IsPlain, Table) {
  for (const char* path : {"", "*", "/", "/v1/chat", "/v1/chat/", "/a.b/c", "/a..", "/@me:x,y=z!'()*+&$~_-"}) {
    EXPECT_TRUE(is_plain(path)) << path;
  }
  for (const char* path :
       {"/%63", "/a%", "/a;b", "/a\\b", "//", "/a//b", "/a//", "/.", "/..", "/a/.b", "/a/b/..", "/.well-known"}) {
    EXPECT_FALSE(is_plain(path)) << path;
  }
}

TEST(Readings, ThoseOfRealStacksAreAmongThem) {
  const struct {
    const char *path, *reading, *who;
  } cases[] = {
      {"/a/../admin", "/a/../admin", "routers that take paths as they come"},
      {"/a/../admin", "/admin", "WHATWG URL, nginx"},
      {"/a/%2e%2e/admin", "/admin", "WHATWG URL"},
      {"/a/.%2e/admin", "/a/../admin", "decoders that keep dot segments"},
      {"/a/%2e%2e/admin/..%2fx", "/admin/..%2fx", "WHATWG URL, then decodeURI"},
      {"/x%2f..%2fadmin", "/admin", "decoded, then resolved"},
      {"/x%2f..%2fadmin", "/x/../admin", "decoded"},
      {"/a/%252e%252e/admin", "/admin", "decoded twice"},
      {"/admin%252fx", "/admin/x", "decoded twice"},
      {"/admin%252fx", "/admin%2fx", "decoded once"},
      {"/x/..;/admin", "/admin", "Tomcat: parameters, then dot segments"},
      {"/x/..;a=b/admin", "/admin", "Tomcat"},
      {"/x/..%3b/admin", "/admin", "decoded, then Tomcat"},
      {"/admin;x", "/admin", "parameters cut"},
      {"/admin;x/../y", "/admin", "find-my-way: a query behind ;"},
      {"/admin;a/y", "/admin/y", "parameters of a segment cut"},
      {"//admin", "/admin", "slashes merged"},
      {"/a//../admin", "/a/admin", "RFC 3986"},
      {"/a//../admin", "/admin", "merged, then resolved"},
      {"//host/admin", "/admin", "URL parsers"},
      {"/\\host/admin", "/admin", "WHATWG URL"},
      {"///host/admin", "/admin", "WHATWG URL"},
      {"//host", "/", "URL parsers"},
      {"/a\\..\\admin", "/admin", "WHATWG URL"},
      {"/a%5c..%5cadmin", "/admin", "decoded, on Windows"},
      {"/admin%3fx", "/admin", "decoded, then parsed"},
      {"/admin%23x", "/admin", "decoded, then parsed"},
      {"/v1/chat%3Acomplete", "/v1/chat:complete", "decoders"},
      {"/a%20b", "/a b", "everybody"},
  };
  for (const auto& c : cases) EXPECT_TRUE(readings_of(c.path).count(c.reading)) << c.path << " as " << c.who << " does";
}

TEST(Readings, WhatHasOneSpellingHasOneReading) {
  EXPECT_EQ(readings_of("/caf%C3%A9/a%20b"), std::set<std::string>{"/caf\xC3\xA9/a b"});
  EXPECT_EQ(readings_of("/.well-known/x"), std::set<std::string>{"/.well-known/x"});
  EXPECT_EQ(readings_of("/k/a%2Fb"), (std::set<std::string>{"/k/a%2Fb", "/k/a/b"}));
  EXPECT_EQ(readings_of("/100%25"), (std::set<std::string>{"/100%25", "/100%"}));
}

TEST(Readings, Faults) {
  for (const char* path : {"/a%", "/a%2", "/%zz", "/%u002e%u002e"}) readings_of(path, Fault::kBrokenEscape);
  for (const char* path : {"/%00", "/a%0A", "/a%7f", "/a%2500", "/%c0%ae%c0%ae/x", "/%e0%80%af", "/%25c0%25af"}) {
    readings_of(path, Fault::kForbiddenByte);
  }
  for (const char* path :
       {"/..", "/a/../../b", "/a/..%2f..%2fb", "/a/%252e%252e/%252e%252e/b", "/..;/a", "/a\\..\\..\\b"}) {
    readings_of(path, Fault::kAboveRoot);
  }
}

// However hostile, and at the length that a head allows.
TEST(Readings, AreBounded) {
  const char* const pieces[] = {"%252e", "/.", "//", ";", "\\", "%2f", "%3b", "%5c", "%3f", "a/../", "%25", "x"};
  for (const char* piece : pieces) {
    for (const char* other : pieces) {
      std::string path = "/";
      while (path.size() < 8'000) (path += piece) += other;
      size_t seen = 0, bytes = 0;
      each_reading(path, [&](std::string_view reading) {
        bytes += reading.size();
        return ++seen, true;
      });
      EXPECT_LE(seen, 100u) << piece << other;
      EXPECT_LE(bytes, 200'000u) << piece << other;
    }
  }
  // What an app may well have in a path stays below the bounds.
  EXPECT_EQ(
      readings_of("/proxy/https%3A%2F%2Fa.example%2Fb%3Fc%3Dd%26e%3D%2520f%23g").count("/proxy/https:/a.example/b"),
      1u);
  std::string key = "/bucket/";
  while (key.size() < 3'000) key += "folder%2Fname%20x%3D";
  readings_of(key);
}

}  // namespace
}  // namespace tallygate::path
