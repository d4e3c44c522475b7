// The port on libcurl. Each call borrows a handle with its own connections, driven by the multi interface, so that a
// deadline or a stop is seen within kTurnMs.
#include <curl/curl.h>

#include <algorithm>
#include <mutex>

#include "operator/http_client/internal.h"

namespace tallygate {
namespace {

using namespace http_client_internal;

constexpr int kTurnMs = 100;
constexpr size_t kIdleHandlesMax = 16;

struct Handle {
  Handle() : easy(curl_easy_init()), multi(curl_multi_init()) {}
  ~Handle() {
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  CURL* easy;
  CURLM* multi;
};

// One call, as the callbacks see it.
struct Call {
  const HttpRequest& request;
  CURL* easy;
  Deadline deadline;
  BodySink sink;
  HttpResponse response;
  BodySink::Outcome outcome = BodySink::Outcome::kGoOn;
};

size_t on_header(char* data, size_t size, size_t count, void* user) {
  auto& call = *static_cast<Call*>(user);
  std::string_view line(data, size * count);
  call.deadline.heard();
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n' || line.back() == ' ')) line.remove_suffix(1);
  const size_t colon = line.find(':');
  if (line.empty()) {
    long status = 0;
    curl_easy_getinfo(call.easy, CURLINFO_RESPONSE_CODE, &status);
    if (call.request.on_head && status >= 200) call.request.on_head(static_cast<int>(status));
  } else if (line.starts_with("HTTP/")) {
    call.response.headers.clear();  // after an interim response
  } else if (colon != std::string_view::npos) {
    std::string_view value = line.substr(colon + 1);
    value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
    add_header(call.response.headers, line.substr(0, colon), value);
  }
  return size * count;
}

size_t on_data(char* data, size_t size, size_t count, void* user) {
  auto& call = *static_cast<Call*>(user);
  long status = 0;
  curl_easy_getinfo(call.easy, CURLINFO_RESPONSE_CODE, &status);
  call.deadline.heard();
  call.outcome = call.sink.take(static_cast<int>(status), std::string_view(data, size * count), call.response.body);
  return call.outcome == BodySink::Outcome::kGoOn ? size * count : CURL_WRITEFUNC_ERROR;
}

bool before_sending(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
      return true;
    default:
      return false;
  }
}

using HeaderList = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

HeaderList to_list(const HttpRequest& request, const std::string& server_name) {
  HeaderList list(nullptr, &curl_slist_free_all);
  const auto append = [&](const std::string& line) { list.reset(curl_slist_append(list.release(), line.c_str())); };
  bool has_type = false;
  for (const auto& [name, value] : request.headers) {
    append(value.empty() ? name + ";" : name + ": " + value);
    has_type |= strcasecmp(name.c_str(), "content-type") == 0;
  }
  if (!has_type) append("Content-Type:");  // no guess of libcurl's
  append("Expect:");
  if (!server_name.empty()) append("Host: " + server_name);
  return list;
}

// `text` outlives the call.
void set_blob(CURL* easy, CURLoption option, const std::string& text) {
  curl_blob blob{const_cast<char*>(text.data()), text.size(), CURL_BLOB_NOCOPY};
  curl_easy_setopt(easy, option, &blob);
}

void set_method(CURL* easy, const HttpRequest& request) {
  if (request.method == "HEAD") {
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    return;
  }
  const bool takes_body = request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
  if (takes_body || !request.body.empty()) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.data());
  }
  curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
}

class CurlClient final : public HttpClient {
 public:
  explicit CurlClient(HttpClientOptions options) : options_(std::move(options)) {
    static std::once_flag once;
    std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  }

  Result<HttpResponse> send(const HttpRequest& request) override {
    const auto target = check(request);
    if (!target) return tl::unexpected<Error>(target.error());
    auto handle = borrow();
    if (handle->easy == nullptr || handle->multi == nullptr)
      return fail(Errc::kExhausted, "no memory for an HTTP call");
    Call call{request, handle->easy, Deadline(request), BodySink(request, options_.response_bytes_max), {}};
    const HeaderList headers = to_list(request, options_.tls_server_name);
    const HeaderList place(redirect_to_host(*target), &curl_slist_free_all);
    prepare(call, *target, headers.get(), place.get());
    curl_multi_add_handle(handle->multi, handle->easy);
    auto result = drive(call, *target, handle->multi);
    curl_multi_remove_handle(handle->multi, handle->easy);
    curl_easy_reset(handle->easy);
    give_back(std::move(handle));
    return result;
  }

 private:
  // Where the URL names the certificate's name: the host to connect to.
  curl_slist* redirect_to_host(const Target& target) const {
    if (options_.tls_server_name.empty()) return nullptr;
    const auto [host, port] = host_and_port(target);
    return curl_slist_append(nullptr, ("::" + host + port).c_str());
  }

  std::string url_of(const Target& target) const {
    if (options_.tls_server_name.empty()) return target.origin + target.resource;
    const std::string scheme = target.origin.substr(0, target.origin.find("://") + 3);
    return scheme + options_.tls_server_name + host_and_port(target).second + target.resource;
  }

  void prepare(Call& call, const Target& target, curl_slist* headers, curl_slist* place) {
    CURL* easy = call.easy;
    curl_easy_setopt(easy, CURLOPT_URL, url_of(target).c_str());
    curl_easy_setopt(easy, CURLOPT_CONNECT_TO, place);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    if (!options_.ca_pem.empty()) {
      set_blob(easy, CURLOPT_CAINFO_BLOB, options_.ca_pem);
      curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);
    } else if (!options_.ca_file.empty()) {
      curl_easy_setopt(easy, CURLOPT_CAINFO, options_.ca_file.c_str());
      curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);
    }
    if (!options_.certificate_pem.empty()) {
      set_blob(easy, CURLOPT_SSLCERT_BLOB, options_.certificate_pem);
      set_blob(easy, CURLOPT_SSLKEY_BLOB, options_.key_pem);
    } else if (!options_.certificate_file.empty()) {
      curl_easy_setopt(easy, CURLOPT_SSLCERT, options_.certificate_file.c_str());
      curl_easy_setopt(easy, CURLOPT_SSLKEY, options_.key_file.c_str());
    }
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &call);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &call);
    set_method(easy, call.request);
  }

  static Result<HttpResponse> drive(Call& call, const Target& target, CURLM* multi) {
    while (true) {
      int running = 0;
      const CURLMcode stepped = curl_multi_perform(multi, &running);
      if (stepped != CURLM_OK) return fail(Errc::kTimeout, target.origin + ": " + curl_multi_strerror(stepped));
      if (running == 0) break;
      if (call.request.stop.stop_requested()) return stopped(target);
      const int64_t left_ms = call.deadline.left_ms();
      if (left_ms <= 0) return too_late(target, call.request);
      curl_multi_poll(multi, nullptr, 0, static_cast<int>(std::min<int64_t>(left_ms, kTurnMs)), nullptr);
    }
    int left = 0;
    const CURLMsg* message = curl_multi_info_read(multi, &left);
    const CURLcode code = message == nullptr ? CURLE_FAILED_INIT : message->data.result;
    if (call.outcome == BodySink::Outcome::kTooLarge) return too_large(target);
    if (code != CURLE_OK && call.outcome != BodySink::Outcome::kEnough) {
      return fail(before_sending(code) ? Errc::kUnavailable : Errc::kTimeout,
                  target.origin + ": " + curl_easy_strerror(code));
    }
    long status = 0;
    curl_easy_getinfo(call.easy, CURLINFO_RESPONSE_CODE, &status);
    call.response.status = static_cast<int>(status);
    return std::move(call.response);
  }

  std::unique_ptr<Handle> borrow() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<Handle>();
    auto handle = std::move(idle_.back());
    idle_.pop_back();
    return handle;
  }

  void give_back(std::unique_ptr<Handle> handle) {
    const std::lock_guard lock(mutex_);
    if (idle_.size() < kIdleHandlesMax) idle_.push_back(std::move(handle));
  }

  const HttpClientOptions options_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Handle>> idle_;
};

}  // namespace

std::unique_ptr<HttpClient> make_curl_client(HttpClientOptions options) {
  return std::make_unique<CurlClient>(std::move(options));
}

}  // namespace tallygate
