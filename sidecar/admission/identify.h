// Who calls: the policy's identity sources, in order. A credential that is present and invalid is refused; it never
// falls through to the next source, and there is no fallback identity (A9).
#pragma once

#include <string>
#include <vector>

#include "core/address.h"
#include "core/tenant/model.h"
#include "sidecar/admission/reason.h"
#include "sidecar/proxy/gate.h"

namespace tallygate::sidecar {

struct Identified {
  Reason reason = Reason::kAdmitted;  // kAdmitted: `value` names somebody; anything else is the refusal
  bool api_key = false;               // `value` is the key itself; else an external id
  // With a refusal: what the app would be given by `prefix` if it were asked. Never of a trusted header.
  std::string_view value;
  std::string_view prefix;  // "name: " of the field that says it to the app; empty: none does
  const char* detail = "";
};

class Identifier {
 public:
  // `tenant_header` tells the app whose a request is; empty: it is not told. `forward_overrides`: tenant::PathRules.
  explicit Identifier(const std::vector<tenant::IdentitySource>& sources,
                      const std::string& tenant_header = tenant::kTenantHeader, bool forward_overrides = false);
  Identified identify(const proxy::RequestView& request) const;
  // For the 401's detail: "the x-api-key header".
  const std::string& wanted() const { return wanted_; }
  // For WWW-Authenticate: the scheme of the first source.
  const char* challenge() const { return challenge_; }
  // Fields that must not reach the app as they came: an app may take them for what was verified, or for the method and
  // the path that were charged.
  const proxy::NameSet& guarded() const { return guarded_; }
  // Those of them that only trusted addresses may send: no page's affair.
  const proxy::NameSet& trusted() const { return trusted_; }
  // "Name: "; empty: the app is not told.
  const std::string& tenant_prefix() const { return tenant_prefix_; }

 private:
  struct Source {
    tenant::IdentityType type;
    std::string header;
    std::vector<Network> from;
    std::string prefix;  // as in Identified. What is always forwarded is not removed in the first place.
  };
  std::vector<Source> sources_;
  proxy::NameSet guarded_, trusted_;
  std::string tenant_prefix_;
  std::string wanted_;
  const char* challenge_ = "ApiKey";
};

// SHA-256, 64 lower-case hex digits: how keys are named outside of this process.
std::string sha256_hex(std::string_view text);

}  // namespace tallygate::sidecar
