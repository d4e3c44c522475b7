#include "core/http/connection.h"

namespace tallygate::http {

template <>
void Connection<tcp::socket>::handshake() {}
template <>
void Connection<tcp::socket>::refuse_plain() {}

void open_plain(Shared& shared, IoThread& io, Accepted accepted) {
  std::make_shared<Connection<tcp::socket>>(shared, io, std::move(accepted))->start();
}

}  // namespace tallygate::http
