// The webhook's own certificates: authorities, and one for serving. Pure but for the random numbers of new keys.
//
// An authority that grows old is joined by its successor an hour before that signs anything: by then every API server
// trusts both (`bundle`). All is backdated by an hour, for clocks that are behind ours.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/result.h"

namespace tallygate::admission {

struct CertificateLives {
  int64_t authority_s = int64_t{5 * 365} * 24 * 3600;
  int64_t serving_s = int64_t{90} * 24 * 3600;  // both are renewed when a third is left
  int64_t backdated_s = 3600;
  int64_t joint_s = 3600;  // how long an authority is trusted before it signs
};

struct Authority {
  std::string certificate, key;  // PEM
  int64_t not_before_s = 0, not_after_s = 0;
};

struct Certificates {
  std::vector<Authority> authorities;  // by age, the oldest first
  std::string certificate, key;        // for serving; PEM

  std::string bundle() const;  // of all authorities, PEM
};

// From and to the data of a Secret: ca.crt, ca.key, tls.crt, tls.key. What cannot be used is left out.
Certificates parse_certificates(const std::map<std::string, std::string>& data);
std::map<std::string, std::string> to_data(const Certificates& certificates);

// Renews what is missing, wrong, or old; true where something was. `names`: DNS names of the service.
Result<bool> renew(Certificates* certificates, const std::vector<std::string>& names, int64_t now_s,
                   const CertificateLives& lives = {});

}  // namespace tallygate::admission
