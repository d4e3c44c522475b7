#include "operator/ledger/leadership.h"

#include "core/io/event_loop.h"
#include "operator/ledger/session.h"

namespace tallygate::ledger {
namespace {

constexpr int64_t kInterval_ms = 500;
// Any fixed number that no other program uses on this database. True as well where this session has it already.
constexpr const char* kTake =
    "select exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and granted "
    "and classid = 7 and objid = 23149801 and objsubid = 2) or pg_try_advisory_lock(7, 23149801)";

}  // namespace

Leadership::Leadership(Env& env, std::string database_url) : env_(env), database_url_(std::move(database_url)) {}
Leadership::~Leadership() { stop(); }

void Leadership::start() {
  if (thread_.joinable()) return;
  stopping_ = false;
  loop_ = std::make_unique<EventLoop>(env_);
  thread_ = std::thread([this] { run(); });
}

void Leadership::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  loop_->post([] {});
  thread_.join();
  leader_ = false;
}

void Leadership::run() {
  Session session(database_url_);
  while (!stopping_) {
    const Result<Rows> taken = session.exec(kTake);
    leader_ = taken && taken->boolean(0, 0);
    decided_ = taken.has_value();
    loop_->run_once(kInterval_ms);
  }
}

}  // namespace tallygate::ledger
