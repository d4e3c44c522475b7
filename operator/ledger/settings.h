// Where the ledger is, for every command that asks it, and how it may be spoken to.
#pragma once

#include <string>

#include "core/config/options.h"

namespace tallygate::ledger {

// How what is said to a database travels.
enum class Transport : uint8_t {
  kLocal,      // it does not leave this machine
  kPlain,      // anybody on the way reads it; that is what `prefer` and no sslmode come to
  kEncrypted,  // by whoever answered: it is not known who that is
  kVerified
};
// By the URL and by what libpq adds to it (PGHOST, PGSSLMODE, a service file). Of several hosts the worst.
Transport transport_of(const std::string& url);

struct DatabaseSettings {
  config::Url url;
  bool insecure = false;  // plain text off this machine is meant
};
// --database-url and --database-insecure. `target` outlives the parse.
void declare_database(config::OptionSet& options, DatabaseSettings& target);
// The rule of declare_database(), for another option's URL.
std::optional<config::Refusal> check_transport(const std::string& url, bool insecure);
// Nothing, or a line for the log about a connection that is not verified.
std::string transport_warning(const std::string& url);

}  // namespace tallygate::ledger
