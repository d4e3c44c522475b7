// Injection by golden pods: tests/golden/inject/*.json, each with what goes in and what is to come out.
// TALLYGATE_UPDATE_GOLDEN=1 writes what comes out: look at the difference.
#include "operator/admission/inject.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

namespace tallygate::admission {
namespace {

using Ordered = nlohmann::ordered_json;
constexpr char kFolder[] = "tests/golden/inject";

struct Case {
  Json pod;
  PodReview review{pod, "shop", {}, {}, {}, false};
  InjectorSettings settings;

  explicit Case(const Json& in) : pod(in["pod"]) {
    const Json name_space = in.value("namespace", Json::object());
    review.namespace_labels = name_space.value("labels", StringMap());
    review.namespace_annotations = name_space.value("annotations", StringMap());
    for (const Json& each : in.value("policies", Json::array())) {
      PolicyView policy;
      policy.name = each["name"];
      policy.created = each.value("created", "2026-01-01T00:00:00Z");
      policy.match_labels = each.value("matchLabels", StringMap());
      policy.ports = each.value("ports", std::vector<int64_t>());
      policy.may_opt_out = each.value("mayOptOut", false);
      policy.may_choose = each.value("mayChoose", false);
      review.policies.push_back(policy);
    }
    settings.image = "registry.example/tallygate-sidecar:1.2.3";
    settings.version = "1.2.3";
    const Json given = in.value("settings", Json::object());
    settings.pull_secrets = given.value("pullSecrets", std::vector<std::string>());
    settings.image_pull_policy = given.value("imagePullPolicy", "");
    settings.ledger_url = given.value("ledgerUrl", "");
    settings.private_authority = given.value("privateAuthority", false);
    settings.keyed_namespaces = given.value("keyedNamespaces", std::vector<std::string>());
    settings.peppered = given.value("peppered", false);
    review.foreign_secret = in.value("foreignSecret", false);
    const std::string capture = given.value("capture", "Unprivileged");
    settings.capture = capture == "Auto"       ? Capture::kAuto
                       : capture == "Redirect" ? Capture::kRedirect
                                               : Capture::kUnprivileged;
    if (given.value("runAsUserByPlatform", false)) settings.run_as_user.reset();
  }
};

const char* name_of(Injection::Outcome outcome) {
  static constexpr const char* kNames[] = {"untouched", "injected", "refused"};
  return kNames[static_cast<size_t>(outcome)];
}

Json result_of(const Injection& made, const Json& pod) {
  Json result = {{"outcome", name_of(made.outcome)}};
  if (!made.refusal.empty()) result["refusal"] = made.refusal;
  if (!made.warnings.empty()) result["warnings"] = made.warnings;
  if (made.outcome == Injection::Outcome::kInjected) result["pod"] = pod;
  return result;
}

// Whatever the pod: again makes no difference, undone it is as it was, and a thief is noticed.
void expect_laws(const Case& in, const Json& made) {
  Json again;
  const PodReview second{made, "shop", in.review.namespace_labels, in.review.namespace_annotations, in.review.policies,
                         in.review.foreign_secret};
  inject(second, in.settings, &again);
  EXPECT_EQ(again, made) << "injected twice";

  Json undone = made, before = in.pod;
  restore(&undone);
  restore(&before);
  for (Json* pod : {&undone, &before}) (*pod)["spec"].erase("imagePullSecrets");
  EXPECT_EQ(undone, before) << "injected and restored";

  EXPECT_EQ(find_tampering(second, in.settings), "");
  // Each container that enforces, taken out or changed alone.
  const auto noticed = [&](const Json& pod) {
    return !find_tampering({pod, "shop", in.review.namespace_labels, {}, in.review.policies}, in.settings).empty();
  };
  const Json& all = made["spec"]["initContainers"];
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string name = all[i]["name"];
    if (name != kSidecar && name != kInit) continue;
    Json robbed = made;
    robbed["spec"]["initContainers"].erase(i);
    EXPECT_TRUE(noticed(robbed)) << name;
    for (const char* args : {R"(["run","--policy=shop/cheap"])", R"(["init","--capture=1:2"])", R"(["--help"])"}) {
      Json changed = made;
      changed["spec"]["initContainers"][i]["args"] = Json::parse(args);
      EXPECT_TRUE(noticed(changed)) << name << " " << args;
    }
    Json other = made;
    other["spec"]["initContainers"][i]["command"] = {"sleep"};
    EXPECT_TRUE(noticed(other)) << name;
    other = made;
    other["spec"]["initContainers"][i]["securityContext"]["capabilities"] = Json::object();
    EXPECT_EQ(noticed(other), name == kInit) << "without NET_ADMIN nothing is captured";
    other = made;
    other["spec"]["initContainers"][i]["image"] = "mirror.example/" + other["spec"]["initContainers"][i]["image"].get<std::string>();
    other["spec"]["initContainers"][i]["args"].push_back("--max-log-bytes=1MiB");
    EXPECT_FALSE(noticed(other)) << "a mirror, another replica's settings";
  }
}

TEST(Inject, GoldenPods) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) files.push_back(entry.path());
  ASSERT_GE(files.size(), 20u);
  for (const auto& file : files) {
    SCOPED_TRACE(file.string());
    std::ifstream in(file);
    Ordered golden = Ordered::parse(in);
    const Case given{Json(golden)};
    Json pod;
    const Injection made = inject(given.review, given.settings, &pod);
    const Json result = result_of(made, pod);
    if (made.outcome == Injection::Outcome::kInjected) {
      EXPECT_EQ(given.pod.patch(Json::diff(given.pod, pod)), pod);
      expect_laws(given, pod);
    }
    if (std::getenv("TALLYGATE_UPDATE_GOLDEN")) {
      golden["result"] = Ordered(result);
      std::ofstream(file) << golden.dump(2) << "\n";
      continue;
    }
    EXPECT_EQ(Json(golden["result"]), result) << Json::diff(Json(golden["result"]), result).dump(1);
  }
}

}  // namespace
}  // namespace tallygate::admission
