#include "sidecar/probes/grpc_health.h"

#include <gtest/gtest.h>

namespace tallygate::sidecar {
namespace {

std::string frame(uint8_t type, uint8_t flags, char stream, std::string payload) {
  std::string out = {
      0, 0, static_cast<char>(payload.size()), static_cast<char>(type), static_cast<char>(flags), 0, 0, 0, stream};
  return out + payload;
}
std::string bytes(std::initializer_list<int> all) {
  std::string out;
  for (const int each : all) out.push_back(static_cast<char>(each));
  return out;
}

const std::string kSettingsFrame = frame(4, 0, 0, "");
const std::string kHead = frame(1, 4, 1, bytes({0x88}));  // :status 200
const std::string kServing = frame(0, 0, 1, bytes({0, 0, 0, 0, 2, 8, 1}));

TEST(GrpcHealth, AsksAsRfc9113Says) {
  const std::string sent = GrpcHealthCall::request("10.0.0.1:80", "shop.Api");
  EXPECT_TRUE(sent.starts_with("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + kSettingsFrame));
  EXPECT_NE(sent.find("/grpc.health.v1.Health/Check"), std::string::npos);
  EXPECT_TRUE(sent.ends_with(frame(0, 1, 1, bytes({0, 0, 0, 0, 10, 0x0a, 8}) + "shop.Api")));
  EXPECT_TRUE(GrpcHealthCall::request("a:1", "").ends_with(frame(0, 1, 1, bytes({0, 0, 0, 0, 0}))));
}

TEST(GrpcHealth, ServingIsWhatTheDataSayHoweverTheyAreCut) {
  const std::string all = kSettingsFrame + kHead + kServing;
  for (size_t cut = 0; cut < all.size(); ++cut) {
    GrpcHealthCall call;
    ASSERT_EQ(call.take(all.substr(0, cut)).value(), std::nullopt) << cut;
    ASSERT_EQ(call.take(all.substr(cut)).value(), true) << cut;
    EXPECT_EQ(call.replies(), frame(4, 1, 0, ""));
    EXPECT_EQ(call.replies(), "");
  }
}

TEST(GrpcHealth, NotServing) {
  for (const std::string& message : {bytes({0, 0, 0, 0, 2, 8, 2}), bytes({0, 0, 0, 0, 0})}) {
    GrpcHealthCall call;
    EXPECT_EQ(call.take(kHead + frame(0, 0, 1, message)).value(), false);
  }
}

TEST(GrpcHealth, PaddingIsNoAnswerAndAPingIsAnswered) {
  GrpcHealthCall call;
  EXPECT_EQ(call.take(frame(6, 0, 0, "12345678")).value(), std::nullopt);
  EXPECT_EQ(call.replies(), frame(6, 1, 0, "12345678"));
  EXPECT_EQ(call.take(frame(0, 8, 1, bytes({3, 0, 0, 0, 0, 2, 8, 1, 9, 9, 9}))).value(), true);
}

TEST(GrpcHealth, WhatIsNoAnswerIsAnError) {
  for (const std::string& bad :
       {std::string("HTTP/1.1 400 Bad Request\r\n"), frame(1, 5, 1, bytes({0x88})), frame(3, 0, 1, bytes({0, 0, 0, 1})),
        frame(7, 0, 0, bytes({0, 0, 0, 0, 0, 0, 0, 1})), frame(0, 0, 1, bytes({1, 0, 0, 0, 2, 8, 1}))}) {
    GrpcHealthCall call;
    EXPECT_FALSE(call.take(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace tallygate::sidecar
