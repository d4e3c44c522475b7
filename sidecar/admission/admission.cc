#include "sidecar/admission/admission.h"

#include <algorithm>

#include "core/counting.h"
#include "core/telemetry/log.h"
#include "sidecar/admission/problem.h"
#include "sidecar/admission/quota_headers.h"
#include "sidecar/proxy/rewrite.h"

namespace tallygate::sidecar {

using proxy::Verdict;

namespace {

constexpr int64_t kSweepMs = 20;
constexpr size_t kDefaultRoute = AdmissionCounters::kDefaultRoute;

proxy::Ticket ticket_of(uint64_t key) { return {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)}; }

}  // namespace

Admission::Admission(EventLoop& loop, Directory& directory, Escrow& escrow, UsageLog& log, const Spent& allowed_before,
                     std::string policy_namespace, AdmissionOptions options)
    : loop_(loop),
      directory_(directory),
      escrow_(escrow),
      log_(log),
      namespace_(std::move(policy_namespace)),
      options_(options),
      route_amounts_(AdmissionCounters::kRoutes),
      amounts_faults_(AdmissionCounters::kRoutes),
      names_(AdmissionCounters::kRoutes) {
  static_assert(sizeof(Held) <= sizeof(proxy::Admission::state));
  for (const auto& [key, units] : allowed_before) {
    if (key.first == 0) allowed_before_[key.second] += units;
  }
  const auto resume = [this](uint64_t key) { resume_(ticket_of(key)); };
  directory_.on_resume(resume);
  directory_.on_tenant_changed([this](TenantEntry& tenant) { escrow_.reconsider(tenant.id); });
  directory_.on_policy_changed([this] { policy_changed(); });
  escrow_.on_change([resume](Purse& purse) {
    std::vector<uint64_t> batch;
    batch.swap(purse.waiting);
    for (const uint64_t key : batch) resume(key);
  });
  sweep();
}

Admission::~Admission() { loop_.cancel(timer_); }

// Every 20 ms: the wall clock's offset, and requests that have waited long enough.
void Admission::sweep() {
  timer_ = loop_.after_ms(kSweepMs, [this] { sweep(); });
  look_at_clock();
  for (const auto& [key, waiting] : waiting_) {
    if (loop_.now_ns() >= waiting.deadline_ns) resume_(ticket_of(key));
  }
  if (!paused_.empty() || !debts_.empty()) sweep_amounts();
}

void Admission::look_at_clock() { wall_offset_ns_ = loop_.env().wall_ns() - loop_.env().mono_ns(); }

void Admission::policy_changed() {
  const tenant::Policy* policy = directory_.policy();
  if (!identifier_ || identity_ != policy->identity || tenant_header_ != policy->tenant_header ||
      forward_overrides_ != policy->paths.forward_overrides) {
    identity_ = policy->identity;
    tenant_header_ = policy->tenant_header;
    forward_overrides_ = policy->paths.forward_overrides;
    identifier_ = std::make_unique<Identifier>(identity_, tenant_header_, forward_overrides_);
    ++identity_serial_;
  }
  cors_ = Cors(policy->cors);
  routes_ = tenant::RouteTable(*policy);
  for (size_t i = 0; i <= kDefaultRoute; ++i) {
    auto compiled = RouteAmounts::compile(route(i), *policy);
    amounts_faults_[i] = compiled ? "" : compiled.error().message;
    route_amounts_[i] = compiled ? std::move(*compiled) : nullptr;
  }
  std::lock_guard lock(names_mutex_);
  for (auto& name : names_) name.clear();
  for (size_t i = 0; i < policy->routes.size() && i < kDefaultRoute; ++i) names_[i] = policy->routes[i].name.str();
  names_[kDefaultRoute] = policy->default_route.name.empty() ? "default" : policy->default_route.name.str();
  names_[AdmissionCounters::kNoRoute] = "none";
}

std::vector<std::string> Admission::route_names() const {
  std::lock_guard lock(names_mutex_);
  return names_;
}

const tenant::Route& Admission::route(size_t index) const {
  const tenant::Policy& policy = *directory_.policy();
  return index < std::min(policy.routes.size(), kDefaultRoute) ? policy.routes[index] : policy.default_route;
}

std::string_view Admission::find_route(Request& request) {
  const tenant::RouteTable::Found found = routes_.find(request.method, request.path, &path_);
  if (!found.fault.empty()) return found.fault;
  request.route = std::min(found.route, kDefaultRoute);
  if (found.forward.data() != nullptr) request.path = found.forward;
  return {};
}

Verdict Admission::decided(size_t route, Reason reason, Verdict verdict) {
  count(counters_.decisions[route][static_cast<size_t>(reason)]);
  return verdict;
}

Verdict Admission::deny(const Request& request, Reason reason, std::string_view detail, proxy::Denial& denial,
                        const Plan* plan, const PlanItem* item, int64_t requested) {
  DenialFacts facts;
  facts.reason = reason;
  facts.detail = detail;
  facts.request_id = request.request_id;
  if (request.tenant != nullptr) facts.tenant = request.tenant->id;
  facts.plan = plan;
  facts.item = item;
  facts.requested = requested;
  if (identifier_) facts.challenge = identifier_->challenge();
  facts.now_s = (loop_.now_ns() + wall_offset_ns_) / 1'000'000'000;
  if (item != nullptr && item->purse->state == PurseState::kLost && item->end_s > facts.now_s) {
    facts.retry_after_s = item->end_s - facts.now_s;
  } else if (info(reason).status == 503 || (item != nullptr && comes_back(*item, requested))) {
    facts.retry_after_s = 1;
  } else if (item != nullptr && item->end_s > facts.now_s && reason == Reason::kQuotaExhausted) {
    facts.retry_after_s = item->end_s - facts.now_s;
  }
  write_denial(facts, &denial);
  if (cors_.on()) {
    cors_.append_denial(request.view != nullptr ? request.view->header("origin") : request.origin, &denial.headers);
  }
  denial_log_.note(facts, names_[request.route], loop_.now_ns());
  drop_amounts(request.amounts);
  return decided(request.route, reason, Verdict::kDeny);
}

Verdict Admission::admit(const proxy::RequestView& view, std::string_view request_id, proxy::Ticket ticket,
                         proxy::Admission& admission, proxy::Denial& denial) {
  Request request;
  request.method = view.method;
  request.path = view.path;
  request.view = &view;
  request.request_id = request_id;
  request.ticket = ticket;
  if (directory_.policy() == nullptr) [[unlikely]] {
    // Nobody can be identified before the policy is there; the client may simply come again.
    return deny(request, Reason::kPolicyUnavailable, "the billing policy has not been published yet, or Redis is away",
                denial);
  }
  if (const std::string_view fault = find_route(request); !fault.empty()) [[unlikely]] {
    return refuse(request, Reason::kMalformedPath, fault, admission, denial);
  }
  if (request.path.data() != view.path.data()) admission.forward_path = request.path;
  const tenant::RouteAction action = route(request.route).action;
  // The app answers where the policy exempts the question itself.
  if (cors_.is_preflight(view) && action != tenant::RouteAction::kExempt && !shadow(request)) [[unlikely]] {
    return answer_preflight(request, denial);
  }
  if (action != tenant::RouteAction::kCharge) return decide_route(request, admission, denial);
  const Identified who = identifier_->identify(view);
  if (who.reason != Reason::kAdmitted) {
    const std::string detail = who.reason == Reason::kUnauthenticated ? "send " + identifier_->wanted() : who.detail;
    return refuse(request, who.reason, detail, admission, denial);
  }
  request.credential = who.value;
  request.prefix = who.prefix;
  request.api_key = who.api_key;
  if (route_amounts_[request.route] != nullptr) [[unlikely]]
    begin_amounts(request, admission);
  return decide(request, admission, denial);
}

Verdict Admission::readmit(proxy::Ticket ticket, proxy::Admission& admission, proxy::Denial& denial) {
  Request request;
  Verdict verdict = Verdict::kDeny;
  return recall(ticket, request, admission, denial, &verdict) ? decide_again(request, admission, denial) : verdict;
}

Verdict Admission::decide_again(Request& request, proxy::Admission& admission, proxy::Denial& denial) {
  if (route(request.route).action != tenant::RouteAction::kCharge) return decide_route(request, admission, denial);
  return decide(request, admission, denial);
}

// What is remembered of a request that waited. False: it goes no further, and `verdict` is its answer.
bool Admission::recall(proxy::Ticket ticket, Request& request, proxy::Admission& admission, proxy::Denial& denial,
                       Verdict* verdict) {
  const auto found = waiting_.find(ticket.key());
  TG_ASSERT(found != waiting_.end());
  readmitted_ = std::move(found->second);
  waiting_.erase(found);
  const Waiting& waiting = readmitted_;
  request.amounts = hold(admission).amounts;
  request.method = waiting.method;
  request.path = waiting.path;
  request.request_id = waiting.request_id;
  request.credential = waiting.credential;
  request.prefix = waiting.prefix;
  request.origin = waiting.origin;
  request.api_key = waiting.api_key;
  request.ticket = ticket;
  request.deadline_ns = waiting.deadline_ns;
  look_at_clock();  // what it waited for may have set the clock right
  if (directory_.policy() == nullptr) {
    *verdict = deny(request, Reason::kPolicyUnavailable, "the billing policy was deleted", denial);
    return false;
  }
  // What is on its way to the app was rid of the headers of identity as they were: others may be in it. That holds in
  // shadow as well.
  if (waiting.identity_serial != identity_serial_) {
    *verdict = deny(request, Reason::kPolicyUnavailable, "the policy has changed meanwhile: send the request again",
                    denial);
    return false;
  }
  std::string_view fault = find_route(request);
  // What is on its way to the app is the path as it was; no other is matched in its place.
  if (request.path != waiting.path) fault = "the policy has changed meanwhile: send the request again";
  if (fault.empty()) return true;
  *verdict = refuse(request, Reason::kMalformedPath, fault, admission, denial);
  return false;
}

// Browsers ask without a credential, so nobody could be charged: nothing of it reaches an app, whose handlers may not
// look at the method. What is judged is the request that is to follow; who sends that is asked then.
Verdict Admission::answer_preflight(Request& request, proxy::Denial& denial) {
  const proxy::RequestView& view = *request.view;
  request.method = Cors::asked_method(view);
  request.path = view.path;
  if (const std::string_view fault = find_route(request); !fault.empty()) {
    return deny(request, Reason::kMalformedPath, fault, denial);
  }
  if (route(request.route).action == tenant::RouteAction::kDeny) return deny(request, Reason::kRouteDenied, "", denial);
  denial.status = 204;
  cors_.append_consent(view, identifier_->trusted(), &denial.headers);
  return decided(request.route, Reason::kPreflight, Verdict::kDeny);
}

// A route that is not charged asks nobody who they are.
Verdict Admission::decide_route(Request& request, proxy::Admission& admission, proxy::Denial& denial) {
  if (route(request.route).action == tenant::RouteAction::kDeny) {
    return refuse(request, Reason::kRouteDenied, "", admission, denial);
  }
  return admit_unmetered(request, Reason::kExempt, admission);
}

Verdict Admission::refuse(Request& request, Reason reason, std::string_view detail, proxy::Admission& admission,
                          proxy::Denial& denial) {
  if (reason == Reason::kLogFull) {
    static log::Throttle throttle(10);
    log::error(throttle, "usage cannot be recorded: nothing is admitted that could not be billed", {{"error", detail}});
    detail = "";  // it names our files: nothing for a client
  }
  if (!shadow(request)) return deny(request, reason, detail, denial);
  if (request.view != nullptr) {  // an app that checks credentials itself goes on doing so
    const Identified who = identifier_->identify(*request.view);
    request.credential = who.value;
    request.prefix = who.prefix;
  }
  return admit_unmetered(request, Reason::kShadow, admission);
}

void Admission::abandon(proxy::Ticket ticket, proxy::Admission& admission) {
  waiting_.erase(ticket.key());
  drop_amounts(hold(admission).amounts);
}

bool Admission::may_wait(const Request& request) const {
  return waiting_.size() < options_.waiting_max && (request.deadline_ns == 0 || loop_.now_ns() < request.deadline_ns);
}

Verdict Admission::wait(Request& request, std::vector<uint64_t>& list) {
  if (request.deadline_ns == 0) count(counters_.waited);
  remember(request, request.deadline_ns != 0 ? request.deadline_ns : loop_.now_ns() + options_.wait_ms * 1'000'000);
  list.push_back(request.ticket.key());
  return Verdict::kWait;
}

void Admission::remember(const Request& request, int64_t deadline_ns) {
  Waiting waiting{std::string(request.method),
                  std::string(request.path),
                  std::string(request.request_id),
                  std::string(request.credential),
                  std::string(request.prefix),
                  "",
                  request.api_key,
                  deadline_ns,
                  identity_serial_};
  if (cors_.on()) waiting.origin = request.view != nullptr ? request.view->header("origin") : request.origin;
  waiting_.emplace(request.ticket.key(), std::move(waiting));
}

bool Admission::shadow(const Request& request) const {
  return directory_.policy()->enforcement == tenant::Enforcement::kShadow ||
         (request.tenant != nullptr && request.tenant->doc.enforcement == tenant::Enforcement::kShadow);
}

Verdict Admission::decide(Request& request, proxy::Admission& admission, proxy::Denial& denial) {
  IdentityEntry* known = directory_.identity(request.api_key, request.credential);
  if (known == nullptr) [[unlikely]] {
    return refuse(request, Reason::kTooManyWaiting, "too many unknown credentials are being asked for", admission,
                  denial);
  }
  IdentityEntry& identity = *known;
  const bool pending =
      identity.known == Known::kPending || (identity.known == Known::kYes && !identity.tenant->fetched);
  if (pending) [[unlikely]] {
    if (escrow_.connected() && may_wait(request)) {
      return wait(request, identity.known == Known::kPending ? identity.waiting : identity.tenant->waiting);
    }
    return refuse(request, Reason::kPolicyUnavailable, "the tenant's billing data is not known here yet", admission,
                  denial);
  }
  if (identity.known == Known::kNo || !identity.tenant->exists) {
    if (request.api_key)
      return refuse(request, Reason::kInvalidCredential, "no tenant has this API key", admission, denial);
    return refuse(request, Reason::kUnknownTenant, "no tenant has this id", admission, denial);
  }
  request.tenant = identity.tenant;
  return decide_tenant(request, admission, denial);
}

Verdict Admission::decide_tenant(Request& request, proxy::Admission& admission, proxy::Denial& denial) {
  const tenant::Tenant& doc = request.tenant->doc;
  const bool allowed = std::any_of(doc.allowed_namespaces.begin(), doc.allowed_namespaces.end(),
                                   [this](const std::string& ns) { return ns == "*" || ns == namespace_; });
  if (!allowed && !shadow(request)) {
    return deny(request, Reason::kTenantNotAllowed,
                "the tenant does not allow policies of namespace " + namespace_ + " to bill it", denial);
  }
  if (doc.suspended && !shadow(request)) return deny(request, Reason::kSuspended, doc.suspend_reason, denial);
  const tenant::Route& rule = route(request.route);
  if (!rule.entitlement.empty() && !shadow(request) &&
      std::find(doc.entitlements.begin(), doc.entitlements.end(), rule.entitlement) == doc.entitlements.end()) {
    return deny(request, Reason::kNotEntitled, "plan " + doc.plan.str() + " does not include " + rule.entitlement,
                denial);
  }
  Reason reason = Reason::kAdmitted;
  std::string detail;
  Plan* plan = plan_for(request, &reason, &detail);
  if (plan == nullptr) [[unlikely]] {
    return refuse(request, reason, detail, admission, denial);
  }
  return decide_units(request, *plan, admission, denial);
}

Verdict Admission::admit_unmetered(Request& request, Reason reason, proxy::Admission& admission) {
  hold(admission) = held(request, reason);
  return decided(request.route, reason, Verdict::kAdmit);
}

Admission::Held Admission::held(const Request& request, Reason reason) {
  return {nullptr,
          nullptr,
          0,
          request.tenant,
          request.amounts,
          request.prefix.data(),
          request.credential.data(),
          static_cast<uint16_t>(request.prefix.size()),
          static_cast<uint16_t>(request.credential.size()),
          reason};
}

const proxy::NameSet& Admission::guarded() const {
  static const proxy::NameSet kNone;  // before there is a policy nothing is let through
  return identifier_ ? identifier_->guarded() : kNone;
}

// What was verified, and whose the request is by that. Where nobody was identified the app is told of nobody; in shadow
// it gets the credential that is not known here.
size_t Admission::request_headers(proxy::Admission& admission, std::span<char> out) {
  const Held& held = hold(admission);
  if (held.tenant == nullptr && held.reason != Reason::kShadow) return 0;
  std::string_view prefix, id;
  if (held.tenant != nullptr) {
    prefix = identifier_->tenant_prefix();
    id = held.tenant->id;
  }
  if (prefix.size() + id.size() + held.prefix_size + held.credential_size + 4 > out.size()) [[unlikely]]
    return 0;
  proxy::Out to{out.data()};
  if (held.prefix_size > 0) to.field({held.prefix, held.prefix_size}, {held.credential, held.credential_size});
  if (!prefix.empty()) to.field(prefix, id);
  return static_cast<size_t>(to.at - out.data());
}

size_t Admission::response_headers(proxy::Admission& admission, std::span<char> out) {
  const Held& held = hold(admission);
  if (held.plan == nullptr) return 0;
  const size_t size = write_quota_headers(*held.plan, (loop_.now_ns() + wall_offset_ns_) / 1'000'000'000, out);
  const std::string_view expose = cors_.expose_line();
  if (size == 0 || expose.size() > out.size() - size) return size;
  std::copy(expose.begin(), expose.end(), out.begin() + static_cast<ptrdiff_t>(size));
  return size + expose.size();
}

}  // namespace tallygate::sidecar
