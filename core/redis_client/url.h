// redis://[user[:password]@]host[:port][/db], rediss:// for TLS, unix:///path[?db=N].
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace tallygate::redis {

struct Endpoint {
  bool tls = false;
  std::string host;  // empty for a Unix socket
  int port = 6379;
  std::string unix_path;
  std::string user;      // empty: the default user
  std::string password;  // never logged
  int db = 0;
  std::string ca_file;  // TLS: empty for the system's trust store
  // TLS: our certificate with its chain, and its key; empty: none. Read for each new connection.
  std::string certificate_file, key_file;
  std::string scheme;   // for people, of an endpoint that is no Redis; empty: redis or rediss

  std::string display() const;  // without credentials
  // Whether whoever is on the way to it reads what is said, passwords too.
  bool is_plain_off_this_machine() const;
};

inline constexpr const char* kPlainProblem =
    "passwords, and the quotas that are spent, would go over the network in plain text";
inline constexpr const char* kPlainFix =
    "write rediss://, or say --redis-insecure where only machines that you trust are on the way";

Result<Endpoint> parse_url(std::string_view url);

}  // namespace tallygate::redis
