#include "core/tenant/wire.h"

#include <nlohmann/json.hpp>

#include "core/http1/chars.h"
#include "core/tenant/wire_read.h"

namespace tallygate::tenant {
namespace {

using Json = nlohmann::json;
using wire::Reader;

constexpr int64_t kWireVersion = 1;

// --- Names of the enumerators, for both directions --------------------------------------------------------------

template <class E>
struct Name {
  E value;
  const char* text;
};

constexpr Name<Enforcement> kEnforcements[] = {{Enforcement::kEnforce, "Enforce"}, {Enforcement::kShadow, "Shadow"}};
constexpr Name<Settlement> kSettlements[] = {
    {Settlement::kInvoice, "Invoice"}, {Settlement::kWallet, "Wallet"}, {Settlement::kNone, "None"}};
constexpr Name<Cap> kCaps[] = {{Cap::kHard, "Hard"}, {Cap::kSoft, "Soft"}};
constexpr Name<OnUnavailable> kOnUnavailable[] = {{OnUnavailable::kAllow, "Allow"}, {OnUnavailable::kDeny, "Deny"}};
constexpr Name<WindowKind> kWindows[] = {
    {WindowKind::kSecond, "Second"}, {WindowKind::kMinute, "Minute"},
    {WindowKind::kHour, "Hour"},     {WindowKind::kDay, "Day"},
    {WindowKind::kWeek, "Week"},     {WindowKind::kMonth, "Month"},
    {WindowKind::kYear, "Year"},     {WindowKind::kBillingPeriod, "BillingPeriod"}};
constexpr Name<IdentityType> kIdentityTypes[] = {
    {IdentityType::kApiKey, "APIKey"}, {IdentityType::kTrustedHeader, "TrustedHeader"}, {IdentityType::kJwt, "JWT"}};
constexpr Name<Forward> kForwards[] = {
    {Forward::kVerified, "Verified"}, {Forward::kAlways, "Always"}, {Forward::kNever, "Never"}};
constexpr Name<RouteAction> kActions[] = {
    {RouteAction::kCharge, "Charge"}, {RouteAction::kExempt, "Exempt"}, {RouteAction::kDeny, "Deny"}};
constexpr Name<PathMatch> kPathMatches[] = {{PathMatch::kExact, "Exact"}, {PathMatch::kPrefix, "PathPrefix"}};

constexpr Name<AmbiguousPath> kAmbiguousPaths[] = {{AmbiguousPath::kRefuseIfRoutesDiffer, "RefuseIfRoutesDiffer"},
                                                   {AmbiguousPath::kRefuse, "Refuse"},
                                                   {AmbiguousPath::kNormalise, "Normalise"}};

constexpr Name<AmountFrom> kAmountsFrom[] = {
    {AmountFrom::kRequestHeader, "RequestHeader"}, {AmountFrom::kResponseHeader, "ResponseHeader"},
    {AmountFrom::kRequestBytes, "RequestBytes"},   {AmountFrom::kResponseBytes, "ResponseBytes"},
    {AmountFrom::kDuration, "Duration"},           {AmountFrom::kRequestJson, "RequestJSON"},
    {AmountFrom::kResponseJson, "ResponseJSON"},   {AmountFrom::kTokens, "Tokens"}};
constexpr Name<OnExhausted> kOnExhausted[] = {
    {OnExhausted::kFinish, "Finish"}, {OnExhausted::kErrorEvent, "ErrorEvent"}, {OnExhausted::kClose, "Close"}};
constexpr Name<OnAbort> kOnAborts[] = {
    {OnAbort::kReceived, "Received"}, {OnAbort::kWhole, "Whole"}, {OnAbort::kDrain, "Drain"}};

template <class E, size_t N>
const char* name_of(const Name<E> (&names)[N], E value) {
  for (const auto& name : names) {
    if (name.value == value) return name.text;
  }
  TG_ASSERT(!"an enumerator without a name");
}

template <class E, size_t N>
void read_enum(Reader& in, const char* key, const Name<E> (&names)[N], E* out) {
  std::string text;
  if (!in.text(key, &text)) return;
  for (const auto& name : names) {
    if (text == name.text) {
      *out = name.value;
      return;
    }
  }
  in.fault(key, "has an unknown value \"" + text.substr(0, 40) + "\"");
}

template <class IdType>
void read_id(Reader& in, const char* key, IdType* out) {
  std::string text;
  if (!in.text(key, &text)) return;
  auto id = IdType::parse(text);
  if (!id) return in.fault(key, id.error().message);
  *out = std::move(*id);
}

// --- Encode -----------------------------------------------------------------------------------------------------

Json encode(const Meter& m) {
  return {{"name", m.name.str()}, {"unit", m.unit}, {"settlement", name_of(kSettlements, m.settlement)}};
}

Json encode(const Limit& l) {
  return {{"name", l.name.str()},
          {"meter", l.meter.str()},
          {"amount", l.amount},
          {"capacity", l.capacity},
          {"cap", name_of(kCaps, l.cap)},
          {"window", name_of(kWindows, l.window)},
          {"burst", l.burst},
          {"graceDurationSeconds", l.grace_duration_s},
          {"boundaries", l.boundaries_s}};
}

Json encode(const IdentitySource& s) {
  return {{"type", name_of(kIdentityTypes, s.type)},
          {"header", s.header},
          {"fromCIDRs", s.from_cidrs},
          {"forward", name_of(kForwards, s.forward)}};
}

Json encode(const Cors& c) { return {{"allowOrigins", c.allow_origins}, {"allowCredentials", c.allow_credentials}}; }

Json encode(const Charge& c) {
  Json json = {{"meter", c.meter.str()}, {"units", c.units}};
  if (!c.unsupported_source.empty()) json["unsupportedSource"] = c.unsupported_source;
  if (c.from == AmountFrom::kFixed) return json;
  Json from = {{"type", name_of(kAmountsFrom, c.from)}};
  if (!c.pointer.empty()) from["pointer"] = c.pointer;
  if (!c.header.empty()) from["header"] = c.header;
  if (c.from == AmountFrom::kTokens) {
    if (!c.tokens.api.empty()) from["api"] = c.tokens.api;
    for (size_t i = 0; i < kTokenKinds.size(); ++i) {
      if (c.tokens.weights[i] != 0) from["weights"][kTokenKinds[i]] = c.tokens.weights[i];
    }
  }
  json["from"] = std::move(from);
  Json& estimate = json["estimate"] = {{"default", c.estimate.fallback}, {"max", c.estimate.max}};
  if (!c.estimate.request_pointer.empty()) estimate["requestPointer"] = c.estimate.request_pointer;
  if (c.estimate.slice != 0) estimate["slice"] = c.estimate.slice;
  // Sidecars of before read this alone, and answer 503: never a wrong charge.
  if (c.unsupported_source.empty()) json["unsupportedSource"] = json["from"]["type"];
  return json;
}

Json encode(const Streaming& s) {
  return {{"onExhausted", name_of(kOnExhausted, s.on_exhausted)}, {"onAbort", name_of(kOnAborts, s.on_abort)}};
}

Json encode(const RequestBodies& b) { return {{"maxBytes", b.bytes_max}, {"refuseLarger", b.refuse_larger}}; }

Json encode(const RouteMatch& m) {
  return {{"methods", m.methods}, {"pathMatch", name_of(kPathMatches, m.path_match)}, {"path", m.path}};
}

Json encode(const PathRules& p) {
  return {{"ambiguous", name_of(kAmbiguousPaths, p.ambiguous)},
          {"ignoreCase", p.ignore_case},
          {"forwardOverrides", p.forward_overrides}};
}

Json encode(const Route& r);  // for encode_list

template <class T>
Json encode_list(const std::vector<T>& items) {
  Json list = Json::array();
  for (const T& item : items) list.push_back(encode(item));
  return list;
}

Json encode(const Route& r) {
  Json json = {{"name", r.name.str()},
               {"action", name_of(kActions, r.action)},
               {"matches", encode_list(r.matches)},
               {"charges", encode_list(r.charges)},
               {"gate", r.gate},
               {"entitlement", r.entitlement},
               {"chargeOnSuccess", r.charge_on_success}};
  if (r.on_unavailable) json["onUnavailable"] = name_of(kOnUnavailable, *r.on_unavailable);
  return json;
}

// --- Decode -----------------------------------------------------------------------------------------------------

void decode(Reader& in, Meter* m) {
  read_id(in, "name", &m->name);
  in.text("unit", &m->unit);
  read_enum(in, "settlement", kSettlements, &m->settlement);
}

void decode(Reader& in, Limit* l) {
  read_id(in, "name", &l->name);
  read_id(in, "meter", &l->meter);
  in.count("amount", &l->amount);
  in.count("capacity", &l->capacity);
  read_enum(in, "cap", kCaps, &l->cap);
  read_enum(in, "window", kWindows, &l->window);
  in.count("burst", &l->burst);
  in.count("graceDurationSeconds", &l->grace_duration_s);
  in.counts("boundaries", &l->boundaries_s);
  for (size_t i = 1; i < l->boundaries_s.size(); ++i) {
    if (l->boundaries_s[i - 1] >= l->boundaries_s[i]) return in.fault("boundaries", "must ascend");
  }
}

void decode(Reader& in, IdentitySource* s) {
  read_enum(in, "type", kIdentityTypes, &s->type);
  in.text("header", &s->header);
  in.texts("fromCIDRs", &s->from_cidrs);
  if (in.has("forward")) read_enum(in, "forward", kForwards, &s->forward);
}

void decode(Reader& in, Cors* c) {
  in.texts("allowOrigins", &c->allow_origins);
  in.flag("allowCredentials", &c->allow_credentials);
}

// Of a type that this version does not know `unsupported_source` stays.
void decode_from(Reader& from, Charge* c) {
  std::string type;
  if (!from.text("type", &type)) return;
  for (const auto& known : kAmountsFrom) {
    if (type == known.text) c->from = known.value;
  }
  if (from.has("pointer")) from.text("pointer", &c->pointer);
  if (from.has("header")) from.text("header", &c->header);
  if (from.has("api")) from.text("api", &c->tokens.api);
  if (!from.has("weights")) return;
  from.object("weights", [&](Reader& weights) {
    for (size_t i = 0; i < kTokenKinds.size(); ++i) {
      if (weights.has(kTokenKinds[i])) weights.count(kTokenKinds[i], &c->tokens.weights[i]);
    }
  });
}

void decode(Reader& in, Charge* c) {
  read_id(in, "meter", &c->meter);
  in.count("units", &c->units);
  if (in.has("unsupportedSource")) in.text("unsupportedSource", &c->unsupported_source);
  if (!in.has("from")) return;
  std::string type;
  in.object("from", [&](Reader& from) {
    decode_from(from, c);
    from.text("type", &type);
  });
  if (c->from == AmountFrom::kFixed) return;
  if (c->unsupported_source == type) c->unsupported_source.clear();
  in.object("estimate", [&](Reader& estimate) {
    estimate.count("default", &c->estimate.fallback);
    estimate.count("max", &c->estimate.max);
    if (estimate.has("requestPointer")) estimate.text("requestPointer", &c->estimate.request_pointer);
    if (estimate.has("slice")) estimate.count("slice", &c->estimate.slice);
  });
}

void decode(Reader& in, Streaming* s) {
  read_enum(in, "onExhausted", kOnExhausted, &s->on_exhausted);
  read_enum(in, "onAbort", kOnAborts, &s->on_abort);
}

void decode(Reader& in, RequestBodies* b) {
  in.count("maxBytes", &b->bytes_max);
  in.flag("refuseLarger", &b->refuse_larger);
}

void decode(Reader& in, RouteMatch* m) {
  in.texts("methods", &m->methods);
  read_enum(in, "pathMatch", kPathMatches, &m->path_match);
  in.text("path", &m->path);
}

void decode(Reader& in, Route* r) {
  read_id(in, "name", &r->name);
  read_enum(in, "action", kActions, &r->action);
  in.list("matches", [&](Reader& item) { decode(item, &r->matches.emplace_back()); });
  in.list("charges", [&](Reader& item) { decode(item, &r->charges.emplace_back()); });
  in.text("gate", &r->gate);
  in.text("entitlement", &r->entitlement);
  in.flag("chargeOnSuccess", &r->charge_on_success);
  if (in.has("onUnavailable")) read_enum(in, "onUnavailable", kOnUnavailable, &r->on_unavailable.emplace());
}

void decode(Reader& in, PathRules* p) {
  read_enum(in, "ambiguous", kAmbiguousPaths, &p->ambiguous);
  in.flag("ignoreCase", &p->ignore_case);
  if (in.has("forwardOverrides")) in.flag("forwardOverrides", &p->forward_overrides);
}

void decode(Reader& in, Tenant* t) {
  read_id(in, "id", &t->id);
  in.count("version", &t->version);
  in.text("displayName", &t->display_name);
  read_id(in, "plan", &t->plan);
  read_enum(in, "enforcement", kEnforcements, &t->enforcement);
  in.flag("suspended", &t->suspended);
  in.text("suspendReason", &t->suspend_reason);
  in.texts("allowedNamespaces", &t->allowed_namespaces);
  in.list("meters", [&](Reader& item) { decode(item, &t->meters.emplace_back()); });
  in.list("limits", [&](Reader& item) { decode(item, &t->limits.emplace_back()); });
  in.texts("entitlements", &t->entitlements);
  read_enum(in, "onUnavailableQuota", kOnUnavailable, &t->on_unavailable_quota);
  read_enum(in, "onUnavailableWallet", kOnUnavailable, &t->on_unavailable_wallet);
  in.count("allowancePerPod", &t->allowance_per_pod);
  in.count("staleAfterMs", &t->stale_after_ms);
}

void decode(Reader& in, Policy* p) {
  read_id(in, "id", &p->id);
  in.count("version", &p->version);
  read_enum(in, "enforcement", kEnforcements, &p->enforcement);
  in.list("identity", [&](Reader& item) { decode(item, &p->identity.emplace_back()); });
  // Not in documents of operators before they were.
  if (in.has("tenantHeader") && in.text("tenantHeader", &p->tenant_header) &&
      (p->tenant_header.size() > 64 || !http1::all_of_class(p->tenant_header, http1::kTokenChar))) {
    in.fault("tenantHeader", "is not a header name");
  }
  if (in.has("cors")) in.object("cors", [&](Reader& cors) { decode(cors, &p->cors); });
  if (in.has("paths")) in.object("paths", [&](Reader& paths) { decode(paths, &p->paths); });
  if (in.has("streaming")) in.object("streaming", [&](Reader& streaming) { decode(streaming, &p->streaming); });
  if (in.has("requestBodies"))
    in.object("requestBodies", [&](Reader& bodies) { decode(bodies, &p->request_bodies); });
  in.list("routes", [&](Reader& item) { decode(item, &p->routes.emplace_back()); });
  in.object("defaultRoute", [&](Reader& route) { decode(route, &p->default_route); });
}

template <class T>
Result<T> from_json(std::string_view text) {
  if (text.size() > wire::kMaxDocumentBytes) return fail(Errc::kInvalid, "policy document is too long");
  try {
    const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return fail(Errc::kInvalid, "policy document is not a JSON object");
    std::string fault;
    Reader in(json, "", &fault);
    int64_t version = 0;
    in.count("v", &version);
    if (fault.empty() && version != kWireVersion) {
      return fail(Errc::kInvalid, "policy document has v=" + std::to_string(version) + ", this version reads v=" +
                                      std::to_string(kWireVersion) + ": upgrade the reader first");
    }
    T value;
    decode(in, &value);
    if (!fault.empty()) return fail(Errc::kInvalid, "policy document: " + fault);
    return value;
  } catch (const std::exception& e) {
    return fail(Errc::kInvalid, std::string("policy document: ") + e.what());
  }
}

// Text is UTF-8 by validation; should a byte ever not be, it is replaced, not thrown about.
std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::string to_json(const Tenant& t) {
  return dump({{"v", kWireVersion},
               {"id", t.id.str()},
               {"version", t.version},
               {"displayName", t.display_name},
               {"plan", t.plan.str()},
               {"enforcement", name_of(kEnforcements, t.enforcement)},
               {"suspended", t.suspended},
               {"suspendReason", t.suspend_reason},
               {"allowedNamespaces", t.allowed_namespaces},
               {"meters", encode_list(t.meters)},
               {"limits", encode_list(t.limits)},
               {"entitlements", t.entitlements},
               {"onUnavailableQuota", name_of(kOnUnavailable, t.on_unavailable_quota)},
               {"onUnavailableWallet", name_of(kOnUnavailable, t.on_unavailable_wallet)},
               {"allowancePerPod", t.allowance_per_pod},
               {"staleAfterMs", t.stale_after_ms}});
}

std::string to_json(const Policy& p) {
  return dump({{"v", kWireVersion},
               {"id", p.id.str()},
               {"version", p.version},
               {"enforcement", name_of(kEnforcements, p.enforcement)},
               {"identity", encode_list(p.identity)},
               {"paths", encode(p.paths)},
               {"tenantHeader", p.tenant_header},
               {"cors", encode(p.cors)},
               {"streaming", encode(p.streaming)},
               {"requestBodies", encode(p.request_bodies)},
               {"routes", encode_list(p.routes)},
               {"defaultRoute", encode(p.default_route)}});
}

Result<Tenant> tenant_from_json(std::string_view json) { return from_json<Tenant>(json); }
Result<Policy> policy_from_json(std::string_view json) { return from_json<Policy>(json); }

}  // namespace tallygate::tenant
