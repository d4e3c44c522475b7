// The port on cpprestsdk 2.10.18. Its own time-out counts per chunk and its tasks cannot be waited for with a limit, so
// the caller waits here, with the call's deadline, and cancels; a task that is left behind owns what it touches. Errors
// come as exceptions, told apart by their texts, which no longer change: the library is archived. It cannot resolve an
// IPv6 address in a URL: those calls go over libcurl. Where the peer has closed a connection that was kept, it sends the
// request again on a new one by itself, a POST too: who writes must bear that it comes twice (a name, an idempotency
// key), as after any kTimeout.
#include <utility>  // before Boost 1.74

#include <cpprest/http_client.h>
#include <openssl/ssl.h>
#include <pplx/threadpool.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>

#include "operator/http_client/internal.h"

namespace tallygate {
namespace {

using namespace http_client_internal;
namespace cpprest = web::http;

constexpr int kThreads = 4;
constexpr size_t kOriginsMax = 64;
constexpr auto kNever = std::chrono::hours(24);  // the library's own time-out, which ours replaces

// Lives as long as anyone waits for or completes the task.
struct Signal {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  void set() {
    {
      const std::lock_guard lock(mutex);
      done = true;
    }
    changed.notify_all();
  }
};

enum class Waited : uint8_t { kDone, kLate, kStopped };

template <class T>
Waited wait(const pplx::task<T>& task, const Deadline& deadline, const std::stop_token& stop) {
  const auto signal = std::make_shared<Signal>();
  task.then([signal](pplx::task<T> ended) {
    try {
      ended.wait();  // an exception that nobody looks at would end the process
    } catch (...) {
    }
    signal->set();
  });
  const std::stop_callback wake(stop, [&] {
    const std::lock_guard lock(signal->mutex);
    signal->changed.notify_all();
  });
  std::unique_lock lock(signal->mutex);
  while (!signal->done) {
    if (stop.stop_requested()) return Waited::kStopped;
    const int64_t left_ms = deadline.left_ms();
    if (left_ms <= 0) return Waited::kLate;
    signal->changed.wait_for(lock, std::chrono::milliseconds(left_ms));
  }
  return Waited::kDone;
}

// Nothing of the request was sent.
bool before_sending(std::string_view message) {
  return message.starts_with("Failed to connect to any resolved") || message.starts_with("Error resolving address") ||
         message.starts_with("Error in SSL handshake") || message.starts_with("Error during SSL handshake");
}

tl::unexpected<Error> failed(const Target& target, const char* what) {
  return fail(before_sending(what) ? Errc::kUnavailable : Errc::kTimeout, target.origin + ": " + what);
}

cpprest::http_request to_cpprest(const HttpRequest& request, const Target& target, const std::string& server_name) {
  cpprest::http_request out(request.method);
  out.set_request_uri(web::uri(target.resource));
  if (!request.body.empty()) {
    out.set_body(std::vector<unsigned char>(request.body.begin(), request.body.end()));
    out.headers().remove(cpprest::header_names::content_type);  // the library's guess
  } else if (request.method == "POST" || request.method == "PUT" || request.method == "PATCH") {
    out.headers().set_content_length(0);
  }
  for (const auto& [name, value] : request.headers) out.headers().add(name, value);
  // The library verifies the name that it finds here.
  if (!server_name.empty()) out.headers().add(cpprest::header_names::host, server_name);
  return out;
}

class CpprestClient final : public HttpClient {
 public:
  explicit CpprestClient(HttpClientOptions options) : options_(std::move(options)) {
    static std::once_flag once;
    std::call_once(once, [] {
      // The library's threads end after main(), in its static destructors. Without this OpenSSL would have cleaned up
      // under them by then. It counts only where nothing has used OpenSSL before: make the client early.
      OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, nullptr);
      try {
        crossplat::threadpool::initialize_with_threads(kThreads);
      } catch (const std::exception&) {  // someone has done it: then with that many
      }
    });
  }

  Result<HttpResponse> send(const HttpRequest& request) override {
    const auto target = check(request);
    if (!target) return tl::unexpected<Error>(target.error());
    if (target->origin.find('[') != std::string::npos) return for_ipv6_->send(request);
    pplx::cancellation_token_source cancel;
    try {
      bool whole = false;
      auto result = run(request, *target, cancel.get_token(), whole);
      if (!whole) cancel.cancel();  // closes the connection; after a whole response it is kept for the next call
      return result;
    } catch (const std::exception& e) {
      cancel.cancel();
      return failed(*target, e.what());
    } catch (...) {
      cancel.cancel();
      return fail(Errc::kTimeout, target->origin + ": an unknown failure");
    }
  }

 private:
  static tl::unexpected<Error> not_done(Waited waited, const Target& target, const HttpRequest& request) {
    return waited == Waited::kLate ? too_late(target, request) : stopped(target);
  }

  Result<HttpResponse> run(const HttpRequest& request, const Target& target, pplx::cancellation_token token,
                           bool& whole) {
    Deadline deadline(request);
    const auto client = client_for(target.origin);
    const auto task = client->request(to_cpprest(request, target, options_.tls_server_name), token);
    const Waited waited = wait(task, deadline, request.stop);
    if (waited != Waited::kDone) return not_done(waited, target, request);
    const cpprest::http_response reply = task.get();
    deadline.heard();
    HttpResponse response;
    response.status = reply.status_code();
    if (request.on_head) request.on_head(response.status);
    for (const auto& [name, value] : reply.headers()) add_header(response.headers, name, value);
    return read_body(request, target, deadline, reply, std::move(response), whole);
  }

  Result<HttpResponse> read_body(const HttpRequest& request, const Target& target, Deadline& deadline,
                                 const cpprest::http_response& reply, HttpResponse response, bool& whole) {
    const BodySink sink(request, options_.response_bytes_max);
    auto buffer = reply.body().streambuf();
    char piece[16 * 1024];
    while (true) {
      // One byte is waited for, the others are there: a read of more would wait until it has got as many as it asked
      // for.
      const auto first = buffer.bumpc();
      const Waited waited = wait(first, deadline, request.stop);
      if (waited != Waited::kDone) return not_done(waited, target, request);
      const int byte = first.get();
      if (byte == concurrency::streams::streambuf<uint8_t>::traits::eof()) break;
      piece[0] = static_cast<char>(byte);
      size_t size = 1;
      if (const size_t more = std::min(buffer.in_avail(), sizeof piece - 1); more > 0) {
        size += buffer.getn(reinterpret_cast<uint8_t*>(piece + 1), more).get();  // done at once
      }
      deadline.heard();
      switch (sink.take(response.status, std::string_view(piece, size), response.body)) {
        case BodySink::Outcome::kGoOn:
          break;
        case BodySink::Outcome::kEnough:
          return response;
        case BodySink::Outcome::kTooLarge:
          return too_large(target);
      }
    }
    // The end of the stream may be a failure's: this tells.
    const auto end = reply.content_ready();
    const Waited waited = wait(end, deadline, request.stop);
    if (waited != Waited::kDone) return not_done(waited, target, request);
    end.get();
    whole = true;
    return response;
  }

  std::shared_ptr<cpprest::client::http_client> client_for(const std::string& origin) {
    const std::lock_guard lock(mutex_);
    if (const auto known = clients_.find(origin); known != clients_.end()) return known->second;
    cpprest::client::http_client_config config;
    config.set_timeout(kNever);
    config.set_validate_certificates(true);
    config.set_max_redirects(0);
    config.set_ssl_context_callback(
        // On an error it trusts none, and the handshake fails.
        [options = options_](boost::asio::ssl::context& context) { (void)load_tls(options, context.native_handle()); });
    auto client = std::make_shared<cpprest::client::http_client>(web::uri(origin), config);
    if (clients_.size() >= kOriginsMax) clients_.erase(clients_.begin());
    clients_.emplace(origin, client);
    return client;
  }

  const HttpClientOptions options_;
  const std::unique_ptr<HttpClient> for_ipv6_ = make_curl_client(options_);
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<cpprest::client::http_client>>
      clients_;  // each keeps connections to one origin
};

}  // namespace

std::unique_ptr<HttpClient> make_cpprest_client(HttpClientOptions options) {
  return std::make_unique<CpprestClient>(std::move(options));
}

}  // namespace tallygate
