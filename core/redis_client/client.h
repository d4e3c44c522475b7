// A blocking facade over Connection for worker threads: turns a loop of its own until the reply is there or the
// deadline has passed. One thread at a time; reconnects by itself on the next call.
#pragma once

#include <memory>
#include <vector>

#include "core/redis_client/connection.h"

namespace tallygate::redis {

class Client {
 public:
  Client(Env& env, Endpoint endpoint, ConnectionOptions options = {});
  ~Client();

  Result<Reply> call(const Command& command);
  // As call(), with a deadline of its own: for blocking commands such as XREADGROUP … BLOCK.
  Result<Reply> call(const Command& command, int64_t timeout_ms);
  // One round trip; as many results as commands, in order.
  std::vector<Result<Reply>> pipeline(const std::vector<Command>& commands);
  Result<Reply> eval(const redis_contract::Script& script, std::vector<std::string> keys,
                     std::vector<std::string> args);
  // Several calls of one script in one round trip; as many results as calls.
  struct Eval {
    const redis_contract::Script* script;
    std::vector<std::string> keys, args;
  };
  std::vector<Result<Reply>> eval_all(std::vector<Eval> evals);
  bool connected() const;

  // An error reply of Redis as an Error (kInternal), with what to do about it; everything else unchanged.
  static Result<Reply> check(Result<Reply> result);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tallygate::redis
