// What is an event of Stripe, and what it says of itself.
#include "operator/stripe/event.h"

#include <gtest/gtest.h>

namespace tallygate::stripe {
namespace {

const std::string kGood =
    R"({"id":"evt_1Ab","object":"event","type":"refund.created","livemode":false,"created":1800000000,)"
    R"("api_version":"2026-08-26.dahlia","data":{"object":{"id":"re_1","object":"refund"}}})";

std::string with(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const size_t at = text.find(from);
  return at == std::string::npos ? "" : text.replace(at, from.size(), to);
}

TEST(StripeEvent, SaysWhatItIs) {
  const auto event = read_event(kGood);
  ASSERT_TRUE(event) << event.error().message;
  EXPECT_EQ(event->id, "evt_1Ab");
  EXPECT_EQ(event->type, "refund.created");
  EXPECT_EQ(event->object_id, "re_1");
  EXPECT_EQ(event->api_version, "2026-08-26.dahlia");
  EXPECT_FALSE(event->livemode);
  EXPECT_EQ(event->created_s, 1'800'000'000);
}

TEST(StripeEvent, MayHaveNoVersionAndAnObjectWithoutId) {
  const auto event = read_event(with(R"({"id":"re_1","object":"refund"})", R"({"object":"balance"})"));
  ASSERT_TRUE(event);
  EXPECT_EQ(event->object_id, "");
  ASSERT_TRUE(read_event(with(R"("2026-08-26.dahlia")", "null")));
  ASSERT_TRUE(read_event(with(R"("re_1")", R"("../../v1/accounts")")));
  EXPECT_EQ(read_event(with(R"("re_1")", R"("../../v1/accounts")"))->object_id, "") << "it becomes part of no path";
}

TEST(StripeEvent, IsRefusedWithTheMemberThatIsWrong) {
  const std::pair<std::string, const char*> rows[] = {
      {"", "JSON"},
      {"[]", "JSON"},
      {"null", "JSON"},
      {kGood.substr(0, kGood.size() - 1), "JSON"},
      {kGood + "x", "JSON"},
      {with(R"("object":"event")", R"("object":"charge")"), "object"},
      {with(R"("object":"event",)", ""), "object"},
      {with("evt_1Ab", "re_1Ab"), "id"},
      {with("evt_1Ab", "evt_1;drop"), "id"},
      {with("evt_1Ab", std::string("evt_") + std::string(252, '1')), "id"},
      {with(R"("evt_1Ab")", "7"), "id"},
      {with(R"("refund.created")", R"("")"), "type"},
      {with(R"("refund.created")", R"("refund created")"), "type"},
      {with(R"("refund.created")", "{}"), "type"},
      {with("false", R"("false")"), "livemode"},
      {with(R"("livemode":false,)", ""), "livemode"},
      {with("1800000000", "-1"), "created"},
      {with("1800000000", "1.5"), "created"},
      {with("1800000000", "18446744073709551615"), "created"},
      {with("1800000000", "9000000001"), "created"},
      {with("1800000000", R"("1800000000")"), "created"},
      {with("2026-08-26.dahlia", "2026-08-26 dahlia"), "api_version"},
  };
  for (const auto& [text, member] : rows) {
    const auto event = read_event(text);
    ASSERT_FALSE(event) << text;
    EXPECT_EQ(event.error().errc, Errc::kInvalid);
    EXPECT_NE(event.error().message.find(member), std::string::npos) << text << ": " << event.error().message;
  }
}

}  // namespace
}  // namespace tallygate::stripe
