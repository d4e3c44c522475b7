// The data plane as a state machine: bytes, events and time in; reads, writes, connects and closes on a Transport out.
// No system call, no clock, no thread in here, so tests and the fuzzer drive the very code that serves traffic.
//
// A request's way (phases of Client): kHead: accept, identify. Gate::admit decides: denied → reply; kWait; kCollect, then decided again; or kForward:
// head rewritten, body streamed, response head rewritten, body streamed back → kFlush → settle → kHead again.
//
// Contract of the shell: set_now() before a batch of calls, on_event() for what happened, then run_ready() as long as
// has_ready(), at the end of the turn. tick() about every 67 ms while there are connections. Everything from one
// thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/env.h"
#include "sidecar/proxy/conn.h"
#include "sidecar/proxy/counters.h"
#include "sidecar/proxy/gather.h"
#include "sidecar/proxy/options.h"
#include "sidecar/proxy/rewrite.h"
#include "sidecar/proxy/transport.h"

namespace tallygate::proxy {

class Engine {
 public:
  enum Event : unsigned { kReadable = 1, kWritable = 2, kPeerClosed = 4, kFailed = 8 };

  // All four outlive the engine. `upstream_host` is what requests without Host are sent with.
  Engine(Env& env, const Options& options, std::string upstream_host, Gate& gate, Transport& transport, int64_t now_ns);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void set_now(int64_t now_ns) { now_ns_ = now_ns; }
  // A client connected. Null: there are too many or we drain; the caller sends refusal() and closes. `peer` may be
  // null.
  Client* accept(void* io, const sockaddr* peer);
  std::string refusal();
  void note_accept_failure() { counters_.accept_failures.add(); }
  void on_event(Conn& conn, unsigned events);
  void on_connected(Conn& upstream);
  bool has_ready() const { return !ready_.empty() || !graveyard_.empty(); }
  void run_ready();
  void tick();
  // See gate.h. Queues; has_ready() then.
  void resume(Ticket ticket);

  // New connections to the app go elsewhere from now on: of the old ones none is used for another request.
  void note_upstream_moved();

  // Idle connections are closed, every response says Connection: close; new clients are taken or not. May be repeated.
  void drain(bool takes_new = false);
  // Cuts everything; each admitted request is settled.
  void close_all();
  bool empty() const { return clients_active_ == 0; }
  bool has_connections() const { return clients_active_ + upstreams_active_ > 0; }
  const Counters& counters() const { return counters_; }

 private:
  // engine.cc: connections and events.
  bool has_room(uint64_t from);
  bool displace(Client* idle);
  void note_idle(Client& client);
  void note_busy(Client& client);
  void enqueue(Conn& conn);
  void close(Conn& conn, bool reset);
  void forget(Client& client);
  void bury(Conn& conn);
  void pump_client(Client& client);
  void pump_upstream(Upstream& upstream);
  void on_client_eof(Client& client);
  static bool has_begun(const Client& client);
  bool wants_read(const Client& client) const;
  bool wants_read(const Upstream& upstream) const;
  void emit(Conn& conn, Gather& gather);
  void flush(Conn& conn);
  void flushed(Client& client);

  // engine_deadlines.cc: time.
  void on_deadline(Conn& conn);
  void on_client_deadline(Client& client);
  void on_upstream_deadline(Upstream& upstream);
  void arm(Client& client);
  void arm_upload(Client& client);
  bool ends_rate_window(Client& client);
  void arm(Upstream& upstream);
  void note_pause(Client& client, bool paused);
  void set_deadline(Conn& conn, int64_t after_ms) { wheel_.set(conn, now_ns_ + after_ms * 1'000'000); }

  // engine_request.cc: from the client's bytes to the app.
  size_t consume_client(Client& client, const char* data, size_t size);
  size_t consume_request_head(Client& client, const char* data, size_t size);
  size_t begin_request(Client& client, http1::Head& head, const char* data, size_t size);
  bool answered_here(Client& client, http1::Head& head, const char* data);
  void note_request(Client& client, const http1::Head& head);
  void choose_request_id(Client& client, const http1::Head& head, const char* data);
  Verdict ask_gate(Client& client, const http1::Head& head, const char* data);
  void keep_guarded(http1::Head& head, const char* data);
  void write_block(Client& client, const http1::Head& head, const char* data);
  void finish_block(Client& client);
  void readmit(Client& client);
  size_t dispatch(Client& client, const char* body, size_t size);
  bool connect_upstream(Client& client, bool fresh);
  size_t forward_request_body(Client& client, const char* data, size_t size);
  size_t add_body(http1::BodyReader& body, bool chunk, const NameSet* unwanted, const char* data, size_t size,
                  Gather& gather);
  void add_trailers(std::string_view trailers, const NameSet* unwanted, Gather& gather);
  bool body_too_large(uint64_t bytes) const {
    return options_.request_body_bytes_max != 0 && bytes > options_.request_body_bytes_max;
  }
  bool body_is_good(Client& client, const Gather& gather);
  void refuse_body(Client& client, Reason reason, std::string_view detail);
  size_t discard_request_body(Client& client, const char* data, size_t size);

  // engine_collect.cc: request bodies that the gate sees first.
  void begin_collecting(Client& client);
  size_t collect_request_body(Client& client, const char* data, size_t size);
  void refuse_collecting(Client& client, Reason reason, std::string_view detail);
  void end_collecting(Client& client, bool whole);
  void replace_collected(Client& client, std::string_view body);
  void begin_waiting(Client& client);
  void decided(Client& client, Verdict verdict);
  void add_collected(Client& client);
  void release_watched(Client& client);

  // engine_watch.cc: responses that the gate listens to.
  void show_head(Client& client, const http1::Head& head, const char* data);
  bool offer(Client& client, const char* data, size_t size, bool last, Gather& gather, bool again = false);
  void send_watched(Client& client, Gather& gather, bool more);
  size_t forward_watched(Upstream& upstream, const char* data, size_t size, Gather& gather);
  bool end_watched(Upstream& upstream);
  void cut_response(Client& client, std::string_view tail, Gather& gather);
  void go_on(Upstream& upstream);
  bool becomes_ghost(Client& client);

  // engine_response.cc: from the app's bytes to the client.
  size_t consume_upstream(Upstream& upstream, const char* data, size_t size);
  size_t consume_response_head(Upstream& upstream, const char* data, size_t size);
  bool interim_within_bounds(Upstream& upstream, size_t size);
  void forward_interim(Client& client, const http1::Head& head, const char* data);
  size_t forward_response_head(Upstream& upstream, const http1::Head& head, const char* data, size_t size);
  int64_t note_response(Upstream& upstream, const http1::Head& head);
  size_t forward_watched_part(Upstream& upstream, const char* data, size_t size, Gather& gather);
  size_t forward_response_body(Upstream& upstream, const char* data, size_t size);
  void response_complete(Upstream& upstream, bool more_bytes);
  void on_upstream_eof(Upstream& upstream, bool failed);
  void upstream_lost(Upstream& upstream, Reason reason, bool may_retry);
  Upstream* open_upstream();
  void release_upstream(Upstream& upstream, bool reuse);
  void pool_remove(Upstream& upstream);

  // engine_reply.cc: how exchanges end.
  void settle(Client& client, End end);
  void client_gone(Client& client);
  void detach_upstream(Client& client);
  void release_block(Client& client);
  // `origin`: of the request, as long as there is no block to find it in.
  void reply_problem(Client& client, Reason reason, std::string_view detail = {}, std::string_view origin = {});
  void reply(Client& client, int status, std::string_view fields, std::string_view body);
  void append_reply(std::string& text, int status, std::string_view fields, std::string_view body, std::string_view id,
                    std::string_view connection, bool with_body);
  void finish_request(Client& client);
  void after_response(Client& client);
  void shut(Client& client);
  std::string_view date();

  Env& env_;
  const Options& options_;
  const std::string upstream_host_;
  Gate& gate_;
  Transport& transport_;
  int64_t now_ns_;
  DeadlineWheel wheel_;
  Counters counters_;
  NameSet gate_response_;
  std::string via_;
  bool draining_ = false, takes_new_ = true, closing_ = false;
  uint32_t upstream_moves_ = 0;
  bool app_is_http10_ = false;  // as its last response said

  std::vector<std::unique_ptr<Client>> clients_;
  IdleList idle_;
  std::unordered_map<uint64_t, Origin> origins_;  // by address
  std::vector<Client*> free_clients_;
  std::vector<std::unique_ptr<Upstream>> upstreams_;
  std::vector<Upstream*> free_upstreams_;
  std::vector<Upstream*> pool_;  // idle, the last used last
  size_t clients_active_ = 0, upstreams_active_ = 0, waiting_ = 0;
  size_t collected_bytes_ = 0;
  std::vector<Conn*> ready_, ready_batch_, graveyard_;
  std::vector<std::unique_ptr<http1::Head>> free_heads_;
  std::unique_ptr<http1::Head> spare_head_;  // for a head that comes whole
  std::vector<std::unique_ptr<RequestBlock>> free_blocks_;

  static constexpr size_t kReadBytes = 64 * 1024;
  std::unique_ptr<char[]> read_buffer_;  // one for all: what is not used at once moves to Conn::in
  std::vector<char> head_out_;           // a response head, and a small body behind it
  std::vector<Header> view_fields_;
  std::array<char, 4096> gate_fields_;
  std::string trailers_;
  http1::ParseError body_error_ = http1::ParseError::kNone;
  int64_t forwards_left_ = -1;  // of the request that begins; negative: it does not say
  Denial denial_;
  std::string reply_;
  std::array<uint64_t, 2> id_state_;
  int64_t date_second_ = -1;
  std::array<char, 32> date_text_;
};

}  // namespace tallygate::proxy
