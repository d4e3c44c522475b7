// The part of Admission that deals in amounts which are not one per request: held by an estimate, held further while the
// response passes, settled to what it came to.
#include <algorithm>
#include <utility>

#include "core/counting.h"
#include "core/telemetry/json_text.h"
#include "core/telemetry/log.h"
#include "sidecar/admission/admission.h"
#include "sidecar/admission/quota_headers.h"

namespace tallygate::sidecar {

using proxy::Flow;
using proxy::Verdict;

namespace {

constexpr size_t kDebtsMax = 10'000;
constexpr int64_t kRecheckMs = 50;
constexpr size_t kEventBytesMax = 256 * 1024;  // of an event that is kept back until it is whole; a larger one passes

}  // namespace

void AdmissionCounters::Amounts::Ratio::observe(int64_t units, int64_t estimate) {
  const auto hundredths = static_cast<int64_t>(
      std::min<__int128>(static_cast<__int128>(units) * 100 / estimate, 1'000'000));
  size_t i = 0;
  while (i < kUpperBounds.size() && hundredths > kUpperBounds[i]) ++i;
  count(buckets[i]);
  count(sum, hundredths);
}

// --- Before a request is admitted -------------------------------------------------------------------------------

// What the app may code its answer in: only what can be read here; and where an event may have to be put in, nothing.
void Admission::choose_encodings(const RouteAmounts& route, const proxy::RequestView& view,
                                 proxy::Admission& admission) {
  if (!route.reads_response && route.listens != proxy::kAll) return;
  if (route.streaming.on_exhausted == tenant::OnExhausted::kErrorEvent) {
    admission.accept_encoding = "identity";
    return;
  }
  const std::string_view asked = view.header("accept-encoding");
  if (!route.reads_response || asked.data() == nullptr) return;
  encodings_.clear();
  for (std::string_view rest = asked; !rest.empty();) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const size_t begin = std::min(item.find_first_not_of(" \t"), item.size());
    const std::string_view coding = item.substr(begin, item.find_first_of("; \t", begin) - begin);
    if (coding.empty() || meter::coding_of(coding) == meter::Coding::kUnknown) continue;
    encodings_.append(encodings_.empty() ? "" : ", ").append(item.substr(begin));
  }
  admission.accept_encoding = encodings_.empty() ? std::string_view("identity") : std::string_view(encodings_);
}

void Admission::begin_amounts(Request& request, proxy::Admission& admission) {
  const auto& route = route_amounts_[request.route];
  auto made = std::make_unique<RequestAmounts>();
  request.amounts = hold(admission).amounts = made.get();
  made->start(route, *request.view);
  made->ticket = request.ticket;
  amounts_.emplace(made.get(), std::move(made));
  choose_encodings(*route, *request.view, admission);
  if (request.amounts->may_ask_usage()) admission.accept_encoding = "identity";
}

void Admission::drop_amounts(RequestAmounts* amounts) {
  if (amounts != nullptr) amounts_.erase(amounts);
}

Verdict Admission::want_body(Request& request, proxy::Admission& admission, proxy::Denial& denial) {
  if (waiting_.size() >= options_.waiting_max) {
    return refuse(request, Reason::kTooManyWaiting, "too many requests send a body that is read first", admission,
                  denial);
  }
  admission.body_bytes_max = static_cast<size_t>(request.amounts->route().bodies.bytes_max);
  remember(request, INT64_MAX);
  return Verdict::kBody;
}

Verdict Admission::with_body(proxy::Ticket ticket, proxy::Admission& admission, std::string_view body, bool whole,
                             proxy::Denial& denial) {
  Request request;
  Verdict verdict = Verdict::kDeny;
  if (!recall(ticket, request, admission, denial, &verdict)) return verdict;
  request.deadline_ns = 0;  // it waited for nobody but itself
  const RouteAmounts& amounts = request.amounts->route();
  if (!whole && amounts.wants_body && amounts.bodies.refuse_larger) {
    const std::string detail = "the charge is read from the body, of which at most " +
                               std::to_string(amounts.bodies.bytes_max) + " bytes are read";
    return refuse(request, Reason::kBodyTooLarge, detail, admission, denial);
  }
  const std::string_view fault = request.amounts->read_body(body, whole);
  if (!fault.empty()) return refuse(request, Reason::kAmbiguousBody, fault, admission, denial);
  verdict = decide_again(request, admission, denial);
  // Where nobody listens to the response, nothing is asked for that would have to be taken out of it.
  if (verdict == Verdict::kWait || (verdict == Verdict::kAdmit && hold(admission).plan != nullptr)) {
    admission.body_instead = hold(admission).amounts->edited_body();
  }
  return verdict;
}

// False: `verdict` says why it goes no further.
bool Admission::estimate_amounts(Request& request, Plan& plan, proxy::Admission& admission, proxy::Denial& denial,
                                 Verdict* verdict) {
  RequestAmounts* amounts = request.amounts;
  if (amounts == nullptr || !amounts->same_route(plan.amounts)) {
    *verdict = deny(request, Reason::kPolicyUnavailable, "the policy has changed meanwhile: send the request again",
                    denial);
    return false;
  }
  if (amounts->needs_body()) {
    *verdict = want_body(request, admission, denial);
    return false;
  }
  std::array<int64_t, kMaxCharges> recent{};
  for (size_t i = 0; i < plan.units.size(); ++i) recent[i] = plan.recent[i].nineteen_of_twenty();
  amounts->estimate({plan.capped.data(), plan.units.size()}, recent);
  request.units = {amounts->held.data(), plan.units.size()};
  return true;
}

void Admission::watch(const Request& request, const Plan& plan, Reason reason, proxy::Admission& admission) {
  RequestAmounts& amounts = *request.amounts;
  amounts.ticket = request.ticket;
  amounts.passage.started_ns = loop_.now_ns();
  // Where no lease stands behind it, or nothing is to be denied, nothing ends it.
  amounts.passage.cuts = reason == Reason::kAdmitted && !plan.items.empty() &&
                         amounts.route().streaming.on_exhausted != tenant::OnExhausted::kFinish && !shadow(request);
  admission.listens = amounts.route().listens;
}

// --- While a response passes ------------------------------------------------------------------------------------

void Admission::response_head(proxy::Ticket, proxy::Admission& admission, const proxy::ResponseView& response) {
  const Held& held = hold(admission);
  if (held.amounts == nullptr) return;
  RequestAmounts& amounts = *held.amounts;
  amounts.response_head(response);
  auto& passage = amounts.passage;
  const meter::Framing framing = amounts.framing();
  const bool events = framing == meter::Framing::kSse || framing == meter::Framing::kJsonLines;
  if (passage.cuts && events && response.may_grow && !amounts.response_is_coded() &&
      amounts.route().streaming.on_exhausted == tenant::OnExhausted::kErrorEvent) {
    passage.events.emplace(framing);
  }
}

// Takes what is lacking of the purses, a slice at a time; `need`: what each charge has come to, or will with what passes
// next. kNo names the item that is used up.
Admission::Cover Admission::cover(Held& held, std::span<const int64_t> need, const PlanItem** short_of) {
  Plan& plan = *held.plan;
  RequestAmounts& amounts = *held.amounts;
  Cover all = Cover::kYes;
  for (size_t i = 0; i < need.size(); ++i) {
    int64_t lack = need[i] - amounts.held[i];
    if (lack <= 0) continue;
    const tenant::Estimate& e = amounts.route().charges[i].estimate;
    const int64_t slice = e.slice > 0 ? e.slice : std::max<int64_t>(1, e.fallback);
    const int64_t room = available_to(held, i);
    if (room >= lack) {
      take_more(held, i, std::min(std::max(lack, slice), room));
      continue;
    }
    if (room < 0) continue;  // nothing can be taken any more, whoever has what: settled in the end
    if (room > 0 && amounts.route().charges[i].from == tenant::AmountFrom::kResponseBytes) {
      take_more(held, i, room);  // to the last byte
      lack -= room;
    }
    for (const PlanItem& item : plan.items) {
      if (item.charge != i || item.purse->available() >= lack || is_over(item)) continue;
      *short_of = &item;
      // What lies unspent with others is back soon.
      if (!ask_for(*item.purse, lack) && !comes_back(item, lack)) return Cover::kNo;
      all = Cover::kPending;
    }
  }
  return all;
}

// Its window has ended.
bool Admission::is_over(const PlanItem& item) const {
  return item.end_s != 0 && (loop_.now_ns() + wall_offset_ns_) / 1'000'000'000 >= item.end_s;
}

// What a charge may still take under the lease of its request: as much as the shortest of its purses has. Negative:
// nothing, for that lease, or a window of the ledger's, is over. A minute that is over asks for nothing more: what comes
// later is not of it. A charge without limits takes what it likes.
int64_t Admission::available_to(const Held& held, size_t charge) const {
  if (held.reason != Reason::kAdmitted) return kMaxInteger;
  int64_t room = kMaxInteger;
  for (const PlanItem& item : held.plan->items) {
    if (item.charge != charge || (item.purse->redis_only && is_over(item))) continue;
    if (item.purse->epoch != held.epoch || is_over(item)) return -1;
    room = std::min(room, std::max<int64_t>(0, item.purse->available()));
  }
  return room;
}

// The log first: a successor bills what it finds there.
void Admission::take_more(Held& held, size_t charge, int64_t units) {
  RequestAmounts& amounts = *held.amounts;
  amounts.held[charge] += units;
  log_.raise(held.slot, charge, amounts.held[charge]);
  for (const PlanItem& item : held.plan->items) {
    if (item.charge != charge || (held.reason == Reason::kAdmitted && is_over(item))) continue;
    if (held.reason == Reason::kAdmitted) {
      item.purse->spent += units;
      escrow_.spent_from(*item.purse);
    } else if (held.reason == Reason::kAllowedUnavailable) {
      item.purse->allowed += units;
    }
  }
}

// Whether what the response comes to with `bytes` more may pass. kPending: it waits, as long as requests do.
Admission::Cover Admission::may_pass(Held& held, uint64_t bytes, const PlanItem** short_of) {
  RequestAmounts& amounts = *held.amounts;
  auto& passage = amounts.passage;
  std::array<int64_t, kMaxCharges> need{};
  const size_t n = held.plan->units.size();
  for (size_t i = 0; i < n; ++i) {
    if (amounts.grows(i)) need[i] = amounts.so_far(i, passage.bytes + bytes, loop_.now_ns() - passage.started_ns);
  }
  Cover covered = cover(held, {need.data(), n}, short_of);
  if (covered == Cover::kPending && passage.cuts) {
    if (passage.pause_until_ns == 0) passage.pause_until_ns = loop_.now_ns() + options_.wait_ms * 1'000'000;
    if (loop_.now_ns() >= passage.pause_until_ns) {
      const bool dry = escrow_.exhausted(*(*short_of)->purse, 1, /*fresh=*/false);
      const auto rule = dry ? tenant::OnUnavailable::kDeny
                        : (*short_of)->wallet ? held.plan->on_unavailable_wallet : held.plan->on_unavailable_quota;
      covered = rule == tenant::OnUnavailable::kAllow ? Cover::kYes : Cover::kNo;
    }
  }
  if (covered == Cover::kYes) passage.pause_until_ns = 0;
  return covered;
}

void Admission::note_passed(Held& held, size_t bytes) {
  RequestAmounts& amounts = *held.amounts;
  amounts.passage.bytes += bytes;
  for (size_t i = 0; i < held.plan->units.size(); ++i) {
    amounts.passed[i] = amounts.so_far(i, amounts.passage.bytes, loop_.now_ns() - amounts.passage.started_ns);
  }
}

Flow Admission::response_body(proxy::Admission& admission, std::string_view offered, bool last) {
  Held& held = hold(admission);
  if (held.amounts == nullptr || held.plan == nullptr) return {offered.size()};
  Flow flow = held.amounts->passage.events ? pass_events(held, offered, last) : pass_bytes(held, offered, last);
  const bool ends = flow.next == Flow::kEnd || (last && flow.next == Flow::kGoOn);
  flow.instead = held.amounts->filtered(offered.substr(0, ends && flow.next == Flow::kGoOn ? offered.size() : flow.pass), ends);
  return flow;
}

// Piece by piece, wherever they end.
Flow Admission::pass_bytes(Held& held, std::string_view offered, bool last) {
  RequestAmounts& amounts = *held.amounts;
  auto& passage = amounts.passage;
  amounts.response_piece(offered.substr(std::min(passage.fed, offered.size())));
  passage.fed = offered.size();
  if (last) amounts.response_end();
  const PlanItem* short_of = nullptr;
  const Cover covered = may_pass(held, offered.size(), &short_of);
  size_t pass = offered.size();
  if (covered != Cover::kYes && passage.cuts) pass = std::min(pass, bytes_covered(held));
  if (covered == Cover::kNo && passage.cuts) {
    // What it came to before this piece is what it is charged; bytes are counted as they pass.
    passage.bytes += pass;
    return end_early(held, pass, short_of);
  }
  if (pass == offered.size())
    note_passed(held, pass);
  else
    passage.bytes += pass;
  passage.fed -= pass;
  if (pass == offered.size()) return {pass};
  return pause(held, pass, short_of);
}

// How many of the bytes that come next what is held pays for: all, where none of the charges is by bytes and none is
// known to lack anything; else as many as every charge allows.
size_t Admission::bytes_covered(const Held& held) const {
  RequestAmounts& amounts = *held.amounts;
  size_t bytes = SIZE_MAX;
  for (size_t i = 0; i < held.plan->units.size(); ++i) {
    if (amounts.route().charges[i].from == tenant::AmountFrom::kResponseBytes) {
      const auto left = amounts.held[i] - static_cast<int64_t>(amounts.passage.bytes);
      bytes = std::min(bytes, static_cast<size_t>(std::max<int64_t>(0, left)));
    } else if (amounts.grows(i) && amounts.so_far(i, 0, loop_.now_ns() - amounts.passage.started_ns) > amounts.held[i]) {
      return 0;
    }
  }
  return bytes;
}

// Event by event: what passes is always whole, so that another event may follow at any time.
Flow Admission::pass_events(Held& held, std::string_view offered, bool last) {
  RequestAmounts& amounts = *held.amounts;
  auto& passage = amounts.passage;
  const PlanItem* short_of = nullptr;
  size_t pass = 0;
  // Returns whether more may be looked at; an event that is whole ends at `end`.
  const auto event = [&](size_t end, Flow* flow) {
    const Cover covered = may_pass(held, end - pass, &short_of);
    if (covered == Cover::kYes) {
      note_passed(held, end - pass);
      pass = end;
      return true;
    }
    passage.whole_event = true;
    passage.fed = end - pass;
    *flow = covered == Cover::kNo ? end_early(held, pass, short_of) : pause(held, pass, short_of);
    return false;
  };
  Flow flow;
  size_t at = passage.fed;
  if (std::exchange(passage.whole_event, false) && !event(at, &flow)) return flow;
  using Kind = meter::EventReader::Step::Kind;
  for (std::string_view rest = offered.substr(at); !rest.empty() || last;) {
    const auto step = rest.empty() ? passage.events->finish() : passage.events->next(rest);
    const size_t now = offered.size() - rest.size();
    amounts.response_piece(offered.substr(at, now - at));
    at = now;
    if (step.kind == Kind::kMalformed) {  // from here on it goes through as it comes
      amounts.response_piece(rest);
      at = offered.size();
      passage.between_events = true;
      break;
    }
    if (step.kind == Kind::kMore) {
      if (rest.empty()) break;
      continue;
    }
    if (step.kind == Kind::kData) {
      passage.between_events = false;
      continue;
    }
    passage.between_events = true;
    if (!event(at, &flow)) return flow;
  }
  if (last) amounts.response_end();
  // What is no event's passes at once, such as comments that keep a connection alive; but no part of a line.
  const bool between = passage.between_events && (offered.ends_with('\n') || offered.ends_with('\r'));
  if (last || (between && pass < offered.size()) || offered.size() - pass > kEventBytesMax) {
    if (!event(offered.size(), &flow)) return flow;
  }
  passage.fed = offered.size() - pass;
  return {pass};
}

Flow Admission::pause(Held& held, size_t pass, const PlanItem* short_of) {
  RequestAmounts& amounts = *held.amounts;
  count(counters_.paused);
  short_of->purse->waiting.push_back(amounts.ticket.key());
  // Looked at again before its time is over too: what others give back is told by nobody.
  const int64_t again_ns = loop_.now_ns() + kRecheckMs * 1'000'000;
  paused_.insert_or_assign(amounts.ticket.key(), std::min(amounts.passage.pause_until_ns, again_ns));
  return {pass, Flow::kPause};
}

// The reason in a form that clients of LLM APIs take for an error of theirs, and any other for one of ours.
Flow Admission::end_early(Held& held, size_t pass, const PlanItem* short_of) {
  RequestAmounts& amounts = *held.amounts;
  auto& passage = amounts.passage;
  passage.cut = true;
  count(counters_.cut[held.plan->route]);
  if (!passage.events) return {pass, Flow::kEnd};
  const bool wallet = short_of != nullptr && short_of->wallet;
  const char* reason = info(wallet ? Reason::kBalanceExhausted : Reason::kQuotaExhausted).code;
  std::string json = R"({"type":"error","error":{"type":"insufficient_quota","code":"insufficient_quota","message":)";
  std::string message = wallet ? "the prepaid balance is used up" : "the quota is used up";
  if (short_of != nullptr && !wallet) message += ": limit " + short_of->limit + " of meter " + short_of->meter;
  message += "; the answer ends here";
  append_json_string(json, message);
  json += std::string("},\"reason\":\"") + reason + "\"}";
  const bool sse = amounts.framing() == meter::Framing::kSse;
  passage.tail = sse ? "event: error\ndata: " + json + "\n\n" : json + "\n";
  return {pass, Flow::kEnd, passage.tail};
}

bool Admission::drains(proxy::Admission& admission) {
  const Held& held = hold(admission);
  return held.amounts != nullptr && held.plan != nullptr &&
         held.amounts->route().streaming.on_abort == tenant::OnAbort::kDrain;
}

// --- At its end -------------------------------------------------------------------------------------------------

Amount Admission::amount_of(Held& held, size_t i, const proxy::Outcome& outcome) {
  RequestAmounts& amounts = *held.amounts;
  const RouteAmounts::Charge& charge = amounts.route().charges[i];
  const bool success_only = held.plan->charge_on_success;
  const bool failed = outcome.end == proxy::End::kUpstreamFailed || outcome.status >= 500;
  if ((failed && success_only) || !outcome.app_reached) return {0, Basis::kNotCharged};
  const bool left = outcome.end == proxy::End::kClientAborted;
  const bool drained = left && amounts.route().streaming.on_abort == tenant::OnAbort::kDrain && amounts.ended();
  Amount amount = amounts.final(i, outcome, (left && !drained) || amounts.passage.cut);
  using From = tenant::AmountFrom;
  const bool of_response = charge.from == From::kResponseHeader || charge.from == From::kResponseJson ||
                           charge.from == From::kTokens;
  if (amount.basis == Basis::kAbsent && of_response && success_only && outcome.status >= 300) {
    return {0, Basis::kNotCharged};
  }
  // What was cut off was so because what is held was used up: it pays no more than that.
  if (amounts.passage.cut) amount.units = std::min(amount.units, amounts.held[i]);
  if (left && !drained && amounts.route().streaming.on_abort == tenant::OnAbort::kWhole && charge.from != From::kFixed) {
    amount.units = std::max(amount.units, amounts.held[i]);
  }
  return amount;
}

void Admission::settle_amounts(proxy::Admission& admission, const proxy::Outcome& outcome) {
  Held& held = hold(admission);
  RequestAmounts& amounts = *held.amounts;
  paused_.erase(amounts.ticket.key());
  if (held.plan == nullptr) return drop_amounts(&amounts);
  Debt debt;
  debt.held = held;
  const size_t n = held.plan->units.size();
  for (size_t i = 0; i < n; ++i) {
    const Amount amount = amount_of(held, i, outcome);
    debt.bill[i] = amount.units;
    note_amount(held, i, amount, outcome);
    count(counters_.charged_units, amount.units);
    if (amount.units < amounts.held[i]) count(counters_.released_units, amounts.held[i] - amount.units);
  }
  debt.until_ns = loop_.now_ns() + options_.wait_ms * 1'000'000;
  if (!pay(debt, /*finally=*/debts_.size() >= kDebtsMax)) debts_.push_back(debt);
}

void Admission::note_amount(Held& held, size_t i, const Amount& amount, const proxy::Outcome& outcome) {
  RequestAmounts& amounts = *held.amounts;
  if (amounts.route().charges[i].from == tenant::AmountFrom::kFixed) return;
  auto& row = counters_.amounts[held.plan->route];
  const auto basis = static_cast<size_t>(amount.basis);
  count(row.requests[basis]);
  count(row.units[basis], amount.units);
  if (amount.basis != Basis::kMeasured || outcome.end != proxy::End::kCompleted) return;
  held.plan->recent[i].add(amount.units);
  row.ratio.observe(amount.units, std::max<int64_t>(1, amounts.estimate_of(i)));
}

// Settles a request to what it came to. False: units that it lacks may still come, and it is tried again; `finally`, or
// where none are to come, what is lacking is booked without a lease, as overshoot.
bool Admission::pay(Debt& debt, bool finally) {
  Held& held = debt.held;
  Plan& plan = *held.plan;
  RequestAmounts& amounts = *held.amounts;
  const size_t n = plan.units.size();
  std::array<int64_t, kMaxCharges> over{};
  bool any_over = false, may_come = !finally;
  for (size_t i = 0; i < n; ++i) {
    const int64_t lack = debt.bill[i] - amounts.held[i];
    if (lack < 0) give_back(held, i, -lack);
    if (lack <= 0) continue;
    const int64_t room = available_to(held, i);
    if (room > 0) take_more(held, i, std::min(room, lack));
    over[i] = debt.bill[i] - amounts.held[i];
    if (over[i] == 0) continue;
    any_over = true;
    may_come = may_come && room >= 0 && comes_soon(held, i, over[i]);
  }
  if (any_over && may_come) return false;
  std::span<const int64_t> bill{amounts.held.data(), n};
  if (any_over && !book_overshoot(plan, {over.data(), n})) bill = {debt.bill.data(), n};
  log_.settle(held.slot, bill);
  drop_amounts(&amounts);
  if (--plan.in_flight == 0 && plan.retired) retire(&plan);
  return true;
}

// Asks for what a charge lacks; false where it is known that nothing comes.
bool Admission::comes_soon(const Held& held, size_t charge, int64_t lack) {
  bool soon = true;
  for (const PlanItem& item : held.plan->items) {
    if (item.charge != charge || item.purse->available() >= lack || is_over(item)) continue;
    soon = escrow_.may_lease(*item.purse) && ask_for(*item.purse, lack) && soon;
  }
  return soon;
}

// A lease is all or nothing: where the whole is not to be had, what is left of it is asked for. False: nothing is.
bool Admission::ask_for(Purse& purse, int64_t units) {
  if (purse.state == PurseState::kLost) return false;
  if (escrow_.exhausted(purse, units, /*fresh=*/true)) {
    const int64_t left = purse.elsewhere;
    if (left <= 0 || left >= units || escrow_.exhausted(purse, left, /*fresh=*/true)) return false;
    units = left;
  }
  escrow_.need(purse, units);
  return true;
}

void Admission::give_back(Held& held, size_t charge, int64_t units) {
  held.amounts->held[charge] -= units;
  for (const PlanItem& item : held.plan->items) {
    if (item.charge != charge) continue;
    escrow_.release(*item.purse, held.epoch, units);
    if (held.reason == Reason::kAllowedUnavailable) item.purse->allowed -= units;
  }
}

// As what is admitted without a lease: under no epoch, so that no bucket is asked for what it never granted.
bool Admission::book_overshoot(Plan& plan, std::span<const int64_t> units) {
  for (const int64_t n : units) count(counters_.amounts[plan.route].overshoot_units, n);
  if (!plan.has_allow_definition) {
    auto defined = log_.define(*plan.without_lease);
    if (!defined) return false;
    plan.allow_definition = *defined;
    plan.has_allow_definition = true;
  }
  const int64_t now_s = (loop_.now_ns() + wall_offset_ns_) / 1'000'000'000;
  Slot* slot = log_.admit(plan.allow_definition, units, now_s);
  if (slot == nullptr) return false;
  log_.settle(slot, units);
  return true;
}

// Of the 20 ms: who waits for units in the middle of a response, and who is still to be settled.
void Admission::sweep_amounts() {
  for (auto it = paused_.begin(); it != paused_.end();) {
    const auto [key, until_ns] = *it;
    if (loop_.now_ns() < until_ns) {
      ++it;
      continue;
    }
    it = paused_.erase(it);
    resume_({static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)});
  }
  std::erase_if(debts_, [this](Debt& debt) { return pay(debt, loop_.now_ns() >= debt.until_ns); });
}

}  // namespace tallygate::sidecar
