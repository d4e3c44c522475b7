#include "sidecar/admission/identify.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

namespace tallygate::sidecar {
namespace {

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

TEST(Identifier, GuardsWhatWouldChooseAnotherHandlerThanTheOneThatIsCharged) {
  const tenant::IdentitySource url{tenant::IdentityType::kApiKey, "x-original-url", {}, tenant::Forward::kAlways};
  const Identifier identifier({}), forwarding({}, "X-Whose", true), strange({url});
  for (const char* name :
       {"X-HTTP-Method-Override", "x_http_method", "X.Method-Override", "X-ORIGINAL_URL", "x-rewrite-url"}) {
    EXPECT_TRUE(identifier.guarded().contains(name)) << name;
    EXPECT_FALSE(forwarding.guarded().contains(name)) << name;
  }
  EXPECT_FALSE(identifier.guarded().contains("X-Original-URI"));
  EXPECT_FALSE(strange.guarded().contains("X-Original-URL")) << "it says who somebody is";
  EXPECT_TRUE(strange.guarded().contains("X_Original_URL"));
}

TEST(Sha256, IsTheStandardsOwn) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace tallygate::sidecar
