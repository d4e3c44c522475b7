#include "operator/ledger/bounded_connection.h"

#include <libpq-fe.h>
#include <poll.h>

#include "operator/ledger/session.h"

namespace tallygate::ledger {
namespace {

struct Clear {
  void operator()(PGresult* result) const { PQclear(result); }
};
using ResultPtr = std::unique_ptr<PGresult, Clear>;

bool is_good(const PGresult* result) {
  const auto status = PQresultStatus(result);
  return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

std::vector<std::string> first_row(const PGresult* result) {
  std::vector<std::string> row;
  if (PQntuples(result) == 0) return row;
  for (int column = 0; column < PQnfields(result); ++column) {
    row.emplace_back(PQgetvalue(result, 0, column), static_cast<size_t>(PQgetlength(result, 0, column)));
  }
  return row;
}

}  // namespace

void BoundedConnection::Close::operator()(pg_conn* connection) const { PQfinish(connection); }

BoundedConnection::BoundedConnection(Env& env, const std::string& url, std::string setup)
    : env_(env), url_(with_connection_bounds(url)), setup_(std::move(setup)) {}
BoundedConnection::~BoundedConnection() = default;

std::string BoundedConnection::last_error() const {
  std::string text = PQerrorMessage(connection_.get());
  return "PostgreSQL: " + text.substr(0, text.find('\n'));
}

Result<void> BoundedConnection::wait(short events, int64_t until_ms) {
  pollfd watched{PQsocket(connection_.get()), events, 0};
  while (true) {
    const int64_t left_ms = until_ms - env_.mono_ms();
    if (left_ms <= 0) return fail(Errc::kUnavailable, "PostgreSQL does not answer in time");
    const int ready = ::poll(&watched, 1, static_cast<int>(left_ms));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return fail(Errc::kUnavailable, "PostgreSQL: poll failed");
  }
}

Result<void> BoundedConnection::connect(int64_t until_ms) {
  connection_.reset(PQconnectStart(url_.c_str()));
  auto state = PGRES_POLLING_WRITING;
  while (state != PGRES_POLLING_OK) {
    if (!connection_ || PQstatus(connection_.get()) == CONNECTION_BAD || state == PGRES_POLLING_FAILED) {
      return fail(Errc::kUnavailable, connection_ ? last_error() : "PostgreSQL: out of memory");
    }
    if (auto ready = wait(state == PGRES_POLLING_READING ? POLLIN : POLLOUT, until_ms); !ready) return ready;
    state = PQconnectPoll(connection_.get());
  }
  PQsetnonblocking(connection_.get(), 1);
  return ask(setup_, {}, until_ms).map([](const auto&) {});
}

Result<std::vector<std::string>> BoundedConnection::ask(const std::string& sql, const std::vector<std::string>& params,
                                                        int64_t until_ms) {
  PGconn* const c = connection_.get();
  std::vector<const char*> values;
  for (const std::string& param : params) values.push_back(param.c_str());
  // Without parameters by the simple protocol, which takes several statements.
  const int sent = params.empty() ? PQsendQuery(c, sql.c_str())
                                  : PQsendQueryParams(c, sql.c_str(), static_cast<int>(values.size()), nullptr,
                                                      values.data(), nullptr, nullptr, 0);
  if (sent == 0) return fail(Errc::kUnavailable, last_error());
  for (int more = PQflush(c); more != 0; more = PQflush(c)) {
    if (more < 0) return fail(Errc::kUnavailable, last_error());
    if (auto ready = wait(POLLIN | POLLOUT, until_ms); !ready) return tl::unexpected(ready.error());
    if (PQconsumeInput(c) == 0) return fail(Errc::kUnavailable, last_error());
  }
  std::vector<std::string> row;
  while (true) {
    while (PQisBusy(c) != 0) {
      if (auto ready = wait(POLLIN, until_ms); !ready) return tl::unexpected(ready.error());
      if (PQconsumeInput(c) == 0) return fail(Errc::kUnavailable, last_error());
    }
    const ResultPtr result(PQgetResult(c));
    if (!result) return row;
    if (!is_good(result.get())) return fail(Errc::kUnavailable, last_error());
    row = first_row(result.get());
  }
}

Result<std::vector<std::string>> BoundedConnection::row(const std::string& sql, const std::vector<std::string>& params,
                                                        int64_t within_ms) {
  const int64_t until_ms = env_.mono_ms() + within_ms;
  Result<void> ready;
  if (!connection_) ready = connect(until_ms);
  Result<std::vector<std::string>> answer = std::vector<std::string>();
  if (ready) answer = ask(sql, params, until_ms);
  if (!ready) answer = tl::unexpected(ready.error());
  if (!answer) connection_.reset();
  return answer;
}

}  // namespace tallygate::ledger
