// Probes and HTTP hooks on the app's port go through the sidecar's admin port, which relays them unmetered: past the
// sidecar the port may be closed to all but itself, and through it they would need a credential and be charged.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tallygate::admission {

using Json = nlohmann::json;

// Rewrites those that go to `port`; what they were is put into `relays`, by their paths on the admin port. A text:
// what cannot be relayed, and what to do.
std::string rewrite_probes(Json* pod, int64_t port, int64_t admin_port, Json* relays);

// Puts back what `relays` knows.
void restore_probes(Json* pod, const Json& relays);

}  // namespace tallygate::admission
