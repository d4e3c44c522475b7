// Each way to get a manifest wrong: a good document with one piece replaced, and the one fault that must come of it.
#include <gtest/gtest.h>

#include "tests/unit/manifest/malformed_cases.h"
#include "tests/unit/manifest/manifests.h"

namespace tallygate::manifest {
namespace {

constexpr char kPlan[] = R"(apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingPlan
metadata: {name: standard-v1}
spec:
  displayName: Standard
  family: standard
  pricing:
    currency: GBP
    basePrice: "49.00"
    annualDiscountPercent: 15
    meters:
    - name: api_calls
      unit: call
      aggregation: Sum
      settlement: Invoice
      perUnits: 1000
      tiers:
      - {upTo: 100, price: "0"}
      - {upTo: 200, price: "0.40"}
      - {price: "0.30"}
    - {name: sms, unit: message, settlement: Wallet, tiers: [{price: "0.05"}]}
  limits:
  - name: calls-month
    meter: api_calls
    amount: 1000
    window: Month
    cap: Soft
    grace: {percent: 10, duration: 24h}
  - {name: sms-day, meter: sms, amount: 5, window: Day, cap: Hard}
  entitlements: [knowledge_base]
)";

constexpr char kTenant[] = R"(apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingTenant
metadata:
  name: acme
  namespace: shop
  labels: {team: blue}
spec:
  displayName: Acme Ltd
  planRef: {name: standard-v1}
  enforcement: Enforce
  suspend: false
  allowedNamespaces: {from: Same}
  billing:
    email: billing@acme.example
    interval: Month
    anchorTime: "2026-01-15T00:00:00Z"
    timeZone: Europe/London
    stripe: {customerID: cus_example}
  identity:
    externalIDs: [org_123]
    hosts: [acme.example.com]
    apiKeyHashes: ["sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
  limitOverrides:
  - {name: calls-month, amount: 7000}
  wallet:
    currency: GBP
    debtLimit: "5.00"
    alertThresholds: ["20.00", "5.00"]
    autoRecharge: {threshold: "10.00", amount: "50.00", maxPerDay: 3}
  onUnavailable: {quota: Allow, allowancePerPod: 100, wallet: Deny, staleAfter: 30s}
)";

constexpr char kPolicy[] = R"(apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingPolicy
metadata: {name: api, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  ports: [{port: 8080, appProtocol: HTTP}]
  identity:
  - {type: APIKey, apiKey: {header: X-Api-Key}}
  - type: JWT
    jwt:
      issuer: "https://id.example.com"
      audiences: [api]
      algorithms: [RS256]
      jwksURI: "https://id.example.com/jwks.json"
      claim: /app_metadata/org_id
  - {type: TrustedHeader, trustedHeader: {name: X-Tenant-Id, fromCIDRs: [10.0.4.0/24, "::1/128"]}}
  routes:
  - name: chat
    matches: [{methods: [POST], path: {type: PathPrefix, value: /v1/chat}}]
    chargeOn: Success
    charges:
    - meter: api_calls
      from: {type: ResponseJSON, pointer: /usage/total_tokens}
      estimate: {requestPointer: /max_tokens, default: 1024, max: 16384}
  - name: sms
    gate: sms_send
    onUnavailable: Deny
    matches: [{path: {type: Exact, value: /v1/sms}}]
    charges: [{meter: sms, units: 1}]
  - {name: health, action: Exempt, matches: [{path: {type: Exact, value: /healthz}}]}
  defaultRoute: {action: Charge, charges: [{meter: api_calls, units: 1}]}
)";

const char* base_of(Base base) { return base == Base::kPlan ? kPlan : base == Base::kTenant ? kTenant : kPolicy; }

int line_of(const std::string& text, size_t position) {
  return 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
}

// The spoiled document, and the line where the fault must be: that of the mark ^ in the replacement, which is taken
// out, or else that of the replacement's start.
std::pair<std::string, int> spoil(const Malformed& c) {
  std::string text = base_of(c.base);
  const size_t at = text.find(c.piece);
  EXPECT_NE(at, std::string::npos) << c.name << ": the piece is not in the document";
  if (at == std::string::npos) return {text, 0};
  text.replace(at, std::string(c.piece).size(), c.replacement);
  const size_t mark = text.find('^', at);
  if (mark == std::string::npos || mark > at + std::string(c.replacement).size()) return {text, line_of(text, at)};
  text.erase(mark, 1);
  return {text, line_of(text, mark)};
}

TEST(Malformed, TheDocumentsAreGoodBeforeTheyAreSpoiled) {
  for (const char* text : {kPlan, kTenant, kPolicy}) {
    EXPECT_EQ(all_of(read_manifest("good.yaml", text).faults), "");
  }
}

TEST(Malformed, EachIsOneFaultWithPlaceReasonAndFix) {
  std::set<std::string> names;
  for (const Malformed& c : malformed_cases()) {
    SCOPED_TRACE(c.name);
    EXPECT_TRUE(names.insert(c.name).second) << "the name is taken";
    const auto [text, line] = spoil(c);
    const FileContent content = read_manifest("bad.yaml", text);
    ASSERT_EQ(content.faults.size(), 1u) << all_of(content.faults) << text;
    const Fault& fault = content.faults[0];
    EXPECT_EQ(fault.file, "bad.yaml");
    EXPECT_EQ(fault.line, line) << to_string(fault);
    EXPECT_EQ(fault.field, c.field) << to_string(fault);
    EXPECT_STREQ(to_string(fault.reason), to_string(c.reason)) << to_string(fault);
    const std::string shown = to_string(fault);
    EXPECT_NE(shown.find("bad.yaml:" + std::to_string(line) + ":"), std::string::npos) << shown;
    EXPECT_FALSE(fault.fix.empty());
    EXPECT_NE(shown.find(c.fix), std::string::npos) << shown;
    if (fault.reason != Reason::kSyntax) {
      EXPECT_TRUE(content.objects.empty());
    }
  }
  EXPECT_GE(names.size(), 100u);
}

TEST(Malformed, NoBytesAreTooBadToRead) {
  uint64_t state = 7;
  const auto random = [&](uint64_t bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % bound;
  };
  for (int i = 0; i < 3'000; ++i) {
    std::string text = i % 3 == 0 ? kPlan : i % 3 == 1 ? kTenant : kPolicy;
    for (uint64_t n = 1 + random(4); n > 0; --n) {
      const size_t at = random(text.size());
      switch (random(4)) {
        case 0:
          text[at] = static_cast<char>(random(256));
          break;
        case 1:
          text.erase(at, 1 + random(20));
          break;
        case 2:
          text.insert(at, 1, "{}[]:,-&*!|>'\"#%@`\n\t ?~"[random(23)]);
          break;
        default:
          text.insert(at, text.substr(random(text.size()), random(40)));
          break;
      }
    }
    for (const Fault& fault : read_manifest("fuzz.yaml", text).faults) {
      EXPECT_FALSE(fault.fix.empty()) << to_string(fault);
      EXPECT_FALSE(fault.message.empty()) << to_string(fault);
    }
  }
}

}  // namespace
}  // namespace tallygate::manifest
