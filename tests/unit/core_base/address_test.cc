#include "core/address.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace tallygate {
namespace {

bool contains(const Network& block, const std::string& address) {
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    return block.contains(reinterpret_cast<const sockaddr*>(&v4));
  }
  v6.sin6_family = AF_INET6;
  EXPECT_EQ(inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr), 1) << address;
  return block.contains(reinterpret_cast<const sockaddr*>(&v6));
}

TEST(Network, Contains) {
  const struct {
    const char *block, *address;
    bool inside;
  } cases[] = {
      {"10.0.0.0/8", "10.255.255.255", true},
      {"10.0.0.0/8", "11.0.0.0", false},
      {"10.1.2.3/8", "10.9.9.9", true},
      {"192.168.4.0/22", "192.168.7.255", true},
      {"192.168.4.0/22", "192.168.8.0", false},
      {"1.2.3.4", "1.2.3.4", true},
      {"1.2.3.4", "1.2.3.5", false},
      {"1.2.3.4/32", "1.2.3.4", true},
      {"0.0.0.0/0", "8.8.8.8", true},
      {"0.0.0.0/0", "2001:db8::1", false},
      {"::/0", "2001:db8::1", true},
      {"10.0.0.0/8", "::ffff:10.1.1.1", true},
      {"10.0.0.0/8", "::ffff:11.1.1.1", false},
      {"::ffff:10.0.0.0/104", "10.3.3.3", true},
      {"fd00::/7", "fc00::1", true},
      {"fd00::/8", "fc00::1", false},
      {"2001:db8::/33", "2001:db8:8000::", false},
      {"2001:db8::1", "2001:db8::1", true},
      {"0.0.0.0/1", "127.0.0.1", true},
      {"0.0.0.0/1", "128.0.0.1", false},
  };
  for (const auto& c : cases) {
    const auto block = Network::parse(c.block);
    ASSERT_TRUE(block) << c.block;
    EXPECT_EQ(contains(*block, c.address), c.inside) << c.block << " " << c.address;
  }
  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  EXPECT_FALSE(Network::parse("::/0")->contains(reinterpret_cast<const sockaddr*>(&local)));
  EXPECT_FALSE(Network::parse("::/0")->contains(nullptr));
}

TEST(Network, RefusesWhatIsNone) {
  for (const char* text : {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8 ",
                           " 10.0.0.0/8", "10.0.0/8", "::/129", "fe80::1%eth0", "10.0.0.0/8/8",
                           "10.0.0.0/99999999999999999999", "host/8", "10.0.0.256", "10.0.0.0/0x8"}) {
    EXPECT_FALSE(Network::parse(text)) << text;
  }
  // What C's functions would stop at, and what is longer than any block.
  EXPECT_FALSE(Network::parse(std::string_view("10.0.0.0\0x/8", 12)));
  EXPECT_FALSE(Network::parse(std::string_view("fd00::\0junk/8", 13)));
  EXPECT_FALSE(Network::parse(std::string_view("10.0.0.0/8\0", 11)));
  EXPECT_FALSE(
      Network::parse(std::string_view("10.0.0.0/8\0"
                                      "4",
                                      12)));
  EXPECT_FALSE(Network::parse("::/" + std::string(61, '0') + "8"));
}

TEST(Network, HasOneText) {
  const struct {
    const char *given, *text;
    bool canonical;
  } cases[] = {{"10.0.4.0/24", "10.0.4.0/24", true},
               {"10.0.4.7/24", "10.0.4.0/24", false},
               {"10.0.4.7", "10.0.4.7/32", true},
               {"FD00:0:0::/8", "fd00::/8", true},
               {"0.0.0.0/0", "0.0.0.0/0", true},
               {"::/0", "::/0", true},
               {"::1", "::1/128", true},
               {"fd00::1/8", "fd00::/8", false},
               {"::ffff:10.0.0.0/104", "10.0.0.0/8", true},
               {"::ffff:0:0/96", "0.0.0.0/0", true},
               {"::ffff:0:0/88", "::ff00:0:0/88", false}};
  for (const auto& c : cases) {
    const auto block = Network::parse(c.given);
    ASSERT_TRUE(block) << c.given;
    EXPECT_EQ(block->text(), c.text) << c.given;
    EXPECT_EQ(block->is_canonical(), c.canonical) << c.given;
    EXPECT_EQ(Network::parse(c.text)->text(), c.text) << "its text is itself";
  }
}

TEST(LoopbackHosts, AreAddressesNotNamesThatLookLikeOne) {
  for (const char* host : {"localhost", "127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1"})
    EXPECT_TRUE(is_loopback_host(host)) << host;
  for (const char* host :
       {"", "127.example.com", "127.0.0.1.example.com", "localhost.example", "128.0.0.1", "::2", "0.0.0.0", "::"}) {
    EXPECT_FALSE(is_loopback_host(host)) << host;
  }
}

}  // namespace
}  // namespace tallygate
