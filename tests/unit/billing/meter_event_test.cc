#include "operator/billing/meter_event.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>

namespace tallygate::billing {
namespace {

TEST(MeterEvent, IdentifierNeverChanges) {
  // A golden value: an identifier that changed with a release would bill a second time what is in flight.
  EXPECT_EQ(event_identifier("shop/acme", "cus_123", "api_calls", 1'768'435'200, 1),
            "tg-03f562e7b257dd14478aa8f4-api_calls-29473920-1");
}

TEST(MeterEvent, IdentifierDiffersByEveryPart) {
  std::set<std::string> seen;
  seen.insert(event_identifier("shop/acme", "cus_1", "calls", 60, 1));
  seen.insert(event_identifier("shop/acme2", "cus_1", "calls", 60, 1));
  seen.insert(event_identifier("shop/acme", "cus_2", "calls", 60, 1));
  seen.insert(event_identifier("shop/acme", "cus_1", "callz", 60, 1));
  seen.insert(event_identifier("shop/acme", "cus_1", "calls", 120, 1));
  seen.insert(event_identifier("shop/acme", "cus_1", "calls", 60, 2));
  // Parts that only join to the same text.
  seen.insert(event_identifier("shop/ac", "mecus_1", "calls", 60, 1));
  EXPECT_EQ(seen.size(), 7u);
}

TEST(MeterEvent, IdentifierDiffersForLongMetersWithTheSameHead) {
  const std::string head(62, 'm');
  EXPECT_NE(event_identifier("a/b", "c", head + "1", 60, 1), event_identifier("a/b", "c", head + "2", 60, 1));
}

TEST(MeterEvent, IdentifierAndKeyStayWithinStripesBounds) {
  const int64_t most = std::numeric_limits<int32_t>::max();
  MeterEvent event;
  event.identifier = event_identifier(std::string(317, 't'), "cus_x", std::string(63, 'm'), 253'402'300'799, most);
  EXPECT_LE(event.identifier.size(), kMaxIdentifier);
  EXPECT_LE(idempotency_key(event, std::numeric_limits<int64_t>::max()).size(), 255u);
}

TEST(MeterEvent, IdempotencyKeyDiffersByAttempt) {
  MeterEvent event;
  event.identifier = "tg-1";
  EXPECT_NE(idempotency_key(event, 0), idempotency_key(event, 1));
  EXPECT_EQ(idempotency_key(event, 3), idempotency_key(event, 3));
}

TEST(MeterEvent, FormBody) {
  const MeterEvent event{"api_calls", "cus_123", 25, "tg-ab-api_calls-1-1", 1'768'435'200};
  EXPECT_EQ(form_body(event),
            "event_name=api_calls&identifier=tg-ab-api_calls-1-1&payload%5Bstripe_customer_id%5D=cus_123"
            "&payload%5Bvalue%5D=25&timestamp=1768435200");
}

TEST(MeterEvent, FormBodyEncodesWhatWouldEndAField) {
  const MeterEvent event{"a&b=c", "cus 1+%\xc3\xa9", 1, "i/d", 0};
  EXPECT_EQ(form_body(event),
            "event_name=a%26b%3Dc&identifier=i%2Fd&payload%5Bstripe_customer_id%5D=cus%201%2B%25%C3%A9"
            "&payload%5Bvalue%5D=1&timestamp=0");
}

}  // namespace
}  // namespace tallygate::billing
