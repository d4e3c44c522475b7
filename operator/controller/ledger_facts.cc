#include "operator/controller/ledger_facts.h"

#include <nlohmann/json.hpp>

namespace tallygate::controller {
namespace {

using Json = nlohmann::json;

constexpr int64_t kLate_ms = 10'000;  // a transaction of the ledger that takes longer is none of ours

constexpr char kUsed[] =
    "select x.tenant, x.bucket, a.booked, coalesce(extract(epoch from a.crossed_at)::bigint, 0) "
    "from jsonb_to_recordset($1) as x (tenant text, bucket text) "
    "join escrow_accounts a on a.tenant = x.tenant and a.bucket = x.bucket";
constexpr char kWallets[] =
    "select w.tenant, w.currency, w.balance_micros, w.held_micros, w.reserved_micros, w.debt_limit_micros "
    "from jsonb_to_recordset($1) as x (tenant text, currency text) "
    "join wallets w on w.tenant = x.tenant and w.currency = x.currency and w.closed_at is null";
constexpr char kSubmissions[] =
    "select tenant, count(*) filter (where state = 'dead'), count(*) filter (where state = 'held') from meter_submissions "
    "where state in ('dead', 'held') and tenant in (select jsonb_array_elements_text($1)) group by tenant";

}  // namespace

Result<std::map<std::string, TenantFacts>> LedgerFacts::read(const std::vector<Ask>& asks,
                                                             const std::map<std::string, std::string>& suspended) {
  Json buckets = Json::array(), wallets = Json::array(), tenants = Json::array();
  std::map<std::string, TenantFacts> facts;
  for (const auto& ask : asks) {
    facts[ask.tenant];
    tenants.push_back(ask.tenant);
    wallets.push_back({{"tenant", ask.tenant}, {"currency", ask.currency}});
    for (const auto& bucket : ask.buckets) buckets.push_back({{"tenant", ask.tenant}, {"bucket", bucket}});
  }
  const auto fill = [&](const char* sql, const Json& parameter, const auto& take) -> Result<void> {
    const auto rows = session_.exec(sql, {parameter.dump()});
    if (!rows) return tl::unexpected<Error>(rows.error());
    for (size_t i = 0; i < rows->size(); ++i) {
      const auto found = facts.find(std::string(rows->text(i, 0)));
      if (found != facts.end()) take(found->second, *rows, i);
    }
    return {};
  };
  auto done = fill(kUsed, buckets, [](TenantFacts& f, const ledger::Rows& rows, size_t i) {
    f.used[std::string(rows.text(i, 1))] = {rows.integer(i, 2), rows.integer(i, 3)};
  });
  if (done) {
    done = fill(kWallets, wallets, [](TenantFacts& f, const ledger::Rows& rows, size_t i) {
      f.wallet = Wallet{std::string(rows.text(i, 1)), rows.integer(i, 2), rows.integer(i, 3), rows.integer(i, 4), rows.integer(i, 5)};
    });
  }
  if (done) {
    done = fill(kSubmissions, tenants, [](TenantFacts& f, const ledger::Rows& rows, size_t i) {
      f.dead = rows.integer(i, 1);
      f.held = rows.integer(i, 2);
    });
  }
  for (auto& [tenant, fact] : facts) {
    if (const auto found = suspended.find(tenant); found != suspended.end()) fact.suspended = found->second;
  }
  if (!done) return tl::unexpected<Error>(done.error());
  return facts;
}

Result<std::map<std::string, std::string>> LedgerFacts::suspended() {
  const auto rows = session_.exec("select tenant, reason from suspended_tenants()");
  if (!rows) return tl::unexpected<Error>(rows.error());
  std::map<std::string, std::string> out;
  for (size_t i = 0; i < rows->size(); ++i) {
    out[std::string(rows->text(i, 0))] = rows->text(i, 1).starts_with("~dispute/")
                                             ? "the wallet is suspended because of a disputed payment"
                                             : "the wallet is suspended";
  }
  return out;
}

Result<std::vector<std::string>> LedgerFacts::changed(int64_t now_ms) {
  while (marks_.size() > 1 && marks_[1].at_ms <= now_ms - kLate_ms) marks_.pop_front();
  std::vector<std::string> tenants;
  if (!marks_.empty()) {
    const auto rows = session_.exec(
        "select tenant from ledger_transfers where id > $1 and tenant is not null "
        "union select tenant from usage_aggregates where id > $2",
        {marks_.front().transfer, marks_.front().aggregate});
    if (!rows) return tl::unexpected<Error>(rows.error());
    for (size_t i = 0; i < rows->size(); ++i) tenants.emplace_back(rows->text(i, 0));
  }
  const auto newest = session_.exec(
      "select coalesce((select max(id) from ledger_transfers), 0), coalesce((select max(id) from usage_aggregates), 0)");
  if (!newest) return tl::unexpected<Error>(newest.error());
  marks_.push_back({now_ms, newest->integer(0, 0), newest->integer(0, 1)});
  return tenants;
}

Result<std::set<std::string>> LedgerFacts::settled(const std::vector<std::string>& tenants) {
  const auto rows = session_.exec(
      "select x from jsonb_array_elements_text($1) x where not exists (select from tenants where id = x and deleted_at is null) "
      "and not exists (select from usage_records where tenant = x and aggregate_id is null and flag is distinct from 'too-large')",
      {Json(tenants).dump()});
  if (!rows) return tl::unexpected<Error>(rows.error());
  std::set<std::string> settled;
  for (size_t i = 0; i < rows->size(); ++i) settled.emplace(rows->text(i, 0));
  return settled;
}

Result<void> LedgerFacts::note_end(const std::string& tenant, const std::string& uid, const std::string& what, int64_t now_ns) {
  const Json details = {{"uid", uid}};
  const auto rows = session_.exec(
      "insert into audit_log (at, tenant, actor, action, reason, details) select $1::timestamptz, $2, 'controller', 'tenant.end', $3, $4::jsonb "
      "where not exists (select from audit_log where tenant = $2 and action = 'tenant.end' and details @> $4::jsonb)",
      {ledger::timestamp_text(now_ns), tenant, what, details.dump()});
  if (!rows) return tl::unexpected<Error>(rows.error());
  return {};
}

}  // namespace tallygate::controller
