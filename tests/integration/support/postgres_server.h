// A private PostgreSQL; the owner of its databases is no superuser, so row-level security binds it.
// PostgresServer::shared() is one per test binary, with a migrated template database, so that a database per test costs
// a few tens of milliseconds. Never fsyncs: not for measuring commits.
#pragma once

#include <memory>
#include <string>

#include "operator/ledger/session.h"
#include "tests/integration/support/child_process.h"

namespace tallygate::testing {

class PostgresServer {
 public:
  // With `durable` commits are flushed, as in production: for benchmarks.
  explicit PostgresServer(bool durable = false);
  ~PostgresServer();
  static PostgresServer& shared();

  // A new database; migrated unless told otherwise. The answer is its URL.
  std::string create_database(bool migrated = true);
  void stop();   // fast shutdown: connections are cut
  void kill();   // SIGKILL of the postmaster; returns when its children, too, have gone
  void start();  // on the same port and data
  pid_t pid() const { return process_.pid(); }
  // One statement as superuser, outside of transactions.
  void admin(const std::string& sql);

 private:
  std::string url(const std::string& database) const;
  bool durable_;
  std::string folder_;
  int port_ = 0;
  int databases_ = 0;
  bool has_template_ = false;
  ChildProcess process_;
};

}  // namespace tallygate::testing
