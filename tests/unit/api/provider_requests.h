// Requests as providers send them, signed by a second hand: nothing of the adapters' own code signs here.
#pragma once

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace tallygate::testing {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

inline const std::string kStandardSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
inline const std::string kVapiSecret = "a secret of tests, long enough";
inline const std::string kTwilioToken = "0123456789abcdef0123456789abcdef";
inline const std::string kPublicUrl = "https://billing.example/v1/providers/sms/events";

inline std::string golden_payload(const std::string& name) {
  std::ifstream in("tests/golden/providers/" + name, std::ios::binary);
  if (!in) throw std::runtime_error("no golden payload " + name);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

inline std::string mac_of(const EVP_MD* hash, const std::string& key, const std::string& text) {
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(hash, key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
       mac, &size);
  return {reinterpret_cast<const char*>(mac), size};
}

inline std::string to_base64(const std::string& bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<size_t>(size));
  return out;
}

inline std::string from_base64(const std::string& text) {
  std::string out(text.size(), '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  out.resize(static_cast<size_t>(size) - (text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0));
  return out;
}

inline std::string hex_of(const std::string& bytes) {
  std::string out;
  char pair[3];
  for (const char c : bytes) {
    std::snprintf(pair, sizeof pair, "%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    out += pair;
  }
  return out;
}

inline std::string standard_signature(const std::string& secret, const std::string& id, const std::string& timestamp,
                                      const std::string& body) {
  return "v1," + to_base64(mac_of(EVP_sha256(), from_base64(secret.substr(6)), id + "." + timestamp + "." + body));
}

inline HeaderList standard_headers(const std::string& body, int64_t now_s, const std::string& secret = kStandardSecret,
                                   const std::string& id = "msg_1") {
  const std::string timestamp = std::to_string(now_s);
  return {{"webhook-id", id},
          {"webhook-timestamp", timestamp},
          {"webhook-signature", standard_signature(secret, id, timestamp, body)}};
}

// `parameters`: decoded. The form's own encoding is the caller's.
inline std::string twilio_signature(const std::string& token, const std::string& url,
                                    const std::map<std::string, std::string>& parameters) {
  std::string text = url;
  for (const auto& [name, value] : parameters) text += name + value;
  return to_base64(mac_of(EVP_sha1(), token, text));
}

}  // namespace tallygate::testing
