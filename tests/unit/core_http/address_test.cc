#include "core/http/address.h"

#include <gtest/gtest.h>

namespace tallygate::http {
namespace {

AddressKey key(std::string_view text) { return AddressKey(parse_address(text).value()); }

TEST(Address, IsReadAsItIsWritten) {
  EXPECT_EQ(to_text(parse_address("10.0.0.1").value()), "10.0.0.1");
  EXPECT_EQ(to_text(parse_address("::ffff:10.0.0.1").value()), "10.0.0.1");
  EXPECT_EQ(to_text(parse_address("2001:DB8::1").value()), "2001:db8::1");
  for (const std::string_view bad :
       {"", "10.0.0", "10.0.0.256", "10.0.0.1:80", "[::1]", "fe80::1%eth0", "localhost", " ::1"}) {
    EXPECT_FALSE(parse_address(bad)) << bad;
  }
  EXPECT_FALSE(parse_address(std::string_view("::1\0junk", 8)));
}

TEST(Address, OfOneClientIsCountedAsOne) {
  EXPECT_EQ(key("10.0.0.1"), key("::ffff:10.0.0.1"));
  EXPECT_NE(key("10.0.0.1"), key("10.0.0.2"));
  EXPECT_EQ(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2")) << "it has a whole /64";
  EXPECT_NE(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
}

TEST(Network, Contains) {
  const auto contains = [](std::string_view network, std::string_view address) {
    return Network::parse(network).value().contains(parse_address(address).value());
  };
  EXPECT_TRUE(contains("10.0.0.0/8", "10.255.0.1"));
  EXPECT_FALSE(contains("10.0.0.0/8", "11.0.0.1"));
  EXPECT_TRUE(contains("10.0.0.4/30", "10.0.0.7"));
  EXPECT_FALSE(contains("10.0.0.4/30", "10.0.0.8"));
  EXPECT_TRUE(contains("10.0.0.1", "::ffff:10.0.0.1"));
  EXPECT_FALSE(contains("10.0.0.1", "10.0.0.2"));
  EXPECT_TRUE(contains("0.0.0.0/0", "192.0.2.1"));
  EXPECT_FALSE(contains("0.0.0.0/0", "2001:db8::1"));
  EXPECT_TRUE(contains("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(contains("2001:db8::/33", "2001:db8:8000::1"));
  for (const std::string_view bad :
       {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "::/129", "10.0.0.0/8/8"}) {
    EXPECT_FALSE(Network::parse(bad)) << bad;
  }
}

// Whatever a client writes in front of what the proxies add is not believed.
TEST(Address, OfAClientIsTheLastThatNoProxyHas) {
  const std::vector<Network> trusted{Network::parse("10.0.0.0/8").value(), Network::parse("fd00::/8").value()};
  const auto client = [&](std::string_view field) {
    const auto found = client_of(field, trusted);
    return found ? to_text(*found) : std::string("unknown");
  };
  EXPECT_EQ(client("192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(client("198.51.100.9, 192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(client("198.51.100.9,192.0.2.1 , 10.1.1.1,fd00::1"), "192.0.2.1");
  EXPECT_EQ(client("192.0.2.1, unknown, 10.1.1.1"), "unknown");
  EXPECT_EQ(client("10.1.1.1, 10.1.1.2"), "unknown");
  EXPECT_EQ(client(""), "unknown");
  EXPECT_EQ(client(","), "unknown");
}

}  // namespace
}  // namespace tallygate::http
