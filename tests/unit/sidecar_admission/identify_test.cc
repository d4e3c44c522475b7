#include "sidecar/admission/identify.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace tallygate::sidecar {
namespace {

bool contains(const Cidr& cidr, const std::string& address) {
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    return cidr.contains(reinterpret_cast<const sockaddr*>(&v4));
  }
  v6.sin6_family = AF_INET6;
  TG_ASSERT(inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1);
  return cidr.contains(reinterpret_cast<const sockaddr*>(&v6));
}

TEST(Cidr, Contains) {
  const struct {
    const char *block, *address;
    bool inside;
  } cases[] = {
      {"10.0.0.0/8", "10.255.255.255", true},   {"10.0.0.0/8", "11.0.0.0", false},
      {"10.1.2.3/8", "10.9.9.9", true},         {"192.168.4.0/22", "192.168.7.255", true},
      {"192.168.4.0/22", "192.168.8.0", false}, {"1.2.3.4", "1.2.3.4", true},
      {"1.2.3.4", "1.2.3.5", false},            {"1.2.3.4/32", "1.2.3.4", true},
      {"0.0.0.0/0", "8.8.8.8", true},           {"0.0.0.0/0", "2001:db8::1", false},
      {"::/0", "2001:db8::1", true},            {"10.0.0.0/8", "::ffff:10.1.1.1", true},
      {"10.0.0.0/8", "::ffff:11.1.1.1", false}, {"::ffff:10.0.0.0/104", "10.3.3.3", true},
      {"fd00::/7", "fc00::1", true},            {"fd00::/8", "fc00::1", false},
      {"2001:db8::/33", "2001:db8:8000::", false}, {"2001:db8::1", "2001:db8::1", true},
      {"0.0.0.0/1", "127.0.0.1", true},         {"0.0.0.0/1", "128.0.0.1", false},
  };
  for (const auto& c : cases) {
    const auto cidr = Cidr::parse(c.block);
    ASSERT_TRUE(cidr) << c.block;
    EXPECT_EQ(contains(*cidr, c.address), c.inside) << c.block << " " << c.address;
  }
  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  EXPECT_FALSE(Cidr::parse("::/0")->contains(reinterpret_cast<const sockaddr*>(&local)));
  EXPECT_FALSE(Cidr::parse("::/0")->contains(nullptr));
}

TEST(Cidr, RefusesWhatIsNone) {
  for (const char* text : {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8 ", " 10.0.0.0/8",
                           "10.0.0/8", "::/129", "fe80::1%eth0", "10.0.0.0/8/8", "10.0.0.0/99999999999999999999", "host/8",
                           "10.0.0.256", "10.0.0.0/0x8"}) {
    EXPECT_FALSE(Cidr::parse(text)) << text;
  }
  EXPECT_FALSE(Cidr::parse(std::string_view("10.0.0.0\0x/8", 12)));
}

TEST(Identifier, AnAddressBlockThatCannotBeReadTrustsNobody) {
  const Identifier identifier({{tenant::IdentityType::kTrustedHeader, "x-tenant", {"everywhere"}}});
  const proxy::Header fields[] = {{"X-Tenant", "acme"}};
  sockaddr_in peer{};
  peer.sin_family = AF_INET;
  proxy::RequestView view;
  view.headers = fields;
  view.peer = reinterpret_cast<const sockaddr*>(&peer);
  EXPECT_EQ(identifier.identify(view).reason, Reason::kUntrustedSource);
}

TEST(Identifier, SaysWhatIsWanted) {
  const Identifier identifier({{tenant::IdentityType::kApiKey, "x-api-key", {}}, {tenant::IdentityType::kJwt, "authorization", {}}});
  EXPECT_EQ(identifier.wanted(), "the x-api-key header or a bearer token");
  EXPECT_STREQ(identifier.challenge(), "ApiKey");
  EXPECT_EQ(Identifier({}).identify({}).reason, Reason::kUnauthenticated) << "without a source nobody is anybody";
}

TEST(Identifier, GuardsEveryHeaderOfIdentityAndTheTenants) {
  const tenant::IdentitySource key{tenant::IdentityType::kApiKey, "x-api-key", {}, tenant::Forward::kAlways};
  const tenant::IdentitySource name{tenant::IdentityType::kTrustedHeader, "x-tenant-id", {}, tenant::Forward::kAlways};
  const Identifier identifier({key, name}, "X-Whose");
  for (const char* guarded : {"X-Tenant-Id", "x_tenant.ID", "X_API_KEY", "x-whose", "X_Whose"}) {
    EXPECT_TRUE(identifier.guarded().contains(guarded)) << guarded;
  }
  EXPECT_FALSE(identifier.guarded().contains("X-API-Key")) << "the app checks it itself";
  EXPECT_FALSE(identifier.guarded().contains("X-Tallygate-Tenant"));
  EXPECT_EQ(identifier.tenant_prefix(), "X-Whose: ");
  const Identifier silent({key}, "");
  EXPECT_EQ(silent.tenant_prefix(), "");
  EXPECT_TRUE(silent.guarded().contains("X-Tallygate-Tenant")) << "a client's word is no better for our silence";
}

TEST(Sha256, IsTheStandardsOwn) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace tallygate::sidecar
