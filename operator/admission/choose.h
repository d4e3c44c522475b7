// Which policy a pod is under, whether it is to have a sidecar at all, and on which of its ports. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "operator/admission/inject.h"

namespace tallygate::admission {

struct Choice {
  bool wanted = false;  // opted in; else nothing else is set
  std::string refusal;
  std::string policy;                 // its name; kDefaultPolicy where none is there yet
  const PolicyView* known = nullptr;  // of PodReview::policies
  std::vector<std::string> warnings;
};
Choice choose_policy(const PodReview& review);

// The app's port: what the policy says, of it what the pod declares. `refusal` says why there is not just one.
std::optional<int64_t> choose_port(const Json& pod, const Choice& choice, std::string* refusal);

// Whether inbound traffic is redirected; else unprivileged, which who knows the app's port can go round: a pod asks for
// that where it may opt out.
bool choose_redirect(const PodReview& review, const Choice& choice, Capture capture, std::string* refusal);

// "Istio" and what takes the pod out of it; empty where the pod is in no mesh that is known here.
struct Mesh {
  std::string name, way_out;
};
Mesh find_mesh(const PodReview& review);

}  // namespace tallygate::admission
