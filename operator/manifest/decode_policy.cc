#include "core/http1/chars.h"
#include "core/path/normal_form.h"
#include "operator/manifest/decode.h"
#include "operator/manifest/formats.h"

namespace tallygate::manifest {
namespace {

using tenant::AmbiguousPath;
using tenant::AmountFrom;
using tenant::Enforcement;
using tenant::IdentityType;
using tenant::OnUnavailable;
using tenant::PathMatch;
using tenant::RouteAction;

constexpr size_t kMaxPorts = 16;
constexpr size_t kMaxSources = 8;
constexpr size_t kMaxCidrs = 32;
constexpr size_t kMaxOrigins = 32;
constexpr size_t kMaxRoutes = 64;
constexpr size_t kMaxMatches = 16;
constexpr size_t kMaxMethods = 9;
constexpr size_t kMaxCharges = 8;
constexpr int64_t kMaxRequestBodyBytes = 16 << 20;

constexpr Choice<Enforcement> kEnforcements[] = {{"Enforce", Enforcement::kEnforce}, {"Shadow", Enforcement::kShadow}};
constexpr Choice<IdentityType> kIdentityTypes[] = {
    {"APIKey", IdentityType::kApiKey}, {"TrustedHeader", IdentityType::kTrustedHeader}, {"JWT", IdentityType::kJwt}};
constexpr Choice<RouteAction> kActions[] = {
    {"Charge", RouteAction::kCharge}, {"Exempt", RouteAction::kExempt}, {"Deny", RouteAction::kDeny}};
constexpr Choice<OnUnavailable> kOnUnavailable[] = {{"Allow", OnUnavailable::kAllow}, {"Deny", OnUnavailable::kDeny}};
constexpr Choice<PathMatch> kPathMatches[] = {{"Exact", PathMatch::kExact}, {"PathPrefix", PathMatch::kPrefix}};
constexpr Choice<AmbiguousPath> kAmbiguousPaths[] = {{"RefuseIfRoutesDiffer", AmbiguousPath::kRefuseIfRoutesDiffer},
                                                     {"Refuse", AmbiguousPath::kRefuse},
                                                     {"Normalise", AmbiguousPath::kNormalise}};
constexpr Choice<bool> kOverrideHeaders[] = {{"Remove", false}, {"Forward", true}};
constexpr Choice<tenant::Forward> kForwards[] = {
    {"Verified", tenant::Forward::kVerified}, {"Always", tenant::Forward::kAlways}, {"Never", tenant::Forward::kNever}};
constexpr Choice<AmountFrom> kAmountsFrom[] = {
    {"RequestHeader", AmountFrom::kRequestHeader}, {"ResponseHeader", AmountFrom::kResponseHeader},
    {"RequestBytes", AmountFrom::kRequestBytes},   {"ResponseBytes", AmountFrom::kResponseBytes},
    {"Duration", AmountFrom::kDuration},           {"RequestJSON", AmountFrom::kRequestJson},
    {"ResponseJSON", AmountFrom::kResponseJson},   {"Tokens", AmountFrom::kTokens}};
constexpr Choice<int> kLlmApis[] = {{"Auto", 0},   {"OpenAIChat", 1},    {"OpenAIResponses", 1}, {"AnthropicMessages", 1},
                                    {"Gemini", 1}, {"BedrockInvoke", 1}, {"BedrockConverse", 1}};
constexpr Choice<tenant::OnExhausted> kOnExhausted[] = {{"ErrorEvent", tenant::OnExhausted::kErrorEvent},
                                                        {"Close", tenant::OnExhausted::kClose},
                                                        {"Finish", tenant::OnExhausted::kFinish}};
constexpr Choice<tenant::OnAbort> kOnAborts[] = {{"Received", tenant::OnAbort::kReceived},
                                                 {"Whole", tenant::OnAbort::kWhole},
                                                 {"Drain", tenant::OnAbort::kDrain}};
constexpr Choice<bool> kLarger[] = {{"Refuse", true}, {"Estimate", false}};
constexpr Choice<bool> kChargeOn[] = {{"Success", true}, {"Always", false}};

constexpr Form kHeader = {64, is_header_name, "a header name, such as X-Tenant-Id"};
constexpr Form kPointer = {256, is_json_pointer, "a JSON pointer, such as /usage/total_tokens"};
constexpr Form kFeature = {63, is_feature_name, "a name of lower-case letters, digits, _ and -, such as sms_send"};

bool is_method(std::string_view text) {
  static constexpr std::string_view kMethods[] = {"GET",    "HEAD",    "POST",  "PUT",    "PATCH",
                                                  "DELETE", "OPTIONS", "TRACE", "CONNECT"};
  return std::find(std::begin(kMethods), std::end(kMethods), text) != std::end(kMethods);
}

// Only signatures that a holder of the public key cannot make.
bool is_algorithm(std::string_view text) {
  static constexpr std::string_view kAlgorithms[] = {"RS256", "RS384", "RS512", "PS256", "PS384",
                                                     "PS512", "ES256", "ES384", "ES512", "EdDSA"};
  return std::find(std::begin(kAlgorithms), std::end(kAlgorithms), text) != std::end(kAlgorithms);
}

// Headers that mean something to the framing, to the hop or to the proxy itself: no one's identity, in no spelling.
bool is_reserved_header(std::string_view folded) {
  static constexpr std::string_view kReserved[] = {"connection",
                                                   "content-length",
                                                   "content-type",
                                                   "expect",
                                                   "host",
                                                   "http2-settings",
                                                   "keep-alive",
                                                   "origin",
                                                   "proxy-authenticate",
                                                   "proxy-authorization",
                                                   "proxy-connection",
                                                   "te",
                                                   "trailer",
                                                   "transfer-encoding",
                                                   "upgrade",
                                                   "via",
                                                   "x-forwarded-for",
                                                   "x-forwarded-proto",
                                                   "x-request-id"};
  return std::find(std::begin(kReserved), std::end(kReserved), folded) != std::end(kReserved);
}

void check_not_reserved(Fields& f, std::string_view key, const std::string& header) {
  if (!is_reserved_header(http1::fold_name(header))) return;
  f.invalid(key, "\"" + header + "\" belongs to HTTP itself", "use a header of your own, such as X-Tenant-Id");
}

void decode_header(Fields& f, std::string_view key, std::string* header) {
  if (!f.text(key, kRequired, kHeader, header)) return;
  *header = to_lower(*header);
  check_not_reserved(f, key, *header);
}

void decode_cidrs(Fields& f, std::vector<std::string>* cidrs) {
  Names names;
  f.list("fromCIDRs", kRequired, kMaxCidrs, [&](const Node& item, const std::string& path) {
    const auto cidr = item.kind == Node::Kind::kString ? canonical_cidr(item.text)
                                                       : fail(Errc::kInvalid, "write it as 10.0.4.0/24 or fd00::/8");
    if (!cidr) {
      f.sink().fault(item.line, path, Reason::kInvalidValue, "\"" + item.text.substr(0, 64) + "\" is not a CIDR block",
                     cidr.error().message);
      return;
    }
    names.add(f.sink(), *cidr, item.line, path);
    cidrs->push_back(*cidr);
  });
}

void decode_jwt(Fields& f, JwtSpec* jwt) {
  constexpr Form kUrl = {512, is_https_url, "an https:// address, such as https://id.example.com/jwks.json"};
  f.text("issuer", kRequired, kUrl, &jwt->issuer);
  f.texts("audiences", kRequired, 16, {256, is_printable_ascii, "an audience, in printable ASCII"}, &jwt->audiences);
  f.texts("algorithms", kRequired, 10,
          {8, is_algorithm,
           "an asymmetric algorithm: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA"},
          &jwt->algorithms);
  f.text("jwksURI", kRequired, kUrl, &jwt->jwks_uri);
  f.text("claim", kRequired, kPointer, &jwt->claim);
}

// Apps may take X_Tenant_Id for X-Tenant-Id: so may we.
void decode_tenant_header(Fields& spec, BillingPolicy* policy) {
  const Node* given = spec.get("tenantHeader", kOptional);
  if (given != nullptr) {
    if (given->kind == Node::Kind::kString && given->text.empty()) return policy->tenant_header.clear();
    if (!spec.text("tenantHeader", kOptional, kHeader, &policy->tenant_header)) return;
  }
  check_not_reserved(spec, "tenantHeader", policy->tenant_header);
  for (const IdentitySpec& source : policy->identity) {
    if (http1::fold_name(source.header) != http1::fold_name(policy->tenant_header)) continue;
    spec.fault("tenantHeader", Reason::kConflict, "\"" + policy->tenant_header + "\" is a header of identity too",
               given != nullptr ? "use another, such as X-Tallygate-Tenant" : "name another here, or none: \"\"");
  }
}

void decode_cors(Fields& f, tenant::Cors* cors) {
  constexpr Form kOrigin = {256, [](std::string_view text) { return text == "*" || is_web_origin(text); },
                            "an origin as browsers send it, such as https://app.example.com, or \"*\""};
  f.texts("allowOrigins", kRequired, kMaxOrigins, kOrigin, &cors->allow_origins);
  f.flag("allowCredentials", kOptional, &cors->allow_credentials);
  const auto& origins = cors->allow_origins;
  if (std::find(origins.begin(), origins.end(), "*") == origins.end()) return;
  if (origins.size() > 1)
    f.fault("allowOrigins", Reason::kConflict, "\"*\" is every origin", "remove the others, or \"*\"");
  if (cors->allow_credentials) {
    f.fault("allowCredentials", Reason::kConflict, "browsers allow no credentials with \"*\"", "name the origins");
  }
}

// The member that belongs to the type is required; those of other types are refused.
void decode_source(Fields& f, IdentitySpec* source) {
  const bool typed = f.choice("type", kRequired, kIdentityTypes, &source->type);
  struct Part {
    const char* key;
    IdentityType type;
  };
  for (const Part& part : {Part{"apiKey", IdentityType::kApiKey}, Part{"trustedHeader", IdentityType::kTrustedHeader},
                           Part{"jwt", IdentityType::kJwt}}) {
    if (typed && part.type != source->type) {
      f.ignore(part.key);
      if (f.has(part.key)) {
        f.fault(part.key, Reason::kConflict, "belongs to another type", "remove it, or change type");
      }
      continue;
    }
    f.object(part.key, typed ? kRequired : kOptional, [&](Fields& body) {
      if (part.type == IdentityType::kApiKey) decode_header(body, "header", &source->header);
      if (part.type != IdentityType::kTrustedHeader) body.choice("forward", kOptional, kForwards, &source->forward);
      if (part.type == IdentityType::kTrustedHeader) {
        decode_header(body, "name", &source->header);
        decode_cidrs(body, &source->from_cidrs);
      }
      if (part.type == IdentityType::kJwt) decode_jwt(body, &source->jwt.emplace());
    });
  }
  if (typed && source->type == IdentityType::kJwt) {
    source->header = "authorization";
    f.not_in_force("jwt", "identity by JWT (a Bearer credential is refused with 401)");
  }
}

// --- Charges ----------------------------------------------------------------------------------------------------

// A token weighs 1 where nothing is said, a call of a tool nothing; where a kind is named, those that are not weigh
// nothing.
void decode_weights(Fields& f, tenant::TokenSource* tokens) {
  const bool given = f.object("weights", kOptional, [&](Fields& weights) {
    for (size_t i = 0; i < tenant::kTokenKinds.size(); ++i) {
      Micros weight = 0;
      if (!weights.money(tenant::kTokenKinds[i], kOptional, "", &weight)) continue;
      if (weight > 1'000'000 * kMicrosPerUnit) {
        weights.fault(tenant::kTokenKinds[i], Reason::kOutOfRange, "is no weight", "use one from \"0\" to \"1000000\"");
      }
      tokens->weights[i] = weight;
    }
  });
  if (given) return;
  for (size_t i = 0; i < tenant::kTokenOnlyKinds; ++i) tokens->weights[i] = kMicrosPerUnit;
}

// Whether the source looks for a pointer, a header, or an LLM's tokens.
enum class Part { kNone, kPointer, kHeader, kTokens };

Part part_of(AmountFrom type) {
  switch (type) {
    case AmountFrom::kRequestJson:
    case AmountFrom::kResponseJson:
      return Part::kPointer;
    case AmountFrom::kRequestHeader:
    case AmountFrom::kResponseHeader:
      return Part::kHeader;
    case AmountFrom::kTokens:
      return Part::kTokens;
    default:
      return Part::kNone;
  }
}

void decode_from(Fields& f, AmountSource* from) {
  const bool typed = f.choice("type", kRequired, kAmountsFrom, &from->type);
  const Part part = typed ? part_of(from->type) : Part::kNone;
  f.text("pointer", part == Part::kPointer ? kRequired : kOptional, kPointer, &from->pointer);
  f.text("header", part == Part::kHeader ? kRequired : kOptional, kHeader, &from->header);
  from->header = to_lower(from->header);
  int api = 0;
  if (f.choice("api", kOptional, kLlmApis, &api) && api != 0) from->tokens.api = f.get("api", kOptional)->text;
  if (part == Part::kTokens)
    decode_weights(f, &from->tokens);
  else
    f.ignore("weights");
  const auto only = [&](const char* key, Part of, const char* what) {
    if (typed && part != of && f.has(key)) f.fault(key, Reason::kConflict, what, "remove it");
  };
  only("pointer", Part::kPointer, "is for the JSON types");
  only("header", Part::kHeader, "is for the header types");
  only("api", Part::kTokens, "is for the type Tokens");
  only("weights", Part::kTokens, "is for the type Tokens");
}

void decode_estimate(Fields& f, tenant::Estimate* estimate) {
  f.text("requestPointer", kOptional, kPointer, &estimate->request_pointer);
  const bool fallback = f.integer("default", kRequired, 1, kMaxInteger, &estimate->fallback);
  if (f.integer("max", kOptional, 1, kMaxInteger, &estimate->max) && fallback && estimate->max < estimate->fallback) {
    f.fault("max", Reason::kOutOfRange, "is less than default", "use at least " + std::to_string(estimate->fallback));
  }
  f.integer("slice", kOptional, 1, kMaxInteger, &estimate->slice);
}

void decode_charge(Fields& f, ChargeSpec* c) {
  f.id("meter", kRequired, "the name of a meter", &c->meter.value);
  c->meter.place = f.place("meter");
  f.integer("units", kOptional, 1, kMaxInteger, &c->units);
  f.object("from", kOptional, [&](Fields& from) { decode_from(from, &c->from.emplace()); });
  f.object("estimate", kOptional, [&](Fields& estimate) { decode_estimate(estimate, &c->estimate.emplace()); });
  if (f.has("units") && f.has("from")) {
    f.fault("units", Reason::kConflict, "units are fixed, or come from somewhere", "remove units or from");
  } else if (!f.has("units") && !f.has("from")) {
    f.fault("units", Reason::kRequired, "nothing says how much to charge", "add units, or from");
  }
  if (f.has("estimate") && !f.has("from")) {
    f.fault("estimate", Reason::kConflict, "fixed units need no estimate", "remove estimate");
  }
}

void decode_charges(Fields& f, RouteSpec* r) {
  Names meters;
  f.list("charges", kOptional, kMaxCharges, [&](const Node& item, const std::string& path) {
    Fields charge(f.sink(), item, path);
    ChargeSpec& c = r->charges.emplace_back();
    decode_charge(charge, &c);
    if (!c.meter.value.empty()) meters.add(f.sink(), c.meter.value.str(), charge.line("meter"), charge.path("meter"));
    charge.finish();
  });
  if (r->action != RouteAction::kCharge && f.has("charges")) {
    f.fault("charges", Reason::kConflict, "only the action Charge has charges",
            "remove charges, or use action: Charge");
  } else if (r->action == RouteAction::kCharge && r->charges.empty() && !f.has("charges")) {
    f.fault("charges", Reason::kRequired, "the action Charge needs to know what", "add charges, or use action: Exempt");
  } else if (r->action == RouteAction::kCharge && f.has("charges") && r->charges.empty()) {
    const Node* charges = f.get("charges", kOptional);
    if (charges->kind == Node::Kind::kList && charges->items.empty()) {
      f.fault("charges", Reason::kRequired, "is empty", "add a charge, or use action: Exempt");
    }
  }
}

// --- Routes -----------------------------------------------------------------------------------------------------

// In normal form; refused where no request could match it, however servers read its path.
void decode_route_path(Fields& path, std::string* value) {
  if (!path.text("value", kRequired,
                 {1024, is_path, "an absolute path without query, empty segments, . or .., such as /v1/chat"}, value)) {
    return;
  }
  auto normal = path::route_path(*value);
  if (!normal) return path.invalid("value", "\"" + *value + "\" matches no request", normal.error().message);
  *value = std::move(*normal);
}

void decode_match(Fields& f, tenant::RouteMatch* m) {
  f.texts("methods", kOptional, kMaxMethods, {16, is_method, "an HTTP method in capitals, such as POST"}, &m->methods);
  f.object("path", kOptional, [&](Fields& path) {
    path.choice("type", kRequired, kPathMatches, &m->path_match);
    decode_route_path(path, &m->path);
    if (m->path_match == PathMatch::kPrefix && m->path.size() > 1 && m->path.back() == '/') m->path.pop_back();
  });
  if (!f.has("methods") && !f.has("path")) {
    f.fault("", Reason::kRequired, "matches nothing in particular", "add methods or path, or remove the match");
  }
}

void decode_action(Fields& f, RouteSpec* r) {
  f.choice("action", kOptional, kActions, &r->action);
  f.choice("chargeOn", kOptional, kChargeOn, &r->charge_on_success);
  decode_charges(f, r);
  f.text("gate", kOptional, kFeature, &r->gate);
  f.text("entitlement", kOptional, kFeature, &r->entitlement);
  OnUnavailable on_unavailable;
  if (f.choice("onUnavailable", kOptional, kOnUnavailable, &on_unavailable)) r->on_unavailable = on_unavailable;
}

void decode_routes(Fields& spec, BillingPolicy* policy) {
  Names names;
  spec.list("routes", kOptional, kMaxRoutes, [&](const Node& item, const std::string& path) {
    Fields f(spec.sink(), item, path);
    RouteSpec& r = policy->routes.emplace_back();
    if (f.id("name", kRequired, "a name of lower-case letters, digits and -, such as chat", &r.name)) {
      names.add(spec.sink(), r.name.str(), f.line("name"), f.path("name"));
      if (r.name.str() == "default")
        f.fault("name", Reason::kConflict, "default is the name of defaultRoute", "use another");
    }
    f.list("matches", kRequired, kMaxMatches, [&](const Node& match, const std::string& match_path) {
      Fields m(spec.sink(), match, match_path);
      decode_match(m, &r.matches.emplace_back());
      m.finish();
    });
    decode_action(f, &r);
    f.finish();
  });
}

void decode_ports(Fields& spec, BillingPolicy* policy) {
  Names names;
  spec.list("ports", kOptional, kMaxPorts, [&](const Node& item, const std::string& path) {
    Fields f(spec.sink(), item, path);
    int64_t port = 0;
    if (f.integer("port", kRequired, 1, 65'535, &port)) {
      names.add(spec.sink(), std::to_string(port), f.line("port"), f.path("port"));
      policy->ports.push_back(port);
    }
    std::string protocol;
    if (f.text("appProtocol", kOptional, {32, nullptr, "HTTP"}, &protocol) && protocol != "HTTP") {
      const bool known = protocol == "HTTP2" || protocol == "GRPC" || protocol == "TLS" || protocol == "TCP";
      f.fault("appProtocol", known ? Reason::kUnsupportedFeature : Reason::kInvalidValue,
              "\"" + protocol + "\" is not supported", "use HTTP");
    }
    f.finish();
  });
}

void decode_injection(Fields& f, InjectionSpec* injection) {
  static constexpr Choice<bool> kPermissions[] = {{"Forbid", false}, {"Permit", true}};
  f.choice("optOut", kOptional, kPermissions, &injection->may_opt_out);
  f.choice("policyAnnotation", kOptional, kPermissions, &injection->may_choose);
}

}  // namespace

void decode_policy(Fields& root, Metadata metadata, BillingPolicy* policy) {
  policy->metadata = std::move(metadata);
  if (auto id = PolicyId::parse(policy->metadata.name_space + "/" + policy->metadata.name)) policy->id = std::move(*id);
  policy->default_route.name = LimitName::parse("default").value();
  root.object("spec", kRequired, [&](Fields& spec) {
    spec.object("selector", kOptional, [&](Fields& f) {
      f.string_map("matchLabels", kOptional, 16, 63, is_label_value, &policy->match_labels);
    });
    decode_ports(spec, policy);
    spec.object("injection", kOptional, [&](Fields& f) { decode_injection(f, &policy->injection); });
    spec.choice("enforcement", kOptional, kEnforcements, &policy->enforcement);
    Names headers;
    spec.list("identity", kRequired, kMaxSources, [&](const Node& item, const std::string& path) {
      Fields f(spec.sink(), item, path);
      IdentitySpec& source = policy->identity.emplace_back();
      decode_source(f, &source);
      if (!source.header.empty()) headers.add(spec.sink(), http1::fold_name(source.header), f.line("type"), path);
      f.finish();
    });
    spec.object("paths", kOptional, [&](Fields& f) {
      f.choice("ambiguous", kOptional, kAmbiguousPaths, &policy->paths.ambiguous);
      f.flag("ignoreCase", kOptional, &policy->paths.ignore_case);
      f.choice("overrideHeaders", kOptional, kOverrideHeaders, &policy->paths.forward_overrides);
    });
    decode_tenant_header(spec, policy);
    spec.object("cors", kOptional, [&](Fields& f) { decode_cors(f, &policy->cors); });
    decode_routes(spec, policy);
    spec.object("defaultRoute", kRequired, [&](Fields& f) { decode_action(f, &policy->default_route); });
    spec.object("streaming", kOptional, [&](Fields& f) {
      f.choice("onExhausted", kRequired, kOnExhausted, &policy->streaming.on_exhausted);
      f.choice("onAbort", kOptional, kOnAborts, &policy->streaming.on_abort);
    });
    spec.object("requestBodies", kOptional, [&](Fields& f) {
      f.integer("maxBytes", kOptional, 1024, kMaxRequestBodyBytes, &policy->request_bodies.bytes_max);
      f.choice("larger", kOptional, kLarger, &policy->request_bodies.refuse_larger);
    });
  });
}

}  // namespace tallygate::manifest
