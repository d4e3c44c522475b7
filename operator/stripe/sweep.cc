#include "operator/stripe/sweep.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/percent.h"
#include "core/telemetry/log.h"

namespace tallygate::stripe {
namespace {

constexpr int64_t kSlice_ms = 200;
constexpr int64_t kRetry_ms = 15'000;
constexpr int64_t kNano = 1'000'000'000;
// Those that do something (migration 0062).
constexpr const char* kTypes[] = {"checkout.session.completed",
                                  "checkout.session.async_payment_succeeded",
                                  "checkout.session.async_payment_failed",
                                  "checkout.session.expired",
                                  "refund.created",
                                  "refund.updated",
                                  "refund.failed",
                                  "charge.refund.updated",
                                  "charge.dispute.funds_withdrawn",
                                  "charge.dispute.funds_reinstated",
                                  "charge.dispute.closed"};

// A page of them at once; how many were new.
constexpr char kAcceptPage[] =
    "select count(*) from (select accept_stripe_event(e ->> 'id', e ->> 'type', (e ->> 'livemode')::boolean, coalesce(e ->> "
    "'api_version', ''), coalesce(e #>> '{data,object,id}', ''), e, to_timestamp((e ->> 'created')::bigint), 'sweep', $2) as "
    "is_new from jsonb_array_elements($1::jsonb -> 'data') e offset 0) found where is_new";

std::string path_of(int64_t from_s, int64_t to_s) {
  std::string path = "/v1/events?limit=100&created%5Bgte%5D=" + std::to_string(from_s) + "&created%5Blte%5D=" + std::to_string(to_s);
  for (const char* type : kTypes) path += std::string("&types%5B%5D=") + type;
  return path;
}

struct Page {
  std::string last;
  bool more = false;
};

Result<Page> page_of(const std::string& body) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  const bool is_list = json.is_object() && json.contains("data") && json["data"].is_array() && json.contains("has_more") &&
                       json["has_more"].is_boolean();
  if (!is_list) return fail(Errc::kUnavailable, "Stripe's answer is no list of events");
  Page page;
  page.more = json["has_more"].get<bool>();
  if (json["data"].empty()) return page;
  const auto& last = json["data"].back();
  if (!last.is_object() || !last.contains("id") || !last["id"].is_string()) {
    return fail(Errc::kUnavailable, "Stripe's list has what is no event");
  }
  page.last = last["id"].get<std::string>();
  return page;
}

}  // namespace

Sweep::Sweep(Env& env, Client& client, SweepOptions options, metrics::Registry& registry)
    : env_(env), client_(client), options_(std::move(options)), session_(options_.database_url) {
  found_ = registry.counter("tallygate_operator_webhook_missed_total",
                            "Events of Stripe that did not come to the webhook and were found in its list.");
  done_ = registry.counter("tallygate_operator_webhook_sweeps_total", "Sweeps of Stripe's list of events.", {{"result", "done"}});
  failed_ = registry.counter("tallygate_operator_webhook_sweeps_total", "Sweeps of Stripe's list of events.",
                             {{"result", "failed"}});
  swept_to_ = registry.gauge("tallygate_operator_webhook_swept_to_seconds",
                             "Unix time up to which Stripe's list of events was looked through; 0: not by this instance.");
}

Sweep::~Sweep() { stop(); }

void Sweep::start() {
  if (thread_.joinable()) return;
  stopping_ = false;
  thread_ = std::thread([this] { run(); });
}

void Sweep::stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void Sweep::run() {
  int64_t next_ms = 0;
  while (!stopping_) {
    if (env_.mono_ms() < next_ms || !options_.may_work()) {
      env_.sleep_ms(kSlice_ms);
      continue;
    }
    const int64_t soon_ms = std::min(kRetry_ms, options_.interval_ms);
    next_ms = env_.mono_ms() + soon_ms;
    const auto mine = claim(options_.interval_ms);
    if (mine && !*mine) continue;
    auto found = mine ? sweep() : Result<int64_t>(tl::unexpected(mine.error()));
    if (found || stopping_) continue;
    static log::Throttle throttle(60);
    log::warn(throttle, "Stripe's list of events cannot be looked through", {{"error", found.error().message}});
    if (mine) hand_back(soon_ms);
  }
}

Result<bool> Sweep::claim(int64_t for_ms) {
  const int64_t now_ns = env_.wall_ns();
  const auto rows = session_.exec("select claim_stripe_sweep($1, $2)",
                                  {ledger::timestamp_text(now_ns + for_ms * 1'000'000), ledger::timestamp_text(now_ns)});
  if (!rows) return tl::unexpected(rows.error());
  return rows->boolean(0, 0);
}

// What came to nothing is tried again soon, by whoever is first. Where this is lost, the next turn comes as if it had gone well.
void Sweep::hand_back(int64_t after_ms) {
  (void)session_.exec("update stripe_sweep set next_at = $1", {ledger::timestamp_text(env_.wall_ns() + after_ms * 1'000'000)});
}

Result<int64_t> Sweep::since() {
  const auto rows = session_.exec("select extract(epoch from swept_to)::bigint from stripe_sweep", {});
  if (!rows) return tl::unexpected(rows.error());
  return rows->empty() ? env_.wall_s() : rows->integer(0, 0);
}

Result<int64_t> Sweep::sweep() {
  const int64_t to_s = env_.wall_s() - options_.behind_s;
  const auto from_s = since();
  if (!from_s) return tl::unexpected(from_s.error());
  const std::string path = path_of(*from_s - options_.overlap_s, to_s);
  int64_t found = 0;
  std::string after;
  for (int64_t number = 0;; ++number) {
    const auto failed = [&](Error error) {
      failed_.add();
      return tl::unexpected<Error>(std::move(error));
    };
    if (number == options_.pages_max) return failed({Errc::kExhausted, "more events than one sweep takes"});
    const auto reply = client_.get(path + after, client_.latest_ms());
    if (!reply) return failed(reply.error());
    if (!reply->ok()) return failed({Errc::kUnavailable, "Stripe refuses its list of events: " + reply->message});
    const auto page = page_of(reply->body);
    if (!page) return failed(page.error());
    const auto rows = session_.exec(kAcceptPage, {reply->body, ledger::timestamp_text(env_.wall_ns())});
    if (!rows) return failed(rows.error());
    found += rows->integer(0, 0);
    found_.add(static_cast<double>(rows->integer(0, 0)));
    if (!page->more || page->last.empty()) break;
    after = "&starting_after=" + percent_encode(page->last);
  }
  const auto kept = session_.exec("update stripe_sweep set swept_to = greatest(swept_to, $1)",
                                  {ledger::timestamp_text(to_s * kNano)});
  if (!kept) return tl::unexpected(kept.error());
  swept_to_.set(static_cast<double>(to_s));
  done_.add();
  if (found > 0) log::warn("events of Stripe did not come to the webhook and were found in its list", {{"events", found}});
  return found;
}

}  // namespace tallygate::stripe
