// What the server's connections share; internal to the server. Connections never outlive it.
#pragma once

#include <utility>  // before Boost 1.74

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "core/http/places.h"
#include "core/http/request_reader.h"
#include "core/http/server.h"
#include "core/http/turns.h"
#include "core/http/workers.h"

namespace tallygate::http {

namespace net = boost::asio;
using tcp = boost::asio::ip::tcp;

class ConnectionBase {
 public:
  virtual ~ConnectionBase() = default;
  virtual void begin_drain() = 0;  // closes if idle
  virtual void abort() = 0;        // closes
  virtual void close_if_late(int64_t now_ns) = 0;
};

// One thread with its event loop. Only that thread touches what is below the context.
struct IoThread {
  std::unordered_set<ConnectionBase*> connections;  // before the context: handlers that die with it unregister here
  int64_t date_second = -1;
  std::string date;
  net::io_context context{1};
  net::executor_work_guard<net::io_context::executor_type> work{context.get_executor()};
  std::thread thread;

  // Looks at the connections' deadlines again and again, while there are connections. A timer for each would have to be
  // set several times a request.
  void watch_deadlines(Env& env);

 private:
  static constexpr int64_t kWatchMs = 100;
  net::steady_timer watch_{context};
  bool watching_ = false;
};

struct Shared {
  Shared(ServerOptions o, Router r, Env& e)
      : options(std::move(o)),
        router(std::move(r)),
        env(e),
        turns(static_cast<size_t>(options.worker_threads), options.queue_max, options.running_per_lane_max),
        workers(options.worker_threads),
        places({options.connections_max, options.connections_per_address_max, options.connections_kept}),
        bodies(options.bodies_bytes_max - options.bodies_bytes_max / 4),
        strangers_bodies(options.bodies_bytes_max / 4) {}

  const ServerOptions options;
  const Router router;
  Env& env;
  Turns turns;
  Workers workers;
  Places places;
  BodyBudget bodies, strangers_bodies;
  std::atomic<bool> draining{false};
  std::atomic<uint64_t> connections_total{0}, connections_refused{0}, requests{0}, malformed{0}, overload{0},
      handshakes_failed{0};

  void opened() {
    const std::lock_guard lock(mutex);
    ++open;
  }
  void closed() {
    {
      const std::lock_guard lock(mutex);
      --open;
    }
    all_closed.notify_all();
  }
  std::mutex mutex;
  std::condition_variable all_closed;
  uint64_t open = 0;
};

struct Accepted {
  tcp::socket socket;
  std::unique_ptr<Places::Place> place;
  AddressBytes peer;
};
// Each makes a connection and starts it; called on `io`'s thread. The caller has counted it as opened.
void open_plain(Shared& shared, IoThread& io, Accepted accepted);
void open_tls(Shared& shared, IoThread& io, Accepted accepted, std::shared_ptr<net::ssl::context> context);

// What a client is told for whom there is no place.
Response connection_limit_response();
// The head, and the body where it is short enough to be worth copying; the rest is sent from where it is.
std::string serialise(const Response& response, const std::string& date, bool keep_alive, bool http_1_0,
                      bool without_body);
inline constexpr size_t kCopiedBodyMax = 4096;
// Replaces a response that cannot be sent as it is by a 500.
void make_sendable(Response& response);
// See ServerOptions::request_ids; does nothing without. `id` is empty where no head could be read.
void name_request(const Shared& shared, Response& response, std::string id);
std::string request_id_of(const Request& request, Env& env);
// "Sun, 06 Nov 1994 08:49:37 GMT", formatted at most once a second.
const std::string& date_now(IoThread& io, Env& env);
std::string_view known_method(std::string_view method);

}  // namespace tallygate::http
