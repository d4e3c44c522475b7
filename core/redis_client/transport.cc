#include "core/redis_client/transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <thread>
#include <vector>

namespace tallygate::redis {

struct Transport::Tls {
  SSL_CTX* context = nullptr;
  SSL* ssl = nullptr;
  bool agreed = false;
  ~Tls() {
    SSL_free(ssl);
    SSL_CTX_free(context);
  }
};

namespace {

// Ours, where the server is to see one. What is wrong with it; empty: nothing is.
std::string show_certificate(SSL_CTX* context, const Endpoint& endpoint) {
  if (endpoint.certificate_file.empty()) return "";
  if (SSL_CTX_use_certificate_chain_file(context, endpoint.certificate_file.c_str()) != 1) {
    return "cannot read the client's certificate " + endpoint.certificate_file;
  }
  if (SSL_CTX_use_PrivateKey_file(context, endpoint.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return "cannot use " + endpoint.key_file + ": it is no key, or not that of " + endpoint.certificate_file;
  }
  return "";
}

// Which alerts a server sends that wants to see a certificate, or another one.
bool is_about_certificate(unsigned long error) {
  const int reason = ERR_GET_REASON(error);
  return reason == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED || reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE ||
         reason == SSL_R_SSLV3_ALERT_BAD_CERTIFICATE || reason == SSL_R_TLSV1_ALERT_UNKNOWN_CA ||
         reason == SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN || reason == SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED;
}

}  // namespace

// Shared with the resolving thread; `owner` goes null when the transport does.
struct Transport::Resolving {
  Transport* owner = nullptr;
  std::thread thread;
};

Transport::Transport(EventLoop& loop, const Endpoint& endpoint, Events events)
    : loop_(loop), endpoint_(endpoint), events_(std::move(events)) {}

Transport::~Transport() {
  close();
  if (!resolving_) return;
  resolving_->owner = nullptr;
  resolving_->thread.join();
}

void Transport::close() {
  wants_address_ = false;
  if (fd_ >= 0) {
    loop_.remove(fd_, this);
    ::close(fd_);
    fd_ = -1;
  }
  tls_.reset();
  out_.clear();
  connecting_ = false;
}

std::string Transport::errno_text(const char* what) const {
  char text[128] = {};
  return std::string(what) + " " + endpoint_.display() + ": " + strerror_r(errno, text, sizeof text);
}

void Transport::lost(const std::string& why) {
  close();
  events_.on_close(why);
}

void Transport::open() {
  if (!endpoint_.unix_path.empty()) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (endpoint_.unix_path.size() >= sizeof address.sun_path)
      return lost("socket path too long: " + endpoint_.unix_path);
    std::memcpy(address.sun_path, endpoint_.unix_path.c_str(), endpoint_.unix_path.size());
    return connect_to(&address, sizeof address, AF_UNIX);
  }
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(static_cast<uint16_t>(endpoint_.port));
  if (inet_pton(AF_INET, endpoint_.host.c_str(), &v4.sin_addr) == 1) return connect_to(&v4, sizeof v4, AF_INET);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(static_cast<uint16_t>(endpoint_.port));
  if (inet_pton(AF_INET6, endpoint_.host.c_str(), &v6.sin6_addr) == 1) return connect_to(&v6, sizeof v6, AF_INET6);
  resolve();
}

void Transport::resolve() {
  wants_address_ = true;
  if (resolving_) return;  // since an attempt before
  resolving_ = std::make_shared<Resolving>();
  resolving_->owner = this;
  resolving_->thread = std::thread([state = resolving_, &loop = loop_, host = endpoint_.host, port = endpoint_.port] {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    const int rc = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
    std::vector<std::pair<int, std::string>> addresses;
    for (const addrinfo* at = list; rc == 0 && at != nullptr; at = at->ai_next) {
      addresses.emplace_back(at->ai_family, std::string(reinterpret_cast<const char*>(at->ai_addr), at->ai_addrlen));
    }
    if (list != nullptr) freeaddrinfo(list);
    const std::string problem = rc == 0 ? "no address" : gai_strerror(rc);
    loop.post([state, addresses, problem, host] {
      Transport* owner = state->owner;
      if (owner == nullptr) return;
      state->thread.join();
      owner->resolving_.reset();
      if (!owner->wants_address_) return;
      owner->wants_address_ = false;
      if (addresses.empty()) return owner->lost("cannot resolve " + host + ": " + problem);
      const auto& [family, address] = addresses[owner->attempts_++ % addresses.size()];
      owner->connect_to(address.data(), static_cast<unsigned>(address.size()), family);
    });
  });
}

void Transport::connect_to(const void* address, unsigned size, int family) {
  fd_ = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return lost(errno_text("cannot open a socket to"));
  if (family != AF_UNIX) {
    const int one = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd_, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  }
  const int rc = connect(fd_, static_cast<const sockaddr*>(address), size);
  if (rc != 0 && errno != EINPROGRESS) {
    const std::string why = errno_text("cannot connect to");
    ::close(fd_);
    fd_ = -1;
    return lost(why);
  }
  connecting_ = true;
  armed_ = EPOLLOUT;
  loop_.add(fd_, armed_, this);
}

void Transport::connected() {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) {
    errno = error;
    return lost(errno_text("cannot connect to"));
  }
  connecting_ = false;
  armed_ = EPOLLIN;
  loop_.modify(fd_, armed_, this);
  if (!endpoint_.tls) return events_.on_open();
  tls_ = std::make_unique<Tls>();
  tls_->context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(tls_->context, TLS1_2_VERSION);
  SSL_CTX_set_verify(tls_->context, SSL_VERIFY_PEER, nullptr);
  const bool trust = endpoint_.ca_file.empty()
                         ? SSL_CTX_set_default_verify_paths(tls_->context) == 1
                         : SSL_CTX_load_verify_locations(tls_->context, endpoint_.ca_file.c_str(), nullptr) == 1;
  if (!trust) return lost("TLS: cannot read the certificate authorities " + endpoint_.ca_file);
  if (const std::string why = show_certificate(tls_->context, endpoint_); !why.empty()) return lost("TLS: " + why);
  tls_->ssl = SSL_new(tls_->context);
  SSL_set_bio(tls_->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  SSL_set_connect_state(tls_->ssl);
  X509_VERIFY_PARAM* expected = SSL_get0_param(tls_->ssl);
  if (X509_VERIFY_PARAM_set1_ip_asc(expected, endpoint_.host.c_str()) != 1) {
    SSL_set1_host(tls_->ssl, endpoint_.host.c_str());
    SSL_set_tlsext_host_name(tls_->ssl, endpoint_.host.c_str());
  }
  tls_turn();
}

void Transport::tls_failed(int result) {
  const int error = SSL_get_error(tls_->ssl, result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return;
  if (error == SSL_ERROR_ZERO_RETURN) return lost("TLS closed by " + endpoint_.display());
  char text[256] = {};
  const unsigned long cause = ERR_get_error();
  ERR_error_string_n(cause, text, sizeof text);
  std::string why = "TLS with " + endpoint_.display() + " failed: " + text;
  if (is_about_certificate(cause)) {
    why += endpoint_.certificate_file.empty() ? ": it wants a certificate of its clients"
                                              : ": it does not take " + endpoint_.certificate_file;
  }
  lost(why);
}

// Moves TLS on by what has arrived: handshake, plain text out, cipher text to the socket.
void Transport::tls_turn() {
  ERR_clear_error();  // SSL_get_error() looks at what anybody has left there
  if (!tls_->agreed) {
    const int rc = SSL_do_handshake(tls_->ssl);
    tls_->agreed = rc == 1;
    flush();  // an alert, too
    if (fd_ < 0) return;
    if (rc != 1) return tls_failed(rc);
    events_.on_open();
  }
  char plain[16384];
  while (fd_ >= 0 && tls_) {
    ERR_clear_error();
    const int n = SSL_read(tls_->ssl, plain, sizeof plain);
    if (n <= 0) {
      tls_failed(n);
      break;
    }
    events_.on_data(plain, static_cast<size_t>(n));
  }
  if (fd_ >= 0) flush();
}

void Transport::write(std::string_view bytes) {
  if (fd_ < 0 || connecting_ || bytes.empty()) return;
  if (tls_) {
    ERR_clear_error();
    SSL_write(tls_->ssl, bytes.data(), static_cast<int>(bytes.size()));  // into the memory buffer: takes all
  } else {
    out_ += bytes;
  }
  flush();
}

void Transport::flush() {
  if (connecting_) return;  // closed and opened again from inside a callback
  if (tls_) {
    BIO* bio = SSL_get_wbio(tls_->ssl);
    char cipher[16384];
    for (int n; (n = BIO_read(bio, cipher, sizeof cipher)) > 0;) out_.append(cipher, static_cast<size_t>(n));
  }
  size_t done = 0;
  while (done < out_.size()) {
    const ssize_t n = send(fd_, out_.data() + done, out_.size() - done, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return lost(errno_text("lost"));
    if (n < 0) break;
    done += static_cast<size_t>(n);
  }
  out_.erase(0, done);
  const uint32_t wanted = out_.empty() ? uint32_t{EPOLLIN} : uint32_t{EPOLLIN | EPOLLOUT};
  if (wanted != armed_) loop_.modify(fd_, armed_ = wanted, this);
}

void Transport::read_some() {
  char buffer[65536];
  const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < 0) return lost(errno_text("lost"));
  if (n == 0) return lost("closed by " + endpoint_.display());
  if (!tls_) return events_.on_data(buffer, static_cast<size_t>(n));
  BIO_write(SSL_get_rbio(tls_->ssl), buffer, static_cast<int>(n));
  tls_turn();
}

void Transport::on_ready(uint32_t events) {
  if (connecting_) return connected();
  if (events & EPOLLOUT) flush();
  if (fd_ >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) read_some();
}

}  // namespace tallygate::redis
