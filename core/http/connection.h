// One connection, plain or TLS, on its I/O thread; internal to the server. Life of a connection:
//   start ─▶ [handshake] ─▶ await_request ─▶ read_head_bytes ─▶ take_head ─▶ read_body ─▶ dispatch ─┐
//                                ▲────────────── keep-alive ────────────── respond ◀── serve ◀──────┘
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
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/stream_traits.hpp>
#include <optional>

#include "core/http/chunked_body.h"
#include "core/http/head_check.h"
#include "core/telemetry/log.h"

namespace tallygate::http {

namespace beast = boost::beast;

template <class Stream>
class Connection final : public ConnectionBase,
                         public Turns::Guest,
                         public Reply::Target,
                         public std::enable_shared_from_this<Connection<Stream>> {
 public:
  template <class... Args>
  Connection(Shared& shared, IoThread& io, tcp::socket accepted, Args&... args)
      : shared_(shared), io_(io), stream_(std::move(accepted), args...) {
    io_.connections.insert(this);
    beast::error_code error;
    const auto peer = socket().remote_endpoint(error);
    if (!error) peer_ = peer.address().to_string();
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
  tcp::socket& socket() { return beast::get_lowest_layer(stream_); }
  void deadline(int64_t ms) { deadline_ns_ = shared_.env.mono_ns() + ms * 1'000'000; }
  std::string_view buffered() const { return {static_cast<const char*>(buffer_.data().data()), buffer_.data().size()}; }
  bool has_unread_bytes() {
    beast::error_code error;
    return socket().available(error) > 0 && !error;
  }
  // Reads at most `size` into the buffer, then calls next(). Ends the connection on an error.
  template <class Next>
  void read_some(size_t size, Next next);

  void handshake();
  void refuse_plain();
  void await_request();
  void read_head_bytes();
  void take_head(size_t size);
  void read_body();
  void read_counted();
  void read_chunked();
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
  void refuse(int status, ReasonName reason, std::string detail);
  void respond();
  void written(beast::error_code error);
  void finish();
  void linger(size_t left);
  void close_socket() {
    beast::error_code ignored;
    socket().close(ignored);
  }

  Shared& shared_;
  IoThread& io_;
  std::shared_ptr<void> context_;
  Stream stream_;
  beast::flat_buffer buffer_;
  std::string peer_;
  Head head_;
  std::optional<ChunkedBody> chunked_;
  Response response_;
  std::string out_;
  int64_t started_ns_ = 0;
  int64_t deadline_ns_ = INT64_MAX;
  const Endpoint* endpoint_ = nullptr;
  uint64_t lane_ = 0;
  bool has_turn_ = false;
  bool idle_ = false;
  bool keep_alive_ = false;
};

template <class Stream>
void Connection<Stream>::start() {
  if constexpr (std::is_same_v<Stream, tcp::socket>) {
    await_request();
  } else {
    handshake();
  }
}

template <class Stream>
template <class Next>
void Connection<Stream>::read_some(size_t size, Next next) {
  stream_.async_read_some(buffer_.prepare(size), [this, self = self(), next](beast::error_code error, size_t read) {
    if (error) return close_socket();  // after a time-out it is closed already
    buffer_.commit(read);
    next();
  });
}

template <class Stream>
void Connection<Stream>::await_request() {
  head_ = Head{};
  chunked_.reset();
  if (buffer_.size() > 0) {
    deadline(shared_.options.head_timeout_ms);
    return read_head_bytes();
  }
  if (shared_.draining && !has_unread_bytes()) return finish();
  idle_ = true;
  deadline(shared_.options.idle_timeout_ms);
  read_some(kHeadReadBytes, [this] {
    idle_ = false;
    deadline(shared_.options.head_timeout_ms);
    read_head_bytes();
  });
}

template <class Stream>
void Connection<Stream>::read_head_bytes() {
  while (buffered().starts_with("\r\n")) buffer_.consume(2);  // RFC 9112, 2.2: empty lines before a request
  const std::string_view bytes = buffered();
  const size_t end = bytes.find("\r\n\r\n");
  if (end != std::string_view::npos && end + 4 <= shared_.options.head_bytes_max) return take_head(end + 4);
  if (has_bare_line_feed(bytes.substr(0, end))) return refuse(400, "MalformedRequest", "A line ends without CR.");
  if (end != std::string_view::npos || bytes.size() >= shared_.options.head_bytes_max) {
    return refuse(431, "RequestHeadTooLarge", "The request's head is too large.");
  }
  read_some(kHeadReadBytes, [this] { read_head_bytes(); });
}

template <class Stream>
void Connection<Stream>::take_head(size_t size) {
  started_ns_ = shared_.env.mono_ns();
  auto head = read_head(buffered().substr(0, size));
  if (!head) return refuse(head.error().status, head.error().reason, head.error().detail);
  head_ = std::move(*head);
  head_.request.peer = peer_;
  head_.request.tls = !std::is_same_v<Stream, tcp::socket>;
  if (shared_.options.request_ids) head_.request.id = request_id_of(head_.request, shared_.env);
  buffer_.consume(size);
  read_body();
}

template <class Stream>
void Connection<Stream>::read_body() {
  if (head_.content_length == 0) return dispatch();
  if (head_.content_length > static_cast<int64_t>(shared_.options.body_bytes_max)) {
    return refuse(413, "BodyTooLarge", "The body is too large.");
  }
  deadline(shared_.options.body_timeout_ms);
  if (head_.content_length < 0) chunked_.emplace(shared_.options.body_bytes_max);
  if (head_.expects_continue && buffer_.size() == 0) return send_continue();
  head_.content_length < 0 ? read_chunked() : read_counted();
}

template <class Stream>
void Connection<Stream>::send_continue() {
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  net::async_write(stream_, net::buffer(kContinue.data(), kContinue.size()),
                   [this, self = self()](beast::error_code error, size_t) {
                     if (error) return close_socket();
                     head_.content_length < 0 ? read_chunked() : read_counted();
                   });
}

template <class Stream>
void Connection<Stream>::read_counted() {
  std::string& body = head_.request.body;
  const size_t wanted = static_cast<size_t>(head_.content_length) - body.size();
  const std::string_view bytes = buffered().substr(0, wanted);
  body.append(bytes);
  buffer_.consume(bytes.size());
  if (bytes.size() == wanted) return dispatch();
  read_some(kReadBytes, [this] { read_counted(); });
}

template <class Stream>
void Connection<Stream>::read_chunked() {
  size_t used = 0;
  const auto state = chunked_->feed(buffered(), used);
  buffer_.consume(used);
  switch (state) {
    case ChunkedBody::State::kDone:
      head_.request.body = chunked_->take();
      return dispatch();
    case ChunkedBody::State::kTooLarge:
      return refuse(413, "BodyTooLarge", "The body is too large.");
    case ChunkedBody::State::kMalformed:
      return refuse(400, "MalformedRequest", "The chunked body is malformed.");
    case ChunkedBody::State::kMore:
      break;
  }
  if (buffer_.size() > kReadBytes) return refuse(400, "MalformedRequest", "A chunk's head is too large.");
  // What is left is the begin of a chunk's head; such a one would never be complete.
  if (has_bare_line_feed(buffered())) return refuse(400, "MalformedRequest", "A chunk's head ends without CR.");
  read_some(kReadBytes, [this] { read_chunked(); });
}

template <class Stream>
void Connection<Stream>::dispatch() {
  shared_.requests.fetch_add(1, std::memory_order_relaxed);
  deadline_ns_ = INT64_MAX;
  keep_alive_ = head_.keep_alive;
  head_.request.received_ns = shared_.env.mono_ns();
  auto endpoint = shared_.router.find(head_.request);
  if (!endpoint) {
    response_ = std::move(endpoint.error());
    return respond();
  }
  endpoint_ = *endpoint;
  lane_ = shared_.options.lane_of ? shared_.options.lane_of(head_.request) : 0;
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
  const int64_t waited_ns = shared_.env.mono_ns() - head_.request.received_ns;
  const int64_t limit_ms = shared_.options.queue_timeout_ms;
  if (limit_ms > 0 && waited_ns > limit_ms * 1'000'000) {
    answer_overload();
    return respond();
  }
  if (endpoint_->async) return run_guarded([this] { endpoint_->async(head_.request, Reply(self())); });
  on_worker([this, reply = std::make_shared<Reply>(self())] { (*reply)(endpoint_->blocking(head_.request)); });
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
void Connection<Stream>::refuse(int status, ReasonName reason, std::string detail) {
  shared_.malformed.fetch_add(1, std::memory_order_relaxed);
  if (started_ns_ == 0) started_ns_ = shared_.env.mono_ns();
  keep_alive_ = false;
  response_ = problem_response({status, reason, std::move(detail)});
  respond();
}

template <class Stream>
void Connection<Stream>::respond() {
  if (std::exchange(has_turn_, false)) shared_.turns.leave(lane_);
  make_sendable(response_);
  const Request& request = head_.request;
  name_request(shared_, response_, request.id);
  if (shared_.options.on_completed) {
    shared_.options.on_completed(
        {known_method(request.method), request.route, response_.status, shared_.env.mono_ns() - started_ns_});
  }
  started_ns_ = 0;
  keep_alive_ = keep_alive_ && !shared_.draining;
  const bool without_body = request.method == "HEAD" || response_.status == 204 || response_.status == 304;
  out_ = serialise(response_, date_now(io_, shared_.env), keep_alive_, head_.http_1_0, without_body);
  deadline(shared_.options.write_timeout_ms);
  auto done = [this, self = self()](beast::error_code error, size_t) { written(error); };
  if (without_body || response_.body.size() <= kCopiedBodyMax) {
    net::async_write(stream_, net::buffer(out_), std::move(done));
  } else {
    const std::array<net::const_buffer, 2> both = {net::buffer(out_), net::buffer(response_.body)};
    net::async_write(stream_, both, std::move(done));
  }
}

template <class Stream>
void Connection<Stream>::written(beast::error_code error) {
  response_ = Response{};
  if (error) return close_socket();
  keep_alive_ ? await_request() : finish();
}

template <class Stream>
void Connection<Stream>::finish() {
  deadline(1'000);
  if constexpr (std::is_same_v<Stream, tcp::socket>) {
    linger(kLingerBytesMax);
  } else {
    stream_.async_shutdown([this, self = self()](beast::error_code) { linger(kLingerBytesMax); });
  }
}

// Closing with unread bytes would make the kernel reset the connection, and the client could lose the response.
template <class Stream>
void Connection<Stream>::linger(size_t left) {
  beast::error_code ignored;
  socket().shutdown(tcp::socket::shutdown_send, ignored);
  buffer_.clear();
  socket().async_read_some(buffer_.prepare(kReadBytes),
                           [this, self = self(), left](beast::error_code error, size_t size) {
                             if (error || size >= left) return close_socket();
                             linger(left - size);
                           });
}

}  // namespace tallygate::http
