#include "operator/main/key_new.h"

#include <cstdio>

#include "operator/api/service_tokens.h"

namespace tallygate::operator_main {
namespace {

// 128 bits: nobody guesses one whose hash is known. Scanners for leaked secrets find it by its beginning.
constexpr size_t kKeyBytes = 16;
constexpr const char* kPrefix = "tgk_";

}  // namespace

int key_new(Env& env) {
  const std::string key = kPrefix + env.random_hex(kKeyBytes);
  std::printf("key:  %s\nhash: sha256:%s\n", key.c_str(), sha256_hex(key).c_str());
  std::fprintf(stderr,
               "The key goes to the client and is shown this once; the hash into its BillingTenant: "
               "spec.identity.apiKeyHashes.\n");
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace tallygate::operator_main
