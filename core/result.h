// Errors as values. Result<T> holds a T or an Error; core/ and sidecar/ never throw, adapters of throwing libraries
// catch at their .cc boundary.
#pragma once

#include <string>
#include <tl/expected.hpp>

namespace tallygate {

// What a caller may do about an error; the message says what happened, for people.
enum class Errc : uint8_t {
  kInvalid,      // the input is wrong; repeating it changes nothing
  kNotFound,     //
  kConflict,     // the world moved on: read again, then decide
  kUnavailable,  // a peer is away or late; retry with backoff
  kTimeout,      // the outcome is not known
  kExhausted,    // a limit of ours was reached
  kInternal,     // a defect of ours
};

const char* to_string(Errc errc);

struct Error {
  Errc errc = Errc::kInternal;
  std::string message;
};

template <class T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(Errc errc, std::string message) {
  return tl::unexpected<Error>(Error{errc, std::move(message)});
}

// Stops the process with file, line and message: a programmer's error, never input. On in release builds too.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace tallygate

#define TG_ASSERT(expression) \
  (static_cast<bool>(expression) ? void(0) : ::tallygate::assertion_failed(#expression, __FILE__, __LINE__))
