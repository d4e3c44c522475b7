#include "core/http/connection.h"  // first: <utility> before Boost

#include <boost/beast/ssl/ssl_stream.hpp>

namespace tallygate::http {

using TlsStream = beast::ssl_stream<beast::tcp_stream>;

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
