// The seam between the data plane and admission: the proxy asks a Gate about each request and tells it how each
// admitted one ended. The proxy knows nothing of tenants, meters or money; the gate knows nothing of sockets.
//
// Life of a request:
//   admit() ── kDeny ──▶ the denial is sent; nothing else is called
//      │ ├──── kWait ──▶ the gate keeps the ticket. Later it calls Proxy::resume(ticket), and the proxy asks readmit(),
//      │ │               which may answer kWait again; or the client leaves first, and the proxy calls abandon().
//      │ └──── kBody ──▶ the proxy reads the request's body, as far as Admission::body_bytes_max, and calls with_body(),
//      │                 which answers as the others do, but not kBody; or the client leaves first: abandon().
//      ▼ kAdmit (from any): request_headers(), forwarded
//      ▼ where Admission::listens says so, response_head() and response_body(), as both pass
//      ▼ response_headers() once, before the final response head; never where no response of the app comes
//      ▼ settle() exactly once, whatever happens
//
// Threading: all calls come from the thread that runs the proxy, never re-entrantly from inside another call of the
// same gate. None may block. Proxy::resume() belongs to the same thread and may be called any time except inside
// admit() or readmit(); it only queues, so the answer comes with readmit() at the end of the loop's turn. The same call
// ends a pause of a response (Flow::kPause): response_body() is asked again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "sidecar/proxy/name_set.h"

struct sockaddr;

namespace tallygate::proxy {

// A field as received: the name keeps its case, the value has no white space around it.
struct Header {
  std::string_view name, value;
};

// Whether `name` is `lower_name`, which is in lower case, whatever the case of the former.
bool name_equals(std::string_view name, std::string_view lower_name);

// The head of a request. Valid only during Gate::admit: a gate that waits copies what it needs.
struct RequestView {
  std::string_view method;
  std::string_view path;   // of the target, percent-encoding untouched, without the query; "*" for OPTIONS *
  std::string_view query;  // without the question mark; data() == nullptr where there was no question mark
  std::string_view
      host;  // the target's authority: Host, or the authority of an absolute-form target; may be empty on 1.0
  // End-to-end fields only: hop-by-hop ones and those that Connection names are gone. It cannot name a guarded one
  // away.
  std::span<const Header> headers;
  const sockaddr* peer = nullptr;  // the client's address; null on a test transport
  int64_t content_length = 0;      // of the body: -1 chunked, 0 none

  struct Lookup {
    std::string_view value;  // of the first match; data() == nullptr where there is none
    size_t count = 0;        // how many fields have the name
  };
  Lookup find(std::string_view lower_name) const;
  // The first match's value; data() == nullptr where there is none. For credentials use find(), and refuse count > 1.
  std::string_view header(std::string_view lower_name) const { return find(lower_name).value; }
};

enum class Verdict : uint8_t { kAdmit, kDeny, kWait, kBody };

// Identifies a request that waits. Never reused while the proxy lives; a ticket whose request is gone is ignored.
struct Ticket {
  uint32_t slot = 0;
  uint32_t generation = 0;  // never 0 in a valid ticket
  bool operator==(const Ticket&) const = default;
  uint64_t key() const { return uint64_t{generation} << 32 | slot; }
};

// The final head of a response, as the app sent it. Valid only during Gate::response_head.
struct ResponseView {
  int status = 0;
  std::span<const Header> headers;  // end-to-end fields
  int64_t content_length = -1;      // -1: it does not say
  bool has_body = false;
  // Whether more may follow what the app has sent, and the client still sees a complete response: not where its length
  // was told before.
  bool may_grow = false;
};

// What becomes of a piece of a response.
struct Flow {
  enum Next : uint8_t {
    kGoOn,   // the rest of what was offered is offered again with what comes next
    kPause,  // the same, and the app is not read until Proxy::resume(ticket)
    kEnd,    // the response ends behind `pass`, and the app's connection is closed
  };
  size_t pass = 0;  // how many of the bytes offered go to the client now
  Next next = kGoOn;
  // With kEnd: what the client gets behind that, in front of a regular end; to be valid until the next call. data() ==
  // nullptr: the client's connection is cut, as where an app dies. Where ResponseView::may_grow was false it always is.
  std::string_view tail{};
  // What the client gets in place of the bytes that pass; as valid as `tail`. data() == nullptr: those. Not where
  // ResponseView::may_grow was false.
  std::string_view instead{};
};

// What of an admitted request a gate wants to hear of. Nothing costs nothing.
enum Listens : uint8_t { kNothing = 0, kResponseHead = 1, kResponseBody = 2, kAll = 3 };

// Room for the gate's own state of one request: zeroed before admit(), kept at one address until settle(), abandon() or
// a denial, never looked at by the proxy. Trivial types only: nothing is constructed or destroyed.
struct Admission {
  alignas(8) std::array<std::byte, 64> state{};
  // Set by admit(), with kAdmit or kWait: the path to forward in place of the request's. Read when admit() returns, and
  // not again. data() == nullptr: as it came.
  std::string_view forward_path{};
  // Likewise: what the app is told of the encodings that the client takes. data() == nullptr: as it came; empty: nothing.
  std::string_view accept_encoding{};
  size_t body_bytes_max = 0;    // with kBody
  // Set by with_body(), of a whole body: what the app gets in its place. Read when it returns, and not again.
  const std::string* body_instead = nullptr;
  uint8_t listens = kNothing;  // Listens; looked at once the request is admitted
};

// What the client gets instead of the app's response. The proxy adds Content-Type: application/problem+json (unless the
// body is empty), Content-Length, Date and X-Request-Id; `headers` holds further complete lines, "Name: value\r\n…".
struct Denial {
  int status = 0;
  std::string headers;
  std::string body;
  void clear() {
    status = 0;
    headers.clear();
    body.clear();
  }
};

enum class End : uint8_t {
  kCompleted,       // the app's complete response was handed to the client's connection
  kClientAborted,   // the client left, or sent a broken body, or was too slow, before that
  kUpstreamFailed,  // connect failed, the app died, was too slow or answered nonsense: no complete response
  kCut,             // the gate ended the response (Flow::kEnd)
};

struct Outcome {
  End end = End::kCompleted;
  int status = 0;                    // the app's final status; 0 if none came
  uint64_t request_body_bytes = 0;   // payload forwarded to the app, without chunk framing
  uint64_t response_body_bytes = 0;  // payload forwarded to the client, without chunk framing
  int64_t duration_ns = 0;           // from the complete request head to now
  bool app_reached = false;          // at least one byte of the request was handed to a connection to the app
  bool response_started = false;     // at least the app's final response head was forwarded
};

class Gate {
 public:
  virtual ~Gate() = default;
  // Once per request, when its head is complete and before anything of it is forwarded. `denial` comes cleared and
  // counts only with kDeny; a denial's status is 200–599.
  virtual Verdict admit(const RequestView& request, std::string_view request_id, Ticket ticket, Admission& admission,
                        Denial& denial) = 0;
  // After Proxy::resume(ticket).
  virtual Verdict readmit(Ticket ticket, Admission& admission, Denial& denial) = 0;
  // After kBody. `body`: the payload, in whatever Content-Encoding; valid during the call. Not `whole`: it is longer than
  // was asked for, and this is its beginning, which may be nothing.
  virtual Verdict with_body(Ticket ticket, Admission& admission, std::string_view body, bool whole, Denial& denial) {
    static_cast<void>(ticket), static_cast<void>(admission), static_cast<void>(body), static_cast<void>(whole);
    static_cast<void>(denial);
    return Verdict::kDeny;
  }
  // The client left, or the proxy stops, while the request waited, or its body came: nothing was admitted. The ticket is
  // dead.
  virtual void abandon(Ticket ticket, Admission& admission) = 0;
  // Request fields that say who somebody is: none of them reaches the app, in no spelling and in no trailer, but by
  // request_headers(). May change between requests; the reference is not kept.
  virtual const NameSet& guarded() const = 0;
  // Writes "Name: value\r\n…" to add to the head for the app, at most out.size() bytes; returns how many. That is 512
  // bytes and what the guarded fields took that were removed. Called once, right after kAdmit: what admit() saw is
  // still valid.
  virtual size_t request_headers(Admission& admission, std::span<char> out) = 0;
  // Writes "Name: value\r\n…" to add to the app's final response head, at most out.size() (≥ 1024) bytes; returns how
  // many. Where it writes any, fields and trailers of the app's response with a name listed in
  // Options::gate_response_headers are dropped in favour of the gate's.
  virtual size_t response_headers(Admission& admission, std::span<char> out) = 0;
  // Where it listens to kResponseHead: once, before response_headers(). `ticket`: for a pause.
  virtual void response_head(Ticket ticket, Admission& admission, const ResponseView& response) {
    static_cast<void>(ticket), static_cast<void>(admission), static_cast<void>(response);
  }
  // Where it listens to kResponseBody: payload, in whatever Content-Encoding, which begins with what was offered before
  // and did not pass. `last`: it is the end of the body, so that all of it passes with kGoOn. Never
  // of a response without a body.
  virtual Flow response_body(Admission& admission, std::string_view offered, bool last) {
    static_cast<void>(admission), static_cast<void>(last);
    return {offered.size()};
  }
  // The client left a response that the app has not finished: whether it is to be read to its end all the same, with the
  // calls above, before settle().
  virtual bool drains(Admission& admission) {
    static_cast<void>(admission);
    return false;
  }
  // Appends "Name: value\r\n…" to the fields of an error answer of the proxy's own, at any time of a request whose
  // Origin is `origin`; empty: it has none, or no head that could be read.
  virtual void problem_headers(std::string_view origin, std::string* fields) {
    static_cast<void>(origin), static_cast<void>(fields);
  }
  // Exactly once per admitted request.
  virtual void settle(Admission& admission, const Outcome& outcome) = 0;
};

}  // namespace tallygate::proxy
