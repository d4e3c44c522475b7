#include "core/telemetry/admin_server.h"

#include <gtest/gtest.h>

#include "core/telemetry/settings.h"
#include "tests/unit/core_http/raw_client.h"

namespace tallygate::telemetry {
namespace {

Settings on_port(uint16_t port) {
  Settings settings;
  settings.admin_listen = {"127.0.0.1", port};
  return settings;
}

TEST(AdminServer, AnswersProbesAndScrapes) {
  metrics::Registry registry;
  registry.counter("tallygate_sidecar_denied_total", "Denied.").add();
  Health health(system_env());
  std::atomic<bool> ready{false};
  health.add_readiness("policy",
                       [&] { return ready ? std::nullopt : std::optional<std::string>("none received yet"); });
  http::Router extra;
  extra.add("POST", "/drain", [](const http::Request&) { return http::text_response(202, "draining\n"); });
  auto server = AdminServer::start(on_port(0), registry, health, system_env(), std::move(extra));
  ASSERT_TRUE(server) << server.error().message;

  const auto get = [&](const std::string& head) {
    return http::RawClient((*server)->port()).exchange(head + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  };
  EXPECT_NE(get("GET /metrics").find("tallygate_sidecar_denied_total 1\n"), std::string::npos);
  EXPECT_NE(get("GET /metrics").find("Content-Type: text/plain; version=0.0.4"), std::string::npos);
  EXPECT_TRUE(get("GET /healthz").starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(get("GET /readyz").starts_with("HTTP/1.1 503 "));
  EXPECT_NE(get("GET /readyz").find("none received yet"), std::string::npos);
  ready = true;
  EXPECT_TRUE(get("GET /readyz").starts_with("HTTP/1.1 200 "));
  EXPECT_NE(get("GET /health").find(R"({"status":"ok","services":{},"uptime":0})"), std::string::npos);
  EXPECT_TRUE(get("POST /drain").starts_with("HTTP/1.1 202 "));
  (*server)->stop();
}

TEST(AdminServer, AnAddressInUseIsAnErrorThatNamesIt) {
  metrics::Registry registry;
  Health health(system_env());
  auto first = AdminServer::start(on_port(0), registry, health, system_env());
  ASSERT_TRUE(first);
  auto second = AdminServer::start(on_port((*first)->port()), registry, health, system_env());
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("127.0.0.1:" + std::to_string((*first)->port())), std::string::npos);
}

TEST(TelemetrySettings, AreReadFromFlags) {
  config::OptionSet options;
  Settings settings;
  declare(options, settings, ":9090");
  const std::vector<std::string> args = {"--log-level=debug", "--log-format", "json"};
  EXPECT_TRUE(options.parse(args, [](const std::string&) { return std::nullopt; }).empty());
  EXPECT_EQ(settings.log_level, log::Level::kDebug);
  EXPECT_EQ(settings.log_format, log::Format::kJson);
  EXPECT_EQ(settings.admin_listen.port, 9090);
}

}  // namespace
}  // namespace tallygate::telemetry
