#include "core/redis_client/client.h"

#include "core/redis_client/advice.h"

namespace tallygate::redis {

struct Client::State {
  State(Env& env, Endpoint endpoint, ConnectionOptions options)
      : options(options), loop(env), connection(loop, std::move(endpoint), options) {}

  bool wait_connected() {
    connection.start();
    loop.refresh_now();
    const int64_t until_ms = loop.env().mono_ms() + options.connect_timeout_ms;
    while (!connection.connected() && loop.env().mono_ms() < until_ms) loop.run_once(20);
    return connection.connected();
  }

  // Issues `count` calls by `issue(i, callback)` and turns the loop until each has its result.
  template <class Issue>
  std::vector<Result<Reply>> run(size_t count, Issue issue) {
    std::vector<Result<Reply>> results(count, fail(Errc::kUnavailable, ""));
    // Lets what happened while nobody turned the loop come in first, such as the server's having closed.
    if (connection.connected()) loop.run_once(0);
    if (!connection.connected() && !wait_connected()) {
      for (auto& result : results) result = fail(Errc::kUnavailable, connection.last_error());
      return results;
    }
    auto left = std::make_shared<size_t>(count);
    for (size_t i = 0; i < count; ++i) {
      issue(i, [&results, left, i](Result<Reply> result) {
        results[i] = std::move(result);
        --*left;
      });
    }
    while (*left > 0) loop.run_once(-1);  // each call ends by its deadline
    return results;
  }

  ConnectionOptions options;
  EventLoop loop;
  Connection connection;
};

Client::Client(Env& env, Endpoint endpoint, ConnectionOptions options)
    : state_(std::make_unique<State>(env, std::move(endpoint), options)) {}
Client::~Client() = default;

bool Client::connected() const { return state_->connection.connected(); }

Result<Reply> Client::call(const Command& command) { return call(command, 0); }

Result<Reply> Client::call(const Command& command, int64_t timeout_ms) {
  auto results = state_->run(1, [&](size_t, Connection::Callback callback) {
    state_->connection.call(command, std::move(callback), timeout_ms);
  });
  return std::move(results[0]);
}

std::vector<Result<Reply>> Client::pipeline(const std::vector<Command>& commands) {
  return state_->run(commands.size(), [&](size_t i, Connection::Callback callback) {
    state_->connection.call(commands[i], std::move(callback));
  });
}

Result<Reply> Client::eval(const redis_contract::Script& script, std::vector<std::string> keys,
                           std::vector<std::string> args) {
  std::vector<Eval> one;
  one.push_back({&script, std::move(keys), std::move(args)});
  return std::move(eval_all(std::move(one))[0]);
}

std::vector<Result<Reply>> Client::eval_all(std::vector<Eval> evals) {
  return state_->run(evals.size(), [&](size_t i, Connection::Callback callback) {
    state_->connection.eval(*evals[i].script, std::move(evals[i].keys), std::move(evals[i].args), std::move(callback));
  });
}

Result<Reply> Client::check(Result<Reply> result) {
  if (result && result->is_error()) return fail(Errc::kInternal, "Redis: " + with_advice(result->text));
  return result;
}

}  // namespace tallygate::redis
