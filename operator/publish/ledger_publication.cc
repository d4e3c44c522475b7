#include "operator/publish/ledger_publication.h"

#include <algorithm>
#include <set>

#include "core/tenant/wire.h"

namespace tallygate::publish {
namespace {

constexpr size_t kBatch = 500;  // tenants in one transaction

ledger::PricedMeter priced_meter(const plan::MeterPrice& meter, const plan::TenantBilling& billing) {
  ledger::PricedMeter out;
  out.meter = meter.meter;
  out.settlement = meter.settlement;
  out.currency = billing.currency;
  out.per_units = meter.prices.per_units;
  out.stripe_customer_id = billing.stripe_customer_id;
  for (const auto& tier : meter.prices.tiers) {
    out.tiers.push_back({tier.up_to.value_or(tenant::kUnbounded), tier.price});
  }
  return out;
}

int period_months(const plan::TenantBilling& billing) {
  return billing.interval == manifest::Interval::kYear ? 12 : 1;
}

}  // namespace

Fingerprint terms_fingerprint(const tenant::Tenant& tenant, const plan::TenantBilling& billing) {
  tenant::Tenant unversioned = tenant;
  unversioned.version = 0;
  std::string text = tenant::to_json(unversioned);
  const auto add = [&](const std::string& part) { (text += '\n') += part; };
  add(billing.currency);
  add(billing.stripe_customer_id);
  add(std::to_string(period_months(billing)) + ' ' + std::to_string(billing.anchor_s));
  for (const auto& meter : billing.meters) {
    add(meter.meter.str() + ' ' + std::to_string(static_cast<int>(meter.settlement)) + ' ' +
        std::to_string(meter.prices.per_units));
    for (const auto& tier : meter.prices.tiers) {
      add(std::to_string(tier.up_to.value_or(-1)) + ' ' + std::to_string(tier.price));
    }
  }
  if (billing.wallet) add(billing.wallet->currency + ' ' + std::to_string(billing.wallet->debt_limit));
  return fingerprint(text);
}

ledger::TenantRecord record_of(const tenant::Tenant& tenant, const plan::TenantBilling& billing, int64_t version) {
  ledger::TenantRecord record;
  record.tenant = tenant;
  record.tenant.version = version;
  for (const auto& meter : billing.meters) record.meters.push_back(priced_meter(meter, billing));
  record.period_months = period_months(billing);
  record.period_anchor_s = billing.anchor_s;
  if (billing.wallet) record.wallet = ledger::WalletTerms{billing.wallet->currency, billing.wallet->debt_limit};
  return record;
}

LedgerPublication::LedgerPublication(Env& env, std::string database_url)
    : env_(env), session_(std::move(database_url)), store_(env, session_) {}

Result<Meta> LedgerPublication::last() {
  const std::string of_ledger = ", (select h.generation from ledger_history h)";
  const auto rows = session_.exec(
      reign_ == 0 ? "select o_generation, o_version, o_reign" + of_ledger + " from begin_reign()"
                  : "select generation, version, reign" + of_ledger + " from publication");
  if (!rows) return tl::unexpected<Error>(rows.error());
  if (rows->empty() || rows->is_null(0, 2)) return fail(Errc::kInternal, "the publication's row is missing");
  if (reign_ == 0) reign_ = rows->integer(0, 2);
  ledger_generation_ = rows->integer(0, 3);
  return Meta{std::string(rows->text(0, 0)), rows->integer(0, 1), ""};
}

Result<int64_t> LedgerPublication::begin(int64_t at_least, const std::string& generation) {
  const auto rows = session_.exec("select begin_publication($1, $2, $3), (select h.generation from ledger_history h)",
                                  {at_least, generation, ledger::timestamp_text(env_.wall_ns())});
  if (!rows) return tl::unexpected<Error>(rows.error());
  ledger_generation_ = rows->integer(0, 1);
  return rows->integer(0, 0);
}

Result<Suspensions> LedgerPublication::suspensions() {
  const auto rows = session_.exec("select tenant, reason from suspended_tenants()");
  if (!rows) return tl::unexpected<Error>(rows.error());
  Suspensions out;
  for (size_t i = 0; i < rows->size(); ++i) {
    out[std::string(rows->text(i, 0))] = rows->text(i, 1).starts_with("~dispute/")
                                             ? "its wallet is suspended because of a disputed payment"
                                             : "its wallet is suspended";
  }
  return out;
}

Result<LedgerPublication::TermChanges> LedgerPublication::changes(const plan::Compiled& compiled) {
  if (!known_) {
    const auto ids = store_.list();
    if (!ids) return tl::unexpected<Error>(ids.error());
    known_.emplace();
    for (const auto& id : *ids) (*known_)[id] = {};
  }
  TermChanges changes;
  static const plan::Compiled kNothing;
  const plan::Compiled& before = last_ ? *last_ : kNothing;
  const std::vector<size_t> same = equals_in(compiled.tenants, before.tenants);
  std::set<std::string_view> wanted;
  for (size_t i = 0; i < compiled.tenants.size(); ++i) {
    const std::string& id = compiled.tenants[i].id.str();
    wanted.insert(id);
    if (same[i] != kNone && compiled.billing[i] == before.billing[same[i]]) continue;
    const auto it = known_->find(id);
    if (it == known_->end() || it->second != terms_fingerprint(compiled.tenants[i], compiled.billing[i])) {
      changes.written.push_back(i);
    }
  }
  for (const auto& [id, terms] : *known_) {
    if (wanted.contains(id)) continue;
    // What is in the ledger was validated when it came in.
    if (auto parsed = TenantId::parse(id)) changes.removed.push_back(std::move(*parsed));
  }
  return changes;
}

Result<void> LedgerPublication::apply(const TermChanges& changes, std::shared_ptr<const plan::Compiled> compiled,
                                      const std::vector<int64_t>& versions) {
  last_.reset();  // until all of it is there
  for (size_t from = 0; from < changes.written.size(); from += kBatch) {
    const size_t to = std::min(changes.written.size(), from + kBatch);
    std::vector<ledger::TenantRecord> records;
    for (size_t i = from; i < to; ++i) {
      const size_t at = changes.written[i];
      records.push_back(record_of(compiled->tenants[at], compiled->billing[at], versions[i]));
    }
    if (auto done = store_.publish(records, {}, reign_); !done) return done;
    for (size_t i = from; i < to; ++i) {
      const size_t at = changes.written[i];
      (*known_)[compiled->tenants[at].id.str()] = terms_fingerprint(compiled->tenants[at], compiled->billing[at]);
    }
  }
  // Where nothing is left to write, whether this publisher still reigns, for what it writes elsewhere next.
  if (auto done = store_.publish({}, changes.removed, reign_); !done) return done;
  for (const auto& id : changes.removed) known_->erase(id.str());
  last_ = std::move(compiled);
  return {};
}

}  // namespace tallygate::publish
