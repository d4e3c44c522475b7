#include "core/path/normal_form.h"

#include <gtest/gtest.h>

namespace tallygate::path {
namespace {

TEST(NormalForm, Table) {
  const struct {
    const char *path, *normal;
  } cases[] = {
      {"/", "/"},
      {"/v1/chat", "/v1/chat"},
      {"/v1/chat/", "/v1/chat/"},
      {"/v1/%63hat", "/v1/chat"},
      {"/v1/chat%3acomplete", "/v1/chat:complete"},
      {"/users/%40me", "/users/@me"},
      {"/v1/%2e%2E/x", "/x"},
      {"/a/./b", "/a/b"},
      {"/a/.", "/a/"},
      {"/a/..", "/"},
      {"/a/b/..", "/a/"},
      {"//", "/"},
      {"//a///b//", "/a/b/"},
      {"/a//../b", "/b"},
      {"/.hidden", "/.hidden"},
      {"/...", "/..."},
      {"/a/..b/c..", "/a/..b/c.."},
      {"/a%2fb", "/a%2Fb"},
      {"/a%5cb%3bc%3fd%23e", "/a%5Cb%3Bc%3Fd%23e"},
      {"/caf%c3%a9%20x", "/caf%C3%A9%20x"},
      {"/%7Euser/%2D", "/~user/-"},
      {"/%25%36%33", "/%2563"},
      {"/a/.%2e/b", "/b"},
  };
  std::string normal, again;
  for (const auto& c : cases) {
    EXPECT_EQ(normal_form(c.path, &normal), Fault::kNone) << c.path;
    EXPECT_EQ(normal, c.normal) << c.path;
    EXPECT_EQ(normal_form(normal, &again), Fault::kNone) << normal;
    EXPECT_EQ(again, normal);
  }
}

TEST(NormalForm, Faults) {
  std::string normal;
  for (const char* path : {"/a%", "/a%2", "/a%zz", "/%u002e", "/%%2e"}) {
    EXPECT_EQ(normal_form(path, &normal), Fault::kBrokenEscape) << path;
  }
  for (const char* path : {"/%00", "/a%0a", "/a%7F"})
    EXPECT_EQ(normal_form(path, &normal), Fault::kForbiddenByte) << path;
  for (const char* path : {"/..", "/a/../..", "/a/../../b", "/%2e%2e/", "//../a"}) {
    EXPECT_EQ(normal_form(path, &normal), Fault::kAboveRoot) << path;
  }
}

TEST(RoutePath, IsNormalisedWhereEveryReadingCanMatchIt) {
  EXPECT_EQ(route_path("/v1/%63hat").value(), "/v1/chat");
  EXPECT_EQ(route_path("/v1/chat%3Acomplete").value(), "/v1/chat:complete");
  EXPECT_EQ(route_path("/.well-known/x").value(), "/.well-known/x");
  EXPECT_EQ(route_path("/caf%c3%a9").value(), "/caf%C3%A9");
  EXPECT_EQ(route_path("/v1/%ff").value(), "/v1/%FF") << "no UTF-8, and matched by a request for the same bytes";
  EXPECT_EQ(route_path("/a//b/../c/").value(), "/a/c/");
  for (const char* text : {"/a%2Fb", "/a%5cb", "/a;b", "/a%3Bb", "/a%25b", "/a%3Fb", "/a%23b"}) {
    const auto refused = route_path(text);
    ASSERT_FALSE(refused) << text;
    EXPECT_NE(refused.error().message.find("PathPrefix"), std::string::npos) << refused.error().message;
  }
  for (const char* text : {"", "a", "/a%0a", "/a%zz", "/../a"}) EXPECT_FALSE(route_path(text)) << text;
}

}  // namespace
}  // namespace tallygate::path
