#include "sidecar/probes/check.h"

#include <strings.h>

#include <charconv>

#include "sidecar/probes/app_socket.h"
#include "sidecar/probes/grpc_health.h"

namespace tallygate::sidecar {
namespace {

constexpr size_t kAnswerMax = 10 * 1024;  // of an answer's beginning; more is not waited for
constexpr int64_t kRestNs = 100'000'000;  // for the rest of an answer whose status is known

std::string head(const AppProbe& probe, const std::string& host, const std::string& agent) {
  bool has_host = false;
  std::string fields;
  for (const auto& [name, value] : probe.headers) {
    has_host = has_host || strcasecmp(name.c_str(), "host") == 0;
    fields += name + ": " + value + "\r\n";
  }
  if (!has_host) fields = "Host: " + host + "\r\n" + fields;
  const std::string who = agent.empty() ? "kube-probe" : agent;
  return "GET " + probe.path + " HTTP/1.1\r\n" + fields + "User-Agent: " + who +
         "\r\nAccept: */*\r\nConnection: close\r\n\r\n";
}

// 0: not there yet.
Result<int> status_of(const std::string& answer) {
  if (answer.size() < 12) return 0;
  int status = 0;
  const auto [end, error] = std::from_chars(answer.data() + 9, answer.data() + 12, status);
  if (!answer.starts_with("HTTP/1.") || answer[8] != ' ' || error != std::errc() || end != answer.data() + 12) {
    return fail(Errc::kInvalid, "the app does not answer in HTTP/1.1");
  }
  return status;
}

Result<void> check_http(Env& env, const AppProbe& probe, AppSocket& app, const std::string& agent) {
  if (auto sent = app.write(head(probe, app.address(), agent)); !sent) return sent;
  std::string answer;
  Result<int> status = 0;
  while (status && *status == 0) {
    const size_t before = answer.size();
    if (auto got = app.read(&answer); !got) return got;
    if (answer.size() == before) return fail(Errc::kUnavailable, "the app closed the connection without an answer");
    status = status_of(answer);
  }
  if (!status) return tl::unexpected(status.error());
  // Closed amid its answer, an app may log a fault of its own. One that keeps the connection open is not waited for.
  app.give_up_at(env.mono_ns() + kRestNs);
  for (size_t before = 0; answer.size() < kAnswerMax && before != answer.size();) {
    before = answer.size();
    if (!app.read(&answer)) break;
  }
  if (*status >= 200 && *status < 400) return {};
  return fail(Errc::kUnavailable, "the app answers with status " + std::to_string(*status));
}

Result<void> check_grpc(const AppProbe& probe, AppSocket& app) {
  if (auto sent = app.write(GrpcHealthCall::request(app.address(), probe.service)); !sent) return sent;
  GrpcHealthCall call;
  for (;;) {
    std::string got;
    if (auto read = app.read(&got); !read) return read;
    if (got.empty()) return fail(Errc::kUnavailable, "the app closed the connection without an answer");
    const auto answer = call.take(got);
    if (!answer) return tl::unexpected(answer.error());
    if (*answer) return **answer ? Result<void>() : fail(Errc::kUnavailable, "the app says that it is not serving");
    if (auto sent = app.write(call.replies()); !sent) return sent;
  }
}

}  // namespace

Result<void> check_app(Env& env, const AppProbe& probe, const std::string& upstream, const std::string& agent) {
  const int64_t deadline_ns = env.mono_ns() + probe.timeout_ms * 1'000'000;
  auto app = AppSocket::connect(env, upstream, deadline_ns);
  if (!app) return tl::unexpected(app.error());
  switch (probe.type) {
    case AppProbe::Type::kHttp:
      return check_http(env, probe, *app, agent);
    case AppProbe::Type::kGrpc:
      return check_grpc(probe, *app);
    case AppProbe::Type::kTcp:
      break;
  }
  return {};
}

}  // namespace tallygate::sidecar
