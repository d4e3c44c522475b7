#include "operator/credentials/acl.h"

#include "core/redis_contract/keys.h"
#include "core/sha256.h"

namespace tallygate::credentials {
namespace {

namespace rc = redis_contract;

constexpr char kPrefix[] = "tallygate-ns.";
// Of connections, of the sidecar itself, and of what lease.lua, close.lua and give_back.lua run.
constexpr const char* kCommands[] = {
    "+auth",  "+hello",     "+ping",  "+select", "+info",   "+time",   "+subscribe",     "+publish",
    "+get",   "+mget",      "+hget",  "+hmget", "+hset",   "+hdel",   "+zadd",   "+zrangebyscore", "+zremrangebyscore",
    "+scard", "+sismember", "+sadd",  "+zrange", "+xadd",  "+zscore", "+pexpire",
    "+expire"};
// Of every shard: read, written, or both.
constexpr const char* kShardKeys[] = {"%R~tg:{s??}:epoch",   "%R~tg:{s??}:wm",    "%R~tg:{s??}:*:reg",
                                      "~tg:{s??}:*:closed",   "~tg:{s??}:heard",   "~tg:{s??}:*:want",
                                      "~tg:{s??}:*:held:*",  "~tg:{s??}:*:minted", "%W~tg:{s??}:usage",
                                      "~tg:{s??}:ledger",    "~tg:{s??}:claims"};
// A script names the keys that it uses, and for Redis might do anything with them; what it then does is checked anew.
constexpr char kScripts[] = "(+eval +evalsha ~tg:{s??}:*)";

}  // namespace

std::string acl_user(const std::string& name_space) { return kPrefix + name_space; }
bool is_acl_user(const std::string& user) { return user.starts_with(kPrefix); }

std::vector<std::string> acl_rules(const std::string& name_space, const std::vector<std::string>& lent,
                                   const std::vector<std::string>& passwords,
                                   const std::vector<std::string>& former) {
  std::vector<std::string> rules = {"reset", "on"};
  for (const std::string& password : passwords) rules.push_back("#" + sha256_hex(password));
  for (const std::string& hash : former) rules.push_back("#" + hash);
  rules.insert(rules.end(), {"resetchannels", "&" + rc::want_channel(), "&" + rc::publish_channel()});
  rules.insert(rules.end(), std::begin(kCommands), std::end(kCommands));
  rules.insert(rules.end(), std::begin(kShardKeys), std::end(kShardKeys));
  const std::string identities = "tg:{pub}:id:*", tenants = "tg:{s??}:tenant:" + name_space + "/*";
  rules.insert(rules.end(), {"%R~" + rc::meta_key(), "%R~" + rc::changes_key(), "~tg:{s??}:*:b:" + name_space + "/*"});
  const auto readable = [&](const std::string& key) {
    rules.push_back("%R~" + key);
    rules.push_back("%R~" + rc::signature_key(key));
  };
  for (const std::string& key : {identities, rc::policy_key(name_space + "/*"), tenants}) readable(key);
  for (const std::string& tenant : lent) {
    readable(rc::tenant_key(tenant));
    rules.push_back("~" + rc::shard_prefix(rc::shard_of(tenant)) + "*:b:" + rc::member(tenant, "*"));
  }
  rules.push_back(kScripts);
  return rules;
}

}  // namespace tallygate::credentials
