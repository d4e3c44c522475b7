// How the path of a request may be read by what stands behind us.
//
//   is_plain("/v1/chat")                       → true: there is one reading
//   each_reading("/x/..%2fadmin", see)         → sees "/x/..%2fadmin", "/x/../admin", "/admin"
//   each_reading("/%2e%2e/admin", see)         → Fault::kAboveRoot, when it gets there
//
// A reading is what is left after any of these, in any order, each as often as it changes something: escapes decoded,
// once or twice, all of them or only those of one kind (letters and the like, "/", "\", ";", "?" and "#", "%"); dot
// segments removed (RFC 3986, 5.2.4); runs of slashes made one; "//authority" at the front taken away; "\" taken for
// "/"; ";x" cut from each segment, or all from the first ";" on; all from a decoded "?", or "#", on cut. Real servers
// and routers do a subset of these each, in an order of their own. Escapes of bytes that cannot stand in a URL
// otherwise (blank, UTF-8) are the one spelling there is: every reading has them decoded.
//
// The case of letters and a slash at the end are left to the caller. Pure; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tallygate::path {

// Whether all read it alike: it has no "%", "\" or ";", and no "/" before another or before ".".
bool is_plain(std::string_view path);

enum class Fault : uint8_t {
  kNone,
  kBrokenEscape,   // "%" without two hexadecimal digits
  kForbiddenByte,  // a control character, or an overlong form of an ASCII character in UTF-8
  kAboveRoot,      // dot segments lead above "/"
  kTooManyReadings,
};
std::string_view words(Fault fault);  // for people: "an escape is broken"

// Calls `see` once or more for each reading, the path itself first, until it returns false or a reading has a fault.
// `path` begins with "/". Work and memory are bounded (kTooManyReadings).
Fault each_reading(std::string_view path, const std::function<bool(std::string_view reading)>& see);

// `text` with the escapes decoded of bytes that have no other spelling in a URL: what readings have, and so what a
// pattern for them must have.
std::string open_escapes(std::string_view text);

}  // namespace tallygate::path
