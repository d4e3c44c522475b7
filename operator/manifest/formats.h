// The forms that text in a manifest may have. Pure functions; none throws.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/money.h"
#include "core/result.h"

namespace tallygate::manifest {

// 1-based line of the first byte sequence that is not UTF-8, or of a control character other than tab and line ends; 0:
// none.
int first_bad_utf8_line(std::string_view text);

// GEP-2257: one to four of NUMBER (at most five digits) and unit h, m, s or ms, such as 1h30m. In milliseconds.
Result<int64_t> parse_duration_ms(std::string_view text);

// RFC 3339 date-time in whole seconds with an offset, as Kubernetes has it; Unix seconds.
Result<int64_t> parse_rfc3339(std::string_view text);

// IANA name known to the system's tzdata.
bool is_time_zone(std::string_view text);

using tallygate::is_currency;

// "10.0.4.0/24" or "fd00::/8" in canonical text; the error says how to write it, where that can be told.
Result<std::string> canonical_cidr(std::string_view text);

bool is_display_text(std::string_view text);     // not empty, no control characters, no blank at either end
bool is_printable_ascii(std::string_view text);  // the same, ASCII only
bool is_feature_name(std::string_view text);     // [a-z][a-z0-9_-]*, at most 63: gates, entitlements
bool is_header_name(std::string_view text);      // an RFC 9110 token, at most 64
bool is_json_pointer(std::string_view text);     // RFC 6901, not the whole document
bool is_path(std::string_view text);             // absolute, normal, no query
bool is_host(std::string_view text);             // DNS name, any case, no port
bool is_email(std::string_view text);
bool is_https_url(std::string_view text);
bool is_web_origin(std::string_view text);  // scheme://host[:port] as browsers send it: lower case, no default port
bool is_api_key_hash(std::string_view text);     // sha256: and 64 lower-case hex digits
bool is_stripe_customer(std::string_view text);  // cus_…
bool is_label_key(std::string_view text);        // [prefix/]name, as Kubernetes has it
bool is_label_value(std::string_view text);

std::string to_lower(std::string_view text);

}  // namespace tallygate::manifest
