#include "operator/api/ingest.h"

#include <map>

#include "core/billable.h"
#include "core/redis_contract/keys.h"
#include "core/telemetry/json_text.h"
#include "operator/api/call.h"
#include "operator/api/service_tokens.h"
#include "operator/api/text.h"
#include "operator/api/usage_windows.h"
#include "operator/api/wallet_json.h"

namespace tallygate::api {
namespace {

constexpr int64_t kNano = 1'000'000'000;
constexpr int64_t kAheadMaxS = 300;

const tenant::Meter* meter_of(const tenant::Tenant& tenant, const std::string& name) {
  for (const auto& meter : tenant.meters) {
    if (meter.name.str() == name) return &meter;
  }
  return nullptr;
}

// The parameter of book_direct_usage.
std::string rows_of(const tenant::Tenant& tenant, const std::vector<UsageItem>& items,
                    const std::vector<size_t>& places) {
  JsonWriter json;
  json.begin_array();
  for (const size_t place : places) {
    const UsageItem& item = items[place];
    const auto* meter = meter_of(tenant, item.meter);
    json.begin_object();
    json.key("id");
    json.value(item.id);
    json.key("fingerprint");
    json.value(item.fingerprint);
    json.key("spelled");
    json.value(item.spelled);
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

void put_faults(JsonWriter& json, const Faults& faults) {
  json.key("errors");
  json.begin_array();
  for (const auto& [field, detail] : faults) {
    json.begin_object();
    json.key("field");
    json.value(field);
    json.key("detail");
    json.value(detail);
    json.end_object();
  }
  json.end_array();
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
    put_text_unless_empty(json, "id", items[i].id);
    if (items[i].faults.empty()) {
      json.key("duplicate");
      json.value(static_cast<bool>(duplicates[i]));
    } else {
      put_faults(json, items[i].faults);
    }
    json.end_object();
  }
  if (as_list) {
    json.end_array();
    json.end_object();
  }
  return json.take();
}

// Faults of items that say what cannot be, and the places of those that are booked: each id once.
std::vector<size_t> sift(const tenant::Tenant& tenant, std::vector<UsageItem>& items) {
  std::vector<size_t> places;
  std::map<std::string_view, size_t> first;
  for (size_t i = 0; i < items.size(); ++i) {
    UsageItem& item = items[i];
    if (!item.faults.empty()) continue;
    if (meter_of(tenant, item.meter) == nullptr) {
      item.faults.emplace_back(item.place + "meter", "the tenant's plan has no such meter");
      continue;
    }
    const auto [known, is_new] = first.try_emplace(item.id, i);
    if (is_new) {
      places.push_back(i);
    } else if (items[known->second].fingerprint != item.fingerprint) {
      item.faults.emplace_back(item.place + "id", "comes twice, with other usage");
    }
  }
  return places;
}

Faults all_faults(const std::vector<UsageItem>& items) {
  Faults faults;
  for (const auto& item : items) faults.insert(faults.end(), item.faults.begin(), item.faults.end());
  return faults;
}

// What comes twice is what came first.
void settle_repetitions(std::vector<UsageItem>& items, const std::vector<size_t>& places,
                        std::vector<bool>& duplicates) {
  std::map<std::string_view, size_t> first;
  for (const size_t place : places) first.emplace(items[place].id, place);
  for (size_t i = 0; i < items.size(); ++i) {
    const auto known = first.find(items[i].id);
    if (!items[i].faults.empty() || known == first.end() || known->second == i) continue;
    duplicates[i] = true;
    if (!items[known->second].faults.empty())
      items[i].faults.emplace_back(items[i].place + "id", "was used for other usage");
  }
}

}  // namespace

void set_fingerprint(UsageItem& item, const std::string& text, const std::string& written) {
  std::string moment, as_written;
  if (!written.empty()) {
    append_json_string(moment, format_moment(item.at_ns));
    append_json_string(as_written, written);
  }
  item.fingerprint = sha256_hex(text + moment);
  item.spelled = sha256_hex(text + as_written);
}

int64_t oldest_billable_ns(int64_t now_ns) { return now_ns - kUsageTakenS * kNano; }

void read_usage(Fields& fields, UsageItem& item) {
  item.meter = fields.text("meter", 63);
  if (!item.meter.empty() && !is_meter_name(item.meter)) fields.refuse("meter", "must be a meter's name");
  item.units = fields.integer("units", 1, kUsageUnitsMax).value_or(0);
  item.dimensions = fields.labels("dimensions");
}

void check_moment(const Call& call, Fields& fields, const std::string& name, int64_t at_ns) {
  if (at_ns < oldest_billable_ns(call.now_ns) || at_ns > call.now_ns + kAheadMaxS * kNano) {
    fields.refuse(name,
                  "must be within the last " + std::to_string(kUsageTakenDays) + " days, and at most 5 minutes ahead");
  }
}

http::Response book_usage(Call& call, std::vector<UsageItem> items, Booking booking) {
  const auto* tenant = call.snapshot ? call.snapshot->tenant(call.tenant) : nullptr;
  if (tenant == nullptr) return unknown_tenant();
  const bool all_or_none = booking != Booking::kGood;
  const std::vector<size_t> places = sift(*tenant, items);
  if (all_or_none) {
    if (const Faults faults = all_faults(items); !faults.empty()) return faulty_fields(faults);
  }
  std::vector<bool> duplicates(items.size());
  const auto body = [&](ledger::Transaction& transaction) -> Result<void> {
    for (const size_t place : places) items[place].faults.clear();  // of an attempt that was undone
    auto rows = transaction.exec("select place, status from book_direct_usage($1, $2, $3, $4)",
                                 {call.tenant, redis_contract::shard_of(call.tenant), rows_of(*tenant, items, places),
                                  ledger::timestamp_text(call.now_ns)});
    if (!rows) return tl::unexpected(rows.error());
    bool mismatch = false;
    for (size_t row = 0; row < rows->size(); ++row) {
      const auto nth = static_cast<size_t>(rows->integer(row, 0)) - 1;
      if (nth >= places.size()) return fail(Errc::kInternal, "book_direct_usage names an item that was not sent");
      UsageItem& item = items[places[nth]];
      duplicates[places[nth]] = rows->text(row, 1) == "duplicate";
      if (rows->text(row, 1) != "mismatch") continue;
      item.faults.emplace_back(item.place + "id", "was used for other usage");
      mismatch = true;
    }
    if (mismatch && all_or_none) return fail(Errc::kConflict, "a request id was used for other usage");
    return {};
  };
  if (!places.empty()) {
    const auto booked = as_tenant(call, body);
    if (!booked && booked.error().errc == Errc::kConflict) return faulty_fields(all_faults(items));
    if (!booked) return failure_response(call, booked.error());
  }
  settle_repetitions(items, places, duplicates);
  http::Response response =
      http::json_response(all_or_none ? 201 : 200, answer_of(items, duplicates, booking != Booking::kOne));
  if (!all_or_none) response.headers.emplace_back("Preference-Applied", "handling=lenient");
  return response;
}

http::Response record_usage(Call& call) {
  Fields fields(call.request, Fields::Body::kRequired);
  UsageItem item;
  item.id = fields.text("id", 255);
  read_usage(fields, item);
  // A moment that is not given is not part of what makes a repetition equal, and one that is counts as the moment it
  // is.
  item.at_ns = fields.moment("time", false).value_or(call.now_ns);
  check_moment(call, fields, "time", item.at_ns);
  if (auto refused = fields.refusal()) return *refused;
  item.fingerprint = sha256_hex(fields.canonical_with("time", format_moment(item.at_ns)));
  item.spelled = sha256_hex(fields.canonical());
  return book_usage(call, {item}, Booking::kOne);
}

}  // namespace tallygate::api
