#include "operator/ledger/settings.h"

#include <libpq-fe.h>

#include <algorithm>
#include <map>
#include <memory>

namespace tallygate::ledger {
namespace {

using Parameters = std::map<std::string, std::string>;
struct Free {
  void operator()(PQconninfoOption* options) const { PQconninfoFree(options); }
};
using Owned = std::unique_ptr<PQconninfoOption, Free>;

void take(const PQconninfoOption* options, Parameters& into) {
  for (; options != nullptr && options->keyword != nullptr; ++options) {
    if (options->val != nullptr && *options->val != 0) into[options->keyword] = options->val;
  }
}

bool stays_here(std::string_view host) {
  return host.empty() || host.front() == '/' || host.front() == '@' || config::is_loopback(std::string(host));
}

}  // namespace

Transport transport_of(const std::string& url) {
  Parameters parameters;
  char* complaint = nullptr;  // may quote the password
  const Owned defaults(PQconndefaults()), given(PQconninfoParse(url.c_str(), &complaint));
  if (complaint != nullptr) PQfreemem(complaint);
  if (!given) return Transport::kPlain;
  take(defaults.get(), parameters);
  take(given.get(), parameters);
  // An address is dialled in place of the name beside it.
  const std::string& hosts = parameters.count("hostaddr") != 0 ? parameters["hostaddr"] : parameters["host"];
  const auto all = config::split_items(hosts, ',');
  if (std::all_of(all.begin(), all.end(), stays_here)) return Transport::kLocal;
  const std::string& mode = parameters["sslmode"];
  if (mode == "verify-full") return Transport::kVerified;
  return mode == "require" || mode == "verify-ca" ? Transport::kEncrypted : Transport::kPlain;
}

std::optional<config::Refusal> check_transport(const std::string& url, bool insecure) {
  if (insecure || transport_of(url) != Transport::kPlain) return std::nullopt;
  return config::Refusal{"passwords and money would go over the network in plain text, or to whoever answers",
                         "add ?sslmode=verify-full (and sslrootcert=FILE), or say --database-insecure where only "
                         "machines that you trust are on the way"};
}

std::string transport_warning(const std::string& url) {
  switch (transport_of(url)) {
    case Transport::kPlain:
      return "the database is spoken to in plain text";
    case Transport::kEncrypted:
      return "the database's certificate is not checked against its name: sslmode=verify-full does";
    case Transport::kLocal:
    case Transport::kVerified:
      break;
  }
  return "";
}

void declare_database(config::OptionSet& options, DatabaseSettings& target) {
  options.add("database-url", &target.url, config::url({"postgresql", "postgres"}))
      .env()
      .required()
      .help(
          "the ledger: postgresql://[user@]host[:port]/database?sslmode=verify-full; a password goes into the "
          "environment or a file. Of its connections `run` needs 2, and 6 for the pipeline, 1 for Stripe, 3 for the "
          "controller, 1 in a cluster, --stripe-webhook-workers and 2, and --api-connections");
  options.add("database-insecure", &target.insecure, config::boolean())
      .env()
      .fallback("false")
      .help("speak to the database in plain text off this machine too");
  options.check("database-url", [&target] { return check_transport(target.url.text, target.insecure); });
}

}  // namespace tallygate::ledger
