// The operator's outbound HTTP: Kubernetes, Stripe, providers, alerts. A narrow port with two implementations that pass
// the same conformance test: cpprestsdk (the default) and libcurl.
//
// Errors, by what a caller may do:
//   kInvalid      the request cannot be sent as it is: scheme, URL, method or a header
//   kUnavailable  nothing reached the peer (name, connect, TLS or its certificate), or the caller stopped the call
//   kTimeout      it may have reached the peer, but the outcome is not known: late, reset, cut off in the middle
//   kExhausted    the response is larger than allowed
// Any status is a response, not an error; redirects are not followed, bodies not decompressed.
//
// Threading: send() blocks its caller; any number of threads may call it. The client must outlive its calls.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"

namespace tallygate {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method = "GET";
  std::string url;  // http:// or https://, without user information or fragment
  HttpHeaders headers = {};
  std::string body = {};
  int64_t timeout_ms = 30'000;  // for the whole call, from the name's resolution to the last byte
  // For watches: pieces of a 2xx response's body go here as they come, on the caller's thread, and HttpResponse::body
  // stays empty; false ends the call well. timeout_ms then bounds the silence: between pieces, and before the head. The
  // body of any other status is collected as always.
  std::function<bool(std::string_view piece)> on_body = nullptr;
  // The response's head has come, the body not yet. On the caller's thread.
  std::function<void(int status)> on_head = nullptr;
  std::stop_token stop = {};  // ends the call early, within a fraction of a second
};

struct HttpResponse {
  int status = 0;
  HttpHeaders headers;  // names in lower case
  std::string body;
  // The first such field; empty where there is none.
  std::string_view header(std::string_view lower_name) const;
};

struct HttpClientOptions {
  // PEM, from a file or as it stands here (which wins). The only authorities to trust; empty: the system's.
  std::string ca_file = {}, ca_pem = {};
  // A client certificate, with its chain; none if empty.
  std::string certificate_file = {}, key_file = {};
  std::string certificate_pem = {}, key_pem = {};
  // The name that the peer's certificate must have, where it is not the URL's host; the peer is told it by SNI, and by
  // the header Host.
  std::string tls_server_name = {};
  size_t response_bytes_max = 16 * 1024 * 1024;  // of the body; not for on_body
};

class HttpClient {
 public:
  virtual ~HttpClient() = default;
  virtual Result<HttpResponse> send(const HttpRequest& request) = 0;
};

// kInvalid, with the reason: authorities, certificate and key cannot be used as they are now. A client that is made of
// such can connect to nobody over TLS.
Result<void> check_tls(const HttpClientOptions& options);

// Certificates and host names are always verified.
std::unique_ptr<HttpClient> make_cpprest_client(HttpClientOptions options = {});
std::unique_ptr<HttpClient> make_curl_client(HttpClientOptions options = {});
inline std::unique_ptr<HttpClient> make_http_client(HttpClientOptions options = {}) {
  return make_cpprest_client(std::move(options));
}

}  // namespace tallygate
