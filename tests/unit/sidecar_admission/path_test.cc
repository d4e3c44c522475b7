#include "sidecar/admission/path.h"

#include <gtest/gtest.h>

namespace tallygate::sidecar {
namespace {

TEST(PlainPath, Table) {
  const struct {
    const char *path, *plain;
  } cases[] = {
      {"/", "/"},
      {"", ""},
      {"*", "*"},
      {"/v1/chat", "/v1/chat"},
      {"/v1/chat/", "/v1/chat/"},
      {"/v1/%63hat", "/v1/chat"},
      {"/v1/%2e%2E/x", "/x"},
      {"/a/./b", "/a/b"},
      {"/a/.", "/a/"},
      {"/a/..", "/"},
      {"/a/b/..", "/a/"},
      {"/a/../../../b", "/b"},
      {"/..", "/"},
      {"//", "/"},
      {"//a///b//", "/a/b/"},
      {"/.hidden", "/.hidden"},
      {"/...", "/..."},
      {"/a%2Fb", "/a%2Fb"},
      {"/a%2", "/a%2"},
      {"/a%", "/a%"},
      {"/a%zz", "/a%zz"},
      {"/a%00b", "/a%00b"},
      {"/%7Euser/%2D", "/~user/-"},
      {"/%25%36%33", "/%2563"},
      {"/a/.%2e/b", "/b"},
  };
  std::string room;
  for (const auto& c : cases) EXPECT_EQ(plain_path(c.path, &room), c.plain) << c.path;
}

}  // namespace
}  // namespace tallygate::sidecar
