#include "sidecar/escrow/ledger_client.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "core/http1/body.h"
#include "core/http1/head.h"
#include "core/redis_client/transport.h"

namespace tallygate::sidecar {
namespace {

constexpr size_t kTokenBytesMax = 4096;
constexpr int64_t kTickMs = 20;

}  // namespace

// One keep-alive connection, one call at a time.
class LedgerClient::Connection {
 public:
  explicit Connection(LedgerClient& owner)
      : owner_(owner),
        transport_(owner.loop_, owner.endpoint_.address,
                   {[this] { opened(); }, [this](const char* data, size_t size) { received(data, size); },
                    [this](const std::string& why) { closed(why); }}) {}

  bool idle() const { return !call_.has_value(); }
  const Call* call() const { return call_ ? &*call_ : nullptr; }

  void take(Call call, std::string request) {
    call_ = std::move(call);
    request_ = std::move(request);
    reused_ = open_;
    start();
  }

  // What comes of it is not known any more. Where other calls are answered meanwhile, the endpoint is there: this one
  // waits for something of its tenant's.
  void give_up(const std::string& why) {
    transport_.close();
    open_ = false;
    if (owner_.answered_ns_ > call_->deadline_ns - owner_.options_.call_timeout_ms * 1'000'000)
      owner_.last_error_ = why;
    else
      owner_.away(why);
    finish(fail(Errc::kTimeout, why));
  }

 private:
  void start() {
    head_.start(http1::Head::Kind::kResponse);
    head_done_ = false;
    in_.clear();
    body_.clear();
    if (open_) return transport_.write(request_);
    transport_.open();
  }

  void opened() {
    open_ = true;
    if (call_) transport_.write(request_);
  }

  void closed(const std::string& why) {
    const bool sent = std::exchange(open_, false);
    if (!call_) return;  // an idle connection that the server ended
    if (head_done_ && reader_.kind() == http1::BodyReader::Kind::kUntilClose) {
      reader_.end_by_close();
      return answered();
    }
    // The server may end an idle connection just as a call is sent on it. A call repeated changes nothing twice.
    if (std::exchange(reused_, false) && in_.empty()) {
      owner_.loop_.defer([this, alive = owner_.alive_] {
        if (*alive && call_) start();
      });
      return;
    }
    owner_.away(why);
    finish(fail(sent ? Errc::kTimeout : Errc::kUnavailable, why));
  }

  void refuse(const std::string& why) {
    transport_.close();
    open_ = false;
    owner_.away(why);
    finish(fail(Errc::kTimeout, why));
  }

  void received(const char* data, size_t size) {
    if (!call_) {  // an answer that nobody asked for
      transport_.close();
      open_ = false;
      return;
    }
    in_.append(data, size);
    if (!head_done_ && !read_head()) return;
    size_t at = 0;
    while (!reader_.done() && at < in_.size()) {
      const auto step = reader_.next(in_.data() + at, in_.size() - at, limits_);
      if (step.error != http1::ParseError::kNone)
        return refuse("an unreadable answer from " + owner_.endpoint_.address.display());
      body_.append(step.payload_size > 0 ? step.payload : "", step.payload_size);
      at += step.consumed;
      if (body_.size() > owner_.options_.answer_bytes_max)
        return refuse("too long an answer from " + owner_.endpoint_.address.display());
    }
    in_.erase(0, at);
    if (reader_.done()) answered();
  }

  bool read_head() {
    while (true) {
      const auto progress = head_.parse(in_.data(), in_.size(), limits_);
      const bool complete = progress == http1::Progress::kComplete;
      if (progress == http1::Progress::kError || (complete && head_.status == 101)) {
        refuse("an unreadable answer from " + owner_.endpoint_.address.display());
      }
      if (!complete || head_.status == 101) return false;
      in_.erase(0, head_.size());
      if (head_.status >= 200) break;
      head_.start(http1::Head::Kind::kResponse);  // an interim one: the answer is yet to come
    }
    head_done_ = true;
    if (head_.chunked)
      reader_.start_chunked();
    else if (head_.content_length >= 0)
      reader_.start_length(static_cast<uint64_t>(head_.content_length));
    else
      reader_.start_until_close();
    return true;
  }

  void answered() {
    if (head_.close || head_.minor_version == 0 || !in_.empty()) {
      transport_.close();
      open_ = false;
    }
    if (head_.status == 200) {
      owner_.answered_ns_ = owner_.loop_.now_ns();
      owner_.backoff_ms_ = 0;
      owner_.last_error_.clear();
      return finish(std::move(body_));
    }
    const std::string why =
        owner_.endpoint_.address.display() + " answered " + std::to_string(head_.status) + ": " + body_.substr(0, 300);
    // The file is read again: twice changed within a tick of the clock, it shows the same time.
    if (head_.status == 401) owner_.token_stamp_ns_ = -1;
    const bool refusal = head_.status >= 400 && head_.status < 500 && head_.status != 408 && head_.status != 429;
    // These are about one request's tenant or content; all else is the endpoint's.
    if ((refusal && head_.status != 401) || head_.status == 429)
      owner_.last_error_ = why;
    else
      owner_.away(why);
    finish(fail(head_.status >= 500 ? Errc::kTimeout : refusal ? Errc::kInvalid : Errc::kUnavailable, why));
  }

  void finish(Result<std::string> result) {
    Call call = std::move(*call_);
    call_.reset();
    owner_.done(std::move(call), std::move(result));
  }

  LedgerClient& owner_;
  redis::Transport transport_;
  bool open_ = false;
  bool reused_ = false;  // the call was sent on a connection that had served another
  std::optional<Call> call_;
  std::string request_, in_, body_;
  http1::Head head_;
  http1::BodyReader reader_;
  http1::Limits limits_;
  bool head_done_ = false;
};

LedgerClient::LedgerClient(EventLoop& loop, LedgerEndpoint endpoint, LedgerClientOptions options)
    : loop_(loop), endpoint_(std::move(endpoint)), options_(options) {}

LedgerClient::~LedgerClient() {
  *alive_ = false;
  loop_.cancel(timer_);
}

// The file is small and local; looking at its time for each connection's worth of calls costs microseconds.
Result<std::string> LedgerClient::token() {
  struct stat now {};
  const auto unreadable = [&] {
    return fail(Errc::kUnavailable, "cannot read the token file " + endpoint_.token_file);
  };
  if (stat(endpoint_.token_file.c_str(), &now) != 0) return unreadable();
  const int64_t stamp_ns = now.st_mtim.tv_sec * 1'000'000'000 + now.st_mtim.tv_nsec;
  if (stamp_ns == token_stamp_ns_) return token_;
  const int fd = open(endpoint_.token_file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return unreadable();
  char bytes[kTokenBytesMax];
  const ssize_t n = read(fd, bytes, sizeof bytes);
  close(fd);
  std::string text(bytes, static_cast<size_t>(std::max<ssize_t>(0, n)));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  const bool visible = std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (text.empty() || !visible)
    return fail(Errc::kUnavailable, "the token file " + endpoint_.token_file + " holds no token");
  token_ = std::move(text);
  token_stamp_ns_ = stamp_ns;
  return token_;
}

std::string LedgerClient::request(const Call& call, const std::string& token) const {
  return "POST " + endpoint_.path + "/v1/leases HTTP/1.1\r\nHost: " + endpoint_.host + "\r\nAuthorization: Bearer " +
         token + "\r\nTallygate-Tenant: " + call.tenant +
         "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(call.body.size()) + "\r\n\r\n" +
         call.body;
}

void LedgerClient::post(const std::string& tenant, std::string body, Callback callback) {
  Call call{tenant, std::move(body), std::move(callback), loop_.env().mono_ns() + options_.call_timeout_ms * 1'000'000};
  if (!usable()) return done(std::move(call), fail(Errc::kUnavailable, last_error_));
  if (queue_.size() >= options_.queue_max)
    return done(std::move(call), fail(Errc::kExhausted, "too many calls wait for the ledger"));
  queue_.push_back(std::move(call));
  if (timer_ == 0) timer_ = loop_.after_ms(kTickMs, [this] { expire(); });
  loop_.defer([this, alive = alive_] {
    if (*alive) serve();
  });
}

void LedgerClient::serve() {
  while (!queue_.empty()) {
    auto free = std::find_if(connections_.begin(), connections_.end(), [](const auto& c) { return c->idle(); });
    if (free == connections_.end()) {
      if (connections_.size() >= options_.connections_max) return;
      connections_.push_back(std::make_unique<Connection>(*this));
      free = connections_.end() - 1;
    }
    Call call = std::move(queue_.front());
    queue_.pop_front();
    auto secret = token();
    if (!secret) {
      away(secret.error().message);
      done(std::move(call), tl::unexpected(secret.error()));
      continue;
    }
    std::string text = request(call, *secret);
    (*free)->take(std::move(call), std::move(text));
  }
}

// Calls whose time is over, in the queue and under way.
void LedgerClient::expire() {
  timer_ = 0;
  const int64_t now_ns = loop_.now_ns();
  const std::string why = "no answer from " + endpoint_.address.display() + " in time";
  for (auto& connection : connections_) {
    const Call* call = connection->call();
    if (call != nullptr && now_ns >= call->deadline_ns) connection->give_up(why);
  }
  while (!queue_.empty() && now_ns >= queue_.front().deadline_ns) {
    Call call = std::move(queue_.front());
    queue_.pop_front();
    done(std::move(call), fail(Errc::kUnavailable, why));
  }
  const bool busy = std::any_of(connections_.begin(), connections_.end(), [](const auto& c) { return !c->idle(); });
  if (timer_ == 0 && (busy || !queue_.empty())) timer_ = loop_.after_ms(kTickMs, [this] { expire(); });
}

void LedgerClient::away(const std::string& why) {
  last_error_ = why;
  if (!usable()) return;  // the backoff counts outages, not calls
  backoff_ms_ = backoff_ms_ == 0 ? options_.backoff_min_ms : std::min(options_.backoff_max_ms, backoff_ms_ * 2);
  away_until_ns_ = loop_.now_ns() + backoff_ms_ * 1'000'000;
}

void LedgerClient::done(Call call, Result<std::string> result) {
  loop_.defer([this, alive = alive_, callback = std::move(call.callback), result = std::move(result)]() mutable {
    if (!*alive) return;
    callback(std::move(result));
    if (*alive) serve();
  });
}

}  // namespace tallygate::sidecar
