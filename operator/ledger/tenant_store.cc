#include "operator/ledger/tenant_store.h"

#include <nlohmann/json.hpp>

#include "core/redis_contract/keys.h"
#include "core/tenant/wire.h"

namespace tallygate::ledger {
namespace {

using Json = nlohmann::json;
constexpr size_t kMaxPerCall = 500;

const char* word(tenant::Settlement settlement) {
  switch (settlement) {
    case tenant::Settlement::kInvoice:
      return "invoice";
    case tenant::Settlement::kWallet:
      return "wallet";
    case tenant::Settlement::kNone:
      return "none";
  }
  return "none";
}

const char* word(tenant::WindowKind kind) {
  static constexpr const char* kWords[] = {"second", "minute", "hour", "day",
                                           "week",   "month",  "year", "billing_period"};
  return kWords[static_cast<size_t>(kind)];
}

Json meter_json(const PricedMeter& meter) {
  Json tiers = Json::array();
  for (const PriceTier& tier : meter.tiers) {
    Json one = {{"price_micros", tier.price_micros}};
    if (tier.up_to < tenant::kUnbounded) one["up_to"] = tier.up_to;
    tiers.push_back(std::move(one));
  }
  return {{"meter", meter.meter.str()}, {"settlement", word(meter.settlement)},
          {"currency", meter.currency}, {"per_units", meter.per_units},
          {"tiers", std::move(tiers)},  {"stripe_customer_id", meter.stripe_customer_id}};
}

Json limit_json(const tenant::Limit& limit) {
  return {{"limit_name", limit.name.str()},
          {"meter", limit.meter.str()},
          {"amount", limit.amount},
          {"capacity", limit.capacity},
          {"cap", limit.cap == tenant::Cap::kSoft ? "soft" : "hard"},
          {"grace_duration_s", limit.grace_duration_s},
          {"window_kind", word(limit.window)}};
}

Result<Json> tenant_json(const TenantRecord& record) {
  const tenant::Tenant& tenant = record.tenant;
  Json doc = Json::parse(tenant::to_json(tenant), nullptr, false);
  if (doc.is_discarded()) return fail(Errc::kInternal, "tenant " + tenant.id.str() + ": its document is no JSON");
  Json meters = Json::array();
  for (const PricedMeter& meter : record.meters) meters.push_back(meter_json(meter));
  Json limits = Json::array();
  for (const tenant::Limit& limit : tenant.limits) limits.push_back(limit_json(limit));
  Json wallet;
  if (record.wallet) {
    wallet = {{"currency", record.wallet->currency}, {"debt_limit_micros", record.wallet->debt_limit_micros}};
  }
  return Json{{"id", tenant.id.str()},       {"shard", redis_contract::shard_of(tenant.id.str())},
              {"version", tenant.version},   {"suspended", tenant.suspended},
              {"doc", std::move(doc)},       {"wallet", std::move(wallet)},
              {"meters", std::move(meters)}, {"limits", std::move(limits)},
              {"period", {{"months", record.period_months}, {"anchor", record.period_anchor_s}}}};
}

// The text as JSON in valid UTF-8, whatever it holds.
std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

Result<void> TenantStore::publish(std::span<const TenantRecord> changed, std::span<const TenantId> removed,
                                  int64_t reign) {
  const std::string now = timestamp_text(env_.wall_ns());
  return session_.transact([&](Transaction& transaction) -> Result<void> {
    if (reign != 0) {
      const Result<Rows> reigns = transaction.exec("select reigns($1)", {reign});
      if (!reigns) return tl::unexpected(reigns.error());
      if (!reigns->boolean(0, 0)) return fail(Errc::kConflict, "another operator publishes by now");
    }
    for (size_t from = 0; from < changed.size(); from += kMaxPerCall) {
      Json batch = Json::array();
      for (const TenantRecord& record : changed.subspan(from, std::min(kMaxPerCall, changed.size() - from))) {
        Result<Json> one = tenant_json(record);
        if (!one) return tl::unexpected(one.error());
        batch.push_back(std::move(*one));
      }
      const Result<Rows> done =
          transaction.exec("select upsert_tenants($1::jsonb, $2::timestamptz)", {dump(batch), now});
      if (!done) return tl::unexpected(done.error());
    }
    if (removed.empty()) return {};
    Json ids = Json::array();
    for (const TenantId& id : removed) ids.push_back(id.str());
    const Result<Rows> done = transaction.exec("select remove_tenants($1::jsonb, $2::timestamptz)", {dump(ids), now});
    if (!done) return tl::unexpected(done.error());
    return {};
  });
}

Result<std::vector<std::string>> TenantStore::list() {
  const Result<Rows> rows = session_.exec("select id from tenants where deleted_at is null order by id");
  if (!rows) return tl::unexpected(rows.error());
  std::vector<std::string> ids;
  for (size_t i = 0; i < rows->size(); ++i) ids.emplace_back(rows->text(i, 0));
  return ids;
}

}  // namespace tallygate::ledger
