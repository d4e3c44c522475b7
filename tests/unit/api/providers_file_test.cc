// The providers' file: what it may say, and that every fault is told at once.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <regex>

#include "operator/api/provider/providers.h"
#include "tests/unit/api/provider_requests.h"

namespace tallygate::api {
namespace {

using namespace tallygate::testing;  // NOLINT: the helpers

std::optional<std::string> environment(const std::string& name) {
  if (name == "VAPI_SECRET") return kVapiSecret;
  if (name == "TWILIO_AUTH_TOKEN") return kTwilioToken;
  if (name == "STANDARD_SECRET") return kStandardSecret;
  if (name == "SHORT") return "short";
  return std::nullopt;
}

std::string entry(const std::string& changes, const std::string& adapter = "standard",
                  const std::string& secrets = R"([{"env":"STANDARD_SECRET"}])") {
  return R"({"name":"a","adapter":")" + adapter + R"(","secrets":)" + secrets + "," + changes + "}";
}
const char kRest[] = R"("tenants":["shop/acme"],"currency":"GBP","reserve":{"amount":"1","ttlSeconds":60})";

std::vector<std::string> faults_of(const std::string& entries) {
  const auto providers = Providers::parse("{\"providers\":[" + entries + "]}", environment);
  return providers ? std::vector<std::string>{} : providers.error();
}

TEST(ProvidersFile, TheExampleIsGood) {
  std::ifstream in("examples/api/providers.json");
  std::stringstream text;
  text << in.rdbuf();
  // Its files are on no machine of ours: the same secrets by another way.
  const std::string here =
      std::regex_replace(text.str(), std::regex(R"(\{"file": "[^"]*"\})"), R"({"env": "STANDARD_SECRET"})");
  const auto providers = Providers::parse(here, environment);
  ASSERT_TRUE(providers) << providers.error().front();
  const Provider* voice = providers->find("voice");
  ASSERT_NE(voice, nullptr);
  EXPECT_EQ(voice->rates.at("GBP").text(), "0.79");
  EXPECT_EQ(voice->rates.at("USD").text(), "1");
  EXPECT_EQ(voice->markup.text(), "1.2");
  EXPECT_EQ(voice->reserve_amount.text(), "2");
  EXPECT_EQ(voice->reserve_ttl_s, 3600);
  EXPECT_TRUE(voice->ignores_unknown_types);
  EXPECT_TRUE(voice->principal.all_tenants);
  EXPECT_EQ(voice->principal.actor, "provider:voice");
  ASSERT_NE(providers->find("sms"), nullptr);
  ASSERT_NE(providers->find("dialer"), nullptr);
  EXPECT_EQ(providers->find("dialer")->principal.tenants, std::vector<std::string>{"shop/acme"});
  EXPECT_EQ(providers->find("nobody"), nullptr);
}

TEST(ProvidersFile, SecretsComeFromFilesWithoutTheirLastNewline) {
  char path[] = "/tmp/tallygate_secret_XXXXXX";
  const int fd = ::mkstemp(path);
  ASSERT_GE(fd, 0);
  ::close(fd);
  std::ofstream(path) << kStandardSecret << "\n";
  EXPECT_EQ(faults_of(entry(kRest, "standard", R"([{"file":")" + std::string(path) + "\"}]")),
            std::vector<std::string>{});
  std::ofstream(path) << "\n";
  EXPECT_EQ(faults_of(entry(kRest, "standard", R"([{"file":")" + std::string(path) + "\"}]")).size(), 1u);
  std::remove(path);
}

TEST(ProvidersFile, EachFaultNamesItsFieldAndSaysWhatToDo) {
  const std::pair<std::string, std::string> rows[] = {
      {R"({"name":"a"})", "providers[0].adapter is required"},
      {"7", "providers[0] must be an object"},
      {entry(kRest, "acme"), "providers[0].adapter must be standard, vapi or twilio"},
      {entry(kRest, "standard", R"("whsec_inline")"), "providers[0].secrets must be 1 to 4"},
      {entry(kRest, "standard", "[]"), "providers[0].secrets must be 1 to 4"},
      {entry(kRest, "standard", R"(["whsec_inline"])"), "providers[0].secrets[0] must be"},
      {entry(kRest, "standard", R"([{"value":"whsec_inline"}])"), "does not belong here"},
      {entry(kRest, "standard", R"([{"env":"UNSET"}])"), "environment variable UNSET, which is not set"},
      {entry(kRest, "standard", R"([{"env":"STANDARD_SECRET"},{"file":"/nowhere/at/all"}])"), "/nowhere/at/all"},
      {entry(kRest, "standard", R"([{"env":"SHORT"}])"), "a secret must be whsec_"},
      {entry(std::string(kRest), "vapi", R"([{"env":"VAPI_SECRET"}])"), "currency must be USD"},
      {entry(R"("tenants":["acme"],"currency":"GBP","reserve":{"amount":"1","ttlSeconds":60})"),
       "providers[0].tenants must have names"},
      {entry(R"("tenants":[],"currency":"GBP","reserve":{"amount":"1","ttlSeconds":60})"),
       "providers[0].tenants must be a list"},
      {entry(R"("tenants":["*"],"currency":"GBP","reserve":{"amount":"1","ttlSeconds":60})"),
       "providers[0].tenantPointer is required"},
      {entry(std::string(kRest) + R"(,"tenantPointer":"data")"), "must be a JSON pointer"},
      {entry(std::string(kRest) + R"(,"tenantPointer":"/a~2")"), "must be a JSON pointer"},
      {entry(std::string(kRest) + R"(,"currancy":"GBP")"), "providers[0].currancy is no field"},
      {entry(R"("tenants":["shop/acme"],"reserve":{"amount":"1","ttlSeconds":60})"),
       "providers[0].currency is required"},
      {entry(std::string(kRest) + R"(,"rates":{"GBP":"1"})"), "providers[0].rates must have other currencies"},
      {entry(std::string(kRest) + R"(,"rates":{"USD":1.27})"), "providers[0].rates must have other currencies"},
      {entry(std::string(kRest) + R"(,"rates":{"USD":"0"})"),
       "providers[0].rates.USD must be a decimal string above 0"},
      {entry(std::string(kRest) + R"(,"rates":{"USD":"1.2345678901"})"), "providers[0].rates.USD must be a decimal"},
      {entry(std::string(kRest) + R"(,"rates":[])"), "providers[0].rates must be an object"},
      {entry(std::string(kRest) + R"(,"markup":1.2)"), "providers[0].markup must be a string"},
      {entry(std::string(kRest) + R"(,"markup":"-1")"), "providers[0].markup must be a decimal string above 0"},
      {entry(std::string(kRest) + R"(,"ignore":["all"])"), "providers[0].ignore must be a list of unknown-type"},
      {entry(std::string(kRest) + R"(,"ignore":"unknown-type")"), "providers[0].ignore must be a list of unknown-type"},
      {entry(std::string(kRest) + R"(,"options":{"publicUrl":"x"})"), "providers[0].options.publicUrl is no field"},
      {entry(R"("tenants":["shop/acme"],"currency":"GBP")"), "providers[0].reserve is required"},
      {entry(R"("tenants":["shop/acme"],"currency":"GBP","reserve":{"amount":"0","ttlSeconds":0})"),
       "providers[0].reserve.amount"},
      {entry(std::string(kRest), "twilio", R"([{"env":"TWILIO_AUTH_TOKEN"}])"),
       "providers[0].reserve does not belong here"},
      {entry(R"("tenants":["shop/acme"],"currency":"GBP","options":{"publicUrl":"http://x"})", "twilio",
             R"([{"env":"TWILIO_AUTH_TOKEN"}])"),
       "providers[0].options.publicUrl must be the https URL"},
      {entry(std::string(kRest) + "},{\"name\":\"a\""), "providers[1].name is another's too"},
  };
  for (const auto& [text, wanted] : rows) {
    const auto faults = faults_of(text);
    const bool told = std::any_of(faults.begin(), faults.end(),
                                  [&](const std::string& fault) { return fault.find(wanted) != std::string::npos; });
    EXPECT_TRUE(told) << text << "\n  wanted: " << wanted
                      << "\n  first: " << (faults.empty() ? "none" : faults.front());
    for (const auto& fault : faults) EXPECT_EQ(fault.find("whsec_inline"), std::string::npos) << fault;
  }
}

TEST(ProvidersFile, TellsEveryFaultAtOnce) {
  const auto faults = faults_of(
      R"({"name":"A b","adapter":"vapi","secrets":[{"env":"UNSET"}],"tenants":["*"],"currency":"GBP","markup":"0","reserve":{"amount":"x"},
          "options":{"authentication":"none"}},{"name":"b"})");
  std::string all;
  for (const auto& fault : faults) all += fault + "\n";
  for (const char* place :
       {"providers[0].name", "providers[0].secrets[0]", "providers[0].tenantPointer", "providers[0].currency",
        "providers[0].markup", "providers[0].reserve.amount", "providers[0].reserve.ttlSeconds",
        "providers[0].options.authentication", "providers[1].adapter", "providers[1].secrets"}) {
    EXPECT_NE(all.find(place), std::string::npos) << place << " in\n" << all;
  }
}

TEST(ProvidersFile, IsAnObjectOfOneList) {
  for (const char* text :
       {"", "[]", "{}", R"({"providers":{}})", R"({"providers":[],"more":1})", R"({"providers":[)"}) {
    EXPECT_FALSE(Providers::parse(text, environment)) << text;
  }
  EXPECT_TRUE(Providers::parse(R"({"providers":[]})", environment));
}

}  // namespace
}  // namespace tallygate::api
