// A pod that is to be created → the same pod with its sidecar, or why it cannot have one. Pure.
//
// Idempotent: what an earlier injection made is undone first (restore()), from the pod itself, and made anew. So a
// second call, a template that was copied from a running pod, or one with a forged sidecar in it all end alike.
//
// The sidecar is a native one (an init container with restartPolicy: Always), after the init containers that only
// prepare: it is up before the app's containers start and ends after them. It listens on a port of its own. How
// requests get there: by redirection, which an init container with NET_ADMIN sets up; or, where the namespace forbids
// that, without privileges: it takes over the name (and host port) of the app's port, so that a Service that sends to
// the name reaches it. Probes and HTTP hooks on the app's port go through its admin port, unmetered.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "operator/admission/names.h"

namespace tallygate::admission {

using Json = nlohmann::json;
using StringMap = std::map<std::string, std::string>;

// What injection has to know of a BillingPolicy.
struct PolicyView {
  std::string name;
  std::string created;     // as the API server writes it: sorts by time
  StringMap match_labels;  // empty: every pod of the namespace
  std::vector<int64_t> ports;
  bool may_opt_out = false;  // spec.injection.optOut: Permit
  bool may_choose = false;   // spec.injection.policyAnnotation: Permit
};

// kAuto: by redirection unless the namespace's label says that it admits no NET_ADMIN. (To ask the API server by a dry
// run, the operator would have to be allowed to create pods everywhere.)
enum class Capture : uint8_t { kAuto, kRedirect, kUnprivileged };

struct InjectorSettings {
  Capture capture = Capture::kAuto;
  std::string image;
  std::string image_pull_policy;                 // empty: Kubernetes' default
  std::vector<std::string> pull_secrets;         // in the pod's namespace
  std::string credentials = kCredentialsSecret;  // the Secret in the pod's namespace; see kRedisUrlKey
  std::vector<std::string> keyed_namespaces;     // whose Secret the operator keeps, with kPublicationKey
  bool peppered = false;                         // their Secrets have kPepperKey too
  std::string ledger_url;                        // empty: no leases from the ledger
  bool private_authority = false;                // kAuthorityKey of the Secret is trusted for Redis and the ledger
  bool redis_insecure = false;                   // as the operator's own: sidecars speak to Redis in plain text
  std::string cpu_request = "10m", cpu_limit = "200m";  // the limit is set in a Guaranteed pod only
  std::string memory_request = "32Mi", memory_limit = "128Mi";
  int64_t log_mib = 64;                        // of the log; its volume may grow to three times that
  std::optional<int64_t> run_as_user = 65532;  // absent: the platform says
  uint16_t listen_port = 9900, admin_port = 9902;
  std::string version;  // of this program, for the record in the pod
};

struct PodReview {
  const Json& pod;
  std::string name_space;
  StringMap namespace_labels, namespace_annotations;
  std::vector<PolicyView> policies;  // of the pod's namespace
  bool foreign_secret = false;       // somebody else keeps its Secret, without kPublicationKey
};

struct Injection {
  enum class Outcome : uint8_t { kUntouched, kInjected, kRefused };
  Outcome outcome = Outcome::kUntouched;
  std::string refusal;  // what is in the way, and what to do
  std::vector<std::string> warnings;
};

// `pod` becomes what it is to be, for kInjected. Throws what nlohmann's library does where the pod is not one.
Injection inject(const PodReview& review, const InjectorSettings& settings, Json* pod);

// Takes out what an injection put in.
void restore(Json* pod);

// What a later step may have taken from the pod again: empty where the sidecar is as inject() made it, as far as
// enforcement is concerned.
std::string find_tampering(const PodReview& review, const InjectorSettings& settings);

}  // namespace tallygate::admission
