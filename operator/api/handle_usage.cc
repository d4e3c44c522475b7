// Usage as the ledger has it: now, over time, and where it is heading.
#include "operator/api/call.h"
#include "operator/api/text.h"
#include "operator/api/usage_windows.h"
#include "operator/api/wallet_json.h"

namespace tallygate::api {
namespace {

constexpr int64_t kNano = 1'000'000'000;
constexpr int64_t kDayS = 86'400;

const tenant::Tenant* tenant_of(const Call& call) {
  return call.snapshot ? call.snapshot->tenant(call.tenant) : nullptr;
}

std::string_view to_string(tenant::WindowKind kind) {
  switch (kind) {
    case tenant::WindowKind::kSecond:
      return "Second";
    case tenant::WindowKind::kMinute:
      return "Minute";
    case tenant::WindowKind::kHour:
      return "Hour";
    case tenant::WindowKind::kDay:
      return "Day";
    case tenant::WindowKind::kWeek:
      return "Week";
    case tenant::WindowKind::kMonth:
      return "Month";
    case tenant::WindowKind::kYear:
      return "Year";
    case tenant::WindowKind::kBillingPeriod:
      return "BillingPeriod";
  }
  return "";
}

void put_limit(JsonWriter& json, const tenant::Limit& limit, const Window& window, int64_t used) {
  json.key("name");
  json.value(limit.name.str());
  json.key("meter");
  json.value(limit.meter.str());
  json.key("window");
  json.value(to_string(limit.window));
  json.key("cap");
  json.value(limit.cap == tenant::Cap::kHard ? "Hard" : "Soft");
  json.key("amount");
  json.value(limit.amount);
  json.key("used");
  json.value(used);
  json.key("remaining");
  json.value(std::max<int64_t>(0, limit.amount - used));
  json.key("windowStart");
  json.value(format_moment(window.start_s * kNano));
  json.key("resetsAt");
  json.value(format_moment(window.end_s * kNano));
}

// What `units` of the month cost; a wallet's meter is priced on from its first unit ever, so that its past is told.
Result<Micros> month_cost(const plan::MeterPrice& price, int64_t before, int64_t units) {
  if (price.settlement == tenant::Settlement::kNone) return Micros{0};
  const auto exact = plan::cost(price.prices, before, units);
  if (!exact) return tl::unexpected(exact.error());
  return exact->rounded();
}

struct MeterMonth {
  int64_t units = 0;
  int64_t before = 0;  // units that set the tier, before the month's
};
MeterMonth month_of(const UsedUnits& used, const plan::MeterPrice& price) {
  MeterMonth out;
  if (const auto found = used.month.find(price.meter.str()); found != used.month.end()) out.units = found->second;
  if (price.settlement == tenant::Settlement::kWallet) {
    out.before = std::max<int64_t>(0, used.of_meter(price.meter.str()) - out.units);
  }
  return out;
}

const std::string& currency_of(const plan::TenantBilling& billing, const plan::MeterPrice& price) {
  return price.settlement == tenant::Settlement::kWallet && billing.wallet ? billing.wallet->currency
                                                                           : billing.currency;
}

// units × length ÷ elapsed, at most 2^53 − 1.
int64_t projected(int64_t units, const Window& window, int64_t now_s) {
  const int64_t elapsed_s = std::max<int64_t>(1, now_s - window.start_s);
  const auto value = mul_div_half_even(units, window.end_s - window.start_s, elapsed_s);
  return value && *value < kMaxInteger ? *value : kMaxInteger;
}

Result<void> put_meters(JsonWriter& json, const plan::TenantBilling& billing, const UsedUnits& used,
                        const std::optional<int64_t>& project_at_s) {
  json.key("meters");
  json.begin_array();
  for (const auto& price : billing.meters) {
    const MeterMonth month = month_of(used, price);
    const auto cost = month_cost(price, month.before, month.units);
    if (!cost) return tl::unexpected(cost.error());
    const std::string& currency = currency_of(billing, price);
    json.begin_object();
    json.key("meter");
    json.value(price.meter.str());
    json.key("units");
    json.value(month.units);
    json.key("currency");
    json.value(currency);
    put_money(json, "cost", *cost, currency);
    if (project_at_s) {
      const int64_t units = projected(month.units, month_at(*project_at_s), *project_at_s);
      const auto at_end = month_cost(price, month.before, units);
      json.key("projectedUnits");
      json.value(units);
      if (at_end) put_money(json, "projectedCost", *at_end, currency);
    }
    json.end_object();
  }
  json.end_array();
  return {};
}

void put_head(JsonWriter& json, const Call& call) {
  const Window month = month_at(call.now_ns / kNano);
  json.key("tenant");
  json.value(call.tenant);
  json.key("at");
  json.value(format_moment(call.now_ns));
  json.key("monthStart");
  json.value(format_moment(month.start_s * kNano));
  json.key("monthEnd");
  json.value(format_moment(month.end_s * kNano));
}

// The answer of usage now, and with projections.
http::Response usage_response(Call& call, bool project) {
  Fields fields(call.request, Fields::Body::kNone);
  if (auto refused = fields.refusal()) return *refused;
  const auto* tenant = tenant_of(call);
  const auto* billing = tenant == nullptr ? nullptr : call.snapshot->billing(call.tenant);
  if (billing == nullptr) return unknown_tenant();
  auto used = used_units(call, *tenant);
  if (!used) return failure_response(call, used.error());
  const int64_t now_s = call.now_ns / kNano;
  JsonWriter json;
  json.begin_object();
  put_head(json, call);
  json.key("limits");
  json.begin_array();
  for (const auto& limit : tenant->limits) {
    const auto window = window_at(limit, now_s);
    if (!window) continue;
    const int64_t units = used->of_limit(limit.name.str());
    json.begin_object();
    put_limit(json, limit, *window, units);
    if (project) {
      const int64_t at_end = projected(units, *window, now_s);
      json.key("projected");
      json.value(at_end);
      // What is passed already was not passed at this pace.
      if (at_end > limit.amount && units > 0 && units <= limit.amount) {
        const auto after_s = mul_div_half_even(std::max<int64_t>(1, now_s - window->start_s), limit.amount, units);
        if (after_s) {
          json.key("exceedsAt");
          json.value(format_moment((window->start_s + *after_s) * kNano));
        }
      }
    }
    json.end_object();
  }
  json.end_array();
  const auto done = put_meters(json, *billing, *used, project ? std::optional(now_s) : std::nullopt);
  if (!done) return failure_response(call, done.error());
  json.end_object();
  return http::json_response(200, json.take());
}

}  // namespace

http::Response get_usage(Call& call) { return usage_response(call, false); }
http::Response get_usage_projection(Call& call) { return usage_response(call, true); }

http::Response get_usage_history(Call& call) {
  Fields fields(call.request, Fields::Body::kNone);
  const std::string step = fields.query_word("step", {"hour", "day"}).value_or("day");
  const auto meter = fields.query_text("meter", 63);
  if (meter && !is_meter_name(*meter)) fields.refuse("meter", "must be a meter's name");
  const int64_t to_ns = fields.query_moment("to").value_or(call.now_ns);
  const int64_t span_s = step == "day" ? 400 * kDayS : 31 * kDayS;
  const int64_t from_ns =
      fields.query_moment("from").value_or(std::max<int64_t>(0, to_ns - (step == "day" ? 30 : 1) * kDayS * kNano));
  if (from_ns >= to_ns) {
    fields.refuse("from", "must be before to");
  } else if (to_ns - from_ns > span_s * kNano) {
    fields.refuse("from", "must be at most " + std::to_string(span_s / kDayS) + " days before to");
  }
  if (auto refused = fields.refusal()) return *refused;
  auto rows = select_as_tenant(
      call, "select * from usage_history($1, $2, $3, $4, $5)",
      {call.tenant, nullable(meter), ledger::timestamp_text(from_ns), ledger::timestamp_text(to_ns), step});
  if (!rows) return failure_response(call, rows.error());
  JsonWriter json;
  json.begin_object();
  json.key("step");
  json.value(step);
  json.key("from");
  json.value(format_moment(from_ns));
  json.key("to");
  json.value(format_moment(to_ns));
  json.key("items");
  json.begin_array();
  for (size_t row = 0; row < rows->size(); ++row) {
    json.begin_object();
    json.key("start");
    json.value(format_moment_sql(rows->text(row, 0)));
    json.key("meter");
    json.value(rows->text(row, 1));
    json.key("units");
    json.value(rows->integer(row, 2));
    json.key("requests");
    json.value(rows->integer(row, 3));
    json.end_object();
  }
  json.end_array();
  json.end_object();
  return http::json_response(200, json.take());
}

}  // namespace tallygate::api
