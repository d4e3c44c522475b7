#include "operator/main/ledger_command.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/redis_client/client.h"
#include "operator/escrow/outside.h"
#include "operator/ledger/escrow_store.h"
#include "operator/ledger/history.h"
#include "operator/ledger/migrator.h"

namespace tallygate::operator_main {
namespace {

using ledger::Mark;
using ledger::Past;

int failed(const std::string& error) {
  std::fprintf(stderr, "tallygate-operator ledger: %s\n", error.c_str());
  return 1;
}

long long number(int64_t value) { return static_cast<long long>(value); }

constexpr int kAttemptsMax = 5;

void print_marks(const Past& past, const Mark& known) {
  std::printf("ledger         generation %lld, mark %lld\n", number(past.mark.generation), number(past.mark.mark));
  std::printf("known outside  generation %lld, mark %lld\n", number(known.generation), number(known.mark));
}

Result<void> print_gaps(ledger::Session& session) {
  const auto rows = session.exec(
      "select shard, incarnation, first_seq, last_seq, coalesce(i.watermark, 0), to_char(g.close_at at time zone "
      "'UTC', "
      "'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') from usage_gaps g left join incarnations i using (shard, incarnation) "
      "where g.resolved_at is null order by 1, 2 limit 100");
  if (!rows) return tl::unexpected(rows.error());
  for (size_t i = 0; i < rows->size(); ++i) {
    std::printf("missing        shard %lld, %s: records %lld to %lld, booked up to %lld; given up at %s\n",
                number(rows->integer(i, 0)), std::string(rows->text(i, 1)).c_str(), number(rows->integer(i, 2)),
                number(rows->integer(i, 3)), number(rows->integer(i, 4)), std::string(rows->text(i, 5)).c_str());
  }
  return {};
}

Result<void> print_audit(ledger::Session& session) {
  const auto rows = session.exec(
      "select to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), actor, action, reason from audit_log "
      "where action in ('ledger.found_behind', 'ledger.recover', 'usage.gap_closed', 'usage.put_aside') order by id "
      "desc limit 10");
  if (!rows) return tl::unexpected(rows.error());
  for (size_t i = 0; i < rows->size(); ++i) {
    std::printf("audit          %s %s by %s: %s\n", std::string(rows->text(i, 0)).c_str(),
                std::string(rows->text(i, 2)).c_str(), std::string(rows->text(i, 1)).c_str(),
                std::string(rows->text(i, 3)).c_str());
  }
  return {};
}

// Outside of this ledger, which was restored: what of it is lost for good, as far as anybody here can tell.
void print_done(const std::string& text) {
  const auto done = nlohmann::json::parse(text);
  std::printf(
      "recovered      generation %lld: epochs of %lld shards raised, %lld floats as Redis and sidecars know them\n",
      number(done.at("generation").get<int64_t>()), number(done.at("epochs").get<int64_t>()),
      number(done.at("floats").get<int64_t>()));
  int64_t records = 0;
  for (const auto& gap : done.at("gaps")) records += gap.at("last").get<int64_t>() - gap.at("first").get<int64_t>() + 1;
  std::printf("missing        %lld usage records of %zu sidecars and shards, which are asked to send them again\n",
              number(records), done.at("gaps").size());
  std::puts(
      "lost           what was done in the ledger after the backup and no sidecar knows: purchases, reservations, "
      "credits,\n"
      "               adjustments, providers' calls, usage reported by POST /v1/usage, sidecars whose folder is gone.\n"
      "               See docs/runbooks/ledger-restore.md for how to find them.\n"
      "Running operators go on within a second; `ledger status` says what is still missing.");
}

// Everything is looked at after it has been sealed, and after sidecars have had time to say what they know.
Result<escrow::KnownOutside> hear(Env& env, ledger::Session& session, redis::Client& redis, const Mark& ours,
                                  int64_t generation, int64_t hear_ms) {
  const auto epochs = ledger::EscrowStore(env, session).numbers();
  if (!epochs) return tl::unexpected(epochs.error());
  if (Result<void> done = escrow::seal_all(redis, generation); !done) return tl::unexpected(done.error());
  env.sleep_ms(hear_ms);
  return escrow::known_outside(redis, *epochs, ours, env.wall_s());
}

Result<std::string> recover(Env& env, ledger::Session& session, const escrow::KnownOutside& known,
                            const LedgerSettings& s) {
  Result<ledger::Rows> rows;
  // Operators may be in the middle of a batch: whoever PostgreSQL picks to break a deadlock goes again.
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    rows = session.exec("select ledger_recover($1::jsonb, $2, $3, $4, clock_timestamp())::text",
                        {known.json(), s.gap_wait_ms / 1000, s.actor, s.reason});
    if (rows || rows.error().errc != Errc::kUnavailable) break;
    env.sleep_ms(200);
  }
  if (!rows) return tl::unexpected(rows.error());
  return std::string(rows->text(0, 0));
}

bool is_foreign(const Past& ledger, const Past& redis) { return !redis.id.empty() && redis.id != ledger.id; }

}  // namespace

int ledger_status(Env& env, const LedgerSettings& settings) {
  ledger::Session session(settings.database.url.text);
  ledger::HistoryStore store(env, session);
  redis::Client redis(env, settings.redis);
  const auto past = store.look();
  if (!past) return failed(past.error().message);
  const auto known = escrow::known_past(redis, past->mark);
  if (!known) return failed(known.error().message);
  print_marks(*past, known->mark);
  if (is_foreign(*past, *known)) {
    std::printf("another        this Redis serves ledger %s, and this is %s\n", known->id.c_str(), past->id.c_str());
    return 1;
  }
  const bool behind = !past->behind.empty() || past->mark < known->mark;
  if (behind) {
    std::printf("gone back      %s\n", past->behind.empty() ? "more is known outside" : past->behind.c_str());
    std::puts("Nothing is leased, booked or submitted until `tallygate-operator ledger recover`.");
  }
  if (Result<void> done = print_gaps(session); !done) return failed(done.error().message);
  if (Result<void> done = print_audit(session); !done) return failed(done.error().message);
  return behind ? 1 : 0;
}

int ledger_recover(Env& env, const LedgerSettings& settings) {
  ledger::Session session(settings.database.url.text);
  if (const auto schema = ledger::check_schema(session); !schema) return failed(schema.error().message);
  ledger::HistoryStore store(env, session);
  redis::Client redis(env, settings.redis);
  auto past = store.look();
  if (!past) return failed(past.error().message);
  const auto before = escrow::known_past(redis, past->mark);
  if (!before) return failed(before.error().message);
  if (is_foreign(*past, *before) && !settings.force) {
    return failed("this Redis serves ledger " + before->id + ", and this is " + past->id +
                  ". Where that is the same from before it had an id, repeat with --force: all that is known there is "
                  "taken over");
  }
  if (past->behind.empty() && past->mark >= before->mark && !settings.force) {
    print_marks(*past, before->mark);
    std::puts(
        "The ledger knows all that is known outside: there is nothing to recover. Where you know better, for it was\n"
        "restored while Redis was empty and no sidecar ran, repeat with --force.");
    return 0;
  }
  const std::string why =
      past->behind.empty() ? "more is known outside, or so `ledger recover` was told" : past->behind;
  if (const auto told = store.found_behind(why); !told) return failed(told.error().message);
  const auto known =
      hear(env, session, redis, past->mark, std::max(past->mark, before->mark).generation, settings.hear_ms);
  if (!known) return failed(known.error().message);
  print_marks(*past, known->mark);
  const auto done = recover(env, session, *known, settings);
  if (!done) return failed(done.error().message);
  if (is_foreign(*past, *before)) {
    std::array<int, redis_contract::kShards> all{};
    std::iota(all.begin(), all.end(), 0);
    if (Result<void> forgot = escrow::forget_ledger(redis, all); !forgot) return failed(forgot.error().message);
  }
  print_done(*done);
  if (known->refused > 0) {
    std::printf("not believed   %lld claims in Redis that no sidecar can have made (%s): look who may write there\n",
                number(known->refused), known->refused_example.c_str());
  }
  return 0;
}

}  // namespace tallygate::operator_main
