// One connection, plain or TLS, on its I/O thread; internal to the server. Life of a connection:
//   start ─▶ [handshake] ─▶ await_request ─▶ read_head ─▶ take_head ─▶ read_body ─▶ dispatch ─┐
//                                ▲─────────── keep-alive ─────────── respond ◀── serve ◀──────┘
//   and any of them ─▶ finish: the sending side is shut, what the client still sends is dropped for a second, so that
//   it can read the last response, then the socket closes.
// Every step owns the connection by shared_ptr through its completion handler; the last one to let go closes it. While
// a handler owes the answer, no operation is under way and only it touches the request and response_.
#pragma once

#include "core/http/shared.h"  // first: <utility> before Boost

#include <array>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <optional>

#include "core/http/request_reader.h"
#include "core/telemetry/log.h"

namespace tallygate::http {

using boost::system::error_code;

template <class Stream>
class Connection final : public ConnectionBase,
                         public Turns::Guest,
                         public Places::Guest,
                         public Reply::Target,
                         public std::enable_shared_from_this<Connection<Stream>> {
 public:
  template <class... Args>
  Connection(Shared& shared, IoThread& io, Accepted accepted, Args&... args)
      : shared_(shared),
        io_(io),
        place_(std::move(accepted.place)),
        stream_(std::move(accepted.socket), args...),
        reader_(shared.options.head_bytes_max),
        peer_(accepted.peer) {
    io_.connections.insert(this);
    error_code error;
    socket().set_option(tcp::no_delay(true), error);
    io_.watch_deadlines(shared_.env);
  }
  ~Connection() override {
    io_.connections.erase(this);
    shared_.closed();
  }

  void start();
  void begin_drain() override {
    if (idle_ && !has_unread_bytes()) close_socket();
  }
  void give_way(std::shared_ptr<Places::Guest> self) override {
    // Moved, so that the connection is never let go of on another thread.
    net::post(io_.context, [this, self = std::move(self)] {
      if (waits_) close_socket();
    });
  }
  void abort() override { close_socket(); }
  void close_if_late(int64_t now_ns) override {
    if (now_ns >= deadline_ns_) close_socket();
  }
  // What must outlive the stream.
  void keep(std::shared_ptr<void> context) { context_ = std::move(context); }

 private:
  static constexpr size_t kHeadReadBytes = 4 * 1024;  // what an idle connection costs
  static constexpr size_t kReadBytes = 16 * 1024;
  static constexpr size_t kLingerBytesMax = 1024 * 1024;
  using Self = std::shared_ptr<Connection>;

  Self self() { return this->shared_from_this(); }
  tcp::socket& socket() {
    if constexpr (std::is_same_v<Stream, tcp::socket>) {
      return stream_;
    } else {
      return stream_.next_layer();
    }
  }
  void deadline(int64_t ms) { deadline_ns_ = shared_.env.mono_ns() + ms * 1'000'000; }
  bool has_unread_bytes() {
    error_code error;
    return socket().available(error) > 0 && !error;
  }
  // Reads at most `size` into the buffer, then calls next(). Ends the connection on an error.
  template <class Next>
  void read_some(size_t size, Next next);

  void handshake();
  void refuse_plain();
  void wait();
  void await_request();
  void read_head();
  void take_head();
  std::optional<AddressBytes> forwarded_client(const Request& request) const;
  void begin_body();
  void read_body();
  bool refused_by_head();
  void send_continue();
  void dispatch();
  void serve();
  void answer_overload();
  // Turns::Guest and Reply::Target, on any thread.
  void begin(std::shared_ptr<Turns::Guest> self) override;
  void answer(std::shared_ptr<Reply::Target> self, Response response) override;
  void on_io_thread(std::function<void()> task) override;
  void on_worker(std::function<void()> task) override;
  static void run_guarded(const std::function<void()>& task);
  void refuse(Refused refused);
  void respond();
  void written(error_code error);
  void finish();
  void linger(size_t left);
  void close_socket() {
    error_code ignored;
    socket().close(ignored);
  }

  Shared& shared_;
  IoThread& io_;
  const std::unique_ptr<Places::Place> place_;
  std::shared_ptr<void> context_;
  Stream stream_;
  RequestReader reader_;
  const AddressBytes peer_;
  Response response_;
  std::string out_;
  int64_t started_ns_ = 0;
  int64_t deadline_ns_ = INT64_MAX;
  const Endpoint* endpoint_ = nullptr;
  uint64_t lane_ = 0;
  bool has_turn_ = false;
  bool first_ = true;   // no request has come yet
  bool waits_ = false;  // for a request, or for its end: it may have to give way
  bool idle_ = false;   // nothing of a request has come
  bool keep_alive_ = false;
};

// One deadline up to the first request's head, a handshake included: nobody can stretch it by doing nothing, or little.
template <class Stream>
void Connection<Stream>::start() {
  deadline(shared_.options.head_timeout_ms);
  wait();
  if constexpr (std::is_same_v<Stream, tcp::socket>) {
    await_request();
  } else {
    handshake();
  }
}

template <class Stream>
void Connection<Stream>::wait() {
  waits_ = true;
  place_->wait(self());
}

template <class Stream>
template <class Next>
void Connection<Stream>::read_some(size_t size, Next next) {
  stream_.async_read_some(net::buffer(reader_.prepare(size), size),
                          [this, self = self(), next](error_code error, size_t read) {
                            if (error) return close_socket();  // after a time-out it is closed already
                            reader_.commit(read);
                            next();
                          });
}

template <class Stream>
void Connection<Stream>::await_request() {
  reader_.begin();
  if (!first_) wait();
  if (!reader_.unread().empty()) {
    deadline(shared_.options.head_timeout_ms);
    return read_head();
  }
  if (shared_.draining && !has_unread_bytes()) return finish();
  idle_ = true;
  if (!first_) deadline(shared_.options.idle_timeout_ms);
  read_some(kHeadReadBytes, [this] {
    idle_ = false;
    if (!first_) deadline(shared_.options.head_timeout_ms);
    read_head();
  });
}

template <class Stream>
void Connection<Stream>::read_head() {
  switch (reader_.read_head()) {
    case RequestReader::Step::kMore:
      return read_some(kHeadReadBytes, [this] { read_head(); });
    case RequestReader::Step::kRefused:
      return refuse(reader_.refused());
    case RequestReader::Step::kDone:
      return take_head();
  }
}

template <class Stream>
void Connection<Stream>::take_head() {
  started_ns_ = shared_.env.mono_ns();
  first_ = waits_ = false;
  Request& request = reader_.request();
  const auto forwarded = forwarded_client(request);
  request.peer = to_text(forwarded.value_or(peer_));
  request.tls = !std::is_same_v<Stream, tcp::socket>;
  if (shared_.options.request_ids) request.id = request_id_of(request, shared_.env);
  auto endpoint = shared_.router.find(request);
  endpoint_ = endpoint ? *endpoint : nullptr;
  if (!endpoint) response_ = std::move(endpoint.error());
  const bool is_for_all_places = endpoint_ != nullptr && endpoint_->rules.is_probe;
  const auto counted = forwarded ? std::optional(AddressKey(*forwarded)) : std::nullopt;
  if (!place_->begin_request(counted) || (place_->is_kept() && !is_for_all_places)) {
    shared_.connections_refused.fetch_add(1, std::memory_order_relaxed);
    response_ = connection_limit_response();
    keep_alive_ = false;
    return respond();
  }
  begin_body();
}

// Only where the connection is a trusted proxy's.
template <class Stream>
std::optional<AddressBytes> Connection<Stream>::forwarded_client(const Request& request) const {
  const auto& trusted = shared_.options.trusted_proxies;
  if (trusted.empty() || !is_any_of(trusted, peer_)) return std::nullopt;
  std::string forwarded_for;
  for (const auto& [name, value] : request.headers) {
    if (name == "x-forwarded-for") forwarded_for += (forwarded_for.empty() ? "" : ",") + value;
  }
  return client_of(forwarded_for, trusted);
}

template <class Stream>
void Connection<Stream>::begin_body() {
  static const RouteRules kNone;
  const RouteRules& rules = endpoint_ == nullptr ? kNone : endpoint_->rules;
  reader_.begin_body(rules.body_bytes_max > 0 ? rules.body_bytes_max : shared_.options.body_bytes_max,
                     rules.is_for_strangers ? shared_.strangers_bodies : shared_.bodies);
  deadline(shared_.options.body_timeout_ms);
  const bool waits_for_continue = reader_.expects_continue() && reader_.unread().empty();
  switch (reader_.read_body()) {
    case RequestReader::Step::kDone:
      return dispatch();
    case RequestReader::Step::kRefused:
      return refuse(reader_.refused());
    case RequestReader::Step::kMore:
      break;
  }
  if (refused_by_head()) return respond();
  waits_for_continue ? send_continue() : read_some(kReadBytes, [this] { read_body(); });
}

// Where its body is still to come, a request that will be refused anyway is refused now. What comes is not read, so the
// connection ends.
template <class Stream>
bool Connection<Stream>::refused_by_head() {
  if (endpoint_ != nullptr) {
    if (!endpoint_->rules.check_head) return false;
    auto refused = endpoint_->rules.check_head(reader_.request());
    if (!refused) return false;
    response_ = std::move(*refused);
  }
  shared_.requests.fetch_add(1, std::memory_order_relaxed);
  keep_alive_ = false;
  return true;
}

template <class Stream>
void Connection<Stream>::read_body() {
  switch (reader_.read_body()) {
    case RequestReader::Step::kMore:
      return read_some(kReadBytes, [this] { read_body(); });
    case RequestReader::Step::kRefused:
      return refuse(reader_.refused());
    case RequestReader::Step::kDone:
      return dispatch();
  }
}

template <class Stream>
void Connection<Stream>::send_continue() {
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  net::async_write(stream_, net::buffer(kContinue.data(), kContinue.size()),
                   [this, self = self()](error_code error, size_t) {
                     if (error) return close_socket();
                     read_some(kReadBytes, [this] { read_body(); });
                   });
}

template <class Stream>
void Connection<Stream>::dispatch() {
  shared_.requests.fetch_add(1, std::memory_order_relaxed);
  deadline_ns_ = INT64_MAX;
  keep_alive_ = reader_.keep_alive();
  Request& request = reader_.request();
  request.received_ns = shared_.env.mono_ns();
  if (endpoint_ == nullptr) return respond();
  lane_ = shared_.options.lane_of ? shared_.options.lane_of(request) : 0;
  switch (shared_.turns.enter(lane_, self())) {
    case Turns::Entry::kNow:
      return serve();
    case Turns::Entry::kLater:
      return;
    case Turns::Entry::kRefused:
      answer_overload();
      return respond();
  }
}

template <class Stream>
void Connection<Stream>::begin(std::shared_ptr<Turns::Guest> self) {
  // Moved, so that the connection is never let go of on another thread.
  net::post(io_.context, [this, self = std::move(self)] { serve(); });
}

// It has its turn.
template <class Stream>
void Connection<Stream>::serve() {
  has_turn_ = true;
  const int64_t waited_ns = shared_.env.mono_ns() - reader_.request().received_ns;
  const int64_t limit_ms = shared_.options.queue_timeout_ms;
  if (limit_ms > 0 && waited_ns > limit_ms * 1'000'000) {
    answer_overload();
    return respond();
  }
  if (endpoint_->async) return run_guarded([this] { endpoint_->async(reader_.request(), Reply(self())); });
  on_worker([this, reply = std::make_shared<Reply>(self())] { (*reply)(endpoint_->blocking(reader_.request())); });
}

template <class Stream>
void Connection<Stream>::answer(std::shared_ptr<Reply::Target> self, Response response) {
  response_ = std::move(response);
  // Moved, so that the connection is never let go of on another thread.
  net::dispatch(io_.context, [this, self = std::move(self)] { respond(); });
}

template <class Stream>
void Connection<Stream>::on_io_thread(std::function<void()> task) {
  net::post(io_.context, [task = std::move(task)] { run_guarded(task); });
}

template <class Stream>
void Connection<Stream>::on_worker(std::function<void()> task) {
  shared_.workers.submit([task = std::move(task)] { run_guarded(task); });
}

// Handlers do not throw; if one does, its request fails, not the process.
template <class Stream>
void Connection<Stream>::run_guarded(const std::function<void()>& task) {
  try {
    task();
  } catch (const std::exception& e) {
    static log::Throttle throttle(10);
    log::error(throttle, "handler threw", {{"error", e.what()}});
  }
}

template <class Stream>
void Connection<Stream>::answer_overload() {
  shared_.overload.fetch_add(1, std::memory_order_relaxed);
  response_ = problem_response({503, "Overloaded", "The server is busy; try again."}, {{"Retry-After", "1"}});
}

// For requests that no handler sees. What follows on the connection cannot be trusted, so it ends.
template <class Stream>
void Connection<Stream>::refuse(Refused refused) {
  const bool is_overload = refused.status == 503;
  (is_overload ? shared_.overload : shared_.malformed).fetch_add(1, std::memory_order_relaxed);
  if (started_ns_ == 0) started_ns_ = shared_.env.mono_ns();
  keep_alive_ = false;
  response_ = problem_response({refused.status, refused.reason, std::move(refused.detail)});
  if (is_overload) response_.headers.emplace_back("Retry-After", "1");
  respond();
}

template <class Stream>
void Connection<Stream>::respond() {
  if (std::exchange(has_turn_, false)) shared_.turns.leave(lane_);
  reader_.drop_body();
  make_sendable(response_);
  const Request& request = reader_.request();
  name_request(shared_, response_, request.id);
  if (shared_.options.on_completed) {
    shared_.options.on_completed(
        {known_method(request.method), request.route, response_.status, shared_.env.mono_ns() - started_ns_});
  }
  started_ns_ = 0;
  keep_alive_ = keep_alive_ && !shared_.draining;
  const bool without_body = request.method == "HEAD" || response_.status == 204 || response_.status == 304;
  out_ = serialise(response_, date_now(io_, shared_.env), keep_alive_, reader_.http_1_0(), without_body);
  deadline(shared_.options.write_timeout_ms);
  auto done = [this, self = self()](error_code error, size_t) { written(error); };
  if (without_body || response_.body.size() <= kCopiedBodyMax) {
    net::async_write(stream_, net::buffer(out_), std::move(done));
  } else {
    const std::array<net::const_buffer, 2> both = {net::buffer(out_), net::buffer(response_.body)};
    net::async_write(stream_, both, std::move(done));
  }
}

template <class Stream>
void Connection<Stream>::written(error_code error) {
  response_ = Response{};
  if (error) return close_socket();
  keep_alive_ ? await_request() : finish();
}

template <class Stream>
void Connection<Stream>::finish() {
  deadline(1'000);
  wait();
  if constexpr (std::is_same_v<Stream, tcp::socket>) {
    linger(kLingerBytesMax);
  } else {
    stream_.async_shutdown([this, self = self()](error_code) { linger(kLingerBytesMax); });
  }
}

// Closing with unread bytes would make the kernel reset the connection, and the client could lose the response.
template <class Stream>
void Connection<Stream>::linger(size_t left) {
  error_code ignored;
  socket().shutdown(tcp::socket::shutdown_send, ignored);
  reader_.clear();
  socket().async_read_some(net::buffer(reader_.prepare(kReadBytes), kReadBytes),
                           [this, self = self(), left](error_code error, size_t size) {
                             if (error || size >= left) return close_socket();
                             linger(left - size);
                           });
}

}  // namespace tallygate::http
