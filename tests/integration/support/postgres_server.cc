#include "tests/integration/support/postgres_server.h"

#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/env.h"
#include "operator/ledger/migrator.h"

namespace tallygate::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUser = "postgres";
// Who owns the databases of tests: no superuser, so that row-level security binds it as in production.
constexpr const char* kOwner = "tallygate";
constexpr int kStartTries = 400;
constexpr int64_t kTry_ms = 25;

// The newest installation under Debian's folder, or $PG_BINDIR.
std::string bin_folder() {
  if (const char* set = std::getenv("PG_BINDIR")) return set;
  std::string newest;
  int version = 0;
  for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql")) {
    const int number = std::atoi(entry.path().filename().c_str());
    if (number > version && fs::exists(entry.path() / "bin/initdb")) {
      version = number;
      newest = entry.path() / "bin";
    }
  }
  TG_ASSERT(!newest.empty());
  return newest;
}

}  // namespace

PostgresServer& PostgresServer::shared() {
  static PostgresServer server;
  return server;
}

PostgresServer::PostgresServer(bool durable) : durable_(durable), folder_(make_temporary_folder(kUser)) {
  ChildProcess initdb;
  initdb.start(
      {bin_folder() + "/initdb", "-D", folder_ + "/data", "-A", "trust", "-U", kUser, "-N", "-E", "UTF8", "--locale=C"},
      {.as_user = kUser, .output_file = folder_ + "/log"});
  TG_ASSERT(initdb.wait() == 0);
  port_ = free_port();
  start();
}

PostgresServer::~PostgresServer() {
  stop();
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void PostgresServer::start() {
  std::vector<std::string> argv = {
      bin_folder() + "/postgres",   "-D", folder_ + "/data",   "-p", std::to_string(port_), "-k", folder_, "-c",
      "listen_addresses=127.0.0.1", "-c", "max_connections=120"};
  if (!durable_) argv.insert(argv.end(), {"-c", "fsync=off", "-c", "full_page_writes=off"});
  process_.start(argv, {.as_user = kUser, .output_file = folder_ + "/log", .death_signal = SIGINT});
  ledger::Session session(url("postgres"));
  for (int i = 0; i < kStartTries; ++i) {
    if (session.exec("select 1")) return;
    system_env().sleep_ms(kTry_ms);
  }
  TG_ASSERT(!"PostgreSQL did not start");
}

void PostgresServer::stop() {
  process_.signal(SIGINT);
  process_.wait();
}

// They see the postmaster's end by themselves; while one is left, no new one starts on the same data.
void PostgresServer::kill() {
  const std::string pid = std::to_string(process_.pid());
  std::ifstream list("/proc/" + pid + "/task/" + pid + "/children");
  const std::vector<std::string> children{std::istream_iterator<std::string>(list), {}};
  process_.signal(SIGKILL);
  process_.wait();
  const auto lives = [](const std::string& child) {
    std::string word;
    std::ifstream stat("/proc/" + child + "/stat");
    for (int i = 0; i < 3; ++i) stat >> word;  // pid, (name), state
    return !word.empty() && word != "Z";
  };
  for (int i = 0; i < kStartTries && std::any_of(children.begin(), children.end(), lives); ++i) {
    system_env().sleep_ms(kTry_ms);
  }
}

std::string PostgresServer::url(const std::string& database) const {
  const std::string user = database == kUser ? kUser : kOwner;
  return "postgresql://" + user + "@127.0.0.1:" + std::to_string(port_) + "/" + database + "?connect_timeout=2";
}

void PostgresServer::admin(const std::string& sql) {
  // CREATE DATABASE must be alone: no transaction around it. psql does that.
  ChildProcess psql;
  psql.start({bin_folder() + "/psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", url("postgres"), "-c", sql}, {});
  TG_ASSERT(psql.wait() == 0);
}

std::string PostgresServer::create_database(bool migrated) {
  if (databases_ == 0) admin(std::string("create role ") + kOwner + " login createrole");
  if (migrated && !has_template_) {
    admin(std::string("create database migrated owner ") + kOwner);
    ledger::Session session(url("migrated"));
    const auto applied = ledger::migrate(session);
    if (!applied) assertion_failed(applied.error().message.c_str(), __FILE__, __LINE__);
    has_template_ = true;
  }
  const std::string name = "test" + std::to_string(++databases_);
  admin("create database " + name + (migrated ? " template migrated owner " : " owner ") + kOwner);
  return url(name);
}

}  // namespace tallygate::testing
