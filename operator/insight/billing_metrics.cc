#include "operator/insight/billing_metrics.h"

#include <cstdlib>
#include <map>

#include "core/telemetry/log.h"

namespace tallygate::insight {
namespace {

constexpr int64_t kStandbyMs = 200;
constexpr int64_t kRetryMs = 2'000;
constexpr int64_t kPausesPerRead = 50;
constexpr int kRollupsAtOnce = 20;
constexpr double kMicros = 1e6;

struct StageNames {
  const char* stage;
  const char *units, *units_help, *units_off, *amount, *amount_help, *amount_off;
};
constexpr const char* kOffHelp = "What corrections have taken off it.";
constexpr StageNames kStages[] = {
    {"booked", "tallygate_operator_booked_units_total", "Units in the ledger's aggregates.",
     "tallygate_operator_booked_units_taken_off_total", "tallygate_operator_booked_amount_total",
     "Their money at the plan's prices, in units of the currency.", "tallygate_operator_booked_amount_taken_off_total"},
    {"submitted", "tallygate_operator_submitted_units_total", "Units in meter events that were made for Stripe.",
     "tallygate_operator_submitted_units_taken_off_total", "tallygate_operator_submitted_amount_total",
     "Their money at the plan's prices, in units of the currency.",
     "tallygate_operator_submitted_amount_taken_off_total"},
    {"billed", "tallygate_operator_billed_units_total", "Units that Stripe has taken, or that the wallet has paid for.",
     "tallygate_operator_billed_units_taken_off_total", "tallygate_operator_billed_amount_total",
     "Their money at the plan's prices, in units of the currency.", "tallygate_operator_billed_amount_taken_off_total"},
};
const StageNames* names_of(std::string_view stage) {
  for (const auto& names : kStages) {
    if (stage == names.stage) return &names;
  }
  return nullptr;
}

constexpr const char* kMovedIn = "tallygate_operator_wallet_in_amount_total";
constexpr const char* kMovedInHelp = "Money that came into wallets, in units of the currency.";
constexpr const char* kMovedOut = "tallygate_operator_wallet_out_amount_total";
constexpr const char* kMovedOutHelp = "Money that left wallets, in units of the currency.";

// What is there to be told from the first tenant of a plan on, at zero, and what was counted of plans that are no more.
constexpr const char* kTotals = R"(
  with series as (
    select distinct coalesce(t.doc ->> 'plan', '') as plan, m.meter, m.settlement, m.currency
      from tenants t join tenant_meters m on m.tenant = t.id where t.deleted_at is null),
  wanted as (
    select s.stage, series.* from series cross join (values ('booked'), ('submitted'), ('billed')) s (stage)
     where s.stage = 'booked' or settlement = 'invoice' or s.stage = 'billed' and settlement = 'wallet')
  select stage, plan, meter, settlement, currency, coalesce(units, 0), coalesce(units_off, 0), coalesce(amount_micros, 0),
         coalesce(amount_off_micros, 0)
    from wanted full join billing_totals using (stage, plan, meter, settlement, currency) order by 1, 2, 3, 4, 5)";

constexpr const char* kWallets = R"(
  select currency, count(*), sum(greatest(0, balance_micros)), sum(greatest(0, -balance_micros)), sum(reserved_micros + held_micros)
    from wallets group by currency order by currency)";

constexpr const char* kMovements = R"(
  with wanted as (
    select k.kind, c.currency from (select distinct currency from wallets) c,
      unnest(array['credit', 'adjustment', 'purchase', 'commit', 'direct', 'refund', 'dispute', 'dispute_won']) k (kind))
  select kind, currency, coalesce(movements, 0), coalesce(in_micros, 0), coalesce(out_micros, 0)
    from wanted full join wallet_movement_totals using (kind, currency) order by 1, 2)";

constexpr const char* kStates = R"(
  with states as (select array['ok', 'warned', 'soft-over', 'grace', 'hard', 'suspended'] as names),
  worst as (select s.tenant, max(array_position(names, s.state)) as place from limit_standings($1) s, states group by s.tenant),
  found as (
    select case when t.suspended or s.tenant is not null then 6 else coalesce(w.place, 1) end as place, count(*) as tenants
      from tenants t left join worst w on w.tenant = t.id left join suspended_tenants() s on s.tenant = t.id
     where t.deleted_at is null group by 1)
  select n.name, coalesce(f.tenants, 0) from states, unnest(names) with ordinality n (name, place) left join found f using (place))";

// By what their usage costs: of this period where an invoice settles it, of all where the wallet does.
constexpr const char* kLargest = R"(
  with current as materialized (
    select id, period_start(period_anchor, period_months, $1) as start from tenants where deleted_at is null),
  size as (
    select c.id, sum(u.amount_micros) as amount, sum(u.units) as units
      from current c left join usage_periods u on u.tenant = c.id and (u.start = c.start or u.start = '-infinity') group by c.id)
  select coalesce(array_agg(id), '{}') from (
    select id from size order by coalesce(amount, 0) desc, coalesce(units, 0) desc, id limit $2) largest)";

// A pace is taken over 2 % of the window at least.
constexpr const char* kLimits = R"(
  select case when tenant = any ($2::text[]) then tenant else 'other' end as of_tenant, limit_name, meter, min(state), sum(amount), sum(booked),
         sum(coalesce(booked / greatest(0.02, extract(epoch from $1::timestamptz - window_start)
                                              / extract(epoch from window_end - window_start)), 0))
    from limit_standings($1) group by 1, 2, 3 order by 1, 2, 3)";
constexpr const char* kBalances = R"(
  select case when tenant = any ($1::text[]) then tenant else 'other' end as of_tenant, currency, sum(balance_micros)
    from wallets group by 1, 2 order by 1, 2)";

double number(const ledger::Rows& rows, size_t row, size_t column) {
  return std::strtod(std::string(rows.text(row, column)).c_str(), nullptr);
}
std::string text(const ledger::Rows& rows, size_t row, size_t column) { return std::string(rows.text(row, column)); }

}  // namespace

BillingMetrics::BillingMetrics(Env& env, std::string database_url, BillingMetricsOptions options,
                               std::function<bool()> is_leader, metrics::Registry& registry)
    : env_(env),
      options_(options),
      is_leader_(std::move(is_leader)),
      session_(std::move(database_url)),
      loop_(env),
      failures_(registry.counter("tallygate_operator_billing_metrics_failures_total",
                                 "Reads of the billing metrics that the ledger failed.")),
      collector_(registry.collect([this](metrics::Scrape& scrape) { tell(scrape); })) {}

BillingMetrics::~BillingMetrics() { stop(); }

void BillingMetrics::start() {
  if (thread_.joinable()) return;
  stopping_ = false;
  thread_ = std::thread([this] { run(); });
}

void BillingMetrics::stop() {
  stopping_ = true;
  loop_.post([] {});
  if (thread_.joinable()) thread_.join();
}

Result<void> BillingMetrics::read_totals(Samples& out) {
  const auto rows = session_.exec(kTotals);
  if (!rows) return tl::unexpected<Error>(rows.error());
  // A plan that came again with another currency has one series of units.
  std::map<std::pair<const char*, metrics::Labels>, std::pair<double, const char*>> units;
  for (size_t i = 0; i < rows->size(); ++i) {
    const StageNames* names = names_of(rows->text(i, 0));
    if (names == nullptr) continue;
    const std::string settlement = text(*rows, i, 3), currency = text(*rows, i, 4);
    metrics::Labels labels{{"plan", text(*rows, i, 1)}, {"meter", text(*rows, i, 2)}, {"settlement", settlement}};
    auto& plus = units[{names->units, labels}];
    plus = {plus.first + number(*rows, i, 5), names->units_help};
    auto& minus = units[{names->units_off, labels}];
    minus = {minus.first + number(*rows, i, 6), kOffHelp};
    labels.emplace_back("currency", currency);
    const double amount = number(*rows, i, 7) / kMicros, amount_off = number(*rows, i, 8) / kMicros;
    out.push_back({true, names->amount, names->amount_help, labels, amount});
    out.push_back({true, names->amount_off, kOffHelp, labels, amount_off});
    if (rows->text(i, 0) != "billed" || settlement != "wallet") continue;
    // Usage is a movement of wallets by meters of plans; here by kind.
    const metrics::Labels kind{{"kind", "usage"}, {"currency", currency}};
    auto& paid = units[{kMovedOut, kind}];
    paid = {paid.first + amount, kMovedOutHelp};
    auto& given_back = units[{kMovedIn, kind}];
    given_back = {given_back.first + amount_off, kMovedInHelp};
  }
  for (const auto& [series, value] : units) {
    out.push_back({true, series.first, value.second, series.second, value.first});
  }
  return {};
}

Result<void> BillingMetrics::read_wallets(Samples& out) {
  int64_t rolled_up = options_.rollup_batch;
  for (int i = 0; i < kRollupsAtOnce && rolled_up == options_.rollup_batch && !stopping_; ++i) {
    const auto rows = session_.exec("select roll_up_wallet_movements($1)", {options_.rollup_batch});
    if (!rows) return tl::unexpected<Error>(rows.error());
    rolled_up = rows->integer(0, 0);
  }
  // Of a ledger that is older than this metric: not before all of it is counted.
  movements_known_ |= rolled_up >= 0 && rolled_up < options_.rollup_batch;
  const auto rows = session_.exec(kWallets);
  if (!rows) return tl::unexpected<Error>(rows.error());
  for (size_t i = 0; i < rows->size(); ++i) {
    const metrics::Labels of{{"currency", text(*rows, i, 0)}};
    out.push_back({false, "tallygate_operator_wallets", "Wallets.", of, number(*rows, i, 1)});
    out.push_back({false, "tallygate_operator_wallet_balance_amount",
                   "Sum of the wallets that are above zero, holds included.", of, number(*rows, i, 2) / kMicros});
    out.push_back({false, "tallygate_operator_wallet_debt_amount", "Sum of the wallets that are below zero.", of,
                   number(*rows, i, 3) / kMicros});
    out.push_back({false, "tallygate_operator_wallet_held_amount",
                   "Of the balances, on hold for reservations and for units that sidecars have.", of,
                   number(*rows, i, 4) / kMicros});
  }
  if (!movements_known_) return {};
  const auto moved = session_.exec(kMovements);
  if (!moved) return tl::unexpected<Error>(moved.error());
  for (size_t i = 0; i < moved->size(); ++i) {
    const metrics::Labels of{{"kind", text(*moved, i, 0)}, {"currency", text(*moved, i, 1)}};
    out.push_back({true, "tallygate_operator_wallet_movements_total",
                   "Movements of wallets, those that only hold and free money included; usage is not counted here.", of,
                   number(*moved, i, 2)});
    out.push_back({true, kMovedIn, kMovedInHelp, of, number(*moved, i, 3) / kMicros});
    out.push_back({true, kMovedOut, kMovedOutHelp, of, number(*moved, i, 4) / kMicros});
  }
  return {};
}

Result<void> BillingMetrics::read_states(Samples& out) {
  const auto rows = session_.exec(kStates, {ledger::timestamp_text(env_.wall_ns())});
  if (!rows) return tl::unexpected<Error>(rows.error());
  for (size_t i = 0; i < rows->size(); ++i) {
    out.push_back({false, "tallygate_operator_tenants",
                   "Tenants by the worst state of their limits (windows of an hour and longer), or suspended.",
                   {{"state", text(*rows, i, 0)}}, number(*rows, i, 1)});
  }
  return {};
}

Result<void> BillingMetrics::read_tenants(Samples& out) {
  if (options_.tenants == 0) return {};
  const auto rows = session_.exec(kLimits, {ledger::timestamp_text(env_.wall_ns()), largest_});
  if (!rows) return tl::unexpected<Error>(rows.error());
  for (size_t i = 0; i < rows->size(); ++i) {
    metrics::Labels of{{"tenant", text(*rows, i, 0)}, {"limit", text(*rows, i, 1)}, {"meter", text(*rows, i, 2)}};
    out.push_back({false, "tallygate_operator_tenant_limit_units", "A tenant's limit.", of, number(*rows, i, 4)});
    out.push_back({false, "tallygate_operator_tenant_usage_units", "What of it is used in the present window.", of,
                   number(*rows, i, 5)});
    out.push_back({false, "tallygate_operator_tenant_projected_units",
                   "What will be used at the window's end, at the window's pace so far.", of, number(*rows, i, 6)});
    if (rows->text(i, 0) == "other") continue;
    of.emplace_back("state", text(*rows, i, 3));
    out.push_back({false, "tallygate_operator_tenant_limit_state", "1, labelled with the limit's state.", of, 1});
  }
  const auto balances = session_.exec(kBalances, {largest_});
  if (!balances) return tl::unexpected<Error>(balances.error());
  for (size_t i = 0; i < balances->size(); ++i) {
    out.push_back({false, "tallygate_operator_tenant_balance_amount", "A tenant's wallet, in units of the currency.",
                   {{"tenant", text(*balances, i, 0)}, {"currency", text(*balances, i, 1)}},
                   number(*balances, i, 2) / kMicros});
  }
  return {};
}

Result<void> BillingMetrics::read_slow() {
  const int64_t now_ms = env_.mono_ms();
  if (now_ms < slow_due_ms_) return {};
  const auto rows = session_.exec(
      "select software, count(distinct pod) from incarnations where last_epoch is null group by software order by 1");
  if (!rows) return tl::unexpected<Error>(rows.error());
  sidecars_.clear();
  for (size_t i = 0; i < rows->size(); ++i) {
    sidecars_.push_back({false, "tallygate_operator_sidecars", "Sidecars that were heard of within the last hour.",
                         {{"software", text(*rows, i, 0)}}, number(*rows, i, 1)});
  }
  if (options_.tenants > 0) {
    const auto largest = session_.exec(kLargest, {ledger::timestamp_text(env_.wall_ns()), options_.tenants});
    if (!largest) return tl::unexpected<Error>(largest.error());
    largest_ = largest->text(0, 0);
  }
  const bool none_yet = options_.tenants > 0 && (largest_.empty() || largest_ == "{}");  // costs nothing: soon again
  slow_due_ms_ = none_yet ? 0 : now_ms + options_.slow_interval_ms;
  return {};
}

Result<void> BillingMetrics::refresh() {
  auto figures = std::make_shared<Figures>();
  figures->at_ms = env_.mono_ms();
  if (auto done = read_slow(); !done) return done;
  figures->samples = sidecars_;
  for (auto read : {&BillingMetrics::read_totals, &BillingMetrics::read_wallets, &BillingMetrics::read_states,
                    &BillingMetrics::read_tenants}) {
    if (auto done = (this->*read)(figures->samples); !done) return done;
  }
  const std::lock_guard lock(mutex_);
  figures_ = std::move(figures);
  return {};
}

void BillingMetrics::tell(metrics::Scrape& scrape) const {
  if (!is_leader_()) return;
  std::shared_ptr<const Figures> figures;
  {
    const std::lock_guard lock(mutex_);
    figures = figures_;
  }
  if (!figures) return;
  scrape.gauge("tallygate_operator_billing_metrics_age_seconds", "Since the billing metrics were read from the ledger.",
               {}, static_cast<double>(env_.mono_ms() - figures->at_ms) / 1000);
  for (const Sample& sample : figures->samples) {
    if (sample.is_counter) scrape.counter(sample.name, sample.help, sample.labels, sample.value);
    else scrape.gauge(sample.name, sample.help, sample.labels, sample.value);
  }
}

void BillingMetrics::run() {
  int64_t next_ms = env_.mono_ms();
  while (!stopping_) {
    if (!is_leader_()) {
      const std::lock_guard lock(mutex_);
      figures_.reset();  // the next reign begins with what the ledger says then
      next_ms = slow_due_ms_ = 0;
      movements_known_ = false;
    } else if (env_.mono_ms() >= next_ms) {
      const int64_t began_ms = env_.mono_ms();
      const auto done = refresh();
      // Of very many tenants it is read less often: at most a fiftieth of the time.
      const int64_t pause_ms = std::max(options_.interval_ms, kPausesPerRead * (env_.mono_ms() - began_ms));
      next_ms = env_.mono_ms() + (done ? pause_ms : std::min(kRetryMs, options_.interval_ms));
      if (!done) {
        failures_.add();
        static log::Throttle throttle(10);
        log::warn(throttle, "the billing metrics cannot be read", {{"error", done.error().message}});
      }
    }
    loop_.run_once(kStandbyMs);
  }
}

}  // namespace tallygate::insight
