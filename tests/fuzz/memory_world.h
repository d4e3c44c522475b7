// An Engine in a world without sockets: a transport of byte strings, a gate that can be told what to say, a clock that
// moves when told. Shared by the unit tests, the golden tables and the fuzzer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/proxy/engine.h"

namespace tallygate::testing {

// One connection as its other end sees it.
struct Peer {
  std::string to_engine;     // sent and not yet read by the engine
  std::string from_engine;   // what the engine has sent
  bool ended = false;        // no more will be sent
  bool broken = false;       // reset
  bool deaf = false;         // and reads no more: writes fail
  size_t window = SIZE_MAX;  // how many more bytes the engine may send
  bool shut = false;         // the engine will send no more
  bool closed = false;       // the engine has closed
  bool reset = false;        // by a reset
  int acknowledged = 0;      // how often at once
  bool connecting = false;
  proxy::Conn* conn = nullptr;

  std::string take() {
    std::string bytes;
    bytes.swap(from_engine);
    return bytes;
  }
};

class ScriptedGate final : public proxy::Gate {
 public:
  proxy::Verdict admit(const proxy::RequestView& view, std::string_view id, proxy::Ticket ticket,
                       proxy::Admission& admission, proxy::Denial& denial) override {
    ++asked;
    last_ticket = ticket;
    last_id = id;
    last_path = view.path;
    last_host = view.host;
    last_length = view.content_length;
    admission.state[0] = std::byte{42};
    broken |= admission.forward_path.data() != nullptr;  // of another request
    if (!forward_path.empty()) admission.forward_path = forward_path;
    if (on_admit) on_admit(view);
    admission.body_bytes_max = body_bytes_max;
    if (verdict != proxy::Verdict::kDeny) admission.listens = listens;
    if (accept_encoding.data() != nullptr) admission.accept_encoding = accept_encoding;
    if (verdict == proxy::Verdict::kBody) ++held;
    if (verdict == proxy::Verdict::kDeny) denial = denial_to_give;
    if (verdict == proxy::Verdict::kAdmit) ++open;
    if (verdict == proxy::Verdict::kWait) ++held;
    return verdict;
  }
  proxy::Verdict readmit(proxy::Ticket ticket, proxy::Admission& admission, proxy::Denial& denial) override {
    broken |= !(ticket == last_ticket) || admission.state[0] != std::byte{42} || held == 0;
    if (readmit_verdict == proxy::Verdict::kDeny) denial = denial_to_give;
    if (readmit_verdict == proxy::Verdict::kAdmit) ++open;
    if (readmit_verdict != proxy::Verdict::kWait && readmit_verdict != proxy::Verdict::kBody) --held;
    return readmit_verdict;
  }
  proxy::Verdict with_body(proxy::Ticket, proxy::Admission& admission, std::string_view body, bool whole,
                           proxy::Denial& denial) override {
    broken |= admission.state[0] != std::byte{42} || held == 0;
    bodies.emplace_back(body);
    bodies_whole.push_back(whole);
    if (!body_instead.empty()) admission.body_instead = &body_instead;
    if (body_verdict == proxy::Verdict::kDeny) denial = denial_to_give;
    if (body_verdict == proxy::Verdict::kAdmit) ++open;
    if (body_verdict != proxy::Verdict::kWait) --held;
    return body_verdict;
  }
  void response_head(proxy::Ticket, proxy::Admission& admission, const proxy::ResponseView& response) override {
    broken |= admission.state[0] != std::byte{42} || open == 0;
    heads.push_back(std::to_string(response.status) + (response.may_grow ? " grows" : "") +
                    (response.has_body ? "" : " none"));
    for (const auto& h : response.headers) heads.back().append(" ").append(h.name).append("=").append(h.value);
  }
  proxy::Flow response_body(proxy::Admission& admission, std::string_view offered, bool last) override {
    broken |= admission.state[0] != std::byte{42} || open == 0;
    return on_body ? on_body(offered, last) : proxy::Flow{offered.size()};
  }
  bool drains(proxy::Admission&) override { return drain; }
  void abandon(proxy::Ticket, proxy::Admission&) override {
    ++abandoned;
    broken |= held == 0;
    --held;
  }
  const proxy::NameSet& guarded() const override { return guarded_fields; }
  size_t request_headers(proxy::Admission& admission, std::span<char> out) override {
    broken |= admission.state[0] != std::byte{42} || out.size() < 512 || open == 0;
    std::copy(request_fields.begin(), request_fields.end(), out.begin());
    return request_fields.size();
  }
  size_t response_headers(proxy::Admission& admission, std::span<char> out) override {
    broken |= admission.state[0] != std::byte{42} || out.size() < 1024 || open == 0;
    std::copy(fields.begin(), fields.end(), out.begin());
    return fields.size();
  }
  void problem_headers(std::string_view origin, std::string* out) override {
    out->append("Origin-Of-Problem: ").append(origin).append("\r\n");
  }
  void settle(proxy::Admission& admission, const proxy::Outcome& outcome) override {
    broken |= admission.state[0] != std::byte{42} || open == 0;
    --open;
    outcomes.push_back(outcome);
  }

  proxy::Verdict verdict = proxy::Verdict::kAdmit;
  proxy::Verdict readmit_verdict = proxy::Verdict::kAdmit;
  proxy::Denial denial_to_give{429, "Retry-After: 7\r\n", R"({"reason":"QuotaExceeded"})"};
  proxy::Verdict body_verdict = proxy::Verdict::kAdmit;
  size_t body_bytes_max = 1000;
  uint8_t listens = proxy::kNothing;
  std::string_view accept_encoding{};
  std::string body_instead;  // empty: as it came
  bool drain = false;
  std::vector<std::string> bodies, heads;
  std::vector<bool> bodies_whole;
  std::function<proxy::Flow(std::string_view offered, bool last)> on_body;
  std::function<void(const proxy::RequestView&)> on_admit;
  std::string forward_path;  // empty: as it came
  proxy::NameSet guarded_fields;
  std::string request_fields;
  std::string fields = "RateLimit: \"a\";r=1\r\n";
  int asked = 0, open = 0, held = 0, abandoned = 0;
  bool broken = false;  // the contract was
  proxy::Ticket last_ticket;
  std::string last_id, last_path, last_host;
  int64_t last_length = 0;
  std::vector<proxy::Outcome> outcomes;
};

class MemoryWorld final : private proxy::Transport {
 public:
  explicit MemoryWorld(proxy::Options options = {})
      : options_(std::move(options)), engine_(env_, options_, "app:80", gate, *this, env_.mono_ns()) {}

  // A new client; null if the engine refuses.
  Peer* connect_client(const sockaddr* address = nullptr) {
    peers_.push_back(std::make_unique<Peer>());
    Peer* peer = peers_.back().get();
    engine_.set_now(env_.mono_ns());
    peer->conn = engine_.accept(peer, address);
    Peer* accepted = peer->conn == nullptr ? nullptr : peer;
    run();
    return accepted;
  }
  void send(Peer& peer, std::string_view bytes) {
    peer.to_engine.append(bytes);
    event(peer, proxy::Engine::kReadable);
  }
  void end(Peer& peer) {
    peer.ended = true;
    event(peer, proxy::Engine::kReadable | proxy::Engine::kPeerClosed);
  }
  void reset(Peer& peer) {
    peer.broken = true;
    event(peer, proxy::Engine::kReadable | proxy::Engine::kPeerClosed | proxy::Engine::kFailed);
  }
  // As end() and reset(), but the engine is not told: it finds out when it reads or writes.
  void end_silently(Peer& peer) { peer.ended = peer.deaf = true; }
  void reset_silently(Peer& peer) { peer.broken = true; }
  void open_window(Peer& peer, size_t bytes) {
    peer.window = bytes;
    event(peer, proxy::Engine::kWritable);
  }
  void finish_connect(Peer& app) {
    app.connecting = false;
    engine_.set_now(env_.mono_ns());
    engine_.on_connected(*app.conn);
    run();
  }
  void fail_connect(Peer& app) { event(app, proxy::Engine::kFailed); }
  void advance_ms(int64_t ms) {
    for (; ms > 0; ms -= 50) {
      env_.advance_ms(std::min<int64_t>(ms, 50));
      engine_.set_now(env_.mono_ns());
      engine_.tick();
      run();
    }
  }
  void run() {
    for (int i = 0; engine_.has_ready() && i < 10'000; ++i) engine_.run_ready();
  }
  void event(Peer& peer, unsigned what) {
    engine_.set_now(env_.mono_ns());
    if (peer.conn != nullptr) engine_.on_event(*peer.conn, what);
    run();
  }

  // Connections to the app, in order of creation.
  std::vector<Peer*> apps;
  Peer& app() { return *apps.back(); }
  proxy::Connecting connect_result = proxy::Connecting::kConnected;

  proxy::Engine& engine() { return engine_; }
  const proxy::Counters& counters() const { return engine_.counters(); }
  ManualEnv& env() { return env_; }
  ScriptedGate gate;

 private:
  static Peer& of(proxy::Conn& conn) { return *static_cast<Peer*>(conn.io); }
  ssize_t read(proxy::Conn& conn, char* data, size_t size) override {
    Peer& peer = of(conn);
    if (peer.to_engine.empty()) {
      if (peer.broken) return proxy::kIoFailed;
      return peer.ended ? proxy::kIoEof : proxy::kIoAgain;
    }
    const size_t n = std::min(size, peer.to_engine.size());
    std::memcpy(data, peer.to_engine.data(), n);
    peer.to_engine.erase(0, n);
    return static_cast<ssize_t>(n);
  }
  ssize_t write(proxy::Conn& conn, const iovec* parts, int count) override {
    Peer& peer = of(conn);
    if (peer.broken || peer.deaf) return proxy::kIoFailed;
    ssize_t total = 0;
    for (int i = 0; i < count && peer.window > 0; ++i) {
      const size_t n = std::min(parts[i].iov_len, peer.window);
      peer.from_engine.append(static_cast<const char*>(parts[i].iov_base), n);
      if (peer.window != SIZE_MAX) peer.window -= n;
      total += static_cast<ssize_t>(n);
    }
    ++writes;
    return total == 0 ? proxy::kIoAgain : total;
  }
  proxy::Connecting connect(proxy::Conn& conn) override {
    if (connect_result == proxy::Connecting::kFailed) return connect_result;
    peers_.push_back(std::make_unique<Peer>());
    Peer* peer = peers_.back().get();
    peer->conn = &conn;
    peer->connecting = connect_result == proxy::Connecting::kInProgress;
    conn.io = peer;
    apps.push_back(peer);
    return connect_result;
  }
  void shutdown_write(proxy::Conn& conn) override { of(conn).shut = true; }
  void acknowledge(proxy::Conn& conn) override { ++of(conn).acknowledged; }
  void close(proxy::Conn& conn, bool reset) override {
    Peer& peer = of(conn);
    peer.closed = peer.shut = true;
    peer.reset = reset;
    peer.conn = nullptr;
  }

  ManualEnv env_;
  const proxy::Options options_;
  std::vector<std::unique_ptr<Peer>> peers_;

 public:
  int writes = 0;

 private:
  proxy::Engine engine_;
};

}  // namespace tallygate::testing
