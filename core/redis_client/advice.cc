#include "core/redis_client/advice.h"

#include <utility>

namespace tallygate::redis {
namespace {

constexpr std::string_view kInScript = "The user executing the script can't";

// What a user of Redis lacks, as a rule for ACL SETUSER.
std::string missing_rule(std::string_view refusal) {
  if (refusal.find("channel") != refusal.npos) return "&tg:*";
  if (refusal.find("keys") != refusal.npos) return "~tg:*";
  // Of a command within a script Redis does not say which: try_out.lua has put it in front.
  if (refusal.find(kInScript) != refusal.npos) {
    std::string rule = "+" + std::string(refusal.substr(0, refusal.find(':')));
    for (char& c : rule) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return rule.find(' ') == rule.npos ? rule : "";
  }
  const size_t begin = refusal.find('\'');
  const size_t end = begin == refusal.npos ? refusal.npos : refusal.find('\'', begin + 1);
  if (end == refusal.npos) return "";
  return "+" + std::string(refusal.substr(begin + 1, end - begin - 1));
}

constexpr std::pair<std::string_view, const char*> kFixes[] = {
    {"READONLY", "name the primary"},
    {"NOREPLICAS", "bring its replicas back, or lower min-replicas-to-write"},
    {"OOM", "raise maxmemory, or free what is not Tallygate's"},
    {"MISCONF", "it cannot save to its disk: its own log says why"},
    {"MOVED", "in cluster mode the server that is named must hold all slots"},
    {"CLUSTERDOWN", "in cluster mode the server that is named must hold all slots"},
    {"CROSSSLOT", "in cluster mode the server that is named must hold all slots"},
    {"unknown command", "the command is barred or renamed (rename-command): let it be"},
    {"Unknown Redis command", "the command is barred or renamed (rename-command): let it be"},
};

}  // namespace

std::string advice(std::string_view error_reply) {
  if (error_reply.find("NOPERM") != error_reply.npos || error_reply.find("no permissions") != error_reply.npos ||
      error_reply.find(kInScript) != error_reply.npos) {
    const std::string rule = missing_rule(error_reply);
    return "give its user what it lacks" + (rule.empty() ? "" : ": ACL SETUSER … " + rule);
  }
  for (const auto& [sign, fix] : kFixes) {
    if (error_reply.find(sign) != error_reply.npos) return fix;
  }
  return "";
}

std::string with_advice(std::string_view error_reply) {
  std::string text(error_reply);
  if (const std::string fix = advice(error_reply); !fix.empty()) text += ": " + fix;
  return text;
}

}  // namespace tallygate::redis
