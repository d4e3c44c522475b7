#include "core/api_key.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "core/file.h"

namespace tallygate {
namespace {

constexpr size_t kPepperBytesMin = 32, kPepperBytesMax = 1'024;

}  // namespace

Result<std::string> read_pepper(const std::string& path) {
  auto pepper = read_file(path, 2 * kPepperBytesMax);
  if (!pepper) return pepper;
  while (pepper->ends_with('\n') || pepper->ends_with('\r')) pepper->pop_back();
  if (pepper->size() >= kPepperBytesMin && pepper->size() <= kPepperBytesMax) return pepper;
  return fail(Errc::kInvalid, path + " has " + std::to_string(pepper->size()) + " bytes: a pepper has 32 to 1024");
}

std::string peppered_hash(std::string_view pepper, std::string_view hash) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), pepper.data(), static_cast<int>(pepper.size()),
       reinterpret_cast<const unsigned char*>(hash.data()), hash.size(), digest, &size);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned i = 0; i < size; ++i) {
    hex += kDigits[digest[i] >> 4];
    hex += kDigits[digest[i] & 15];
  }
  return hex;
}

}  // namespace tallygate
