// Writes the heads that leave the proxy, from parsed ones: nothing is forwarded that was not understood. Lines that are
// kept and already have the form "Name: value\r\n" are copied run by run, which gives the same bytes as one by one.
#pragma once

#include <cstring>
#include <string_view>

#include "core/http1/head.h"
#include "sidecar/proxy/name_set.h"

namespace tallygate::proxy {

// Appends to memory that is known to be large enough.
struct Out {
  char* at;
  void put(std::string_view text) {
    if (text.empty()) return;  // memcpy takes no null pointer
    std::memcpy(at, text.data(), text.size());
    at += text.size();
  }
  void put(char c) { *at++ = c; }
  void put_number(uint64_t value);
  void put_hex(uint64_t value);
  void field(std::string_view name_colon_space, std::string_view value) {
    put(name_colon_space);
    put(value);
    put("\r\n");
  }
};

struct RequestRewrite {
  std::string_view path{};        // in place of the head's; data() == nullptr: that
  std::string_view default_host;  // for HTTP/1.0 requests without Host
  std::string_view request_id;
  std::string_view forwarded_for;  // the client's address; empty: leave the field alone
  bool forwarded_proto = false;
  bool expect_continue = false;
  // In place of what the client said it takes; data() == nullptr: that; empty: none is written.
  std::string_view accept_encoding{};
  std::string_view via;       // "1.1 name"; empty: none
  int64_t max_forwards = -1;  // negative: none is written
  const NameSet* strip = nullptr;  // fields that stay here
};

struct ResponseRewrite {
  std::string_view request_id;
  std::string_view date;        // empty: none is written
  int64_t content_length = -1;  // -1: none is written
  bool chunked = false;
  std::string_view connection;  // "close", "keep-alive" or empty
  std::string_view via;
  std::string_view extra;  // complete lines
  const NameSet* drop = nullptr;  // fields of the app that `extra` replaces; null: none
};

// Of a field or trailer without an id of its own: whether an app may take it for one that is written here.
bool mimics_own(std::string_view name);
// Whether a response goes on with a Date of its own.
bool has_date(const http1::Head& head, const char* data);
// What Max-Forwards says; -1 where there is none, or none that is a number. Else it is not forwarded as it is.
int64_t take_max_forwards(http1::Head& head, const char* data);

// The most that the writers below need, for an `extra` of the given size.
inline size_t rewrite_bound(const http1::Head& head, size_t extra) { return head.size() + extra + 1024; }

// Both return the number of bytes written to `out`. A request's head lacks the blank line at its end: the gate's lines
// come before it, and they may not be known yet.
size_t write_request_head(const http1::Head& head, const char* data, const RequestRewrite& how, char* out);
size_t write_response_head(const http1::Head& head, const char* data, const ResponseRewrite& how, char* out);

}  // namespace tallygate::proxy
