// The API on a real PostgreSQL: three tenants with wallets, a service token for each use, keys for JWTs, a client.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "operator/api/api_server.h"
#include "operator/ledger/tenant_store.h"
#include "operator/http_client/http_client.h"
#include "operator/stripe/payments.h"
#include "tests/integration/support/postgres_server.h"
#include "tests/unit/core_http/raw_client.h"

namespace tallygate::testing {

struct Answer {
  int status = 0;
  std::string head, body;
  // A member's raw text, wherever it is in the body: "12.50", true, 7. Empty: there is none.
  std::string member(const std::string& name) const;
  bool replayed() const { return head.find("Idempotent-Replayed: true") != std::string::npos; }
};

struct Ask {
  std::string method = "GET", path = "/v1/wallet", body = "";
  std::string token = "", key = "", tenant = "";
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};
};
std::string request_text(const Ask& ask);
Answer parse_answer(const std::string& response);

// One keep-alive connection.
class ApiClient {
 public:
  explicit ApiClient(uint16_t port) : socket_(port) {}
  Answer send(const Ask& ask) {
    socket_.send(request_text(ask));
    return parse_answer(socket_.read_response());
  }
  // Without waiting for the answer.
  void start(const Ask& ask) { socket_.send(request_text(ask)); }
  Answer finish() { return parse_answer(socket_.read_response()); }

 private:
  http::RawClient socket_;
};

inline const std::string kAcmeToken = "tgs_acme_0123456789abcdef0123456789";
inline const std::string kReadToken = "tgs_read_0123456789abcdef0123456789";
inline const std::string kGlobexToken = "tgs_globex_0123456789abcdef01234567";
inline const std::string kAdminToken = "tgs_admin_0123456789abcdef0123456789";
inline const std::string kLeaseToken = "tgs_lease_0123456789abcdef0123456789";
inline constexpr char kJwtSecret[] = "a secret of tests that is long enough for HS256";
inline constexpr char kIssuer[] = "https://issuer.example/";
inline constexpr char kAudience[] = "tallygate";

// A signed HS256 token of header and payload as given.
std::string sign_hs256(const std::string& header, const std::string& payload, const std::string& secret = kJwtSecret);

std::shared_ptr<const plan::Compiled> sample_manifests(int64_t now_s);

class ApiWorld {
 public:
  struct Options {
    std::string url = "";                              // of a database that is there; empty: a new one
    PostgresServer* postgres = nullptr;                // null: the shared one
    std::string providers = "";                        // a providers file's text; FOLDER in it stands for `folder`
    std::function<void(ApiWorld&)> prepare = nullptr;  // before the server is made: settings, files
    std::optional<redis::Endpoint> redis = std::nullopt;
    bool offer = true;  // the manifests
    std::optional<stripe::PaymentSettings> payments = std::nullopt;  // none: Stripe is disabled
    std::string stripe_base = "http://127.0.0.1:9";
  };
  ApiWorld() : ApiWorld(Options{}) {}
  explicit ApiWorld(Options options);
  explicit ApiWorld(const std::string& providers, const std::function<void(ApiWorld&)>& prepare = nullptr)
      : ApiWorld(Options{.providers = providers, .prepare = prepare}) {}
  ~ApiWorld();
  Answer send(const Ask& ask) { return ApiClient(server->port()).send(ask); }
  // As shop/acme.
  Answer get(const std::string& path) { return send({.path = path, .token = kAcmeToken}); }
  Answer post(const std::string& path, const std::string& body, const std::string& key = "") {
    return send({.method = "POST", .path = path, .body = body, .token = kAcmeToken, .key = key});
  }
  // Adds credit, in micros, to GBP.
  void credit(const std::string& tenant, int64_t micros);
  int64_t number(const std::string& sql);

  // Of the server's metrics; 0 where there is none.
  double metric(const std::string& name) const { return metric_of(*registry, name); }
  static double metric_of(const metrics::Registry& registry, const std::string& name);

  std::string url, folder;
  std::string api_url;  // where the API finds the database
  ledger::Session session;
  api::ApiSettings settings;
  std::unique_ptr<metrics::Registry> registry;
  std::unique_ptr<HttpClient> stripe_http;
  std::unique_ptr<stripe::Client> stripe_client;
  std::unique_ptr<stripe::Payments> payments;
  std::unique_ptr<api::ApiServer> server;

 private:
  int credits_ = 0;
};

// An entry of the file of service tokens; scopes and tenants are lists of JSON strings.
std::string service_token(const std::string& name, const std::string& token, const std::string& scopes,
                          const std::string& tenants);
std::string write_service_tokens(const std::string& folder);
void publish_tenants(ledger::Session& session, const plan::Compiled& compiled);

}  // namespace tallygate::testing
