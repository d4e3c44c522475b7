#include "operator/api/ingest.h"

#include "core/redis_contract/keys.h"
#include "core/telemetry/json_text.h"
#include "operator/api/call.h"
#include "operator/api/service_tokens.h"
#include "operator/api/text.h"
#include "operator/api/usage_windows.h"

namespace tallygate::api {
namespace {

constexpr int64_t kNano = 1'000'000'000;
constexpr int64_t kLateMaxS = 35 * 86'400, kAheadMaxS = 300;

const tenant::Meter* meter_of(const tenant::Tenant& tenant, const std::string& name) {
  for (const auto& meter : tenant.meters) {
    if (meter.name.str() == name) return &meter;
  }
  return nullptr;
}

// The parameter of book_direct_usage.
std::string rows_of(const tenant::Tenant& tenant, const std::vector<UsageItem>& items) {
  JsonWriter json;
  json.begin_array();
  for (const auto& item : items) {
    const auto* meter = meter_of(tenant, item.meter);
    json.begin_object();
    json.key("id");
    json.value(item.id);
    json.key("fingerprint");
    json.value(item.fingerprint);
    json.key("meter");
    json.value(item.meter);
    json.key("units");
    json.value(item.units);
    json.key("second");
    json.value(item.at_ns / kNano);
    json.key("dims");
    json.value(item.dimensions);
    json.key("buckets");
    json.begin_array();
    for (const auto& bucket : buckets_of(tenant, meter->name, meter->settlement, item.at_ns / kNano))
      json.value(bucket);
    json.end_array();
    json.end_object();
  }
  json.end_array();
  return json.take();
}

std::string answer_of(const std::vector<UsageItem>& items, const std::vector<bool>& duplicates, bool as_list) {
  JsonWriter json;
  if (as_list) {
    json.begin_object();
    json.key("items");
    json.begin_array();
  }
  for (size_t i = 0; i < items.size(); ++i) {
    json.begin_object();
    json.key("id");
    json.value(items[i].id);
    json.key("duplicate");
    json.value(static_cast<bool>(duplicates[i]));
    json.end_object();
  }
  if (as_list) {
    json.end_array();
    json.end_object();
  }
  return json.take();
}

}  // namespace

int64_t oldest_billable_ns(int64_t now_ns) { return now_ns - kLateMaxS * kNano; }

void read_usage(Fields& fields, UsageItem& item) {
  item.meter = fields.text("meter", 63);
  if (!item.meter.empty() && !is_meter_name(item.meter)) fields.refuse("meter", "must be a meter's name");
  item.units = fields.integer("units", 1, kUsageUnitsMax).value_or(0);
  item.dimensions = fields.labels("dimensions");
}

void check_moment(const Call& call, Fields& fields, const std::string& name, int64_t at_ns) {
  if (at_ns < oldest_billable_ns(call.now_ns) || at_ns > call.now_ns + kAheadMaxS * kNano) {
    fields.refuse(name, "must be within the last 35 days, and at most 5 minutes ahead");
  }
}

http::Response book_usage(Call& call, const std::vector<UsageItem>& items, bool as_list) {
  const auto* tenant = call.snapshot ? call.snapshot->tenant(call.tenant) : nullptr;
  if (tenant == nullptr) return unknown_tenant();
  std::vector<std::pair<std::string, std::string>> faults;
  for (const auto& item : items) {
    if (meter_of(*tenant, item.meter) == nullptr)
      faults.emplace_back(item.place + "meter", "the tenant's plan has no such meter");
  }
  if (!faults.empty()) return faulty_fields(faults);
  std::vector<bool> duplicates(items.size());
  const auto booked = as_tenant(call, [&](ledger::Transaction& transaction) -> Result<void> {
    faults.clear();
    auto rows = transaction.exec("select place, status from book_direct_usage($1, $2, $3, $4)",
                                 {call.tenant, redis_contract::shard_of(call.tenant), rows_of(*tenant, items),
                                  ledger::timestamp_text(call.now_ns)});
    if (!rows) return tl::unexpected(rows.error());
    for (size_t row = 0; row < rows->size(); ++row) {
      const auto place = static_cast<size_t>(rows->integer(row, 0)) - 1;
      if (place >= items.size()) return fail(Errc::kInternal, "book_direct_usage names an item that was not sent");
      duplicates[place] = rows->text(row, 1) == "duplicate";
      if (rows->text(row, 1) == "mismatch") faults.emplace_back(items[place].place + "id", "was used for other usage");
    }
    if (!faults.empty()) return fail(Errc::kConflict, "a request id was used for other usage");
    return {};
  });
  if (!booked && booked.error().errc == Errc::kConflict) return faulty_fields(faults);
  if (!booked) return failure_response(call, booked.error());
  return http::json_response(201, answer_of(items, duplicates, as_list));
}

http::Response record_usage(Call& call) {
  Fields fields(call.request, Fields::Body::kRequired);
  UsageItem item;
  item.id = fields.text("id", 255);
  read_usage(fields, item);
  // A moment that is not given is not part of what makes a repetition equal.
  item.at_ns = fields.moment("time", false).value_or(call.now_ns);
  check_moment(call, fields, "time", item.at_ns);
  if (auto refused = fields.refusal()) return *refused;
  item.fingerprint = sha256_hex(fields.canonical());
  return book_usage(call, {item}, false);
}

}  // namespace tallygate::api
