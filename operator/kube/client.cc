#include "operator/kube/client.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <mutex>

#include "core/telemetry/json_text.h"
#include "operator/kube/credentials.h"
#include "operator/kube/paths.h"
#include "operator/kube/wire.h"

namespace tallygate::kube {
namespace {

constexpr int kReconnectsMax = 2;  // of one call
constexpr int64_t kReconnect_ms = 100;
constexpr int64_t kLeastLeft_ms = 10;

// client-go's.
const std::vector<double> kDurationBuckets = {0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60};

// False: stopped.
bool wait_ms(const std::stop_token& stop, int64_t ms) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  return !never.wait_for(lock, stop, std::chrono::milliseconds(ms), [] { return false; }) && !stop.stop_requested();
}

// One call, before credentials and time-outs.
struct Call {
  std::string method = "GET";
  std::string resource;  // path and query
  std::string content_type = {}, body = {};
  HttpHeaders headers = {};  // further ones
  std::string accept = "application/json";
  bool one_object = false;  // so that 404 may be about it
  std::stop_token stop = {};
  // A watch's:
  int64_t silence_ms = 0;  // 0: not one
  std::function<bool(std::string_view piece)> on_body = nullptr;
  std::function<void()> on_open = nullptr;
};

std::string shown(const Call& call) {
  return call.method + " " + call.resource.substr(0, call.resource.find('?')) + ": ";
}

Errc errc_of(const Call& call, const wire::Status& status) {
  switch (status.code) {
    case 404:
      return call.one_object && !status.about_object ? Errc::kInvalid : Errc::kNotFound;
    case 409:
    case 410:
      return Errc::kConflict;
    default:
      if (status.version_ahead) return Errc::kConflict;
      return status.code == 429 || status.code >= 500 ? Errc::kUnavailable : Errc::kInvalid;
  }
}

class HttpApiClient final : public Client {
 public:
  HttpApiClient(Env& env, Config config, std::unique_ptr<Credentials> credentials, std::string field_manager,
                metrics::Registry& registry)
      : env_(env),
        config_(std::move(config)),
        credentials_(std::move(credentials)),
        field_manager_(std::move(field_manager)),
        registry_(registry) {
    std::string_view server = config_.server;
    server.remove_prefix(server.find("://") + 3);
    host_ = server.substr(0, server.find('/'));
  }

  Result<Object> get(const ResourceType& type, const ObjectName& name) override {
    return object_of({.resource = object_path(type, name), .one_object = true}, type);
  }

  Result<Page> list(const ListRequest& request, std::stop_token stop) override {
    Query query;
    select(query, request.selector);
    query.add("limit", std::to_string(request.page_size));
    if (!request.continue_from.empty()) query.add("continue", request.continue_from);
    Call call{.resource = collection_path(request.type, request.name_space) + query.text(), .stop = std::move(stop)};
    if (request.metadata_only) call.accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    const auto answer = send(call);
    if (!answer) return tl::unexpected<Error>(answer.error());
    return in_context(call, wire::read_page(answer->body, request.type));
  }

  Result<void> watch(const WatchRequest& request, const TakeEvents& take, std::stop_token stop) override {
    Query query;
    select(query, request.selector);
    query.add("watch", "true");
    query.add("allowWatchBookmarks", "true");
    query.add("resourceVersion", request.resource_version);
    query.add("timeoutSeconds", std::to_string(request.timeout_s));
    Call call{.resource = collection_path(request.type, request.name_space) + query.text(), .stop = std::move(stop)};
    if (request.metadata_only) call.accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    call.silence_ms = request.silence_ms;
    call.on_open = [&] { take({}); };
    wire::Lines lines;
    std::optional<Error> bad;
    call.on_body = [&](std::string_view piece) {
      std::vector<WatchEvent> events;
      const bool readable = lines.take(piece, [&](std::string_view line) {
        auto event = wire::read_event(line, request.type);
        if (!event) {
          bad = event.error();
          return false;
        }
        events.push_back(std::move(*event));
        return true;
      });
      if (!readable && !bad) bad = Error{Errc::kUnavailable, "the server sent an event that is larger than allowed"};
      return (events.empty() || take(std::move(events))) && !bad;
    };
    const auto answer = send(call);
    if (!answer) return tl::unexpected<Error>(answer.error());
    if (bad) return in_context(call, Result<void>(tl::unexpected<Error>(*bad)));
    return {};
  }

  Result<Object> apply(const ResourceType& type, const ObjectName& name, std::string_view json,
                       const ApplyOptions& options) override {
    Query query = as_us();
    if (options.force) query.add("force", "true");
    if (options.dry_run) query.add("dryRun", "All");
    return object_of(write("PATCH", object_path(type, name, options.subresource) + query.text(),
                           "application/apply-patch+yaml", json),
                     type);
  }

  Result<Object> create_object(const ResourceType& type, const std::string& name_space,
                               std::string_view json) override {
    return object_of(write("POST", collection_path(type, name_space) + as_us().text(), "application/json", json), type);
  }

  Result<Object> replace(const ResourceType& type, const ObjectName& name, std::string_view json,
                         std::string_view subresource) override {
    return object_of(write("PUT", object_path(type, name, subresource) + as_us().text(), "application/json", json),
                     type);
  }

  Result<Object> merge_patch(const ResourceType& type, const ObjectName& name, std::string_view json,
                             std::string_view subresource) override {
    return object_of(
        write("PATCH", object_path(type, name, subresource) + as_us().text(), "application/merge-patch+json", json),
        type);
  }

  Result<void> remove(const ResourceType& type, const ObjectName& name, const std::string& uid,
                      const std::string& resource_version) override {
    JsonWriter options;
    options.begin_object();
    options.member("kind", "DeleteOptions");
    options.member("apiVersion", "v1");
    options.key("preconditions");
    options.begin_object();
    if (!uid.empty()) options.member("uid", uid);
    if (!resource_version.empty()) options.member("resourceVersion", resource_version);
    options.end_object();
    options.end_object();
    const auto answer = send(write("DELETE", object_path(type, name), "application/json", options.text()));
    if (!answer) return tl::unexpected<Error>(answer.error());
    return {};
  }

  Result<std::string> raw(const std::string& method, const std::string& path, std::string_view json,
                          const HttpHeaders& headers) override {
    Call call = write(method, path, json.empty() ? "" : "application/json", json);
    call.one_object = false;
    call.headers = headers;
    auto answer = send(call);
    if (!answer) return tl::unexpected<Error>(answer.error());
    return std::move(answer->body);
  }

  const Config& config() const override { return config_; }

 private:
  static void select(Query& query, const Selector& selector) {
    if (!selector.labels.empty()) query.add("labelSelector", selector.labels);
    if (!selector.fields.empty()) query.add("fieldSelector", selector.fields);
  }
  Query as_us() const {
    Query query;
    query.add("fieldManager", field_manager_);
    return query;
  }
  static Call write(const std::string& method, std::string resource, std::string content_type, std::string_view body) {
    return {.method = method,
            .resource = std::move(resource),
            .content_type = std::move(content_type),
            .body = std::string(body),
            .one_object = true};
  }

  template <class T>
  static Result<T> in_context(const Call& call, Result<T> result) {
    if (!result) result.error().message.insert(0, shown(call));
    return result;
  }
  Result<Object> object_of(const Call& call, const ResourceType& type) {
    const auto answer = send(call);
    if (!answer) return tl::unexpected<Error>(answer.error());
    return in_context(call, wire::read_object(answer->body, type));
  }

  // → a 2xx, or the error. Tries again as client.h says.
  Result<HttpResponse> send(const Call& call) {
    const int64_t due_ms = env_.mono_ms() + config_.timeout_ms;
    Access access = credentials_->current();
    int reconnects = 0;
    bool refused = false;
    while (true) {
      const int64_t left_ms = std::max(due_ms - env_.mono_ms(), kLeastLeft_ms);
      auto answer = once(call, access, left_ms);
      std::optional<int64_t> delay_ms;
      if (!answer) {
        access = credentials_->read_again();
        if (may_repeat(call, answer.error()) && reconnects < kReconnectsMax) {
          delay_ms = jittered(kReconnect_ms << reconnects++);
        }
      } else if (answer->status == 401 && !refused) {
        refused = true;  // once more, if there is something else to say
        const Access newer = credentials_->read_again();
        if (newer != access) delay_ms = 0;
        access = newer;
      } else if (answer->status == 429 || answer->status == 503) {
        delay_ms = asked_to_wait(*answer);
      }
      if (delay_ms && env_.mono_ms() + *delay_ms < due_ms) {
        count_retry(call, answer);
        if (wait_ms(call.stop, *delay_ms)) continue;
      }
      return finish(call, std::move(answer));
    }
  }

  static bool may_repeat(const Call& call, const Error& error) {
    const bool cut = error.errc == Errc::kUnavailable || error.errc == Errc::kTimeout;
    return cut && call.method == "GET" && call.silence_ms == 0;
  }

  Result<HttpResponse> once(const Call& call, const Access& access, int64_t left_ms) {
    HttpRequest request{.method = call.method, .url = config_.server + call.resource};
    request.headers = {{"Accept", call.accept}, {"User-Agent", field_manager_ + "/" TALLYGATE_VERSION}};
    if (!access.token.empty()) request.headers.emplace_back("Authorization", "Bearer " + access.token);
    if (!call.content_type.empty()) request.headers.emplace_back("Content-Type", call.content_type);
    request.headers.insert(request.headers.end(), call.headers.begin(), call.headers.end());
    request.body = call.body;
    request.timeout_ms = call.silence_ms > 0 ? call.silence_ms : left_ms;
    request.on_body = call.on_body;
    request.stop = call.stop;
    const int64_t began_ns = env_.mono_ns();
    request.on_head = [&](int status) {
      observe(call, static_cast<double>(env_.mono_ns() - began_ns) / 1e9);
      if (call.on_open && status == 200) call.on_open();
    };
    auto answer = access.http->send(request);
    count(call, answer ? std::to_string(answer->status) : "<error>");
    return answer;
  }

  Result<HttpResponse> finish(const Call& call, Result<HttpResponse> answer) const {
    if (!answer) return in_context(call, std::move(answer));
    if (answer->status >= 200 && answer->status < 300) return answer;
    const wire::Status status = wire::read_status(answer->status, answer->body);
    return fail(errc_of(call, status), shown(call) + std::to_string(status.code) + ": " + status.message);
  }

  int64_t jittered(int64_t ms) {
    return ms + static_cast<int64_t>(env_.random_below(static_cast<uint64_t>(ms) / 4 + 1));
  }

  // The server's Retry-After, in seconds; it never sends a date.
  std::optional<int64_t> asked_to_wait(const HttpResponse& answer) {
    const std::string_view text = answer.header("retry-after");
    int64_t seconds = -1;
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (fault != std::errc() || end != text.data() + text.size() || seconds < 0 || seconds > 3600) return std::nullopt;
    return jittered(std::max(seconds * 1000, kReconnect_ms));
  }

  void count(const Call& call, const std::string& code) {
    registry_
        .counter("rest_client_requests_total", "Requests to the API server.",
                 {{"code", code}, {"host", host_}, {"method", call.method}})
        .add();
  }
  void count_retry(const Call& call, const Result<HttpResponse>& answer) {
    registry_
        .counter(
            "rest_client_request_retries_total", "Requests to the API server that were sent again.",
            {{"code", answer ? std::to_string(answer->status) : "<error>"}, {"host", host_}, {"verb", call.method}})
        .add();
  }
  void observe(const Call& call, double seconds) {
    registry_
        .histogram("rest_client_request_duration_seconds", "From a request to the head of the API server's answer.",
                   kDurationBuckets, {{"host", host_}, {"verb", call.method}})
        .observe(seconds);
  }

  Env& env_;
  const Config config_;
  const std::unique_ptr<Credentials> credentials_;
  const std::string field_manager_;
  metrics::Registry& registry_;
  std::string host_;
};

}  // namespace

Result<std::unique_ptr<Client>> Client::create(Env& env, Config config, std::string field_manager,
                                               metrics::Registry& registry) {
  auto credentials = Credentials::open(env, config);
  if (!credentials) return tl::unexpected<Error>(credentials.error());
  return std::make_unique<HttpApiClient>(env, std::move(config), std::move(*credentials), std::move(field_manager),
                                         registry);
}

}  // namespace tallygate::kube
