#include "operator/ledger/session.h"

#include <charconv>
#include <ctime>
#include <map>
#include <pqxx/pqxx>
#include <pqxx/tablewriter>

namespace tallygate::ledger {
namespace {

Errc errc_of(const pqxx::sql_error& error) {
  const std::string& state = error.sqlstate();
  const std::string klass = state.substr(0, 2);
  // 08 connection, 40 rollback, 53 resources, 55 object in use, 57 shutdown, 58 the server's own system.
  for (const char* passing : {"08", "40", "53", "55", "57", "58"}) {
    if (klass == passing) return Errc::kUnavailable;
  }
  // A standby, as after a failover: another connection may reach the primary. 25P03, 25P04: the transaction took so
  // long that the server closed it. The rest of the class is ours: a statement that is not for where it stands.
  if (state == "25006" || state == "25P03" || state == "25P04") return Errc::kUnavailable;
  if (klass == "22" || klass == "23" || klass == "P0") return Errc::kInvalid;
  // A migration has replaced a type, a function or an index that the statement had begun with.
  const std::string_view what = error.what();
  for (const char* gone : {"cache lookup failed", "could not open relation with OID"}) {
    if (state == "XX000" && what.find(gone) != std::string_view::npos) return Errc::kUnavailable;
  }
  return Errc::kInternal;
}

std::string first_line(const char* text) {
  std::string line(text);
  return line.substr(0, line.find('\n'));
}

// Away, or there and unwilling: then waiting alone does not help.
std::string no_connection(const std::string& why) {
  if (why.find("does not exist") != std::string::npos) {
    return "PostgreSQL refuses: " + why + ": create it, or mend the database's URL";
  }
  if (why.find("authentication failed") != std::string::npos || why.find("pg_hba.conf") != std::string::npos) {
    return "PostgreSQL refuses: " + why + ": mend the database's URL, or what the server lets in";
  }
  for (const char* full : {"too many clients", "too many connections", "remaining connection slots"}) {
    if (why.find(full) == std::string::npos) continue;
    return "PostgreSQL refuses: " + why +
           ": raise max_connections, or the CONNECTION LIMIT of the role or the database";
  }
  return "PostgreSQL is away: " + why;
}

// Runs `fn`, which returns a Result<T>, and turns pqxx's exceptions into Errors.
template <class T, class Fn>
Result<T> guarded(Fn&& fn) {
  try {
    return fn();
  } catch (const pqxx::in_doubt_error& e) {
    return fail(Errc::kTimeout, "PostgreSQL: the answer to COMMIT was lost: " + first_line(e.what()));
  } catch (const pqxx::statement_completion_unknown& e) {
    return fail(Errc::kTimeout, "PostgreSQL: " + first_line(e.what()));
  } catch (const pqxx::transaction_rollback& e) {
    return fail(Errc::kUnavailable, "PostgreSQL: " + first_line(e.what()));
  } catch (const pqxx::broken_connection& e) {
    return fail(Errc::kUnavailable, no_connection(first_line(e.what())));
  } catch (const pqxx::sql_error& e) {
    return fail(errc_of(e), "PostgreSQL " + e.sqlstate() + ": " + first_line(e.what()));
  } catch (const pqxx::failure& e) {
    return fail(Errc::kUnavailable, "PostgreSQL: " + first_line(e.what()));
  } catch (const std::exception& e) {
    return fail(Errc::kInternal, "PostgreSQL client: " + first_line(e.what()));
  }
}

// Each cell is looked up once: pqxx would make a row and a field, with four counted pointers, for each look.
Rows rows_of(pqxx::result result) {
  const auto columns = static_cast<size_t>(result.columns());
  std::vector<std::string_view> cells;
  cells.reserve(static_cast<size_t>(result.size()) * columns);
  for (const auto& row : result) {
    for (const auto& field : row) {
      cells.push_back(field.is_null() ? std::string_view() : std::string_view(field.c_str(), field.size()));
    }
  }
  const auto rows = static_cast<size_t>(result.size());
  return Rows(std::make_shared<pqxx::result>(std::move(result)), std::move(cells), rows, columns);
}

std::vector<const char*> values_of(const Params& params) {
  std::vector<const char*> values;
  values.reserve(params.size());
  for (const Param& param : params) values.push_back(param.text ? param.text->c_str() : nullptr);
  return values;
}

Rows exec_on(pqxx::transaction_base& work, const std::string& sql, const Params& params) {
  if (params.empty()) return rows_of(work.exec(sql));
  return rows_of(work.exec_params(sql, pqxx::prepare::make_dynamic_params(values_of(params))));
}

}  // namespace

Rows::Rows(std::shared_ptr<const void> owner, std::vector<std::string_view> cells, size_t rows, size_t columns)
    : owner_(std::move(owner)),
      cells_(std::make_shared<const std::vector<std::string_view>>(std::move(cells))),
      rows_(rows),
      columns_(columns) {}

bool Rows::is_null(size_t row, size_t column) const { return cell(row, column).data() == nullptr; }
std::string_view Rows::text(size_t row, size_t column) const { return cell(row, column); }

int64_t Rows::integer(size_t row, size_t column) const {
  const std::string_view field = text(row, column);
  int64_t value = 0;
  std::from_chars(field.data(), field.data() + field.size(), value);
  return value;
}

bool Rows::boolean(size_t row, size_t column) const { return text(row, column) == "t"; }

std::string timestamp_text(int64_t wall_ns) {
  const std::time_t seconds = wall_ns / 1'000'000'000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[64];
  const size_t n = std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc);
  std::snprintf(text + n, sizeof text - n, ".%06d+00", static_cast<int>(wall_ns / 1000 % 1'000'000));
  return text;
}

void append_copy_field(std::string& line, std::string_view field) {
  if (!line.empty()) line += '\t';
  for (const char c : field) {
    switch (c) {
      case '\\':
        line += "\\\\";
        break;
      case '\t':
        line += "\\t";
        break;
      case '\n':
        line += "\\n";
        break;
      case '\r':
        line += "\\r";
        break;
      default:
        line += c;
    }
  }
}

void append_copy_field(std::string& line, int64_t field) {
  char digits[24];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, field);
  append_copy_field(line, std::string_view(digits, static_cast<size_t>(end - digits)));
}

// Quoted twice: as a field of the row, and with the row as an element of the array.
void append_row_field(std::string& fields, std::optional<std::string_view> field) {
  fields += ',';
  if (!field) return;
  fields += "\\\"";
  for (const char c : *field) {
    if (c == '"') {
      fields += "\\\"\\\"";
    } else if (c == '\\') {
      fields += "\\\\\\\\";
    } else {
      fields += c;
    }
  }
  fields += "\\\"";
}

std::string row_array(std::span<const std::string* const> fields_of_rows) {
  std::string text = "{";
  for (size_t i = 0; i < fields_of_rows.size(); ++i) {
    text += i == 0 ? "\"(" : ",\"(";
    text += std::to_string(i);
    text += *fields_of_rows[i];
    text += ")\"";
  }
  text += '}';
  return text;
}

Result<Rows> Transaction::exec(const std::string& sql, const Params& params) {
  auto& work = *static_cast<pqxx::work*>(work_);
  return guarded<Rows>([&]() -> Result<Rows> { return exec_on(work, sql, params); });
}

Result<void> Transaction::copy(const std::string& table, const std::vector<std::string>& columns,
                               const std::vector<std::string>& lines) {
  auto& work = *static_cast<pqxx::work*>(work_);
  return guarded<void>([&]() -> Result<void> {
// pqxx 6.4's newer stream_to takes tuples only, and escapes field by field through streams; this one takes finished
// lines.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    pqxx::tablewriter writer(work, table, columns.begin(), columns.end());
    for (const std::string& line : lines) writer.write_raw_line(line);
    writer.complete();
#pragma GCC diagnostic pop
    return {};
  });
}

std::string with_connection_bounds(const std::string& url) {
  constexpr std::pair<const char*, const char*> kBounds[] = {
      {"connect_timeout", "5"},  {"keepalives_idle", "10"},     {"keepalives_interval", "5"},
      {"keepalives_count", "3"}, {"tcp_user_timeout", "20000"}, {"application_name", "tallygate-operator"}};
  const size_t mark = url.find('?');
  const std::string given = mark == std::string::npos ? "" : "&" + url.substr(mark + 1);
  std::string out = url;
  char separator = mark == std::string::npos ? '?' : '&';
  for (const auto& [name, value] : kBounds) {
    if (given.find(std::string("&") + name + "=") != std::string::npos) continue;
    (out += separator) += std::string(name) + "=" + value;
    separator = '&';
  }
  return out;
}

struct Session::State {
  std::string url, setup;
  std::unique_ptr<pqxx::connection> connection;
  std::map<std::string, std::string> prepared = {};  // names by statement, on this connection
  std::function<Result<void>(Transaction&)> check = {};
  bool pooled = false;

  // What each connection has, and each transaction where another may have the connection in between.
  std::string first_of_transaction() const {
    return "set local jit = off; set local timezone = 'UTC'; set local client_min_messages = warning; "
           "set local idle_in_transaction_session_timeout = " +
           std::to_string(kIdleInTransaction_ms) + (setup.empty() ? "" : "; " + setup);
  }
};

Session::Session(std::string url, std::string setup, Through through)
    : state_(std::make_unique<State>(State{with_connection_bounds(url), std::move(setup), nullptr})) {
  state_->pooled = through == Through::kPooler;
}
Session::~Session() = default;

void Session::on_connect(std::function<Result<void>(Transaction&)> check) { state_->check = std::move(check); }

bool Session::connected() const { return state_->connection && state_->connection->is_open(); }
void Session::close() { state_->connection.reset(); }

Result<void> Session::open() {
  if (connected()) return {};
  state_->connection.reset();
  state_->prepared.clear();
  Result<void> result = guarded<void>([&]() -> Result<void> {
    state_->connection = std::make_unique<pqxx::connection>(state_->url);
    // pqxx would reconnect in silence and so forget what `setup` made. Its next major version never does.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    state_->connection->inhibit_reactivation(true);
#pragma GCC diagnostic pop
    if (!state_->pooled) {
      // Short statements only: compiling them costs more than it saves.
      state_->connection->set_variable("jit", "off");
      state_->connection->set_variable("TimeZone", "'UTC'");
      state_->connection->set_variable("client_min_messages", "warning");
      state_->connection->set_variable("idle_in_transaction_session_timeout", std::to_string(kIdleInTransaction_ms));
      if (!state_->setup.empty()) {
        pqxx::work work(*state_->connection);
        work.exec(state_->setup);
        work.commit();
      }
    }
    if (!state_->check) return {};
    pqxx::work work(*state_->connection);
    if (state_->pooled) work.exec(state_->first_of_transaction());
    Transaction transaction(&work);
    return state_->check(transaction);
  });
  if (!result) state_->connection.reset();
  return result;
}

// A connection that failed in a way that may have left it unusable is made anew.
void Session::close_after(const Error& error) {
  if (error.errc == Errc::kUnavailable || error.errc == Errc::kTimeout || error.errc == Errc::kInternal) close();
}

Result<void> Session::transact(const std::function<Result<void>(Transaction&)>& body) {
  if (Result<void> ready = open(); !ready) return ready;
  Result<void> result = guarded<void>([&]() -> Result<void> {
    pqxx::work work(*state_->connection);
    if (state_->pooled) work.exec(state_->first_of_transaction());
    Transaction transaction(&work);
    if (Result<void> done = body(transaction); !done) return done;
    work.commit();
    return {};
  });
  if (!result) close_after(result.error());
  return result;
}

Result<Rows> Session::autocommit(const std::string& sql, const Params& params) {
  if (state_->pooled) return exec(sql, params);
  if (Result<void> ready = open(); !ready) return tl::unexpected(ready.error());
  Result<Rows> rows = guarded<Rows>([&]() -> Result<Rows> {
    const auto [name, is_new] = state_->prepared.try_emplace(sql, "s" + std::to_string(state_->prepared.size()));
    if (is_new) state_->connection->prepare(name->second, sql);  // pqxx tells the server at the first execution
    pqxx::nontransaction work(*state_->connection);
    try {
      return rows_of(work.exec_prepared(name->second, pqxx::prepare::make_dynamic_params(values_of(params))));
    } catch (const pqxx::feature_not_supported& e) {
      // A migration has changed what the statement answers: it must be prepared anew, on a new connection.
      return fail(Errc::kUnavailable, "PostgreSQL " + e.sqlstate() + ": " + first_line(e.what()));
    } catch (const pqxx::broken_connection& e) {
      return fail(Errc::kTimeout, "PostgreSQL: the answer was lost: " + first_line(e.what()));
    }
  });
  if (!rows) close_after(rows.error());
  return rows;
}

Result<Rows> Session::exec(const std::string& sql, const Params& params) {
  Rows rows;
  Result<void> result = transact([&](Transaction& transaction) -> Result<void> {
    Result<Rows> got = transaction.exec(sql, params);
    if (!got) return tl::unexpected(got.error());
    rows = std::move(*got);
    return {};
  });
  if (!result) return tl::unexpected(result.error());
  return rows;
}

Result<bool> Session::wait_notice(int64_t timeout_ms) {
  if (Result<void> ready = open(); !ready) return tl::unexpected(ready.error());
  Result<bool> noticed = guarded<bool>([&]() -> Result<bool> {
    return state_->connection->await_notification(static_cast<long>(timeout_ms / 1000),
                                                  static_cast<long>(timeout_ms % 1000 * 1000)) > 0;
  });
  if (!noticed) close_after(noticed.error());
  return noticed;
}

}  // namespace tallygate::ledger
