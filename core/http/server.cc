#include "core/http/server.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <chrono>
#include <future>

#include "core/http/shared.h"
#include "core/telemetry/log.h"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

namespace tallygate::http {
namespace {

using boost::system::error_code;

// ALPN (RFC 7301). A client that offers nothing that is spoken here gets the alert for it.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* offered,
                    unsigned int offered_size, void*) {
  static constexpr unsigned char kProtocols[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  const int found = SSL_select_next_proto(&chosen, size, kProtocols, sizeof kProtocols - 1, offered, offered_size);
  *out = chosen;
  return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

Result<std::shared_ptr<net::ssl::context>> load_tls(const TlsFiles& files) {
  auto context = std::make_shared<net::ssl::context>(net::ssl::context::tls_server);
  SSL_CTX* native = context->native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(native, "ECDHE+AESGCM:ECDHE+CHACHA20");  // of TLS 1.2; 1.3 has no weak ones
  SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(native, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);  // clients resume by tickets
  SSL_CTX_set_alpn_select_cb(native, choose_protocol, nullptr);
  error_code error;
  // Else OpenSSL would ask for an encrypted key's passphrase on the terminal.
  context->set_password_callback([](size_t, net::ssl::context::password_purpose) { return std::string(); }, error);
  context->use_certificate_chain_file(files.certificate_file, error);
  if (error) return fail(Errc::kInvalid, "TLS certificate " + files.certificate_file + ": " + error.message());
  context->use_private_key_file(files.key_file, net::ssl::context::pem, error);
  if (error) return fail(Errc::kInvalid, "TLS key " + files.key_file + ": " + error.message());
  if (SSL_CTX_check_private_key(native) != 1) {
    return fail(Errc::kInvalid, "TLS key " + files.key_file + " does not belong to " + files.certificate_file);
  }
  return context;
}

std::string text_of(const tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return (endpoint.address().is_v6() ? "[" + address + "]" : address) + ":" + std::to_string(endpoint.port());
}

// Zeros where it is gone already.
AddressBytes peer_of(const tcp::socket& socket) {
  error_code gone;
  const net::ip::address address = socket.remote_endpoint(gone).address();
  return (address.is_v6() ? address.to_v6() : net::ip::make_address_v6(net::ip::v4_mapped, address.to_v4())).to_bytes();
}

}  // namespace

void IoThread::watch_deadlines(Env& env) {
  if (watching_) return;
  watching_ = true;
  watch_.expires_after(std::chrono::milliseconds(kWatchMs));
  watch_.async_wait([this, &env](error_code cancelled) {
    watching_ = false;
    if (cancelled || connections.empty()) return;
    const int64_t now_ns = env.mono_ns();
    for (ConnectionBase* connection : connections) connection->close_if_late(now_ns);
    watch_deadlines(env);
  });
}

class Server::Impl {
 public:
  Impl(ServerOptions options, Router router, Env& env) : shared_(std::move(options), std::move(router), env) {
    const int threads = std::max(1, shared_.options.io_threads);
    for (int i = 0; i < threads; ++i) io_.push_back(std::make_unique<IoThread>());
    acceptor_.emplace(io_.front()->context);
    retry_.emplace(io_.front()->context);
  }
  ~Impl() { drain(0); }

  Result<void> listen();
  void run() {
    accept();
    for (auto& io : io_) {
      io->thread = std::thread([context = &io->context] { context->run(); });
    }
  }
  void drain(int64_t grace_ms);
  Result<void> reload_tls();
  ServerStats stats();
  const tcp::endpoint& endpoint() const { return endpoint_; }

 private:
  error_code bind(const tcp::endpoint& endpoint, bool dual_stack);
  void accept();
  void accepted(error_code error, tcp::socket socket, IoThread& io);
  void open(tcp::socket socket, IoThread& io);
  void refuse(tcp::socket socket);
  void close_listener();
  void each_connection(void (ConnectionBase::*action)());
  bool wait_closed(int64_t grace_ms) {
    std::unique_lock lock(shared_.mutex);
    return shared_.all_closed.wait_for(lock, std::chrono::milliseconds(grace_ms), [this] { return shared_.open == 0; });
  }

  Shared shared_;  // before the threads: connections refer to it
  std::vector<std::unique_ptr<IoThread>> io_;
  std::optional<tcp::acceptor> acceptor_;  // the first I/O thread's, like all that accepts
  std::optional<net::steady_timer> retry_;
  size_t next_ = 0;
  tcp::endpoint endpoint_;
  std::mutex tls_mutex_;
  std::shared_ptr<net::ssl::context> tls_;
  std::mutex drain_mutex_;
  bool drained_ = false;
};

Result<void> Server::Impl::listen() {
  const ServerOptions& options = shared_.options;
  if (!options.tls.certificate_file.empty()) {
    if (auto loaded = reload_tls(); !loaded) return loaded;
  }
  error_code error;
  if (options.host.empty()) {
    error = bind({net::ip::address_v6::any(), options.port}, true);
    if (error) error = bind({net::ip::address_v4::any(), options.port}, false);  // a host without IPv6
  } else {
    tcp::resolver resolver(io_.front()->context);
    const auto found = resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, error);
    if (!error) error = bind(found.begin()->endpoint(), false);
  }
  if (error) {
    return fail(Errc::kUnavailable,
                "cannot listen on " + options.host + ":" + std::to_string(options.port) + ": " + error.message());
  }
  endpoint_ = acceptor_->local_endpoint(error);
  return {};
}

error_code Server::Impl::bind(const tcp::endpoint& endpoint, bool dual_stack) {
  error_code error, ignored;
  acceptor_->close(ignored);
  acceptor_->open(endpoint.protocol(), error);
  if (!error) acceptor_->set_option(net::socket_base::reuse_address(true), error);
  if (!error && endpoint.address().is_v6()) acceptor_->set_option(net::ip::v6_only(!dual_stack), error);
  if (!error) acceptor_->bind(endpoint, error);
  if (!error) acceptor_->listen(1024, error);
  return error;
}

void Server::Impl::accept() {
  IoThread& io = *io_[next_++ % io_.size()];
  acceptor_->async_accept(
      io.context, [this, &io](error_code error, tcp::socket socket) { accepted(error, std::move(socket), io); });
}

void Server::Impl::accepted(error_code error, tcp::socket socket, IoThread& io) {
  if (!acceptor_->is_open()) return;
  if (!error) {
    open(std::move(socket), io);
    return accept();
  }
  if (error == net::error::connection_aborted || error == net::error::interrupted) return accept();
  // Out of descriptors or memory: the client waits in the backlog until there is room again.
  static log::Throttle throttle(10);
  log::warn(throttle, "cannot accept connections", {{"error", error.message()}});
  retry_->expires_after(std::chrono::milliseconds(50));
  retry_->async_wait([this](error_code cancelled) {
    if (!cancelled) accept();
  });
}

void Server::Impl::open(tcp::socket socket, IoThread& io) {
  shared_.connections_total.fetch_add(1, std::memory_order_relaxed);
  const AddressBytes peer = peer_of(socket);
  const bool is_proxy = is_any_of(shared_.options.trusted_proxies, peer);
  auto place = shared_.places.enter(is_proxy ? std::nullopt : std::optional(AddressKey(peer)));
  if (!place) {
    shared_.connections_refused.fetch_add(1, std::memory_order_relaxed);
    return refuse(std::move(socket));
  }
  shared_.opened();
  std::shared_ptr<net::ssl::context> tls;
  {
    const std::lock_guard lock(tls_mutex_);
    tls = tls_;
  }
  net::dispatch(io.context, [this, &io, tls = std::move(tls),
                             accepted = Accepted{std::move(socket), std::move(place), peer}]() mutable {
    tls ? open_tls(shared_, io, std::move(accepted), std::move(tls)) : open_plain(shared_, io, std::move(accepted));
  });
}

// One try to say why; whoever does not take it sees a closed connection.
void Server::Impl::refuse(tcp::socket socket) {
  if (shared_.options.tls.certificate_file.empty()) {
    Response busy = connection_limit_response();
    name_request(shared_, busy, "");
    const std::string out = serialise(busy, date_now(*io_.front(), shared_.env), false, false, false);
    [[maybe_unused]] const ssize_t n =
        ::send(socket.native_handle(), out.data(), out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  error_code ignored;
  socket.shutdown(tcp::socket::shutdown_send, ignored);
  socket.close(ignored);
}

Result<void> Server::Impl::reload_tls() {
  auto loaded = load_tls(shared_.options.tls);
  if (!loaded) return tl::unexpected<Error>(std::move(loaded.error()));
  const std::lock_guard lock(tls_mutex_);
  tls_ = std::move(*loaded);
  return {};
}

ServerStats Server::Impl::stats() {
  ServerStats stats;
  {
    const std::lock_guard lock(shared_.mutex);
    stats.connections_open = shared_.open;
  }
  stats.connections_total = shared_.connections_total;
  stats.connections_refused_total = shared_.connections_refused;
  stats.requests_total = shared_.requests;
  stats.requests_malformed_total = shared_.malformed;
  stats.requests_overload_total = shared_.overload;
  stats.handshakes_failed_total = shared_.handshakes_failed;
  stats.connections_gave_way_total = shared_.places.gave_way_total();
  stats.bodies_bytes = shared_.bodies.taken() + shared_.strangers_bodies.taken();
  stats.queue_length = shared_.turns.waiting();
  return stats;
}

// Clients in the backlog believe that they are connected, so they are taken in before the listener closes.
void Server::Impl::close_listener() {
  error_code error;
  acceptor_->non_blocking(true, error);
  while (!error) {
    IoThread& io = *io_[next_++ % io_.size()];
    tcp::socket socket(io.context);
    acceptor_->accept(socket, error);
    if (!error) open(std::move(socket), io);
  }
  acceptor_->close(error);
  retry_->cancel();
}

void Server::Impl::each_connection(void (ConnectionBase::*action)()) {
  for (auto& io : io_) {
    net::post(io->context, [io = io.get(), action] {
      const std::vector<ConnectionBase*> all(io->connections.begin(), io->connections.end());
      for (ConnectionBase* connection : all) (connection->*action)();
    });
  }
}

void Server::Impl::drain(int64_t grace_ms) {
  const std::lock_guard only_one(drain_mutex_);
  if (drained_) return;
  drained_ = true;
  if (io_.front()->thread.joinable()) {
    // Idle connections learn of it after the last ones from the backlog have been opened.
    std::promise<void> closed;
    net::post(io_.front()->context, [this, &closed] {
      close_listener();
      shared_.draining = true;
      each_connection(&ConnectionBase::begin_drain);
      closed.set_value();
    });
    closed.get_future().wait();  // else, with nobody connected, the threads could end first and leave the port open
    if (grace_ms > 0) wait_closed(grace_ms);
    each_connection(&ConnectionBase::abort);
  }
  // Connections are let go of by their own threads, or after them.
  const auto dropped = shared_.turns.stop();
  if (io_.front()->thread.joinable()) wait_closed(200);
  for (auto& io : io_) io->context.stop();
  for (auto& io : io_) {
    if (io->thread.joinable()) io->thread.join();
  }
  shared_.workers.stop();
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::start(ServerOptions options, Router router, Env& env) {
  try {
    auto impl = std::make_unique<Impl>(std::move(options), std::move(router), env);
    if (auto listening = impl->listen(); !listening) return tl::unexpected<Error>(std::move(listening.error()));
    impl->run();
    return std::unique_ptr<Server>(new Server(std::move(impl)));
  } catch (const std::exception& e) {  // Asio: no descriptors or threads to be had
    return fail(Errc::kExhausted, std::string("cannot start the HTTP server: ") + e.what());
  }
}

uint16_t Server::port() const { return impl_->endpoint().port(); }
std::string Server::address() const { return text_of(impl_->endpoint()); }
ServerStats Server::stats() const { return impl_->stats(); }
Result<void> Server::reload_tls() { return impl_->reload_tls(); }
void Server::drain(int64_t grace_ms) { impl_->drain(grace_ms); }

}  // namespace tallygate::http
