// A connection to PostgreSQL on which each call ends within its time, whatever the server and the network do (but for
// the name server: a host's name is looked up in the time that resolv.conf gives it, an address in none): for who
// must notice that they are silent. (Session waits as long as the connection seems to live, and one that a proxy or a
// stopped server keeps open does so for ever.) Made on first use, and anew after any failure.
//
// Errors: kUnavailable, for whatever went wrong: nobody knows whether the statement took effect. Threading: one thread
// at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/env.h"
#include "core/result.h"

struct pg_conn;

namespace tallygate::ledger {

class BoundedConnection {
 public:
  // `setup`: statements that run on each new connection, before anything else.
  BoundedConnection(Env& env, const std::string& url, std::string setup);
  ~BoundedConnection();

  // One statement, begun and committed by the server: its first row, in text form; empty where it has none.
  Result<std::vector<std::string>> row(const std::string& sql, const std::vector<std::string>& params,
                                       int64_t within_ms);
  bool connected() const { return connection_ != nullptr; }

 private:
  struct Close {
    void operator()(pg_conn* connection) const;
  };
  Result<void> connect(int64_t until_ms);
  Result<std::vector<std::string>> ask(const std::string& sql, const std::vector<std::string>& params,
                                       int64_t until_ms);
  Result<void> wait(short events, int64_t until_ms);
  std::string last_error() const;

  Env& env_;
  const std::string url_, setup_;
  std::unique_ptr<pg_conn, Close> connection_;
};

}  // namespace tallygate::ledger
