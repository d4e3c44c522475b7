#include "sidecar/init/ruleset.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace tallygate::sidecar {
namespace {

using Json = nlohmann::json;

const Json& member(const Json& object, const char* name) {
  static const Json none;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() ? *found : none;
}

uint16_t port_of(const Json& value) {
  if (!value.is_number_integer()) return 0;
  const auto number = value.get<int64_t>();
  return number > 0 && number <= 65535 ? static_cast<uint16_t>(number) : uint16_t{0};
}

// "iifname != lo tcp dport FROM redirect to :TO", in the form that the kernel tells; anything else is another rule.
bool is_redirect(const Json& rule, Redirect& redirect) {
  const Json& parts = member(rule, "expr");
  if (!parts.is_array() || parts.size() != 3) return false;
  const Json& not_loopback = member(parts[0], "match");
  if (member(not_loopback, "op") != "!=" || member(member(member(not_loopback, "left"), "meta"), "key") != "iifname" ||
      member(not_loopback, "right") != "lo") {
    return false;
  }
  const Json& to_port = member(parts[1], "match");
  const Json& payload = member(member(to_port, "left"), "payload");
  if (member(to_port, "op") != "==" || member(payload, "protocol") != "tcp" || member(payload, "field") != "dport") {
    return false;
  }
  redirect = {port_of(member(to_port, "right")), port_of(member(member(parts[2], "redirect"), "port"))};
  return redirect.from != 0 && redirect.to != 0;
}

bool is_our_chain(const Json& chain) {
  return member(chain, "name") == "inbound" && member(chain, "type") == "nat" &&
         member(chain, "hook") == "prerouting" && member(chain, "policy") == "accept";
}

std::string text(const std::set<Redirect>& redirects) {
  std::string all;
  for (const auto& [from, to] : redirects) {
    all += (all.empty() ? "" : ", ") + std::to_string(from) + " to " + std::to_string(to);
  }
  return all.empty() ? "none" : all;
}

}  // namespace

std::string ruleset(const std::vector<Redirect>& redirects) {
  const std::string table = std::string("inet ") + kCaptureTable;
  // Removing what is not there is an error: it is made first.
  std::string rules = "add table " + table + "\ndelete table " + table + "\n";
  if (redirects.empty()) return rules;
  rules += "table " + table + " {\n  chain inbound {\n    type nat hook prerouting priority dstnat; policy accept;\n";
  for (const auto& [from, to] : redirects) {
    rules += "    iifname != \"lo\" tcp dport " + std::to_string(from) + " redirect to :" + std::to_string(to) + "\n";
  }
  return rules + "  }\n}\n";
}

Result<void> verify(const std::vector<Redirect>& redirects, std::string_view json) {
  const Json told = Json::parse(json, nullptr, false);
  const Json& items = member(told, "nftables");
  if (!items.is_array()) return fail(Errc::kInternal, "the kernel's rules cannot be read back");
  std::set<Redirect> found;
  size_t chains = 0, strange = 0;
  for (const Json& item : items) {
    if (const Json& chain = member(item, "chain"); !chain.is_null()) ++(is_our_chain(chain) ? chains : strange);
    const Json& rule = member(item, "rule");
    if (rule.is_null()) continue;
    Redirect redirect;
    if (!is_redirect(rule, redirect) || !found.insert(redirect).second) ++strange;
  }
  const std::set<Redirect> wanted(redirects.begin(), redirects.end());
  if (chains == 1 && strange == 0 && found == wanted) return {};
  return fail(Errc::kConflict, "the kernel redirects " + text(found) + ", wanted " + text(wanted) +
                                   (strange > 0 ? "; " + std::to_string(strange) + " other rules or chains" : "") +
                                   (chains != 1 ? "; the chain on the hook is missing" : ""));
}

}  // namespace tallygate::sidecar
