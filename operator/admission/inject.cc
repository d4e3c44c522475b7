#include "operator/admission/inject.h"

#include <algorithm>

#include "operator/admission/choose.h"
#include "operator/admission/pod.h"
#include "operator/admission/probes.h"
#include "operator/admission/sidecar_container.h"

namespace tallygate::admission {
namespace {

// What of a port's entry says who can reach it.
constexpr const char* kReach[] = {"name", "hostPort", "hostIP"};

bool is_ours(const std::string& container) { return container == kSidecar || container == kInit; }

bool is_our_volume(const std::string& volume) {
  return volume == kLogVolume || volume == kCredentialsVolume || volume == kNoTokenVolume;
}

const Json* find_init(const Json& pod, const char* name) {
  for (const Json& container : at(pod, "/spec/initContainers")) {
    if (text_at(container, "/name") == name) return &container;
  }
  return nullptr;
}

const Json* find_sidecar(const Json& pod) { return find_init(pod, kSidecar); }

// Whether both enforce the same: other arguments may differ between two replicas of an operator that is being changed,
// and the image by a webhook that sends to a mirror.
bool enforce_alike(const Json& found, const Json& ours) {
  const auto enforcing = [](const Json& container) {
    std::vector<std::string> all;
    for (const Json& arg : at(container, "/args")) {
      const std::string text = arg.is_string() ? arg.get<std::string>() : std::string();
      for (const char* part : {"run", "init", "--listen=", "--upstream=", "--policy=", "--capture="}) {
        if (text.starts_with(part)) all.push_back(text);
      }
    }
    return all;
  };
  return is_native_sidecar(found) == is_native_sidecar(ours) && at(found, "/command").empty() &&
         enforcing(found) == enforcing(ours) &&
         at(found, "/securityContext/capabilities/add") == at(ours, "/securityContext/capabilities/add");
}

Injection refuse(std::string why) { return {Injection::Outcome::kRefused, std::move(why), {}}; }

std::string port_taken(int64_t port, const std::string& whose) {
  return "port " + std::to_string(port) + " of " + whose +
         " is the sidecar's: let the app use another, or change the operator's --sidecar-port and --sidecar-admin-port";
}

// What makes a sidecar impossible whatever the policy.
std::string obstacle(const PodReview& review, const Json& pod, const InjectorSettings& settings) {
  if (at(pod, "/spec/hostNetwork") == true) {
    return "the pod uses the host's network, where a sidecar would stand before the whole node: remove hostNetwork, "
           "or enforce at a gateway";
  }
  if (text_at(pod, "/spec/os/name") == "windows") return "there is no sidecar for Windows: enforce at a gateway";
  if (const Mesh mesh = find_mesh(review); !mesh.name.empty()) {
    return "the pod is in the mesh " + mesh.name + ", whose proxy and ours would take each other's traffic: take it " +
           "out of the mesh (" + mesh.way_out + "), or leave it without a sidecar (" + kInjectLabel + ": disabled)";
  }
  const std::string address = text_at(pod, "/metadata/annotations/billing.tallygate.dev~1app-address");
  if (!address.empty() && address != "pod" && address != "loopback") {
    return std::string("the annotation ") + kAppAddressAnnotation + " is \"" + address + "\": write pod or loopback";
  }
  std::string taken;
  for_each_container(pod, [&](const Json& container) {
    for (const Json& mount : at(container, "/volumeMounts")) {
      if (!is_our_volume(text_at(mount, "/name"))) continue;
      taken = "container " + text_at(container, "/name") + " mounts " + text_at(mount, "/name") +
              ", which is the sidecar's alone: remove the mount, or name the volume otherwise";
    }
    for (const Json& entry : at(container, "/ports")) {
      const int64_t port = entry.value("containerPort", int64_t{0});
      if (port != settings.listen_port && port != settings.admin_port) continue;
      taken = port_taken(port, "container " + text_at(container, "/name"));
    }
  });
  return taken;
}

// The app's port loses its name and host port to `entry`, the sidecar's; `moved` says what it had.
void take_over(Json* pod, int64_t port, Json* entry, Json* moved) {
  for_each_server(*pod, [&](Json& container) {
    Json* app = find_port(container, port);
    if (app == nullptr || !moved->empty()) return;
    for (const char* key : kReach) {
      if (!app->contains(key)) continue;
      (*moved)[key] = (*app)[key];
      (*entry)[key] = (*app)[key];
      app->erase(key);
    }
    if (!moved->empty()) (*moved)["container"] = text_at(container, "/name");
  });
}

void add_to_list(Json* annotations, const char* key, const std::vector<std::string>& words) {
  std::string list = annotations->value(key, std::string());
  for (const std::string& word : words) {
    if (("," + list + ",").find("," + word + ",") == std::string::npos) list += (list.empty() ? "" : ",") + word;
  }
  (*annotations)[key] = list;
}

void remove_from_list(Json* annotations, const char* key) {
  std::string kept, word;
  for (const char c : annotations->value(key, std::string()) + ",") {
    if (c != ',') {
      word += c;
      continue;
    }
    if (!is_our_volume(word) && !word.empty()) kept += (kept.empty() ? "" : ",") + word;
    word.clear();
  }
  if (kept.empty()) {
    annotations->erase(key);
  } else {
    (*annotations)[key] = kept;
  }
}

// After those that only prepare, before the other sidecars: their probes too are answered by way of this one.
void place(Json* init_containers, const Json& containers) {
  if (!init_containers->is_array()) *init_containers = Json::array();
  const auto before = std::find_if(init_containers->begin(), init_containers->end(), is_native_sidecar);
  init_containers->insert(before, containers.begin(), containers.end());
}

void add_pull_secrets(Json* spec, const InjectorSettings& settings) {
  for (const std::string& name : settings.pull_secrets) {
    const Json reference = {{"name", name}};
    Json& list = (*spec)["imagePullSecrets"];
    if (std::find(list.begin(), list.end(), reference) == list.end()) list.push_back(reference);
  }
}

Injection add_sidecar(const PodReview& review, const Choice& choice, const InjectorSettings& settings, Json* pod) {
  std::string refusal;
  const auto port = choose_port(*pod, choice, &refusal);
  if (!port) return refuse(std::move(refusal));
  if (*port == settings.listen_port || *port == settings.admin_port) return refuse(port_taken(*port, "the app"));
  SidecarSpec spec;
  spec.policy = review.name_space + "/" + choice.policy;
  spec.app_port = *port;
  const auto& keyed = settings.keyed_namespaces;
  spec.verifies = !review.foreign_secret && std::find(keyed.begin(), keyed.end(), review.name_space) != keyed.end();
  spec.app_on_loopback = text_at(*pod, "/metadata/annotations/billing.tallygate.dev~1app-address") == "loopback";
  spec.relays = Json::object();
  refusal = rewrite_probes(pod, *port, settings.admin_port, &spec.relays);
  if (!refusal.empty()) return refuse(std::move(refusal));
  const bool redirect = choose_redirect(review, choice, settings.capture, &refusal);
  if (!refusal.empty()) return refuse(std::move(refusal));
  spec.request_port = {
      {"name", kPortPrefix + std::to_string(*port)}, {"containerPort", settings.listen_port}, {"protocol", "TCP"}};
  Json moved = Json::object();
  if (!redirect) take_over(pod, *port, &spec.request_port, &moved);

  Json containers = Json::array();  // made of the pod as it is without them
  if (redirect) containers.push_back(init_container(*port, *pod, settings));
  containers.push_back(sidecar_container(spec, *pod, settings));
  place(&(*pod)["spec"]["initContainers"], containers);
  for (Json& volume : sidecar_volumes(settings)) (*pod)["spec"]["volumes"].push_back(std::move(volume));
  add_pull_secrets(&(*pod)["spec"], settings);
  Json& annotations = (*pod)["metadata"]["annotations"];
  if (!annotations.is_object()) annotations = Json::object();
  add_to_list(&annotations, kEvictAnnotation, {kLogVolume, kNoTokenVolume});
  Json record = {{"policy", spec.policy},
                 {"port", *port},
                 {"capture", redirect ? "Redirect" : "Unprivileged"},
                 {"version", settings.version}};
  if (!moved.empty()) record["moved"] = moved;
  annotations[kRecordAnnotation] = record.dump();

  Injection done{Injection::Outcome::kInjected, "", choice.warnings};
  if (!redirect && !moved.contains("name")) {
    done.warnings.push_back("port " + std::to_string(*port) + " of the pod has no name: a Service that sends to the " +
                            "number goes past the sidecar; set its targetPort to " +
                            spec.request_port.value("name", ""));
  }
  return done;
}

}  // namespace

Injection inject(const PodReview& review, const InjectorSettings& settings, Json* pod) {
  const Choice choice = choose_policy(review);
  if (!choice.wanted) return {};
  if (!choice.refusal.empty()) return refuse(choice.refusal);
  *pod = review.pod;
  restore(pod);
  if (std::string why = obstacle(review, *pod, settings); !why.empty()) return refuse(std::move(why));
  return add_sidecar(review, choice, settings, pod);
}

void restore(Json* pod) {
  Json& spec = (*pod)["spec"];
  Json relays = Json::object();
  if (const Json* sidecar = find_sidecar(*pod)) {
    for (const Json& variable : at(*sidecar, "/env")) {
      if (text_at(variable, "/name") == kProbesVariable) relays = parse_object(text_at(variable, "/value"));
    }
  }
  const StringMap annotations = strings_at(*pod, "/metadata/annotations");
  const auto kept = annotations.find(kRecordAnnotation);
  const Json record = kept == annotations.end() ? Json::object() : parse_object(kept->second);
  remove_named(spec, "initContainers", is_ours);
  remove_named(spec, "containers", is_ours);
  remove_named(spec, "volumes", is_our_volume);
  if (spec.contains("containers")) {
    restore_probes(pod, relays);
    for_each_server(*pod, [&](Json& container) {
      const Json& moved = at(record, "/moved");
      Json* app = find_port(container, record.value("port", int64_t{0}));
      if (app == nullptr || text_at(moved, "/container") != text_at(container, "/name")) return;
      for (const char* key : kReach) {
        if (moved.contains(key) && !app->contains(key)) (*app)[key] = moved[key];
      }
    });
  }
  if (annotations.empty()) return;
  Json& all = (*pod)["metadata"]["annotations"];
  all.erase(kRecordAnnotation);
  remove_from_list(&all, kEvictAnnotation);
  if (all.empty()) (*pod)["metadata"].erase("annotations");
}

std::string find_tampering(const PodReview& review, const InjectorSettings& settings) {
  Json expected;
  const Injection made = inject(review, settings, &expected);
  if (made.outcome == Injection::Outcome::kRefused) return made.refusal;
  if (made.outcome == Injection::Outcome::kUntouched) return {};
  for (const char* name : {kInit, kSidecar}) {
    const Json* ours = find_init(expected, name);
    if (ours == nullptr) continue;
    const Json* found = find_init(review.pod, name);
    if (found == nullptr) {
      return std::string("the pod is to have the container ") + name + " (" + kInjectLabel +
             ") and does not: something took it out after injection, or the injecting webhook did not run";
    }
    if (enforce_alike(*found, *ours)) continue;
    return std::string("the container ") + name +
           " is not as the injector made it: another admission webhook, or the caller, changed it; or the operator is " +
           "being changed, and the next attempt succeeds";
  }
  return {};
}

}  // namespace tallygate::admission
