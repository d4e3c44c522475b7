// API keys from Secrets: hashed at once, the values are not kept. Pure.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "operator/kube/object.h"

namespace tallygate::source {

// "sha256:…" of each of its values, a line end at its end left out: a header cannot have one. In the order of the names.
std::vector<std::string> key_hashes(std::string_view secret_json);

// For a reflector: the object's json becomes the list of its hashes.
void keep_hashes_only(kube::Object& secret);
std::vector<std::string> kept_hashes(const kube::Object& secret);

bool names_secrets(std::string_view tenant_json);
// The tenant's JSON with the keys of the Secrets that it names among its apiKeyHashes. A Secret that `find` does not know
// stays named: the decoder says that it is not in force.
using FindHashes = std::function<const std::vector<std::string>*(const std::string& secret)>;
std::string with_secret_keys(std::string_view tenant_json, const FindHashes& find);

}  // namespace tallygate::source
