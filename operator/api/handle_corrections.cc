// What was reported wrongly, corrected: the difference is booked in the second, meter and quotas of the usage itself.
#include "core/redis_contract/keys.h"
#include "core/telemetry/json_text.h"
#include "operator/api/call.h"
#include "operator/api/ingest.h"
#include "operator/api/service_tokens.h"
#include "operator/api/text.h"

namespace tallygate::api {
namespace {

constexpr size_t kIdMax = 255, kReasonMax = 500;

struct Correction {
  std::string id, corrects, reason;
};

// Why nothing was booked, by correct_usage's status; nothing where all is well.
std::optional<http::Response> refusal_of(std::string_view status) {
  if (status == "new" || status == "duplicate") return std::nullopt;
  if (status == "unknown") {
    return http::problem_response({404, "UnknownUsage", "No usage was reported under the id in corrects.", "", {}});
  }
  if (status == "mismatch") return faulty_fields({{"id", "was used for another correction"}});
  if (status == "too_old") {
    return faulty_fields({{"corrects",
                           "is usage of more than 34 days ago, which can no longer be billed: adjust the wallet or the "
                           "invoice instead"}});
  }
  return faulty_fields({{"corrects",
                         "is usage of a meter that is settled otherwise now than it was then: adjust the wallet or the "
                         "invoice instead"}});
}

http::Response answer_of(const Correction& correction, const ledger::Rows& rows) {
  enum Column : size_t { kStatus, kMeter, kUnits, kPreviousUnits, kSecond };
  JsonWriter json;
  json.begin_object();
  json.key("id");
  json.value(correction.id);
  json.key("corrects");
  json.value(correction.corrects);
  json.key("duplicate");
  json.value(rows.text(0, kStatus) == "duplicate");
  json.key("meter");
  json.value(rows.text(0, kMeter));
  json.key("time");
  json.value(format_moment_sql(rows.text(0, kSecond)));
  json.key("previousUnits");
  json.value(rows.integer(0, kPreviousUnits));
  json.key("units");
  json.value(rows.integer(0, kUnits));
  json.key("reason");
  json.value(correction.reason);
  json.end_object();
  return http::json_response(201, json.take());
}

}  // namespace

http::Response correct_usage(Call& call) {
  Fields fields(call.request, Fields::Body::kRequired);
  const Correction correction{fields.text("id", kIdMax), fields.text("corrects", kIdMax),
                              fields.text("reason", kReasonMax)};
  const int64_t units = fields.integer("units", 0, kUsageUnitsMax).value_or(0);
  if (auto refused = fields.refusal()) return *refused;
  const auto rows = select_as_tenant(
      call, "select * from correct_usage($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
      {call.tenant, redis_contract::shard_of(call.tenant), correction.id, sha256_hex(fields.canonical()),
       correction.corrects, units, correction.reason, call.principal->actor, call.request_id,
       ledger::timestamp_text(oldest_billable_ns(call.now_ns)), ledger::timestamp_text(call.now_ns)});
  if (!rows) return failure_response(call, rows.error());
  call.services.metrics.corrected(rows->text(0, 0));
  if (auto refused = refusal_of(rows->text(0, 0))) return *refused;
  return answer_of(correction, *rows);
}

}  // namespace tallygate::api
