// Files that change under a running API, and what it tells of its state.
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "core/base64.h"
#include "tests/integration/api/world.h"
#include "tests/unit/core_http/certificates.h"
#include "tests/unit/core_http/tls_client.h"

namespace tallygate::testing {
namespace {

namespace fs = std::filesystem;

bool soon(const std::function<bool()>& done) {
  for (int i = 0; i < 500; ++i) {
    if (done()) return true;
    system_env().sleep_ms(10);
  }
  return false;
}

void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::trunc) << text; }

std::string tokens_of(const std::string& entries) { return R"({"tokens":[)" + entries + "]}"; }
std::string acme_entry(const std::string& token) {
  return service_token("acme", token, R"("wallet:read","wallet:write")", R"("shop/acme")");
}

TEST(ApiReload, ServiceTokensChangeWithoutRestartAndAMalformedFileChangesNothing) {
  ApiWorld world;
  const std::string file = world.folder + "/tokens.json", fresh = "tgs_fresh_0123456789abcdef01234567";
  const auto status = [&](const std::string& token) { return world.send({.token = token}).status; };
  ASSERT_EQ(status(kAcmeToken), 200);
  ASSERT_EQ(status(fresh), 401);
  write(file, tokens_of(acme_entry(fresh)));
  ASSERT_TRUE(soon([&] { return status(fresh) == 200; }));
  EXPECT_EQ(status(kAcmeToken), 401) << "revoked";
  EXPECT_EQ(world.server->health().state, telemetry::ServiceState::kOk);
  EXPECT_EQ(world.metric("tallygate_operator_api_reloads_total{what=\"service_tokens\"}"), 1);

  const std::string gauge = "tallygate_operator_api_reload_failed{what=\"service_tokens\"}";
  write(file, tokens_of(service_token("UPPER", fresh, "", "") + "," + service_token("a", fresh, R"("root")", "")));
  ASSERT_TRUE(soon([&] { return world.metric(gauge) == 1; }));
  const auto health = world.server->health();
  EXPECT_EQ(health.state, telemetry::ServiceState::kDegraded);
  for (const char* told :
       {"tokens.json", "token 1: its name is no DNS label: use", "token 2: scope 1 is unknown: use"}) {
    EXPECT_NE(health.detail.find(told), std::string::npos) << health.detail;
  }
  EXPECT_EQ(world.server->not_ready(), std::nullopt) << "what was in force serves on";
  EXPECT_EQ(status(fresh), 200);
  fs::remove(file);
  ASSERT_TRUE(
      soon([&] { return world.metric("tallygate_operator_api_reload_failures_total{what=\"service_tokens\"}") == 2; }));
  EXPECT_EQ(status(fresh), 200);
  write(file, tokens_of(""));
  ASSERT_TRUE(soon([&] { return status(fresh) == 401; })) << "an empty list revokes all";
  EXPECT_EQ(world.metric(gauge), 0);
  EXPECT_EQ(world.server->health().state, telemetry::ServiceState::kOk);
}

// As Kubernetes mounts a Secret: files that are links through a folder that is swapped at once.
class Mount {
 public:
  explicit Mount(std::string folder) : folder_(std::move(folder)) { fs::create_directories(folder_); }
  void put(const std::map<std::string, std::string>& files) {
    const std::string data = "..data_" + std::to_string(++generation_);
    fs::create_directory(folder_ + "/" + data);
    for (const auto& [name, text] : files) {
      write(folder_ + "/" + data + "/" + name, text);
      if (!fs::is_symlink(folder_ + "/" + name)) fs::create_symlink("..data/" + name, folder_ + "/" + name);
    }
    fs::create_symlink(data, folder_ + "/..data_tmp");
    fs::rename(folder_ + "/..data_tmp", folder_ + "/..data");
    fs::remove_all(folder_ + "/..data_" + std::to_string(generation_ - 1));
  }
  std::string file(const std::string& name) const { return folder_ + "/" + name; }

 private:
  const std::string folder_;
  int generation_ = 0;
};

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

constexpr char kHeader[] = R"({"alg":"HS256","typ":"JWT"})";
std::string jwt(const std::string& secret, const std::string& header = kHeader) {
  return sign_hs256(header,
                    R"({"iss":"https://issuer.example/","aud":"tallygate","exp":)" +
                        std::to_string(system_env().wall_s() + 600) +
                        R"(,"scope":"tallygate:wallet:read","app_metadata":{"org_id":"ext-acme"}})",
                    secret);
}
std::string jwks(const std::string& secret, const std::string& kid) {
  return R"({"keys":[{"kty":"oct","kid":")" + kid + R"(","k":")" + base64url_encode(secret) + R"("}]})";
}

TEST(ApiReload, KeysOfJwtsRotateThroughALinkedMount) {
  const std::string first(40, '1'), second(40, '2'), folder = make_temporary_folder();
  Mount mount(folder);
  mount.put({{"jwks.json", jwks(first, "one")}});
  ApiWorld world({.prepare = [&](ApiWorld& w) {
    w.settings.jwt_secret.clear();
    w.settings.jwks_file = mount.file("jwks.json");
  }});
  const auto status = [&](const std::string& token) { return world.send({.token = token}).status; };
  ASSERT_EQ(status(jwt(first)), 200);
  mount.put({{"jwks.json", jwks(second, "two")}});
  ASSERT_TRUE(soon([&] { return status(jwt(second)) == 200; }));
  EXPECT_EQ(status(jwt(first)), 401);
  mount.put({{"jwks.json", R"({"keys":[{"kty":"oct","k":"AA"},{"kty":"RSA","n":"AQAB","e":"AQAB"}]})"}});
  ASSERT_TRUE(soon([&] { return world.server->health().state == telemetry::ServiceState::kDegraded; }));
  const std::string detail = world.server->health().detail;
  EXPECT_NE(detail.find("key 1: a secret must have"), std::string::npos) << detail;
  EXPECT_NE(detail.find("key 2: an RSA key must have"), std::string::npos) << detail;
  EXPECT_EQ(status(jwt(second)), 200);
  fs::remove_all(folder);
}

int status_of(http::TlsClient& client) { return parse_answer(client.ask(request_text({.token = kAcmeToken}))).status; }

TEST(ApiReload, TheTlsPairIsReplacedUnderOpenConnectionsAndABrokenOneIsNot) {
  const http::TestCertificates first(::testing::TempDir()), second(::testing::TempDir()), third(::testing::TempDir());
  const std::string folder = make_temporary_folder();
  Mount mount(folder);
  const auto put = [&](const http::TestCertificates& certificate, const http::TestCertificates& key) {
    mount.put({{"tls.crt", text_of(certificate.certificate_file())}, {"tls.key", text_of(key.key_file())}});
  };
  put(first, first);
  ApiWorld world({.prepare = [&](ApiWorld& w) {
    w.settings.tls_certificate_file = mount.file("tls.crt");
    w.settings.tls_key_file = mount.file("tls.key");
  }});
  const uint16_t port = world.server->port();
  http::TlsClient open(port, first.ca_file());
  ASSERT_TRUE(open.connected());
  EXPECT_EQ(status_of(open), 200);
  EXPECT_FALSE(http::TlsClient(port, second.ca_file()).connected());

  put(second, second);
  ASSERT_TRUE(soon([&] { return http::TlsClient(port, second.ca_file()).connected(); }));
  EXPECT_FALSE(http::TlsClient(port, first.ca_file()).connected());
  EXPECT_EQ(status_of(open), 200) << "it goes on with what it began with";

  put(third, first);  // a key that does not belong to it
  const std::string gauge = "tallygate_operator_api_reload_failed{what=\"tls\"}";
  ASSERT_TRUE(soon([&] { return world.metric(gauge) == 1; }));
  EXPECT_TRUE(http::TlsClient(port, second.ca_file()).connected());
  EXPECT_EQ(world.server->health().state, telemetry::ServiceState::kDegraded);
  EXPECT_NE(world.server->health().detail.find("tls.key"), std::string::npos) << world.server->health().detail;
  put(third, third);
  ASSERT_TRUE(soon([&] { return http::TlsClient(port, third.ca_file()).connected(); }));
  EXPECT_EQ(world.metric(gauge), 0);
  EXPECT_EQ(status_of(open), 200);
  fs::remove_all(folder);
}

// Requests all the time while the credentials are swapped: each is judged by one file or by the other.
TEST(ApiReload, IsSeenWholeByRequestsUnderWay) {
  ApiWorld world;
  const std::string file = world.folder + "/tokens.json", other = "tgs_other_0123456789abcdef01234567";
  std::atomic<bool> stop = false;
  std::atomic<int> served = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&] {
      ApiClient client(world.server->port());
      while (!stop) {
        const int mine = client.send({.token = kAcmeToken}).status, others = client.send({.token = other}).status;
        EXPECT_TRUE(mine == 200 || mine == 401);
        EXPECT_TRUE(others == 200 || others == 401);
        ++served;
      }
    });
  }
  for (int i = 0; i < 4; ++i) {
    write(file, tokens_of(acme_entry(i % 2 == 0 ? other : kAcmeToken)));
    ASSERT_TRUE(
        soon([&] { return world.metric("tallygate_operator_api_reloads_total{what=\"service_tokens\"}") >= i + 1; }));
  }
  stop = true;
  for (auto& client : clients) client.join();
  EXPECT_GT(served, 0);
  EXPECT_EQ(world.send({.token = kAcmeToken}).status, 200);
  EXPECT_EQ(world.send({.token = other}).status, 401);
}

TEST(ApiReadiness, NeedsManifestsAndTheDatabase) {
  PostgresServer postgres;
  ApiWorld world({.postgres = &postgres, .offer = false});
  world.credit("shop/acme", 5'000'000);
  EXPECT_NE(world.server->not_ready(), std::nullopt);
  for (const std::string& token : {kAcmeToken, jwt(kJwtSecret)}) {
    const Answer early = world.send({.token = token});
    EXPECT_EQ(early.status, 503) << early.body;
    EXPECT_EQ(early.member("reason"), "NotReady");
    EXPECT_NE(early.head.find("Retry-After: 1"), std::string::npos);
  }
  EXPECT_EQ(world.send({.token = "tgs_nobody_0123456789abcdef0123456789"}).status, 401);
  world.server->offer(sample_manifests(system_env().wall_s()));
  ASSERT_TRUE(soon([&] { return !world.server->not_ready(); })) << *world.server->not_ready();
  EXPECT_EQ(world.get("/v1/wallet").status, 200);

  postgres.stop();
  ASSERT_TRUE(soon([&] { return world.server->not_ready().has_value(); }));
  const Answer away = world.get("/v1/wallet");
  EXPECT_EQ(away.status, 503);
  EXPECT_EQ(away.member("reason"), "Unavailable");
  EXPECT_EQ(world.server->health().state, telemetry::ServiceState::kDegraded);
  postgres.start();
  world.session.close();
  ASSERT_TRUE(soon([&] { return !world.server->not_ready(); }));
}

// A request that waits for a lock is under way while readiness is gone, and ends well.
TEST(ApiReadiness, GoesBeforeTheRequestsUnderWayEnd) {
  ApiWorld world;
  world.credit("shop/acme", 5'000'000);
  ledger::Session holder(world.url);
  std::thread stopping;
  ApiClient client(world.server->port());
  ASSERT_TRUE(holder.transact([&](ledger::Transaction& transaction) -> Result<void> {
    (void)transaction.exec("select 1 from wallets where tenant = 'shop/acme' for update");
    client.start(
        {.method = "POST", .path = "/v1/deductions", .body = R"({"amount":"1"})", .token = kAcmeToken, .key = "k"});
    EXPECT_TRUE(soon([&] {
      return world.number(
                 "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = "
                 "'Lock'") == 1;
    }));
    stopping = std::thread([&] { world.server->stop(); });
    EXPECT_TRUE(soon([&] { return world.server->not_ready() == "it is stopping"; }));
    EXPECT_TRUE(soon([&] { return !http::RawClient(world.server->port()).connected(); })) << "nobody new";
    return {};
  }));
  EXPECT_EQ(client.finish().status, 201);
  stopping.join();
}

}  // namespace
}  // namespace tallygate::testing
