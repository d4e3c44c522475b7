#include "operator/api/usage_windows.h"

#include <algorithm>
#include <ctime>

#include "core/redis_contract/bucket_id.h"
#include "operator/api/call.h"

namespace tallygate::api {
namespace {

constexpr int64_t kNano = 1'000'000'000;

std::string limit_bucket(const tenant::Limit& limit, const Window& window) {
  return redis_contract::BucketId{limit.name.str(), false, window.start_s, window.end_s - window.start_s}.str();
}
std::string wallet_bucket(const MeterName& meter) { return redis_contract::BucketId{meter.str(), true, 0, 0}.str(); }

// "{a,b}": bucket names hold neither commas nor quotes.
std::string array_text(const std::map<std::string, std::string>& buckets) {
  std::string out = "{";
  for (const auto& [bucket, name] : buckets) out += (out.size() == 1 ? "" : ",") + bucket;
  return out + "}";
}

int64_t count_in(const std::map<std::string, int64_t, std::less<>>& counts, std::string_view name) {
  const auto found = counts.find(name);
  return found == counts.end() ? 0 : found->second;
}

}  // namespace

std::optional<Window> window_at(const tenant::Limit& limit, int64_t at_s) {
  if (is_redis_only(limit.window)) return std::nullopt;
  const auto& edges = limit.boundaries_s;
  const auto end = std::upper_bound(edges.begin(), edges.end(), at_s);
  if (end == edges.begin() || end == edges.end()) return std::nullopt;
  return Window{*std::prev(end), *end};
}

std::vector<std::string> buckets_of(const tenant::Tenant& tenant, const MeterName& meter, tenant::Settlement settlement,
                                    int64_t at_s) {
  std::vector<std::string> buckets;
  for (const auto& limit : tenant.limits) {
    if (limit.meter != meter) continue;
    if (const auto window = window_at(limit, at_s)) buckets.push_back(limit_bucket(limit, *window));
  }
  if (settlement == tenant::Settlement::kWallet) buckets.push_back(wallet_bucket(meter));
  return buckets;
}

int64_t UsedUnits::of_limit(std::string_view name) const { return count_in(limits, name); }
int64_t UsedUnits::of_meter(std::string_view name) const {
  return wallet.contains(name) ? count_in(wallet, name) : count_in(month, name);
}

Result<UsedUnits> used_units(Call& call, const tenant::Tenant& tenant) {
  const int64_t now_s = call.now_ns / kNano;
  UsedUnits used;
  std::map<std::string, std::string> names;  // bucket → limit or meter
  for (const auto& limit : tenant.limits) {
    if (const auto window = window_at(limit, now_s)) names[limit_bucket(limit, *window)] = limit.name.str();
  }
  for (const auto& meter : tenant.meters) {
    if (meter.settlement != tenant::Settlement::kWallet) continue;
    names[wallet_bucket(meter.name)] = meter.name.str();
    used.wallet[meter.name.str()] = 0;
  }
  const Window month = month_at(now_s);
  const auto done = as_tenant(call, [&](ledger::Transaction& transaction) -> Result<void> {
    auto rows = transaction.exec("select bucket, booked from usage_now($1, $2)", {call.tenant, array_text(names)});
    if (!rows) return tl::unexpected(rows.error());
    for (size_t row = 0; row < rows->size(); ++row) {
      const std::string bucket(rows->text(row, 0));
      (bucket.ends_with('$') ? used.wallet : used.limits)[names[bucket]] = rows->integer(row, 1);
    }
    rows = transaction.exec(
        "select meter, units from usage_totals($1, $2, $3)",
        {call.tenant, ledger::timestamp_text(month.start_s * kNano), ledger::timestamp_text(month.end_s * kNano)});
    if (!rows) return tl::unexpected(rows.error());
    for (size_t row = 0; row < rows->size(); ++row) used.month[std::string(rows->text(row, 0))] = rows->integer(row, 1);
    return {};
  });
  if (!done) return tl::unexpected(done.error());
  return used;
}

Window month_at(int64_t at_s) {
  const std::time_t moment = at_s;
  std::tm utc{};
  gmtime_r(&moment, &utc);
  utc.tm_mday = 1;
  utc.tm_hour = utc.tm_min = utc.tm_sec = 0;
  Window month;
  month.start_s = timegm(&utc);
  ++utc.tm_mon;
  month.end_s = timegm(&utc);
  return month;
}

}  // namespace tallygate::api
