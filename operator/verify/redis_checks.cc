#include <charconv>
#include <map>

#include "core/redis_client/client.h"
#include "core/redis_contract/all_scripts.h"
#include "core/redis_contract/keys.h"
#include "operator/verify/checks.h"

namespace tallygate::verify {
namespace {

using redis::Client;
using redis::Reply;

constexpr int64_t kVersionMin = 7;
constexpr int64_t kTimeoutMs = 5000;
constexpr const char* kPolicy = "noeviction";

redis::ConnectionOptions options() {
  redis::ConnectionOptions out;
  out.connect_timeout_ms = out.call_timeout_ms = kTimeoutMs;
  return out;
}

class RedisChecks {
 public:
  RedisChecks(Env& env, const redis::Endpoint& endpoint, const LedgerFacts* facts, const ReadFacts& again,
              int64_t settle_ms, Report& report)
      : env_(env),
        endpoint_(endpoint),
        facts_(facts),
        again_(again),
        settle_ms_(settle_ms),
        report_(report),
        client_(env, endpoint, options()) {}

  void run() {
    const auto pong = Client::check(client_.call({"PING"}));
    if (!pong) {
      report_.missing("redis: reachable", pong.error().message, "check --redis-url, and that Redis is up");
      report_.skipped("redis: everything else", "Redis did not answer");
      return;
    }
    report_.ok("redis: reachable", endpoint_.display());
    check_server();
    check_scripts();
    if (!facts_) {
      report_.skipped("redis: epochs", "they are compared with the ledger, which could not be read");
      report_.skipped("redis: publication", "it is compared with the ledger, which could not be read");
      return;
    }
    Report compared = compare(*facts_);
    if (!compared.all_right()) {
      env_.sleep_ms(settle_ms_);
      if (const auto now = again_()) compared = compare(*now);
    }
    report_.append(std::move(compared));
  }

 private:
  // INFO rather than CONFIG GET, which hosted Redis often refuses.
  void check_server() {
    std::map<std::string, std::string> info;
    for (const char* section : {"server", "memory", "replication"}) {
      const auto reply = Client::check(client_.call({"INFO", section}));
      if (!reply) {
        report_.wrong("redis: server", reply.error().message, "let this user call INFO; our scripts need it too");
        return;
      }
      add_info(reply->text, info);
    }
    const std::string& version = info["redis_version"];
    int64_t major = 0;
    std::from_chars(version.data(), version.data() + version.size(), major);
    if (major >= kVersionMin) {
      report_.ok("redis: version", version);
    } else {
      report_.wrong("redis: version", version + " is too old", "run Redis 7 or later");
    }
    const std::string& policy = info["maxmemory_policy"];
    if (policy == kPolicy) {
      report_.ok("redis: maxmemory-policy", policy);
    } else {
      report_.wrong("redis: maxmemory-policy", "it is '" + policy + "': Redis may drop quota that is in use",
                    "config set maxmemory-policy noeviction, and the same in its configuration");
    }
    const std::string& role = info["role"];
    if (role == "master") {
      report_.ok("redis: role", role);
    } else {
      report_.wrong("redis: role", "it is '" + role + "': scripts act only on the primary",
                    "point --redis-url to the primary");
    }
  }

  static void add_info(std::string_view text, std::map<std::string, std::string>& info) {
    while (!text.empty()) {
      const size_t end = std::min(text.find("\r\n"), text.size());
      const std::string_view line = text.substr(0, end);
      text.remove_prefix(std::min(end + 2, text.size()));
      const size_t colon = line.find(':');
      if (colon != line.npos) info.emplace(line.substr(0, colon), line.substr(colon + 1));
    }
  }

  // Epoch −1 is nobody's, so that every script refuses at its guard and changes nothing; `ack` is given no ids, and a
  // generation of the ledger that never was. `try_out` has no guard, and a key of its own.
  void check_scripts() {
    using namespace redis_contract;
    size_t good = 0;
    for (const Script* script : all_scripts()) {
      const std::string check = "redis: script " + std::string(script->name);
      const std::string fix = "let this user load and run scripts (SCRIPT LOAD, EVALSHA, EVAL)";
      const auto sha = Client::check(client_.call({"SCRIPT", "LOAD", std::string(script->source)}));
      if (!sha) {
        report_.wrong(check, "it does not load: " + sha.error().message, fix);
        continue;
      }
      if (!sha->is_text(script->sha1)) {
        report_.wrong(check, "its SHA-1 is " + sha->text + ", not " + std::string(script->sha1),
                      "what answers there is no Redis: use Redis 7 or later");
        continue;
      }
      if (script == &kTryOut) {
        const auto tried = Client::check(client_.eval(*script, {try_out_key(0)}, {}));
        if (tried && tried->is_nil())
          ++good;
        else
          report_.wrong(check, tried ? tried->text : "it does not run: " + tried.error().message, fix);
        continue;
      }
      const std::vector<std::string> keys{epoch_key(0),      registered_key(0, -1), closed_key(0, -1),
                                          want_key(0, -1),   watermark_key(0),      held_key(0, -1, "0"),
                                          minted_key(0, -1), heard_key(0),          ledger_key(0)};
      const auto reply = Client::check(client_.eval(*script, keys, {"-1", "-1", "0", "0", "0", "", "0", "0"}));
      if (!reply) {
        report_.wrong(check, "it does not run: " + reply.error().message, fix);
      } else if (!refused(*reply)) {
        report_.wrong(check, "it answered '" + reply->text + "' to an epoch that never was", fix);
      } else {
        ++good;
      }
    }
    if (good == all_scripts().size())
      report_.ok("redis: scripts", std::to_string(good) + " load, and refuse a wrong epoch");
  }

  static bool refused(const Reply& reply) {
    if (reply.is_integer()) return reply.integer >= 0;
    if (reply.is_array()) return !reply.elements.empty() && refused(reply.elements[0]);
    return reply.is_text("EPOCH");
  }

  Report compare(const LedgerFacts& facts) {
    Report out;
    check_ledger(facts, out);
    check_epochs(facts, out);
    check_publication(facts, out);
    return out;
  }

  void check_ledger(const LedgerFacts& facts, Report& out) {
    const auto id = Client::check(client_.call({"HGET", redis_contract::ledger_key(0), "id"}));
    if (!id) return out.wrong("redis: ledger", id.error().message, "let this user read tg:*");
    if (id->is_nil()) {
      return out.missing("redis: ledger", "it was not told which ledger it serves",
                         "a running operator tells it within a second: see to it that one with role pipeline leads");
    }
    if (id->text != facts.ledger) {
      return out.wrong("redis: ledger", "it serves ledger " + id->text + ", and this one is " + facts.ledger,
                       "give each ledger a Redis of its own; docs/runbooks/ledger-restore.md");
    }
    out.ok("redis: ledger", "it serves this one");
  }

  void check_epochs(const LedgerFacts& facts, Report& out) {
    using namespace redis_contract;
    const std::string fix =
        "a running operator opens them within a second: see to it that one with role pipeline runs and leads";
    if (facts.epochs.size() != static_cast<size_t>(kShards)) {
      out.wrong("redis: epochs", "the ledger shows " + std::to_string(facts.epochs.size()) + " shards of 64",
                "let the database user be a member of tallygate_pipeline");
      return;
    }
    std::vector<Client::Eval> calls;
    for (int shard = 0; shard < kShards; ++shard) calls.push_back({&kRenew, {epoch_key(shard)}, {}});
    const auto replies = client_.eval_all(std::move(calls));
    std::vector<std::string> none, other;
    for (size_t shard = 0; shard < replies.size(); ++shard) {
      const auto reply = Client::check(replies[shard]);
      if (!reply) {
        out.wrong("redis: epochs", reply.error().message, "let this user run scripts");
        return;
      }
      const int64_t in_redis = reply->to_integer(), in_ledger = facts.epochs[shard];
      const std::string name = "shard " + std::to_string(shard);
      if (in_redis == 0) {
        none.push_back(name + " (ledger: " + std::to_string(in_ledger) + ")");
      } else if (in_redis != in_ledger) {
        other.push_back(name + " (" + std::to_string(in_redis) + ", ledger: " + std::to_string(in_ledger) + ")");
      }
    }
    if (!none.empty()) {
      out.missing("redis: epochs",
                  "none may be acted under, since Redis was wiped, restarted or promoted: " + listed(none, none.size()),
                  fix);
    }
    if (!other.empty()) {
      out.wrong("redis: epochs", "not the ledger's: " + listed(other, other.size()), fix);
    }
    if (none.empty() && other.empty()) out.ok("redis: epochs", "64 shards, all the ledger's");
  }

  void check_publication(const LedgerFacts& facts, Report& out) {
    using namespace redis_contract;
    const char* check = "redis: publication";
    const std::string fix =
        "a running operator publishes within a second: see to it that one with role controller runs and leads";
    const auto meta = Client::check(client_.call({"HMGET", meta_key(), "generation", "version"}));
    if (!meta || meta->elements.size() != 2) {
      out.wrong(check, meta ? "HMGET answered no pair" : meta.error().message, "let this user read " + meta_key());
      return;
    }
    if (!meta->elements[0].is_text()) return out.missing(check, "there is none in Redis", fix);
    const std::string& generation = meta->elements[0].text;
    const int64_t version = meta->elements[1].to_integer();
    if (generation != facts.generation || version != facts.version) {
      out.wrong(check,
                "Redis has version " + std::to_string(version) + " of generation '" + generation + "', the ledger " +
                    std::to_string(facts.version) + " of '" + facts.generation + "'",
                fix);
      return;
    }
    std::vector<std::string> absent;
    for (const std::string& tenant : facts.tenants) {
      const auto there = Client::check(client_.call({"EXISTS", tenant_key(tenant)}));
      if (!there) return out.wrong(check, there.error().message, "let this user read tg:*");
      if (there->to_integer() != 1) absent.push_back(tenant);
    }
    if (!absent.empty()) {
      out.wrong(check, "documents of tenants are gone: " + listed(absent, absent.size()), fix);
      return;
    }
    out.ok(check, "version " + std::to_string(version) + ", documents of " + std::to_string(facts.tenants.size()) +
                      " tenants looked at");
  }

  Env& env_;
  const redis::Endpoint& endpoint_;
  const LedgerFacts* facts_;
  const ReadFacts& again_;
  int64_t settle_ms_;
  Report& report_;
  Client client_;
};

}  // namespace

void check_redis(Env& env, const redis::Endpoint& endpoint, const LedgerFacts* facts, const ReadFacts& again,
                 int64_t settle_ms, Report& report) {
  RedisChecks(env, endpoint, facts, again, settle_ms, report).run();
}

}  // namespace tallygate::verify
