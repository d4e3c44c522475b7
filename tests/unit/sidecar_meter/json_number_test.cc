#include "sidecar/meter/json_number.h"

#include <gtest/gtest.h>

#include <limits>

namespace tallygate::meter {
namespace {

std::string scaled(std::string_view number, int decimals) {
  const auto value = scaled_up(number, decimals);
  return value ? std::to_string(*value) : to_string(value.error().errc);
}

TEST(JsonNumber, ScalesExactlyAndRoundsUp) {
  struct Case {
    const char* number;
    int decimals;
    const char* value;
  };
  const Case cases[] = {{"0", 6, "0"},
                        {"-0", 6, "0"},
                        {"0.0", 6, "0"},
                        {"0e999999999999999999999", 6, "0"},
                        {"1", 6, "1000000"},
                        {"2.5", 6, "2500000"},
                        {"0.0000001", 6, "1"},
                        {"1e-999999999999999999999", 6, "1"},
                        {"-1e-9", 6, "0"},
                        {"1.0000001", 6, "1000001"},
                        {"-1.0000001", 6, "-1000000"},
                        {"-1.9999999", 6, "-1999999"},
                        {"1.5", 0, "2"},
                        {"1.5e3", 0, "1500"},
                        {"1500e-3", 0, "2"},
                        {"1500E-3", 3, "1500"},
                        {"0.1e1", 0, "1"},
                        {"3.000", 0, "3"},
                        {"9223372036854775807", 0, "9223372036854775807"},
                        {"9223372036854775806.1", 0, "9223372036854775807"},
                        {"9223372036854.775807", 6, "9223372036854775807"},
                        {"0.29", 2, "29"},
                        {"1.1", 1, "11"},
                        {"-9223372036854775808", 0, "-9223372036854775808"},
                        {"123456789012345678", 1, "1234567890123456780"}};
  for (const Case& c : cases) EXPECT_EQ(scaled(c.number, c.decimals), c.value) << c.number;
}

TEST(JsonNumber, RefusesWhatIsTooLargeOrNone) {
  const std::string large = to_string(Errc::kExhausted), wrong = to_string(Errc::kInvalid);
  for (const char* number : {"9223372036854775808", "9223372036854775807.1", "1e19", "1e400", "1e999999999999999999",
                             "-1e19", "10000000000000000000000000000000000000000"}) {
    EXPECT_EQ(scaled(number, 0), large) << number;
  }
  EXPECT_EQ(scaled("9223372036854.7758071", 6), large);
  for (const char* number : {"", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x1", "1 ", " 1", "NaN", "1,5", "1e5.5"}) {
    EXPECT_EQ(scaled(number, 0), wrong) << number;
  }
}

TEST(JsonNumber, TakesIntegersOfAnyForm) {
  EXPECT_EQ(exact_integer("3").value(), 3);
  EXPECT_EQ(exact_integer("3.0").value(), 3);
  EXPECT_EQ(exact_integer("30e-1").value(), 3);
  EXPECT_EQ(exact_integer("0.3e1").value(), 3);
  EXPECT_EQ(exact_integer("0.0").value(), 0);
  EXPECT_EQ(exact_integer("3.5").error().errc, Errc::kInvalid);
  EXPECT_EQ(exact_integer("1e-1").error().errc, Errc::kInvalid);
  EXPECT_EQ(exact_integer("1e30").error().errc, Errc::kExhausted);
}

}  // namespace
}  // namespace tallygate::meter
