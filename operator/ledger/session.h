// One connection to PostgreSQL, made on first use and made anew after it broke. pqxx stays behind this header: its
// exceptions end as Errors.
//
// Errors: kUnavailable (away, shutting down, read-only, deadlock or serialization fault: retry with backoff), kTimeout
// (the answer to COMMIT was lost, nobody knows: repeat by a unique key), kInvalid (the database refused the data:
// SQLSTATE classes 22, 23 and P0), kInternal (a defect of ours). Threading: one thread at a time.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace tallygate::ledger {

// A query's rows, owned. Columns count from 0; a null reads as "", 0 and false.
class Rows {
 public:
  Rows() = default;
  // The cells row by row; `owner` holds what they refer to. A null has no data().
  Rows(std::shared_ptr<const void> owner, std::vector<std::string_view> cells, size_t rows, size_t columns);
  size_t size() const { return rows_; }
  size_t columns() const { return columns_; }
  bool empty() const { return size() == 0; }
  bool is_null(size_t row, size_t column) const;
  std::string_view text(size_t row, size_t column) const;
  int64_t integer(size_t row, size_t column) const;
  bool boolean(size_t row, size_t column) const;

 private:
  const std::string_view& cell(size_t row, size_t column) const { return (*cells_)[row * columns_ + column]; }
  std::shared_ptr<const void> owner_;
  std::shared_ptr<const std::vector<std::string_view>> cells_;
  size_t rows_ = 0, columns_ = 0;
};

// A parameter ($1 …), in PostgreSQL's text form; std::nullopt is null.
struct Param {
  Param(std::nullopt_t) {}
  Param(const char* value) : text(value) {}
  Param(std::string value) : text(std::move(value)) {}
  Param(std::string_view value) : text(value) {}
  Param(bool value) : text(value ? "t" : "f") {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Param(T value) : text(std::to_string(value)) {}
  std::optional<std::string> text;
};
using Params = std::vector<Param>;

// "2026-11-21 10:07:46.123456+00", for parameters of type timestamptz.
std::string timestamp_text(int64_t wall_ns);

// Adds a field to a row of COPY's text form. None is null; the first is not empty.
void append_copy_field(std::string& line, std::string_view field);
void append_copy_field(std::string& line, int64_t field);

// Rows for a parameter that is an array of rows, in PostgreSQL's text form: {"(0,\"a b\",)","(1,,)"}. Each begins with
// its place in the array; the fields after it are written beforehand, one by one. std::nullopt is null.
void append_row_field(std::string& fields, std::optional<std::string_view> field);
std::string row_array(std::span<const std::string* const> fields_of_rows);

class Transaction {
 public:
  Result<Rows> exec(const std::string& sql, const Params& params = {});
  // COPY table (columns) FROM STDIN; each line is a row made by append_copy_field.
  Result<void> copy(const std::string& table, const std::vector<std::string>& columns,
                    const std::vector<std::string>& lines);

 private:
  friend class Session;
  explicit Transaction(void* work) : work_(work) {}
  void* work_;
};

// A transaction whose client does nothing for so long is rolled back and its connection closed: a process that was
// stopped, or whose machine is gone, holds no lock for longer. Every Session asks for it.
inline constexpr int64_t kIdleInTransaction_ms = 5'000;

// The URL with the parameters that it does not have: time-outs, and by what name the server lists its connections.
std::string with_connection_bounds(const std::string& url);

class Session {
 public:
  // kPooler: each transaction may have another session of the server (pool_mode=transaction). Then `setup` runs in each
  // transaction, and must be of settings that are local to it; no statement has a name.
  enum class Through : uint8_t { kServer, kPooler };
  // `setup` runs once on each new connection, before anything else. The URL may hold a password: it is never logged.
  // What libpq would wait for without end is bounded, unless the URL's own parameters say how.
  explicit Session(std::string url, std::string setup = "", Through through = Through::kServer);
  ~Session();
  // Runs on each new connection after `setup`: its error is connecting's.
  void on_connect(std::function<Result<void>(Transaction&)> check);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Runs `body` in a transaction (READ COMMITTED): commits where it returns a value, else rolls back and returns its
  // error.
  Result<void> transact(const std::function<Result<void>(Transaction&)>& body);
  // One statement in a transaction of its own.
  Result<Rows> exec(const std::string& sql, const Params& params = {});
  // The same, begun and committed by the server: one round trip in place of three. The statement is prepared once on
  // each connection: meant for a few that come again and again. kTimeout wherever the answer was lost.
  Result<Rows> autocommit(const std::string& sql, const Params& params);
  // Waits for a NOTIFY on a channel that `setup` listens to, at most so long. False: none came.
  Result<bool> wait_notice(int64_t timeout_ms);
  bool connected() const;
  // Connects, where it is not connected: the others do so by themselves.
  Result<void> open();
  void close();

 private:
  struct State;
  void close_after(const Error& error);
  std::unique_ptr<State> state_;
};

}  // namespace tallygate::ledger
