// Reads a request's head and refuses everything that two servers could read in two ways (request smuggling), before any
// other parser sees it. Beast alone is too lax for that: it takes a Transfer-Encoding of "xchunked", "chunked,
// identity", repeated or on HTTP/1.0, none or several Host fields, folded lines and a Content-Length of "4, 4".
//
// RFC 9110, 9112: one Host on HTTP/1.1, at most one on 1.0; at most one Content-Length, digits only; Transfer-Encoding
// absent or exactly "chunked", only on 1.1, never with Content-Length; no folded lines, no bare CR or LF, no control
// characters, no white space before a colon.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

#include "core/http/message.h"

namespace tallygate::http {

struct Head {
  Request request;             // without body and peer
  int64_t content_length = 0;  // -1: chunked
  bool keep_alive = true;
  bool http_1_0 = false;
  bool expects_continue = false;
};

struct Refused {
  int status = 400;
  ReasonName reason = "MalformedRequest";
  std::string detail;
};

// `text` runs up to and including the empty line.
tl::expected<Head, Refused> read_head(std::string_view text);

// Whether the bytes hold a line feed that no carriage return precedes: such a head will never be complete.
bool has_bare_line_feed(std::string_view text);

}  // namespace tallygate::http
