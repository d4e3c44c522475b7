#include "tests/integration/redis/scratch_redis.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace tallygate::testing {
namespace {

namespace rc = redis_contract;

constexpr int kStartTries = 400;
constexpr int64_t kTryMs = 10;

}  // namespace

ScratchRedis::ScratchRedis(std::vector<std::string> options)
    : options_(std::move(options)), folder_(make_temporary_folder()), port_(free_port()) {
  start();
}

ScratchRedis::~ScratchRedis() {
  resume();
  kill();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

redis::Endpoint ScratchRedis::endpoint() const {
  redis::Endpoint endpoint;
  endpoint.host = "127.0.0.1";
  endpoint.port = port_;
  return endpoint;
}

redis::Endpoint ScratchRedis::unix_endpoint() const {
  redis::Endpoint endpoint;
  endpoint.unix_path = folder_ + "/socket";
  return endpoint;
}

void ScratchRedis::start() {
  const char* set = std::getenv("REDIS_SERVER");
  std::vector<std::string> argv{set ? set : "/usr/bin/redis-server",
                                "--port",
                                std::to_string(port_),
                                "--bind",
                                "127.0.0.1",
                                "--unixsocket",
                                folder_ + "/socket",
                                "--save",
                                "",
                                "--appendonly",
                                "no",
                                "--dir",
                                folder_,
                                "--maxmemory-policy",
                                "noeviction"};
  argv.insert(argv.end(), options_.begin(), options_.end());
  process_.start(argv, {.as_user = "", .output_file = folder_ + "/log"});
  for (int i = 0; i < kStartTries; ++i) {
    if (answers()) return;
    system_env().sleep_ms(kTryMs);
  }
  TG_ASSERT(!"redis-server did not start");
}

bool ScratchRedis::answers() const {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, unix_endpoint().unix_path.c_str(), sizeof address.sun_path - 1);
  char reply[64] = {};
  const bool up = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                  write(fd, "PING\r\n", 6) == 6 && read(fd, reply, sizeof reply) > 0;
  ::close(fd);
  return up;
}

void ScratchRedis::kill() {
  process_.signal(SIGKILL);
  process_.wait();
}
void ScratchRedis::pause() { process_.signal(SIGSTOP); }
void ScratchRedis::resume() { process_.signal(SIGCONT); }

redis::Reply Scripts::run(const rc::Script& script, std::vector<std::string> keys, std::vector<std::string> args) {
  auto reply = redis::Client::check(client_.eval(script, std::move(keys), std::move(args)));
  if (!reply) assertion_failed(reply.error().message.c_str(), __FILE__, __LINE__);
  return std::move(*reply);
}

redis::Reply Scripts::call(redis::Command command) {
  auto reply = redis::Client::check(client_.call(command));
  if (!reply) assertion_failed(reply.error().message.c_str(), __FILE__, __LINE__);
  return std::move(*reply);
}

int64_t Scripts::open(int64_t number) {
  return run(rc::kOpen, {rc::epoch_key(shard_)}, {std::to_string(number)}).to_integer(-1);
}

int64_t Scripts::renew() { return run(rc::kRenew, {rc::epoch_key(shard_)}, {}).to_integer(-1); }

redis::Reply Scripts::enrol(int64_t epoch, std::vector<std::string> incarnations) {
  incarnations.insert(incarnations.begin(), std::to_string(epoch));
  return run(rc::kRegister, {rc::epoch_key(shard_), rc::registered_key(shard_, epoch)}, std::move(incarnations));
}

Result<redis::Reply> Scripts::try_lease(int64_t epoch, const std::string& incarnation, const std::vector<Want>& wants) {
  std::vector<std::string> keys{rc::epoch_key(shard_),         rc::registered_key(shard_, epoch),
                                rc::closed_key(shard_, epoch), rc::want_key(shard_, epoch),
                                rc::watermark_key(shard_),     rc::held_key(shard_, epoch, incarnation),
                                rc::minted_key(shard_, epoch), rc::heard_key(shard_),
                                rc::ledger_key(shard_)};
  char shard[3] = {static_cast<char>('0' + shard_ / 10), static_cast<char>('0' + shard_ % 10), 0};
  std::vector<std::string> args{std::to_string(epoch),
                                incarnation,
                                std::to_string(system_env().wall_ms() + ahead_ms),
                                rc::want_channel(),
                                shard,
                                "",
                                "0",
                                "0"};
  for (const Want& want : wants) {
    keys.push_back(key(want.bucket, epoch));
    for (const int64_t n : {want.least, want.best, want.returned, want.mint}) args.push_back(std::to_string(n));
    args.push_back(member(want.bucket));
    args.push_back(std::to_string(want.spent));
    args.push_back(want.again ? "1" : "0");
  }
  return redis::Client::check(client_.eval(rc::kLease, std::move(keys), std::move(args)));
}

LeaseAnswer Scripts::lease(int64_t epoch, const std::string& incarnation, const std::vector<Want>& wants) {
  auto reply = try_lease(epoch, incarnation, wants);
  if (!reply) assertion_failed(reply.error().message.c_str(), __FILE__, __LINE__);
  TG_ASSERT(reply->is_array() && reply->elements.size() >= 8);
  LeaseAnswer answer{reply->elements[0].text,
                     reply->elements[1].to_integer(-1),
                     reply->elements[2].to_integer(-1),
                     {},
                     reply->elements[3].to_integer(-1)};
  for (size_t i = 8; i < reply->elements.size(); ++i) {
    const auto& e = reply->elements[i].elements;
    TG_ASSERT(e.size() == 6 && e[0].is_integer() && e[1].is_integer() && e[2].is_integer() && e[4].is_integer());
    answer.grants.push_back({e[0].integer, e[1].integer, e[2].integer, e[3].text, e[5].integer});
  }
  return answer;
}

redis::Reply Scripts::fund(int64_t epoch, const std::string& bucket, const Funding& f) {
  return run(rc::kFund, {rc::epoch_key(shard_), key(bucket, epoch)},
             {std::to_string(epoch), std::to_string(f.acknowledged), std::to_string(f.total), std::to_string(f.avail),
              std::to_string(f.used), f.dry, std::to_string(f.low), f.mark});
}

redis::Reply Scripts::recall(int64_t epoch, const std::string& bucket, int64_t target) {
  return run(rc::kRecall, {rc::epoch_key(shard_), key(bucket, epoch)}, {std::to_string(epoch), std::to_string(target)});
}

redis::Reply Scripts::close(int64_t epoch, const std::string& incarnation) {
  return run(rc::kClose,
             {rc::epoch_key(shard_), rc::closed_key(shard_, epoch), rc::held_key(shard_, epoch, incarnation)},
             {std::to_string(epoch), incarnation});
}

redis::Reply Scripts::give_back(int64_t epoch, const std::string& incarnation,
                                const std::vector<std::pair<std::string, int64_t>>& spent) {
  std::vector<std::string> keys{rc::epoch_key(shard_), rc::closed_key(shard_, epoch)};
  std::vector<std::string> args{std::to_string(epoch), incarnation};
  for (const auto& [bucket, units] : spent) {
    keys.push_back(key(bucket, epoch));
    args.push_back(std::to_string(units));
  }
  return run(rc::kGiveBack, std::move(keys), std::move(args));
}

redis::Reply Scripts::stat(int64_t epoch, const std::vector<std::string>& buckets, const std::string& mark) {
  std::vector<std::string> keys{rc::epoch_key(shard_)};
  for (const auto& bucket : buckets) keys.push_back(key(bucket, epoch));
  return run(rc::kStat, std::move(keys), {std::to_string(epoch), mark});
}

int64_t Scripts::field(const std::string& bucket, int64_t epoch, const std::string& name) {
  return call({"HGET", key(bucket, epoch), name}).to_integer(-1);
}

std::string Scripts::dump() {
  std::vector<std::string> lines;
  for (const auto& name : call({"KEYS", "*"}).elements) {
    const std::string type = call({"TYPE", name.text}).text;
    redis::Reply content;
    if (type == "hash") content = call({"HGETALL", name.text});
    if (type == "set") content = call({"SMEMBERS", name.text});
    if (type == "zset") content = call({"ZRANGE", name.text, "0", "-1", "WITHSCORES"});
    std::vector<std::string> parts;
    const size_t step = type == "set" ? 1 : 2;
    for (size_t i = 0; i + step <= content.elements.size(); i += step) {
      parts.push_back(content.elements[i].text + (step == 2 ? "=" + content.elements[i + 1].text : ""));
    }
    std::sort(parts.begin(), parts.end());
    lines.push_back(name.text);
    for (const auto& part : parts) lines.back() += " " + part;
  }
  std::sort(lines.begin(), lines.end());
  std::string all;
  for (const auto& line : lines) all += line + "\n";
  return all;
}

}  // namespace tallygate::testing
