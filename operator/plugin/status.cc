#include <cstdio>
#include <map>

#include "operator/plugin/commands.h"

namespace tallygate::plugin {
namespace {

constexpr size_t kWrongMax = 20;
constexpr int64_t kWatchEveryMs = 2'000;

std::string name_of(const Json& object) {
  const std::string name_space = text_at(object, {"metadata", "namespace"});
  return (name_space.empty() ? "" : name_space + "/") + text_at(object, {"metadata", "name"});
}

// Conditions that are False or out of date, in words.
std::vector<std::string> troubles(const Json& object) {
  std::vector<std::string> out;
  const Json& all = at(object, {"status", "conditions"});
  if (!all.is_array() || all.empty()) return {"nobody has looked at it yet: is the operator running?"};
  for (const Json& c : all) {
    if (text_at(c, {"status"}) == "True") continue;
    if (text_at(c, {"status"}) == "Unknown" && text_at(c, {"type"}) != "Ready") continue;
    out.push_back(text_at(c, {"type"}) + " is " + text_at(c, {"status"}) + ", " + text_at(c, {"reason"}) + ": " +
                  text_at(c, {"message"}));
  }
  return out;
}

std::string state_of(const Json& tenant) {
  if (at(tenant, {"spec", "suspend"}) == true) return "suspended";
  return text_at(tenant, {"status", "state"}, "unknown");
}

struct Standing {
  std::vector<OperatorPod> operators;
  std::map<std::string, int> tenants;  // by state
  std::vector<std::vector<std::string>> wrong;  // object, what
};

Result<Standing> look(Cluster& cluster, const Arguments& arguments) {
  Standing out;
  auto operators = ask_operators(cluster, arguments.system_namespace);
  if (!operators) return tl::unexpected<Error>(operators.error());
  out.operators = std::move(*operators);
  int leaders = 0;
  for (const auto& pod : out.operators) {
    leaders += pod.leads ? 1 : 0;
    if (!pod.fault.empty()) out.wrong.push_back({"pod " + pod.name, pod.fault});
    else if (!pod.ready) out.wrong.push_back({"pod " + pod.name, "is not ready"});
  }
  if (out.operators.empty()) {
    out.wrong.push_back({"operator", "there is none in " + arguments.system_namespace + " (--system-namespace)"});
  } else if (leaders == 0) {
    out.wrong.push_back({"operator", "none leads: nothing is published, funded or billed"});
  }
  for (const auto& type : {kPlans, kTenants, kPolicies}) {
    const auto objects = cluster.list(type);
    if (!objects) return tl::unexpected<Error>(objects.error());
    for (const Json& object : *objects) {
      if (type == kTenants) ++out.tenants[state_of(object)];
      for (const auto& trouble : troubles(object)) out.wrong.push_back({type.kind + " " + name_of(object), trouble});
    }
  }
  return out;
}

Json to_json(const Standing& standing) {
  Json out{{"operators", Json::array()}, {"sidecars", Json::object()}, {"tenants", standing.tenants},
           {"wrong", Json::array()}};
  for (const auto& pod : standing.operators) {
    out["operators"].push_back({{"name", pod.name}, {"ready", pod.ready}, {"leader", pod.leads}, {"version", pod.version}});
    for (const auto& [software, count] : pod.sidecars) out["sidecars"][software] = std::atoi(count.c_str());
  }
  for (const auto& line : standing.wrong) out["wrong"].push_back({{"object", line[0]}, {"what", line[1]}});
  return out;
}

std::string to_text(const Standing& standing) {
  std::vector<std::vector<std::string>> pods{{"OPERATOR", "READY", "ROLE", "VERSION"}}, sidecars{{"SIDECARS", "COUNT"}},
      tenants{{"TENANTS", "COUNT"}};
  for (const auto& pod : standing.operators) {
    pods.push_back({pod.name, pod.ready ? "yes" : "no", pod.leads ? "leader" : pod.fault.empty() ? "standby" : "unknown",
                    pod.version.empty() ? "unknown" : pod.version});
    for (const auto& [software, count] : pod.sidecars) sidecars.push_back({software, count});
  }
  for (const auto& [state, count] : standing.tenants) tenants.push_back({state, std::to_string(count)});
  std::string out = table(pods) + "\n" + (sidecars.size() > 1 ? table(sidecars) + "\n" : "") + table(tenants) + "\n";
  if (standing.wrong.empty()) return out + "All is well.\n";
  auto wrong = standing.wrong;
  if (wrong.size() > kWrongMax) wrong.resize(kWrongMax);
  wrong.insert(wrong.begin(), {"WRONG WITH", "WHAT"});
  out += table(wrong);
  if (standing.wrong.size() > kWrongMax) out += "… and " + std::to_string(standing.wrong.size() - kWrongMax) + " more\n";
  return out;
}

Json usage_of(const Json& tenant) {
  return {{"tenant", name_of(tenant)},
          {"plan", text_at(tenant, {"spec", "planRef", "name"})},
          {"state", state_of(tenant)},
          {"balance", at(tenant, {"status", "balance"})},
          {"usage", at(tenant, {"status", "usage"})}};
}

std::string usage_text(const Json& tenant) {
  std::string out = name_of(tenant) + " on " + text_at(tenant, {"spec", "planRef", "name"}) + ", " + state_of(tenant);
  if (const auto balance = text_at(tenant, {"status", "balance"}); !balance.empty()) out += ", balance " + balance;
  const Json& usage = at(tenant, {"status", "usage"});
  if (!usage.is_array() || usage.empty()) return out + "\n\nNo usage of a window of an hour or longer is known yet.\n";
  std::vector<std::vector<std::string>> rows{{"LIMIT", "METER", "USED", "OF", "STATE", "RESETS"}};
  for (const Json& line : usage) {
    rows.push_back({text_at(line, {"limit"}), text_at(line, {"meter"}), text_at(line, {"used"}), text_at(line, {"amount"}),
                    text_at(line, {"state"}), text_at(line, {"resetsAt"})});
  }
  return out + "\n\n" + table(rows);
}

}  // namespace

int status(Cluster& cluster, const Arguments& arguments) {
  const auto standing = look(cluster, arguments);
  if (!standing) return failed(standing.error());
  std::fputs((arguments.json ? dump(to_json(*standing)) : to_text(*standing)).c_str(), stdout);
  return standing->wrong.empty() ? 0 : 1;
}

int usage(Cluster& cluster, const Arguments& arguments) {
  const auto name = cluster.tenant_name(arguments.operands.at(0));
  if (!name) return failed(name.error());
  std::string last;
  while (true) {
    const auto tenant = cluster.get(kTenants, *name);
    if (!tenant) return failed(tenant.error());
    const std::string text = arguments.json ? dump(usage_of(*tenant)) : usage_text(*tenant);
    if (text != last) std::fputs(((last.empty() ? "" : "\n") + text).c_str(), stdout);
    std::fflush(stdout);
    last = text;
    if (!arguments.watch) return 0;
    system_env().sleep_ms(kWatchEveryMs);
  }
}

int why(Cluster& cluster, const Arguments& arguments) {
  const auto name = cluster.tenant_name(arguments.operands.at(0));
  if (!name) return failed(name.error());
  const auto tenant = cluster.get(kTenants, *name);
  if (!tenant) return failed(tenant.error());
  std::vector<std::string> reasons;
  if (at(*tenant, {"spec", "suspend"}) == true) {
    reasons.push_back("It is suspended (spec.suspend): all of its requests are answered 403. `kubectl tallygate resume` ends that.");
  }
  if (const Json& usage = at(*tenant, {"status", "usage"}); usage.is_array()) {
    for (const Json& line : usage) {
      if (text_at(line, {"state"}) != "hard") continue;
      reasons.push_back("Limit " + text_at(line, {"limit"}) + " is used up (" + text_at(line, {"used"}) +
                        " units): requests that it counts are answered 429 until " +
                        text_at(line, {"resetsAt"}, "its window ends") + ".");
    }
  }
  for (const auto& trouble : troubles(*tenant)) reasons.push_back(trouble);
  if (at(*tenant, {"spec", "enforcement"}) == "Shadow") {
    reasons.push_back("Its enforcement is Shadow: nothing is denied, whatever is above.");
  }
  if (arguments.json) {
    std::fputs(dump({{"tenant", name->str()}, {"reasons", reasons}}).c_str(), stdout);
  } else if (reasons.empty()) {
    std::printf("Nothing that is known of %s would refuse its requests: look at the answer's `reason`, which docs/problems.md explains.\n",
                name->str().c_str());
  } else {
    for (const auto& reason : reasons) std::printf("- %s\n", reason.c_str());
  }
  return 0;
}

}  // namespace tallygate::plugin
