// What the engine asks of the outside world: non-blocking reads and writes on connections, as sockets do them. The real
// one is in proxy.cc, an in-memory one drives the same engine in tests, the fuzzer and the benchmark.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>

namespace tallygate::proxy {

struct Conn;

inline constexpr ssize_t kIoEof = 0;      // read: the peer will send no more
inline constexpr ssize_t kIoAgain = -1;   // nothing now; the transport reports when that changes
inline constexpr ssize_t kIoFailed = -2;  // the connection is gone

enum class Connecting : uint8_t { kConnected, kInProgress, kFailed };

class Transport {
 public:
  // Bytes, or one of the above. A short count means that there is no more for now, unless the peer has closed its side.
  virtual ssize_t read(Conn& conn, char* data, size_t size) = 0;
  virtual ssize_t write(Conn& conn, const iovec* parts, int count) = 0;
  // Opens a connection to the app for `conn`, which has none. kInProgress: Engine::on_connected() follows.
  virtual Connecting connect(Conn& conn) = 0;
  virtual void shutdown_write(Conn& conn) = 0;
  // What has been read is acknowledged at once, not with what is sent next.
  virtual void acknowledge(Conn& conn) = 0;
  // Releases conn.io. `reset`: the peer must not take it for a regular end.
  virtual void close(Conn& conn, bool reset) = 0;

 protected:
  ~Transport() = default;
};

}  // namespace tallygate::proxy
