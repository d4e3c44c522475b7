#include "operator/escrow/fitness.h"

#include <algorithm>

#include "core/redis_client/advice.h"
#include "core/redis_contract/keys.h"
#include "core/redis_contract/scripts.h"

namespace tallygate::escrow {
namespace {

using redis::Reply;

std::string_view field(std::string_view info, std::string_view name) {
  for (size_t at = 0; at < info.size();) {
    const size_t end = std::min(info.find('\n', at), info.size());
    std::string_view line = info.substr(at, end - at);
    at = end + 1;
    if (!line.starts_with(name) || line.size() <= name.size() || line[name.size()] != ':') continue;
    line.remove_prefix(name.size() + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }
  return {};
}

// A server that starts, or is kept busy by somebody's script: it is as good as away.
bool is_busy(const Reply& reply) { return reply.text.starts_with("LOADING") || reply.text.starts_with("BUSY"); }

// With keys of every shard: in cluster mode some may be elsewhere.
Result<std::string> misses_keys(redis::Client& redis) {
  std::vector<redis::Command> commands{{"EXISTS", redis_contract::meta_key()}};
  for (int shard = 0; shard < redis_contract::kShards; ++shard) {
    commands.push_back({"EXISTS", redis_contract::epoch_key(shard)});
  }
  for (const auto& reply : redis.pipeline(commands)) {
    if (!reply) return tl::unexpected(reply.error());
    if (reply->is_error())
      return "it is in cluster mode and lacks some of the keys: " + redis::with_advice(reply->text);
  }
  return std::string();
}

}  // namespace

std::string unfit_by_info(std::string_view info) {
  if (field(info, "role") != "slave") return "";
  const std::string_view host = field(info, "master_host");
  std::string primary = host.empty() ? "" : " of " + std::string(host) + ":" + std::string(field(info, "master_port"));
  return "it is a replica" + primary + " and takes no writes: name the primary, or an address that follows it";
}

Result<std::string> unfit(redis::Client& redis, Trial trial) {
  const auto info = redis.call({"INFO"});
  if (!info) return tl::unexpected(info.error());
  if (info->is_error()) {
    if (is_busy(*info)) return fail(Errc::kUnavailable, "Redis: " + info->text);
    return "INFO is barred, by which scripts know which server they run on: " + redis::with_advice(info->text);
  }
  if (std::string why = unfit_by_info(info->text); !why.empty()) return why;
  if (field(info->text, "cluster_enabled") == "1") {
    auto why = misses_keys(redis);
    if (!why || !why->empty()) return why;
  }
  std::vector<std::string> args;
  if (trial == Trial::kWhole) args.push_back(redis_contract::publish_channel());
  const auto tried = redis.eval(redis_contract::kTryOut, {redis_contract::try_out_key(0)}, std::move(args));
  if (!tried) return tl::unexpected(tried.error());
  if (tried->is_error() && is_busy(*tried)) return fail(Errc::kUnavailable, "Redis: " + tried->text);
  if (tried->is_error()) return "scripts cannot be run: " + redis::with_advice(tried->text);
  if (!tried->is_nil()) return redis::with_advice(tried->text);
  return std::string();
}

}  // namespace tallygate::escrow
