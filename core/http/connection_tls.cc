#include "core/http/connection.h"  // first: <utility> before Boost

#include <boost/asio/ssl/stream.hpp>

namespace tallygate::http {

// Not beast::ssl_stream: in Boost 1.74 it ends a write of several buffers after the first one, without an error.
using TlsStream = net::ssl::stream<beast::tcp_stream>;

template <>
void Connection<TlsStream>::handshake() {
  deadline(shared_.options.head_timeout_ms);
  stream_.async_handshake(net::ssl::stream_base::server, [this, self = self()](beast::error_code error) {
    if (error) return close_socket();
    await_request();
  });
}

void open_tls(Shared& shared, IoThread& io, tcp::socket socket, std::shared_ptr<net::ssl::context> context) {
  auto connection = std::make_shared<Connection<TlsStream>>(shared, io, std::move(socket), *context);
  connection->keep(std::move(context));
  connection->start();
}

}  // namespace tallygate::http
