#include "core/http/connection.h"

namespace tallygate::http {

template <>
void Connection<beast::tcp_stream>::handshake() {}
template <>
void Connection<beast::tcp_stream>::refuse_plain() {}

void open_plain(Shared& shared, IoThread& io, tcp::socket socket) {
  std::make_shared<Connection<beast::tcp_stream>>(shared, io, std::move(socket))->start();
}

}  // namespace tallygate::http
