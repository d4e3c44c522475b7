#include "operator/stripe/events_command.h"

#include <algorithm>
#include <cstdio>

#include "operator/ledger/session.h"

namespace tallygate::stripe {
namespace {

constexpr int kExitRefused = 1;
constexpr char kMoment[] = "'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'";

std::string moment(const char* column) {
  return std::string("coalesce(to_char(") + column + " at time zone 'UTC', " + kMoment + "), '')";
}

config::Parser<std::string> event_id() {
  return {[](std::string_view in) -> config::Parsed<std::string> {
            const bool clean = std::all_of(in.begin(), in.end(), [](char c) {
              return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
            });
            if (in.starts_with("evt_") && clean && in.size() <= 255) return std::string(in);
            return config::refuse(config::quoted(in) + " is no id of an event", "write one such as evt_1NG8Du2eZvKYlo2C");
          },
          "EVENT"};
}

int failed(const Error& error) {
  std::fprintf(stderr, "tallygate-operator stripe events: %s\n", error.message.c_str());
  return kExitRefused;
}

int unknown(const std::string& event) {
  std::fprintf(stderr, "tallygate-operator stripe events: the ledger has no event %s\n", event.c_str());
  return kExitRefused;
}

const char* text(const ledger::Rows& rows, size_t row, size_t column, std::string& keep) {
  keep = rows.text(row, column);
  return keep.c_str();
}

int list(ledger::Session& session, const EventsSettings& settings) {
  const auto rows = session.exec(
      "select id, " + moment("received_at") +
          ", type, status, coalesce(tenant, ''), case when last_error <> '' then last_error else result end from "
          "webhook_events where $1 = 'all' or status = $1 order by received_at desc, id limit $2",
      {settings.status, settings.limit});
  if (!rows) return failed(rows.error());
  std::printf("%-32s %-20s %-10s %-42s %-24s %s\n", "id", "received", "status", "type", "tenant", "result");
  for (size_t i = 0; i < rows->size(); ++i) {
    std::string a, b, c, d, e, f;
    std::printf("%-32s %-20s %-10s %-42s %-24s %s\n", text(*rows, i, 0, a), text(*rows, i, 1, b), text(*rows, i, 3, c),
                text(*rows, i, 2, d), text(*rows, i, 4, e), text(*rows, i, 5, f));
  }
  return 0;
}

int show(ledger::Session& session, const EventsSettings& settings) {
  const char* names[] = {"type",     "status",    "tenant", "result",     "last error", "faults",
                         "attempts", "found by",  "created", "received",  "completed",  "next attempt",
                         "version",  "live mode", "event",  "as fetched"};
  const auto rows = session.exec(
      "select type, status, tenant, result, last_error, faults, attempts, found_by, " + moment("event_created_at") + ", " +
          moment("received_at") + ", " + moment("completed_at") + ", " +
          moment("case when status in ('waiting', 'active', 'failed') then next_attempt_at end") +
          ", api_version, livemode, jsonb_pretty(payload), jsonb_pretty(fetched) from webhook_events where id = $1",
      {settings.event});
  if (!rows) return failed(rows.error());
  if (rows->empty()) return unknown(settings.event);
  std::string value;
  for (size_t column = 0; column < rows->columns(); ++column) {
    if (rows->text(0, column).empty()) continue;
    std::printf("%-13s %s\n", names[column], text(*rows, 0, column, value));
  }
  return 0;
}

int replay(Env& env, ledger::Session& session, const EventsSettings& settings) {
  const auto rows =
      session.exec("select replay_stripe_event($1, $2, $3, $4)",
                   {settings.event, settings.actor, settings.reason, ledger::timestamp_text(env.wall_ns())});
  if (!rows) return failed(rows.error());
  if (!rows->boolean(0, 0)) return unknown(settings.event);
  std::printf("%s is due again; what it has done already is not done twice\n", settings.event.c_str());
  return 0;
}

}  // namespace

void declare_events(config::OptionSet& options, EventsAction action, EventsSettings& s) {
  ledger::declare_database(options, s.database);
  if (action == EventsAction::kList) {
    const std::pair<std::string, std::string> statuses[] = {{"all", "all"},       {"waiting", "waiting"}, {"active", "active"},
                                                            {"failed", "failed"}, {"dead", "dead"},       {"completed", "completed"}};
    options
        .add("status", &s.status,
             config::one_of<std::string>({std::begin(statuses), std::end(statuses)}))
        .fallback("all")
        .help("only those: dead ones were put aside for people");
    options.add("limit", &s.limit, config::integer(1, 1000)).fallback("50").help("how many, newest first");
    return;
  }
  options.add("event", &s.event, event_id()).required().help("Stripe's id of it");
  if (action == EventsAction::kShow) return;
  options.add("actor", &s.actor, config::text(1, 200)).required().help("who; kept in the audit log");
  options.add("reason", &s.reason, config::text(1, 500)).required().help("why; kept in the audit log");
}

int run_events_command(Env& env, EventsAction action, const EventsSettings& settings) {
  ledger::Session session(settings.database.url.text);
  if (action == EventsAction::kList) return list(session, settings);
  return action == EventsAction::kShow ? show(session, settings) : replay(env, session, settings);
}

}  // namespace tallygate::stripe
