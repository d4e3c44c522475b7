#include "sidecar/escrow/ledger_leases.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <fstream>

#include "core/counting.h"
#include "core/ids.h"
#include "core/redis_contract/bucket_id.h"
#include "core/telemetry/log.h"

namespace tallygate::sidecar {
namespace {

constexpr int64_t kRetryMinMs = 50, kRetryMaxMs = 2000;
constexpr int64_t kRefusedMinMs = 1000, kRefusedMaxMs = 60'000;
constexpr const char* kNotesFile = "/ledger-leases";

std::string tenant_of(const std::string& member) { return member.substr(0, member.find('|')); }
std::string bucket_of(const std::string& member) { return member.substr(member.find('|') + 1); }

}  // namespace

LedgerLeases::LedgerLeases(EventLoop& loop, LedgerClient& client, std::string folder, std::string incarnation)
    : loop_(loop), client_(client), folder_(std::move(folder)), incarnation_(std::move(incarnation)) {}

LedgerLeases::~LedgerLeases() {
  *alive_ = false;
  if (fd_ >= 0) ::close(fd_);
}

// A line per pair: the epoch and the member. A line without its end was never acted upon.
Result<void> LedgerLeases::write_note(const LeaseNote& note) {
  if (fd_ < 0) fd_ = open((folder_ + kNotesFile).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  const std::string line = std::to_string(note.first) + ' ' + note.second + '\n';
  const off_t before = fd_ < 0 ? 0 : lseek(fd_, 0, SEEK_END);
  if (fd_ < 0 || write(fd_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    // Half a line would be read as another note, or swallow the next one.
    if (fd_ >= 0 && ftruncate(fd_, before) != 0) [[maybe_unused]]
      const ssize_t n = write(fd_, "\n", 1);
    return fail(Errc::kExhausted, "cannot note a ledger lease in " + folder_);
  }
  notes_.insert(note);
  return {};
}

// What is no note of ours is dropped with a word: the ledger would refuse it for ever.
std::set<LeaseNote> LedgerLeases::read_notes(const std::string& folder) {
  std::set<LeaseNote> notes;
  std::ifstream file(folder + kNotesFile);
  for (std::string line; std::getline(file, line) && !file.eof();) {
    int64_t epoch = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), epoch);
    const auto at = static_cast<size_t>(end - line.data());
    const std::string member = error == std::errc() && at < line.size() ? line.substr(at + 1) : "";
    if (epoch > 0 && line[at] == ' ' && member.find('|') != std::string::npos && TenantId::parse(tenant_of(member)) &&
        redis_contract::BucketId::parse(bucket_of(member))) {
      notes.emplace(epoch, member);
    } else if (!line.empty()) {
      log::warn("a note of a lease from the ledger cannot be read; dropped",
                {{"file", folder + kNotesFile}, {"line", line.substr(0, 300)}});
    }
  }
  return notes;
}

void LedgerLeases::send(const std::string& tenant, LeaseRequest request, std::function<void(Result<LeaseAnswer>)> fn) {
  request.version = version_of_(tenant);
  std::string body = to_json(request);
  client_.post(
      tenant, std::move(body),
      [this, alive = alive_, tenant, request = std::move(request), fn = std::move(fn)](Result<std::string> text) {
        if (!*alive) return;
        Result<LeaseAnswer> answer = text ? lease_answer(request, *text) : tl::unexpected(text.error());
        if (answer)
          on_answer_(tenant, *answer);
        else
          count(counters_.errors);
        fn(std::move(answer));
      });
}

void LedgerLeases::ask(const std::string& member, int64_t epoch, LeaseRequest::Bucket bucket,
                       std::function<void(Result<LeaseAnswer>)> fn) {
  count(counters_.asked);
  if (!noted(epoch, member)) {
    if (auto written = write_note({epoch, member}); !written) {
      count(counters_.errors);
      return loop_.defer([alive = alive_, fn = std::move(fn), error = written.error()] {
        if (*alive) fn(tl::unexpected(error));
      });
    }
  }
  LeaseRequest request;
  request.incarnation = incarnation_;
  request.epoch = epoch;
  bucket.bucket = bucket_of(member);
  request.buckets.push_back(std::move(bucket));
  send(tenant_of(member), std::move(request), std::move(fn));
}

void LedgerLeases::close(const std::string& incarnation, const LeaseNote& note, int64_t spent,
                         std::function<void(int64_t)> fn) {
  counters_.unsettled.fetch_add(1, std::memory_order_relaxed);
  try_close(std::make_shared<Closing>(Closing{incarnation, note, spent, std::move(fn)}));
}

void LedgerLeases::note_refusal(Closing& closing, bool refused) {
  if (closing.refused == refused) return;
  closing.refused = refused;
  counters_.unsettled_refused.fetch_add(refused ? 1 : -1, std::memory_order_relaxed);
}

void LedgerLeases::close_again(std::shared_ptr<Closing> closing, const Error& error) {
  const bool refused = error.errc == Errc::kInvalid;
  if (refused) {
    static log::Throttle throttle(30);
    log::warn(throttle, "the ledger refuses to settle a lease: its units stay on hold until this is mended",
              {{"tenant", tenant_of(closing->note.second)},
               {"bucket", bucket_of(closing->note.second)},
               {"epoch", closing->note.first},
               {"incarnation", closing->incarnation},
               {"error", error.message},
               {"remedy",
                "a token with the scope lease:write for this tenant in --ledger-token-file, and the operator's API "
                "at --ledger-url; it is tried again by itself"}});
  }
  // A call that was not made, for the endpoint is known to be away, says nothing new of a refusal.
  if (refused || error.errc == Errc::kTimeout) note_refusal(*closing, refused);
  const auto [least_ms, most_ms] =
      closing->refused ? std::pair{kRefusedMinMs, kRefusedMaxMs} : std::pair{kRetryMinMs, kRetryMaxMs};
  closing->retry_ms = std::min(most_ms, std::max(least_ms, closing->retry_ms * 2));
  loop_.after_ms(closing->retry_ms, [this, alive = alive_, closing] {
    if (*alive) try_close(closing);
  });
}

void LedgerLeases::try_close(std::shared_ptr<Closing> closing) {
  LeaseRequest request;
  request.incarnation = closing->incarnation;
  request.closed.push_back({bucket_of(closing->note.second), closing->note.first, closing->spent});
  send(tenant_of(closing->note.second), std::move(request), [this, closing](Result<LeaseAnswer> answer) {
    if (!answer) return close_again(closing, answer.error());
    note_refusal(*closing, false);
    counters_.unsettled.fetch_sub(1, std::memory_order_relaxed);
    count(counters_.closed);
    if (closing->incarnation == incarnation_) notes_.erase(closing->note);
    closing->fn(answer->absorbed[0]);
  });
}

}  // namespace tallygate::sidecar
