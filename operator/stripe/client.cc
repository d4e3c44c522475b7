#include "operator/stripe/client.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "core/percent.h"
#include "operator/http_client/http_client.h"
#include "operator/stripe/version.h"

namespace tallygate::stripe {
namespace {

constexpr size_t kWordsMax = 300;
constexpr int64_t kPauseSlice_ms = 50;
constexpr int64_t kRetryAfterMax_s = 60;

void read_error(Reply& reply) {
  const auto json = nlohmann::json::parse(reply.body, nullptr, false);
  if (!json.is_object() || !json.contains("error") || !json["error"].is_object()) return;
  const auto text = [&](const char* name) {
    const auto it = json["error"].find(name);
    return it != json["error"].end() && it->is_string() ? it->get<std::string>().substr(0, kWordsMax) : std::string();
  };
  reply.code = text("code");
  reply.message = text("message");
}

int64_t retry_after_ms(std::string_view value) {
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (error != std::errc{} || end != value.data() + value.size() || seconds < 0) return 0;
  return std::min(seconds, kRetryAfterMax_s) * 1000;
}

bool is_to_be_repeated(const HttpResponse& response) {
  const std::string_view said = response.header("stripe-should-retry");
  if (said == "true") return true;
  if (said == "false") return false;
  return response.status == 409 || response.status == 429 || response.status >= 500;
}

std::string told(const Reply& reply) {
  std::string text = "Stripe answers " + std::to_string(reply.status);
  for (const std::string& part : {reply.code, reply.message}) {
    if (!part.empty()) text += ": " + part;
  }
  return text;
}

}  // namespace

std::string encode(const Form& form) {
  std::string text;
  for (const auto& [name, value] : form) {
    if (!text.empty()) text += '&';
    text += percent_encode(name) + '=' + percent_encode(value);
  }
  return text;
}

Client::Client(Env& env, HttpClient& http, ClientOptions options, metrics::Registry& registry)
    : env_(env),
      http_(http),
      options_(std::move(options)),
      rate_(env, options_.calls_per_second, options_.calls_per_second) {
  const auto counter = [&](const char* result) {
    return registry.counter("tallygate_operator_stripe_api_calls_total", "Calls of Stripe's API for payments.",
                            {{"result", result}});
  };
  answered_ = counter("answered");
  refused_ = counter("refused");
  failed_ = counter("failed");
  seconds_ = registry.histogram("tallygate_operator_stripe_api_call_seconds", "Time of one call for payments.",
                                {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30});
}

Result<Reply> Client::get(const std::string& path, int64_t until_ms) {
  HttpRequest request;
  request.url = options_.api_base + path;
  return send(std::move(request), until_ms);
}

Result<Reply> Client::post(const std::string& path, const Form& form, const std::string& idempotency_key,
                           int64_t until_ms) {
  HttpRequest request;
  request.method = "POST";
  request.url = options_.api_base + path;
  request.headers = {{"Idempotency-Key", idempotency_key}, {"Content-Type", "application/x-www-form-urlencoded"}};
  request.body = encode(form);
  return send(std::move(request), until_ms);
}

Result<Reply> Client::send(HttpRequest request, int64_t until_ms) {
  request.headers.emplace_back("Authorization", "Bearer " + options_.api_key);
  request.headers.emplace_back("Stripe-Version", kApiVersion);
  request.headers.emplace_back("Accept", "application/json");
  request.headers.emplace_back("User-Agent", "tallygate/" TALLYGATE_VERSION);
  request.stop = stop_.get_token();
  for (int number = 1;; ++number) {
    bool again = false;
    int64_t wait_ms = 0;
    auto reply = attempt(request, until_ms, again, wait_ms);
    if (!again || number == options_.attempts_max) return reply;
    const int64_t spread = options_.retry_base_ms << number;
    wait_ms += spread / 2 + static_cast<int64_t>(env_.random_below(static_cast<uint64_t>(spread)));
    if (!pause(wait_ms, until_ms)) return reply;
  }
}

Result<Reply> Client::attempt(HttpRequest& request, int64_t until_ms, bool& again, int64_t& wait_ms) {
  if (!take_turn(until_ms)) return fail(Errc::kUnavailable, "no time is left for a call of Stripe");
  const int64_t began_ms = env_.mono_ms();
  request.timeout_ms = std::clamp<int64_t>(until_ms - began_ms, 1, options_.timeout_ms);
  auto response = http_.send(request);
  seconds_.observe(static_cast<double>(env_.mono_ms() - began_ms) / 1000);
  if (!response) {
    failed_.add();
    again = !stop_.stop_requested();
    const bool unknown = response.error().errc == Errc::kTimeout || response.error().errc == Errc::kExhausted;
    return fail(unknown ? Errc::kTimeout : Errc::kUnavailable, "Stripe: " + response.error().message);
  }
  Reply reply{response->status, std::move(response->body), "", ""};
  if (reply.ok()) {
    answered_.add();
    return reply;
  }
  read_error(reply);
  again = is_to_be_repeated(*response);
  // Redirects and refused keys are the deployment's fault, not the request's. That it is not to be repeated as it is says nothing of
  // whether it was done, or would be later.
  const bool ours = reply.status < 400 || reply.status == 401 || reply.status == 403 || reply.status == 409 ||
                    reply.status == 429 || reply.status >= 500;
  if (!again && !ours) {
    refused_.add();
    return reply;
  }
  failed_.add();
  wait_ms = retry_after_ms(response->header("retry-after"));
  return fail(reply.status >= 500 ? Errc::kInternal : Errc::kUnavailable, told(reply));
}

bool Client::take_turn(int64_t until_ms) {
  while (true) {
    int64_t wait_ms = 0;
    {
      const std::lock_guard lock(mutex_);
      wait_ms = rate_.take();
    }
    if (wait_ms == 0) return env_.mono_ms() < until_ms;
    if (!pause(wait_ms, until_ms)) return false;
  }
}

// False where that would be too late, or calls are to end.
bool Client::pause(int64_t ms, int64_t until_ms) {
  const int64_t end_ms = env_.mono_ms() + ms;
  if (end_ms >= until_ms) return false;
  while (env_.mono_ms() < end_ms) {
    if (stop_.stop_requested()) return false;
    env_.sleep_ms(std::min(kPauseSlice_ms, end_ms - env_.mono_ms()));
  }
  return !stop_.stop_requested();
}

}  // namespace tallygate::stripe
