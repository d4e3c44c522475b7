#include "sidecar/admission/problem.h"

#include <algorithm>

#include "core/reason.h"
#include "core/telemetry/json_text.h"
#include "core/time_text.h"
#include "sidecar/admission/quota_headers.h"

namespace tallygate::sidecar {
namespace {

void member(std::string* out, const char* name, std::string_view value) {
  *out += ",\"";
  *out += name;
  *out += "\":";
  append_json_string(*out, value);
}

void member(std::string* out, const char* name, int64_t value) {
  *out += ",\"";
  *out += name;
  *out += "\":" + std::to_string(value);
}

}  // namespace

const ReasonInfo& info(Reason reason) {
  static constexpr ReasonInfo kTable[] = {
      {"Admitted", 0, ""},
      {"Exempt", 0, ""},
      {"Preflight", 0, ""},
      {"AllowedUnavailable", 0, ""},
      {"Shadow", 0, ""},
      {"BodyTooLarge", 413, "The body is too large to be charged"},
      {"AmbiguousBody", 400, "The charge cannot be read from the body"},
      {"MalformedPath", 400, "The path is not understood"},
      {"Unauthenticated", 401, "A credential is required"},
      {"InvalidCredential", 401, "The credential is not valid"},
      {"UntrustedSource", 401, "The credential is not accepted from here"},
      {"UnknownTenant", 403, "The tenant is not known"},
      {"TenantNotAllowed", 403, "The tenant may not be billed here"},
      {"Suspended", 403, "The tenant is suspended"},
      {"NotEntitled", 403, "The plan does not include this"},
      {"RouteDenied", 403, "This route is closed"},
      {"UnsupportedCharge", 503, "The route's charge cannot be measured"},
      {"QuotaExhausted", 429, "The quota does not cover this"},
      {"BalanceExhausted", 402, "The prepaid balance does not cover this"},
      {"QuotaUnavailable", 503, "The quota cannot be checked just now"},
      {"PolicyUnavailable", 503, "The billing policy is not known yet"},
      {"LogFull", 503, "Usage cannot be recorded just now"},
      {"TooManyWaiting", 503, "Too many requests wait for quota"},
  };
  static_assert(std::size(kTable) == static_cast<size_t>(Reason::kCount));
  static_assert(std::all_of(std::begin(kTable), std::end(kTable),
                            [](const ReasonInfo& row) { return row.status == 0 || is_reason(row.code); }));
  return kTable[static_cast<size_t>(reason)];
}

void write_denial(const DenialFacts& facts, proxy::Denial* denial) {
  const ReasonInfo& reason = info(facts.reason);
  denial->status = reason.status;
  std::string& body = denial->body;
  body = "{\"type\":\"";
  body += kProblemTypePrefix;
  body += reason.code;
  body += "\"";
  member(&body, "title", reason.title);
  body += ",\"status\":" + std::to_string(reason.status);
  member(&body, "detail", facts.detail.empty() ? std::string_view(reason.title) : facts.detail);
  member(&body, "reason", reason.code);
  if (!facts.tenant.empty()) member(&body, "tenant", facts.tenant);
  if (const PlanItem* item = facts.item) {
    member(&body, "meter", item->meter);
    member(&body, "requested", facts.requested);
    if (!item->wallet) {
      member(&body, "limitName", item->limit);
      member(&body, "limit", item->amount);
      if (item->purse->told) {
        member(&body, "used", used_of(*item));
        member(&body, "remaining", remaining_of(*item));
      }
      member(&body, "resetAt", rfc3339(item->end_s));
    }
  }
  member(&body, "requestId", facts.request_id);
  body += "}";

  std::string& headers = denial->headers;
  if (reason.status == 401) headers += std::string("WWW-Authenticate: ") + facts.challenge + " realm=\"tallygate\"\r\n";
  if (facts.retry_after_s > 0) headers += "Retry-After: " + std::to_string(facts.retry_after_s) + "\r\n";
  if (facts.plan != nullptr) {
    char text[4096];
    headers.append(text, write_quota_headers(*facts.plan, facts.now_s, text, facts.item));
  }
}

}  // namespace tallygate::sidecar
