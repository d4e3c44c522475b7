#include "core/http/connection.h"  // first: <utility> before Boost

#include <boost/asio/ssl/stream.hpp>

namespace tallygate::http {

using TlsStream = net::ssl::stream<tcp::socket>;

namespace {
constexpr unsigned char kHandshakeRecord = 22;  // RFC 8446, 5.1: what a client's first record is
}  // namespace

// In plain HTTP, so that the client can read it; like all that ends a connection it lingers.
template <>
void Connection<TlsStream>::refuse_plain() {
  shared_.malformed.fetch_add(1, std::memory_order_relaxed);
  Response response = problem_response({400, "TlsRequired", "This port speaks TLS: use https."});
  name_request(shared_, response, "");
  out_ = serialise(response, date_now(io_, shared_.env), false, false, false);
  net::async_write(socket(), net::buffer(out_), [this, self = self()](error_code error, size_t) {
    if (error) return close_socket();
    deadline(1'000);
    linger(kLingerBytesMax);
  });
}

// The first bytes are looked at before OpenSSL gets them.
template <>
void Connection<TlsStream>::handshake() {
  socket().async_read_some(net::buffer(reader_.prepare(kHeadReadBytes), kHeadReadBytes),
                           [this, self = self()](error_code error, size_t size) {
                             if (error) {
                               shared_.handshakes_failed.fetch_add(1, std::memory_order_relaxed);
                               return close_socket();
                             }
                             reader_.commit(size);
                             const auto first = static_cast<unsigned char>(reader_.unread().front());
                             if (first != kHandshakeRecord) return refuse_plain();
                             stream_.async_handshake(net::ssl::stream_base::server, net::buffer(reader_.unread()),
                                                     [this, self](error_code failed, size_t used) {
                                                       if (failed || used != reader_.unread().size()) {
                                                         shared_.handshakes_failed.fetch_add(1,
                                                                                             std::memory_order_relaxed);
                                                         return close_socket();
                                                       }
                                                       reader_.clear();
                                                       await_request();
                                                     });
                           });
}

void open_tls(Shared& shared, IoThread& io, Accepted accepted, std::shared_ptr<net::ssl::context> context) {
  auto connection = std::make_shared<Connection<TlsStream>>(shared, io, std::move(accepted), *context);
  connection->keep(std::move(context));
  connection->start();
}

}  // namespace tallygate::http
