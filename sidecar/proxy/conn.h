// The engine's connections. Objects are pooled and reused; a connection that is closed keeps its object until the end
// of the turn, so that frames up the stack may still look at `dead`.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "core/http1/body.h"
#include "core/http1/head.h"
#include "sidecar/proxy/byte_queue.h"
#include "sidecar/proxy/deadline_wheel.h"
#include "sidecar/proxy/gate.h"
#include "sidecar/proxy/idle_list.h"

namespace tallygate::proxy {

struct Conn : DeadlineWheel::Node {
  explicit Conn(bool upstream) : is_upstream(upstream) {}
  const bool is_upstream;
  bool dead = true;
  bool readable = false;      // an edge was reported and not yet read to its end
  bool peer_closed = false;   // the transport said so: read on to the end even after a short count
  bool write_broken = false;  // a write failed; what is written is dropped
  bool queued = false;        // in Engine::ready_
  bool connecting = false;
  void* io = nullptr;                 // the transport's
  ByteQueue in;                       // read and not yet processed
  ByteQueue out;                      // to be sent, in front of what comes later
  std::unique_ptr<http1::Head> head;  // of a head that has arrived in part
};

// A block that keeps a request as sent until the response begins, so that it can be sent again.
struct RequestBlock {
  static constexpr size_t kInlineBytes = 4096;
  std::array<char, kInlineBytes> inline_bytes;
  std::unique_ptr<char[]> large;  // a head that does not fit
  size_t capacity = kInlineBytes;
  size_t size = 0;
  size_t collected = 0;  // of a body that the gate has seen: counted until the block is free again
  char* data() { return large ? large.get() : inline_bytes.data(); }
};

// Of a request whose body, or response, the gate looks at.
struct Watched {
  std::string body;      // of the request, read before it was admitted; payload
  ByteQueue kept;        // of the response: offered to the gate, and not let pass
  bool may_grow = false;
  bool paused = false;   // the app is not read
  bool resumed = false;  // and is to be read again
};

struct Upstream : Conn {
  Upstream() : Conn(true) {}
  struct Client* client = nullptr;  // null: pooled
  bool reused = false;
  bool pooled = false;     // in Engine::pool_
  uint32_t moves = 0;      // Engine::upstream_moves_ as it was opened
  bool got_bytes = false;  // of this response
  bool head_done = false;  // the final response head was forwarded
  bool keep = false;       // the app will take another request
  size_t interim_bytes = 0;
  int interim_count = 0;  // since interim_second_ns
  int64_t interim_second_ns = 0;
  uint64_t sent_bytes = 0;  // of this request
  http1::BodyReader body;   // of the response
};

enum class Phase : uint8_t {
  kHead,     // reading a request's head, or idle
  kWait,     // held by the gate
  kCollect,  // reading a body that the gate wants to see first
  kForward,  // with the app
  kFlush,    // the response is complete, and partly still in `out`
  kDiscard,  // reading the rest of a body that nobody wants
  kLinger,   // our side is closed; reading until the client closes, so that it gets to see the response
};

// The clients of one address.
struct Origin {
  uint64_t address = 0;
  size_t clients = 0;
  IdleList idle;  // of Client::idle_of_origin
};

struct Client : Conn, IdleList::Node {
  Client() : Conn(false) {}
  Phase phase = Phase::kHead;
  uint32_t slot = 0;
  uint32_t generation = 0;
  Upstream* upstream = nullptr;
  std::unique_ptr<RequestBlock> block;
  std::unique_ptr<Watched> watched;  // null as a rule
  bool first = true;  // no request yet on this connection
  // The request.
  bool http10 = false;
  bool close_after = false;
  bool is_head_method = false;
  bool idempotent = false;
  bool chunk_request = false;    // the request's body goes out chunked
  bool expect_continue = false;  // the client waits for 100
  bool admitted = false;
  bool replayable = false;  // all that was sent of the request is in `block`
  bool retried = false;
  bool resumed = false;
  uint8_t request_id_size = 0;
  uint8_t peer_text_size = 0;
  // The response.
  bool chunk_response = false;
  bool close_delimited = false;  // its end is the connection's
  bool gate_spoke = false;       // the head has fields of the gate's
  bool ghost = false;            // it has left, and its response is read to the end
  bool held_app = false;         // the client was so slow that the app may have given up on it
  http1::BodyReader body;        // of the request
  uint64_t discarded_bytes = 0;
  // While a rate is asked of the client: the time to look at it, and how many bytes it had sent when that began.
  int64_t rate_window_end_ns = 0;
  uint64_t rate_window_bytes = 0;
  int64_t linger_end_ns = 0;
  int64_t paused_since_ns = 0;  // the app is not read, because the client takes nothing; 0: it is
  int64_t started_ns = 0;
  Outcome outcome;
  Admission admission;
  std::array<char, 64> request_id;
  std::array<char, 46> peer_text;             // the client's address, as in X-Forwarded-For
  alignas(8) std::array<std::byte, 28> peer;  // sockaddr_in or sockaddr_in6
  bool has_peer = false;
  Origin* origin = nullptr;  // null: its address is not known
  struct IdleOfOrigin : IdleList::Node {
    Client* client = nullptr;
  } idle_of_origin;

  std::string_view id() const { return {request_id.data(), request_id_size}; }
  std::string_view address() const { return {peer_text.data(), peer_text_size}; }
  Ticket ticket() const { return {slot, generation}; }
};

}  // namespace tallygate::proxy
