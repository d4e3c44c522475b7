// Leases for sidecars, from the ledger: what they live on while Redis is away (requirement A8; migration 0031).
#include <set>

#include "core/money.h"
#include "core/redis_contract/bucket_id.h"
#include "core/redis_contract/record.h"
#include "core/telemetry/json_text.h"
#include "operator/api/call.h"

namespace tallygate::api {
namespace {

constexpr size_t kBucketsMax = 64, kClosedMax = 256;
constexpr size_t kBucketBytesMax = 128;

// The bucket's id; empty after a fault.
std::string read_bucket(Fields& fields) {
  std::string text = fields.text("bucket", kBucketBytesMax);
  if (text.empty()) return text;
  const auto id = redis_contract::BucketId::parse(text);
  if (!id) {
    fields.refuse("bucket", "must be <limit>@<start>+<length> in seconds, or <meter>$");
  } else if (id->redis_only()) {
    fields.refuse("bucket", "windows shorter than an hour live in Redis alone: the ledger leases nothing of them");
  } else {
    return text;
  }
  return "";
}

// ledger_lease's p_buckets.
std::string read_buckets(Fields& fields) {
  JsonWriter json;
  json.begin_array();
  std::set<std::string> seen;
  for (Fields& part : fields.objects("buckets", kBucketsMax)) {
    const std::string bucket = read_bucket(part);
    const int64_t least = part.integer("least", 0, kMaxInteger).value_or(0);
    const int64_t best = part.integer("best", 0, kMaxInteger, false).value_or(least);
    const int64_t returned = part.integer("returned", 0, kMaxInteger, false).value_or(0);
    if (best < least) part.refuse("best", "must be at least `least`: both are totals");
    if (!bucket.empty() && !seen.insert(bucket).second) part.refuse("bucket", "comes twice");
    fields.take(part);
    json.begin_object();
    json.member("bucket", bucket);
    json.member("least", least);
    json.member("best", best);
    json.member("returned", returned);
    json.end_object();
  }
  json.end_array();
  return json.take();
}

// p_closed.
std::string read_closed(Fields& fields) {
  JsonWriter json;
  json.begin_array();
  for (Fields& part : fields.objects("closed", kClosedMax)) {
    const std::string bucket = read_bucket(part);
    const int64_t epoch = part.integer("epoch", 1, kMaxInteger).value_or(0);
    const int64_t spent = part.integer("spent", 0, kMaxInteger).value_or(0);
    fields.take(part);
    json.begin_object();
    json.member("bucket", bucket);
    json.member("epoch", epoch);
    json.member("spent", spent);
    json.end_object();
  }
  json.end_array();
  return json.take();
}

}  // namespace

http::Response lease_units(Call& call) {
  Fields fields(call.request, Fields::Body::kRequired);
  const std::string incarnation = fields.text("incarnation", 80);
  if (!incarnation.empty() && !redis_contract::is_incarnation(incarnation)) {
    fields.refuse("incarnation", "must be an incarnation's name, as its records have it");
  }
  const int64_t epoch = fields.integer("epoch", 0, kMaxInteger).value_or(0);
  const auto version = fields.integer("version", 0, kMaxInteger, false);
  const std::string buckets = read_buckets(fields), closed = read_closed(fields);
  if (auto refused = fields.refusal()) return *refused;
  // The answer as the ledger makes it: everything in it is a number, a bucket's name, or the document it keeps.
  const auto rows = select_as_tenant(
      call,
      "select o_status, (jsonb_build_object('status', o_status, 'epoch', o_epoch, 'version', o_version, 'suspended', "
      "o_suspended, 'buckets', o_buckets, 'closed', o_closed) || case when o_doc is null then '{}' else "
      "jsonb_build_object('tenant', o_doc) end)::text, coalesce(nullif(current_setting('tallygate.units_granted', "
      "true), ''), "
      "'0')::bigint from ledger_lease($1, $2, $3, $4, $5, $6, $7)",
      {call.tenant, incarnation, epoch, nullable(version), buckets, closed, ledger::timestamp_text(call.now_ns)});
  if (!rows) return failure_response(call, rows.error());
  call.services.metrics.leased(rows->text(0, 0), rows->integer(0, 2));
  if (rows->text(0, 0) == "NONE") return unknown_tenant();
  return http::json_response(200, std::string(rows->text(0, 1)));
}

}  // namespace tallygate::api
