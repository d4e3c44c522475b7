#include "core/http/request_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <tl/expected.hpp>

namespace tallygate::http {
namespace {

struct Head {
  Request request;
  bool keep_alive, expects_continue;
};

tl::expected<Head, Refused> read_head(std::string_view text) {
  RequestReader reader(16 * 1024);
  std::copy(text.begin(), text.end(), reader.prepare(text.size()));
  reader.commit(text.size());
  reader.begin();
  switch (reader.read_head()) {
    case RequestReader::Step::kDone:
      return Head{reader.request(), reader.keep_alive(), reader.expects_continue()};
    case RequestReader::Step::kRefused:
      return tl::unexpected<Refused>(reader.refused());
    case RequestReader::Step::kMore:
      break;
  }
  return tl::unexpected<Refused>(Refused{0, {}, "more is awaited"});
}

std::string head(const std::string& fields, const std::string& line = "POST /x HTTP/1.1") {
  return line + "\r\n" + fields + "\r\n";
}

TEST(RequestHead, ReadsAnOrdinaryHead) {
  const auto read = read_head(
      head("Host: api.example:8080\r\nX-Tenant:\t acme \t\r\nContent-Length: 12\r\n", "PUT /a%20b?c=d?e HTTP/1.1"));
  ASSERT_TRUE(read) << read.error().detail;
  EXPECT_EQ(read->request.method, "PUT");
  EXPECT_EQ(read->request.path, "/a%20b");
  EXPECT_EQ(read->request.query, "c=d?e");
  EXPECT_EQ(read->request.host, "api.example:8080");
  EXPECT_EQ(read->request.header("x-tenant"), "acme");
  EXPECT_TRUE(read->keep_alive);
}

TEST(RequestHead, KnowsTheWaysToEndAConnection) {
  EXPECT_FALSE(read_head(head("Host: x\r\nConnection: Upgrade, Close\r\n"))->keep_alive);
  EXPECT_FALSE(read_head(head("", "GET / HTTP/1.0"))->keep_alive);
  EXPECT_TRUE(read_head(head("Connection: keep-alive\r\n", "GET / HTTP/1.0"))->keep_alive);
}

TEST(RequestHead, ReadsChunkedAndExpect) {
  const auto read = read_head(head("Host: x\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n"));
  ASSERT_TRUE(read);
  EXPECT_TRUE(read->expects_continue);
}

TEST(RequestHead, AnAbsoluteTargetReplacesHost) {
  const auto read = read_head(head("Host: other\r\n", "GET http://real:80?q HTTP/1.1"));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->request.host, "real:80");
  EXPECT_EQ(read->request.path, "/");
  EXPECT_EQ(read->request.query, "q");
}

// Whatever two servers could read differently.
TEST(RequestHead, RefusesAmbiguousFraming) {
  const std::pair<int, std::string> cases[] = {
      {400, head("")},
      {400, head("Host: a\r\nHost: a\r\n")},
      {400, head("Host:\r\n")},
      {400, head("Host: a/b\r\n")},
      {400, head("Host: a b\r\n")},
      {400, head("Host: a@b\r\n")},
      {400, head("Host: a\r\nHost: b\r\n", "GET / HTTP/1.0")},
      {400, head("Host: x\r\nTransfer-Encoding: chunked, identity\r\n")},
      {400, head("Host: x\r\nTransfer-Encoding: identity, chunked\r\n")},
      {400, head("Host: x\r\nTransfer-Encoding: xchunked\r\n")},
      {400, head("Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")},
      {400, head("Host: x\r\nTransfer-Encoding:\r\n")},
      {400, head("Host: x\r\nTransfer-Encoding: chunked\r\n", "POST / HTTP/1.0")},
      {400, head("Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n")},
      {400, head("Host: x\r\nContent-Length: 4, 4\r\n")},
      {400, head("Host: x\r\nContent-Length: 4\r\nContent-Length: 4\r\n")},
      {400, head("Host: x\r\nContent-Length: +4\r\n")},
      {400, head("Host: x\r\nContent-Length: -4\r\n")},
      {400, head("Host: x\r\nContent-Length: 0x4\r\n")},
      {400, head("Host: x\r\nContent-Length: 4 4\r\n")},
      {400, head("Host: x\r\nContent-Length:\r\n")},
      {400, head("Host: x\r\nContent-Length: 99999999999999999999\r\n")},
      {400, head("Host: x\r\nX-A: 1\r\n 2\r\n")},
      {400, head("Host: x\r\n\tX-A: 1\r\n")},
      {400, head(" Host: x\r\n")},
      {400, head("Host : x\r\n")},
      {400, head("Host: x\r\nX-A\r\n")},
      {400, head("Host: x\r\n: 1\r\n")},
      {400, head("Host: x\r\nX A: 1\r\n")},
      {400, head("Host: x\r\nX-A: 1\rContent-Length: 5\r\n")},
      {400, head("Host: x\r\nX-A: 1\nContent-Length: 5\r\n")},
      {400, head(std::string("Host: x\r\nX-A: 1\0\r\n", 18))},
      {400, head("Host: x\r\nX-A: \x7f\r\n")},
      {400, head("Host: x\r\n", "GET  / HTTP/1.1")},
      {400, head("Host: x\r\n", "GET /a b HTTP/1.1")},
      {400, head("Host: x\r\n", "GET / HTTP/1.1 ")},
      {400, head("Host: x\r\n", " GET / HTTP/1.1")},
      {400, head("Host: x\r\n", "GET\t/ HTTP/1.1")},
      {400, head("Host: x\r\n", "GET /")},
      {400, head("Host: x\r\n", "G@T / HTTP/1.1")},
      {400, head("Host: x\r\n", "GET /#a HTTP/1.1")},
      {400, head("Host: x\r\n", "GET /\x80 HTTP/1.1")},
      {400, head("Host: x\r\n", "GET x HTTP/1.1")},
      {400, head("Host: x\r\n", "GET http HTTP/1.1")},
      {400, head("Host: x\r\n", "GET http: HTTP/1.1")},
      {400, head("Host: x\r\n", "GET http:/x HTTP/1.1")},
      {400, head("Host: x\r\n", "GET https// HTTP/1.1")},
      {400, head("Host: x\r\n", "GET ftp://x/ HTTP/1.1")},
      {400, head("Host: x\r\n", "GET http://u@x/ HTTP/1.1")},
      {400, head("Host: x\r\n", "GET http:///x HTTP/1.1")},
      {400, head("Host: x\r\n", "GET * HTTP/1.1")},
      {400, head("Host: x\r\n", "GET / http/1.1")},
      {400, head("Host: x\r\n", "GET / HTTP/11")},
      {505, head("Host: x\r\n", "GET / HTTP/2.0")},
      {505, head("Host: x\r\n", "GET / HTTP/1.2")},
      {501, head("Host: x\r\n", "CONNECT x:1 HTTP/1.1")},
      {417, head("Host: x\r\nExpect: magic\r\n")},
      {417, head("Host: x\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n")},
      {414, head("Host: x\r\n", "GET /" + std::string(9000, 'a') + " HTTP/1.1")},
      {431, head("Host: x\r\n" +
                 [] {
                   std::string many;
                   for (int i = 0; i < 101; ++i) many += "X: y\r\n";
                   return many;
                 }())},
  };
  for (const auto& [status, text] : cases) {
    const auto read = read_head(text);
    EXPECT_FALSE(read) << text;
    if (!read) {
      EXPECT_EQ(read.error().status, status) << text << read.error().detail;
    }
  }
}

}  // namespace
}  // namespace tallygate::http
