#include "operator/billing/outbox.h"

#include <nlohmann/json.hpp>

namespace tallygate::billing {
namespace {

using nlohmann::json;

constexpr char kNoCustomer[] = "the tenant has no Stripe customer";
constexpr char kNoMeter[] = "the meter is not in the tenant's plan";
constexpr char kNotInvoiced[] = "the meter is not settled by invoice any more";
constexpr char kCorrection[] = "waits until the usage that it corrects is delivered";

const char* to_text(Outcome::State state) {
  switch (state) {
    case Outcome::State::kDelivered:
      return "delivered";
    case Outcome::State::kDead:
      return "dead";
    case Outcome::State::kHeld:
      return "held";
    case Outcome::State::kPending:
      break;
  }
  return "pending";
}

// Identifiers, tenants and error texts may hold bytes that are not UTF-8: an answer's body is not ours.
std::string dump(const json& rows) { return rows.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string held_reason(const ledger::Rows& rows, size_t row) {
  if (rows.is_null(row, 6)) return kNoMeter;
  if (rows.text(row, 6) != "invoice") return kNotInvoiced;
  if (rows.text(row, 7).empty()) return kNoCustomer;
  return "";
}

// PostgreSQL's text has no NUL.
std::string without_nul(std::string text) {
  std::erase(text, '\0');
  return text;
}

}  // namespace

Result<Enqueued> Outbox::enqueue(int64_t limit) {
  Enqueued enqueued;
  const auto body = [&](ledger::Transaction& work) -> Result<void> {
    enqueued = {};
    const auto rows = work.exec(
        "select a.id, a.tenant, a.meter, extract(epoch from a.minute)::bigint, a.revision, a.units, m.settlement,"
        " m.stripe_customer_id, revision_recovered(a) from usage_aggregates a"
        " left join tenant_meters m on m.tenant = a.tenant and m.meter = a.meter"
        " where not a.outboxed order by a.id limit $1 for update of a skip locked",
        {limit});
    if (!rows) return tl::unexpected<Error>(rows.error());
    if (rows->empty()) return {};
    json out = json::array();
    for (size_t i = 0; i < rows->size(); ++i) {
      const bool takes_off = rows->integer(i, 5) < 0;
      const std::string held = takes_off ? kCorrection : held_reason(*rows, i);
      const std::string customer(rows->text(i, 7));
      const auto tenant = rows->text(i, 1), meter = rows->text(i, 2);
      out.push_back({{"aggregate_id", rows->integer(i, 0)},
                     {"identifier", event_identifier(tenant, customer, meter, rows->integer(i, 3), rows->integer(i, 4),
                                                     rows->integer(i, 8))},
                     {"is_later", rows->integer(i, 8) > 0},
                     {"tenant", tenant},
                     {"meter", meter},
                     {"event_name", meter},
                     {"customer", customer},
                     {"value", rows->integer(i, 5)},
                     {"event_time", rows->integer(i, 3)},
                     {"held", held}});
      if (!held.empty() && !takes_off) ++enqueued.held;
    }
    enqueued.taken = static_cast<int64_t>(rows->size());
    return work.exec("select enqueue_submissions($1::jsonb, $2)", {dump(out), now()}).map([](const auto&) {});
  };
  if (auto done = session_.transact(body); !done) return tl::unexpected<Error>(done.error());
  return enqueued;
}

Result<int64_t> Outbox::release_held(int64_t limit) {
  int64_t released = 0;
  const auto body = [&](ledger::Transaction& work) -> Result<void> {
    released = 0;
    const auto rows = work.exec(
        "select s.id, s.tenant, s.meter, extract(epoch from a.minute)::bigint, a.revision, m.stripe_customer_id,"
        " revision_recovered(a)"
        " from meter_submissions s join usage_aggregates a on a.id = s.aggregate_id"
        " join tenant_meters m on m.tenant = s.tenant and m.meter = s.meter"
        " where s.state = 'held' and s.value > 0 and m.settlement = 'invoice' and m.stripe_customer_id <> ''"
        " order by s.id limit $1 for update of s skip locked",
        {limit});
    if (!rows) return tl::unexpected<Error>(rows.error());
    if (rows->empty()) return {};
    json out = json::array();
    for (size_t i = 0; i < rows->size(); ++i) {
      const auto customer = rows->text(i, 5);
      out.push_back({{"id", rows->integer(i, 0)},
                     {"customer", customer},
                     {"identifier", event_identifier(rows->text(i, 1), customer, rows->text(i, 2), rows->integer(i, 3),
                                                     rows->integer(i, 4), rows->integer(i, 6))}});
    }
    released = static_cast<int64_t>(rows->size());
    return work
        .exec(
            "update meter_submissions s set state = 'pending', last_error = '', stripe_customer_id = x.customer,"
            " identifier = x.identifier, next_attempt_at = $2 from jsonb_to_recordset($1::jsonb)"
            " as x (id bigint, customer text, identifier text) where s.id = x.id",
            {dump(out), now()})
        .map([](const auto&) {});
  };
  if (auto done = session_.transact(body); !done) return tl::unexpected<Error>(done.error());
  return released;
}

Result<int64_t> Outbox::release_corrections(int64_t limit) {
  int64_t released = 0;
  const auto body = [&](ledger::Transaction& work) -> Result<void> {
    released = 0;
    const auto rows = work.exec(
        "select s.id, s.tenant, s.meter, a.minute, extract(epoch from a.minute)::bigint, a.revision, s.value,"
        " revision_recovered(a)"
        " from meter_submissions s join usage_aggregates a on a.id = s.aggregate_id"
        " where s.state = 'held' and s.value < 0 order by s.next_attempt_at, s.id limit $1 for update of s skip locked",
        {limit});
    if (!rows) return tl::unexpected<Error>(rows.error());
    // One after another: each counts what those before it have taken off. What waits on goes behind all others.
    for (size_t i = 0; i < rows->size(); ++i) {
      const auto target =
          work.exec("select o_customer, o_event_time, o_held from correction_target($1, $2, $3, $4, $5)",
                    {rows->text(i, 1), rows->text(i, 2), rows->text(i, 3), rows->integer(i, 6), now()});
      if (!target) return tl::unexpected<Error>(target.error());
      const std::string customer(target->text(0, 0));
      const std::string held(target->text(0, 2));
      const auto changed =
          held.empty() ? work.exec(
                             "update meter_submissions set state = 'pending', last_error = '', identifier = $2,"
                             " stripe_customer_id = $3, event_time = $4, next_attempt_at = $5 where id = $1",
                             {rows->integer(i, 0),
                              event_identifier(rows->text(i, 1), customer, rows->text(i, 2), rows->integer(i, 4),
                                               rows->integer(i, 5), rows->integer(i, 7)),
                              customer, target->text(0, 1), now()})
                       : work.exec("update meter_submissions set last_error = $2, next_attempt_at = $3 where id = $1",
                                   {rows->integer(i, 0), held, now()});
      if (!changed) return tl::unexpected<Error>(changed.error());
      if (held.empty()) ++released;
    }
    return {};
  };
  if (auto done = session_.transact(body); !done) return tl::unexpected<Error>(done.error());
  return released;
}

Result<int64_t> Outbox::take_over() {
  const auto rows = session_.exec(
      "with taken as (update meter_submissions set next_attempt_at = $1 where state = 'sending' returning id)"
      " select count(*) from taken",
      {now()});
  if (!rows) return tl::unexpected<Error>(rows.error());
  return rows->integer(0, 0);
}

Result<std::vector<Submission>> Outbox::claim(int64_t limit, int64_t per_key, int64_t lease_ms) {
  const auto rows = session_.exec(
      "select id, tenant, event_name, stripe_customer_id, value, identifier, extract(epoch from event_time)::bigint,"
      " attempts, coalesce(extract(epoch from unknown_since), 0)::bigint from claim_submissions($1, $2, $3, $4) order "
      "by id",
      {now(), ledger::timestamp_text(env_.wall_ns() + lease_ms * 1'000'000), limit, per_key});
  if (!rows) return tl::unexpected<Error>(rows.error());
  std::vector<Submission> out;
  out.reserve(rows->size());
  for (size_t i = 0; i < rows->size(); ++i) {
    Submission& row = out.emplace_back();
    row.id = rows->integer(i, 0);
    row.tenant = rows->text(i, 1);
    row.event = {std::string(rows->text(i, 2)), std::string(rows->text(i, 3)), rows->integer(i, 4),
                 std::string(rows->text(i, 5)), rows->integer(i, 6)};
    row.attempts = rows->integer(i, 7);
    row.unknown_since_s = rows->integer(i, 8);
  }
  return out;
}

Result<int64_t> Outbox::record(std::span<const Outcome> outcomes) {
  if (outcomes.empty()) return 0;
  json out = json::array();
  for (const auto& outcome : outcomes) {
    out.push_back({{"id", outcome.id},
                   {"state", to_text(outcome.state)},
                   {"error", without_nul(outcome.error)},
                   {"unknown", outcome.outcome_unknown},
                   {"sent", outcome.sent},
                   {"next", outcome.next_attempt_ms}});
  }
  const auto rows = session_.exec("select record_attempts($1::jsonb, $2)", {dump(out), now()});
  if (!rows) return tl::unexpected<Error>(rows.error());
  return rows->integer(0, 0);
}

Result<Backlog> Outbox::backlog() {
  const auto rows = session_.exec(
      "select (select count(*) from meter_submissions where state in ('pending', 'sending')),"
      " (select count(*) from meter_submissions where state = 'held'),"
      " (select count(*) from meter_submissions where state = 'dead'),"
      " (select coalesce(extract(epoch from min(event_time)), 0)::bigint from meter_submissions"
      "   where state in ('pending', 'sending'))");
  if (!rows) return tl::unexpected<Error>(rows.error());
  return Backlog{rows->integer(0, 0), rows->integer(0, 1), rows->integer(0, 2), rows->integer(0, 3)};
}

}  // namespace tallygate::billing
