#include "operator/admission/webhook.h"

#include <algorithm>

#include "core/telemetry/log.h"
#include "operator/admission/choose.h"
#include "operator/admission/pod.h"
#include "operator/admission/validate.h"

namespace tallygate::admission {
namespace {

// Of an object that etcd takes, before and after, with room for escapes.
constexpr size_t kBodyBytesMax = 8 * 1024 * 1024;
constexpr int kWorkers = 4;

bool creates(const Review& review) { return review.operation == "CREATE" && review.sub_resource.empty(); }

PodReview pod_review(const Review& review, const NamespaceView& view) {
  return {review.object, review.name_space, view.labels, view.annotations, view.policies, false};
}

Answer refuse(std::string message) {
  Answer answer;
  answer.allowed = false;
  answer.message = std::move(message);
  return answer;
}

std::string name_of(const Json& pod) {
  const std::string name = text_at(pod, "/metadata/name");
  return name.empty() ? text_at(pod, "/metadata/generateName") : name;
}

}  // namespace

Webhook::Webhook(Env& env, config::ListenAddress listen, ClusterView& cluster, InjectorSettings settings,
                 metrics::Registry& registry)
    : env_(env), address_(std::move(listen)), cluster_(cluster), settings_(std::move(settings)) {
  const auto declare = [&registry](const std::string& path) {
    const auto counter = [&](const char* result) {
      return registry.counter("tallygate_operator_webhook_requests_total", "Reviews that the API server asked for.",
                              {{"path", path}, {"result", result}});
    };
    return Metrics{counter("allowed"), counter("patched"), counter("refused"), counter("unreadable"),
                   registry.histogram("tallygate_operator_webhook_seconds", "Time to answer a review.",
                                      metrics::latency_buckets(), {{"path", path}})};
  };
  validate_ = declare("/validate");
  inject_ = declare("/inject");
  injected_ = declare("/injected");
}

Webhook::~Webhook() { stop(0); }

void Webhook::stop(int64_t grace_ms) {
  listens_ = false;
  if (server_) server_->drain(grace_ms);
}

Result<void> Webhook::use(const std::string& certificate, const std::string& key) {
  if (auto written = certificate_.write(certificate); !written) return written;
  if (auto written = key_.write(key); !written) return written;
  return server_ ? server_->reload_tls() : listen();
}

Result<void> Webhook::listen() {
  http::Router router;
  const auto add = [&](const char* path, const Metrics& metrics, Answer (Webhook::*answer)(const Review&)) {
    router.add("POST", path, [this, &metrics, answer](const http::Request& r) { return serve(r, metrics, answer); });
  };
  add("/validate", validate_, &Webhook::validate_object);
  add("/inject", inject_, &Webhook::inject_pod);
  add("/injected", injected_, &Webhook::check_pod);
  http::ServerOptions options;
  options.host = address_.host;
  options.port = address_.port;
  options.tls = {certificate_.path(), key_.path()};
  options.worker_threads = kWorkers;
  options.body_bytes_max = kBodyBytesMax;
  auto server = http::Server::start(std::move(options), std::move(router), env_);
  if (!server) return tl::unexpected(server.error());
  server_ = std::move(*server);
  listens_ = true;
  log::info("the webhook listens", {{"address", server_->address()}});
  return {};
}

http::Response Webhook::serve(const http::Request& request, const Metrics& metrics,
                              Answer (Webhook::*answer)(const Review&)) {
  const int64_t began_ns = env_.mono_ns();
  const auto review = parse_review(request.body);
  if (!review) {
    metrics.unreadable.add();
    return http::text_response(400, review.error().message + "\n");
  }
  Answer given;
  try {
    given = (this->*answer)(*review);
  } catch (const std::exception& e) {  // JSON of other types than the API server's schema has
    given = refuse(std::string("the object cannot be read: ") + e.what());
  }
  (given.allowed ? given.patch.empty() ? metrics.allowed : metrics.patched : metrics.refused).add();
  metrics.seconds.observe(static_cast<double>(env_.mono_ns() - began_ns) / 1e9);
  if (!given.allowed) {
    static log::Throttle throttle(1);
    log::info(throttle, "refused at admission",
              {{"path", request.path},
               {"namespace", review->name_space},
               {"name", name_of(review->object)},
               {"why", given.message}});
  }
  return http::json_response(200, to_text(review->uid, given));
}

Answer Webhook::validate_object(const Review& review) { return validate(review); }

// What is known here, unless that says that there is nothing to do or no policy: then as it is now.
Result<NamespaceView> Webhook::look_at(const Review& review) {
  NamespaceView view = cluster_.known(review.name_space);
  const Choice choice = choose_policy(pod_review(review, view));
  if (choice.wanted && choice.known != nullptr) return view;
  return cluster_.fresh(review.name_space);
}

Answer Webhook::inject_pod(const Review& review) {
  if (!creates(review)) return {};
  const auto view = look_at(review);
  if (!view) return refuse("it cannot be told whether the pod is to have a sidecar: " + view.error().message);
  Json pod;
  PodReview reviewed = pod_review(review, *view);
  const auto& keyed = settings_.keyed_namespaces;
  if (std::find(keyed.begin(), keyed.end(), review.name_space) != keyed.end() && choose_policy(reviewed).wanted) {
    reviewed.foreign_secret = cluster_.has_foreign_secret(review.name_space, settings_.credentials);
  }
  Injection made = inject(reviewed, settings_, &pod);
  if (made.outcome == Injection::Outcome::kRefused) return refuse(std::move(made.refusal));
  Answer answer;
  answer.warnings = std::move(made.warnings);
  if (made.outcome == Injection::Outcome::kInjected) answer.patch = Json::diff(review.object, pod);
  return answer;
}

Answer Webhook::check_pod(const Review& review) {
  if (!creates(review)) return {};
  const auto view = look_at(review);
  if (!view) return refuse("it cannot be told whether the pod is to have a sidecar: " + view.error().message);
  std::string missing = find_tampering(pod_review(review, *view), settings_);
  return missing.empty() ? Answer() : refuse(std::move(missing));
}

}  // namespace tallygate::admission
