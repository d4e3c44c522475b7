// One spelling for each path.
#pragma once

#include <string>
#include <string_view>

#include "core/path/readings.h"
#include "core/result.h"

namespace tallygate::path {

// RFC 3986, 6.2.2: escapes decoded where the character means the same without (`%3A` and `%40` too), other escapes in
// capitals, runs of slashes made one, dot segments removed. "%2F", "%5C", "%3B", "%3F", "%23" and "%25" stay: what is
// meant by them is not known. Never longer than `path`, which begins with "/". Its own normal form.
Fault normal_form(std::string_view path, std::string* out);

// The path of a route in a manifest, in normal form: "/v1/%63hat" is "/v1/chat". kInvalid, with the fix as its message,
// where no request could match it in every reading ("%2F", ";", "..").
Result<std::string> route_path(std::string_view text);

}  // namespace tallygate::path
