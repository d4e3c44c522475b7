// The names that injection puts into pods, and those it looks at.
#pragma once

#include "operator/credentials/secret.h"

namespace tallygate::admission {

// Label of a namespace or a pod.
inline constexpr char kInjectLabel[] = "billing.tallygate.dev/inject";
inline constexpr char kEnabled[] = "enabled", kDisabled[] = "disabled";

// Label of a namespace: the profile of Pod Security that its pods must fit.
inline constexpr char kPodSecurityLabel[] = "pod-security.kubernetes.io/enforce";

// Annotations of a pod, by its author: the policy's name; where the app listens ("pod" or "loopback").
inline constexpr char kPolicyAnnotation[] = "billing.tallygate.dev/policy";
inline constexpr char kAppAddressAnnotation[] = "billing.tallygate.dev/app-address";
inline constexpr char kCaptureAnnotation[] = "billing.tallygate.dev/capture-mode";  // "Redirect" or "Unprivileged"
// By the injector: JSON {"policy":"shop/api","port":8080,"capture":"Redirect","version":"1.2.3"}, and what was moved.
inline constexpr char kRecordAnnotation[] = "billing.tallygate.dev/sidecar";
inline constexpr char kEvictAnnotation[] = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";

inline constexpr char kSidecar[] = "tallygate-sidecar";  // the container
inline constexpr char kInit[] = "tallygate-init";        // the one before it, where inbound traffic is redirected
inline constexpr char kAdminPort[] = "tallygate-admin";  // its port; the one for requests has the app's name, or
inline constexpr char kPortPrefix[] = "tallygate-";      // this and the app's number
inline constexpr char kLogVolume[] = "tallygate-log";
inline constexpr char kCredentialsVolume[] = "tallygate-credentials";
inline constexpr char kNoTokenVolume[] = "tallygate-no-token";

inline constexpr const char* kCredentialsSecret = credentials::kSidecarSecret;
using credentials::kAuthorityKey, credentials::kLedgerTokenKey, credentials::kPepperKey, credentials::kPublicationKey,
    credentials::kRedisUrlKey;

// The sidecar's relay of probes: what each path stands for is in the variable.
inline constexpr char kProbesVariable[] = "TALLYGATE_APP_PROBES";
inline constexpr char kProbePath[] = "/app-health/";

// What the policy is called that a pod waits for where none matches it.
inline constexpr char kDefaultPolicy[] = "default";

}  // namespace tallygate::admission
