// A pooler in front of a database of the tests' PostgreSQL, on a port of its own.
#pragma once

#include <string>

#include "tests/integration/support/child_process.h"

namespace tallygate::testing {

class PgBouncer {
 public:
  // `database_url`: as PostgresServer::create_database() answers it. `mode`: session or transaction. `round_robin`:
  // gives out the server's session that was idle longest, in place of the last one. `sessions`: of the server, at most.
  PgBouncer(const std::string& database_url, const std::string& mode, bool round_robin = false, int sessions = 20);
  ~PgBouncer();
  // The same database through the pooler.
  const std::string& url() const { return url_; }

 private:
  std::string folder_, url_;
  ChildProcess process_;
};

}  // namespace tallygate::testing
