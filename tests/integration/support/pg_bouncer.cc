#include "tests/integration/support/pg_bouncer.h"

#include <signal.h>

#include <filesystem>
#include <fstream>

#include "core/env.h"
#include "operator/ledger/session.h"

namespace tallygate::testing {
namespace {

constexpr const char* kUser = "postgres";  // it runs as no root
constexpr int kStartTries = 200;
constexpr int64_t kTry_ms = 25;

}  // namespace

PgBouncer::PgBouncer(const std::string& database_url, const std::string& mode, bool round_robin, int sessions)
    : folder_(make_temporary_folder(kUser)) {
  // postgresql://user@127.0.0.1:port/database?…
  const size_t user = database_url.find("//") + 2, at = database_url.find('@'), colon = database_url.find(':', at);
  const size_t slash = database_url.find('/', colon), query = database_url.find('?');
  const std::string name = database_url.substr(slash + 1, query - slash - 1);
  const std::string port = std::to_string(free_port());
  std::ofstream(folder_ + "/users.txt") << '"' << database_url.substr(user, at - user) << "\" \"\"\n";
  std::ofstream(folder_ + "/pooler.ini") << "[databases]\n"
                                         << name << " = host=127.0.0.1 port="
                                         << database_url.substr(colon + 1, slash - colon - 1) << " dbname=" << name
                                         << "\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=" << port
                                         << "\nunix_socket_dir=\nauth_type=trust\nauth_file=" << folder_
                                         << "/users.txt\npool_mode=" << mode << "\nserver_round_robin=" << round_robin
                                         << "\ndefault_pool_size=" << sessions << "\nmax_client_conn=200\n";
  std::filesystem::permissions(folder_, std::filesystem::perms(0755));
  url_ = database_url.substr(0, colon + 1) + port + database_url.substr(slash);
  process_.start({"/usr/sbin/pgbouncer", folder_ + "/pooler.ini"},
                 {.as_user = kUser, .output_file = folder_ + "/log", .death_signal = SIGKILL});
  ledger::Session session(url_);
  for (int i = 0; i < kStartTries; ++i) {
    if (session.exec("select 1")) return;
    system_env().sleep_ms(kTry_ms);
  }
  TG_ASSERT(!"the pooler did not start");
}

PgBouncer::~PgBouncer() {
  process_.signal(SIGINT);
  process_.wait();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

}  // namespace tallygate::testing
