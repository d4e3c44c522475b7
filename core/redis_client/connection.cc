#include "core/redis_client/connection.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <deque>

#include "core/redis_client/transport.h"

namespace tallygate::redis {
namespace {

void append_command(std::string* out, const Command& command) {
  *out += '*' + std::to_string(command.size()) + "\r\n";
  for (const auto& word : command) {
    *out += '$' + std::to_string(word.size()) + "\r\n";
    *out += word;
    *out += "\r\n";
  }
}

constexpr size_t kMessageBytesMax = size_t{8} * 1024 * 1024;

Reply to_reply(const redisReply* raw) {
  Reply reply;
  switch (raw->type) {
    case REDIS_REPLY_INTEGER:
      reply.type = Reply::Type::kInteger;
      reply.integer = raw->integer;
      break;
    case REDIS_REPLY_STRING:
      reply.type = Reply::Type::kString;
      break;
    case REDIS_REPLY_STATUS:
      reply.type = Reply::Type::kStatus;
      break;
    case REDIS_REPLY_ERROR:
      reply.type = Reply::Type::kError;
      break;
    case REDIS_REPLY_ARRAY:
      reply.type = Reply::Type::kArray;
      reply.elements.reserve(raw->elements);
      for (size_t i = 0; i < raw->elements; ++i) reply.elements.push_back(to_reply(raw->element[i]));
      break;
    default:
      break;
  }
  if (raw->str != nullptr) reply.text.assign(raw->str, static_cast<size_t>(raw->len));
  return reply;
}

}  // namespace

class Connection::Impl {
 public:
  Impl(EventLoop& loop, Endpoint endpoint, ConnectionOptions options)
      : loop_(loop),
        endpoint_(std::move(endpoint)),
        options_(options),
        reader_(redisReaderCreate()),
        transport_(loop, endpoint_,
                   {[this] { opened(); }, [this](const char* data, size_t size) { received(data, size); },
                    [this](const std::string& why) { lost(why); }}) {}

  ~Impl() {
    *alive_ = false;
    loop_.cancel(retry_timer_);
    loop_.cancel(deadline_timer_);
    transport_.close();
    redisReaderFree(reader_);
  }

  void start() {
    if (wanted_) return;
    wanted_ = true;
    attempt();
  }

  void stop() {
    if (!wanted_) return;
    wanted_ = false;
    loop_.cancel(retry_timer_);
    retry_timer_ = 0;
    drop("stopped");
  }

  void call(const Command& command, Callback callback, int64_t timeout_ms) {
    if (!ready_) return refuse(std::move(callback), Errc::kUnavailable, error_.empty() ? "not connected" : error_);
    if (pending_.size() >= options_.max_pending)
      return refuse(std::move(callback), Errc::kExhausted, "too many calls in flight");
    send(command, std::move(callback), timeout_ms);
  }

  void subscribe(std::vector<std::string> channels, std::function<void(std::string, std::string)> fn) {
    channels_ = std::move(channels);
    on_message_ = std::move(fn);
    if (ready_) send_subscribe();
  }

  EventLoop& loop_;
  Endpoint endpoint_;
  ConnectionOptions options_;
  bool ready_ = false;
  std::string error_ = "not started";
  std::function<void(bool)> on_change_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

 private:
  struct Pending {
    Callback callback;
    int64_t deadline_ns;
  };

  void refuse(Callback callback, Errc errc, std::string why) {
    // `alive`: after destruction whom it calls may be gone too.
    loop_.defer([alive = alive_, callback = std::move(callback), errc, why = std::move(why)] {
      if (*alive) callback(fail(errc, why));
    });
  }

  void send(const Command& command, Callback callback, int64_t timeout_ms) {
    append_command(&out_, command);
    const int64_t limit_ms = timeout_ms > 0 ? timeout_ms : options_.call_timeout_ms;
    const int64_t deadline_ns = loop_.env().mono_ns() + limit_ms * 1'000'000;
    pending_.push_back({std::move(callback), deadline_ns});
    ++unsent_;
    if (deadline_timer_ == 0 || deadline_ns < armed_ns_) arm_deadline(deadline_ns);
    if (flush_queued_) return;
    flush_queued_ = true;
    loop_.defer([this, alive = alive_] {
      if (!*alive) return;
      flush_queued_ = false;
      const std::string bytes = std::exchange(out_, {});
      unsent_ = 0;
      transport_.write(bytes);
    });
  }

  // At the earliest deadline of all, for a later call's may come before an earlier one's.
  void arm_deadline(int64_t deadline_ns) {
    loop_.cancel(deadline_timer_);
    armed_ns_ = deadline_ns;
    deadline_timer_ = loop_.at_ns(deadline_ns, [this] {
      deadline_timer_ = 0;
      if (pending_.empty()) return;
      const auto first = std::min_element(pending_.begin(), pending_.end(), [](const Pending& a, const Pending& b) {
        return a.deadline_ns < b.deadline_ns;
      });
      if (first->deadline_ns > loop_.now_ns()) return arm_deadline(first->deadline_ns);
      drop("no answer from " + endpoint_.display() + " in time");
    });
  }

  void attempt() {
    loop_.cancel(retry_timer_);
    retry_timer_ = loop_.after_ms(options_.connect_timeout_ms, [this] {
      retry_timer_ = 0;
      if (!ready_) drop("connecting to " + endpoint_.display() + " took too long");
    });
    transport_.open();
  }

  void opened() {
    greeting_ = 0;
    const auto expect_ok = [this](Result<Reply> reply) {
      if (!reply) return;  // the connection is gone already
      if (reply->is_error()) return drop(endpoint_.display() + " refused: " + reply->text);
      if (--greeting_ == 0) became_ready();
    };
    if (!endpoint_.user.empty() || !endpoint_.password.empty()) {
      ++greeting_;
      Command auth{"AUTH"};
      if (!endpoint_.user.empty()) auth.push_back(endpoint_.user);
      auth.push_back(endpoint_.password);
      send(auth, expect_ok, 0);
    }
    ++greeting_;
    send({"SELECT", std::to_string(endpoint_.db)}, expect_ok, 0);
  }

  void became_ready() {
    loop_.cancel(retry_timer_);
    retry_timer_ = 0;
    ready_since_ns_ = loop_.env().mono_ns();
    ready_ = true;
    error_.clear();
    if (!channels_.empty()) send_subscribe();
    if (on_change_) on_change_(true);
  }

  void send_subscribe() {
    Command command{"SUBSCRIBE"};
    command.insert(command.end(), channels_.begin(), channels_.end());
    append_command(&out_, command);
    unsent_ = 0;
    transport_.write(std::exchange(out_, {}));
  }

  void received(const char* data, size_t size) {
    const auto alive = alive_;
    redisReaderFeed(reader_, data, size);
    unparsed_ += size;
    while (*alive && reader_ != nullptr) {
      void* raw = nullptr;
      if (redisReaderGetReply(reader_, &raw) != REDIS_OK) return drop("unreadable answer from " + endpoint_.display());
      if (raw == nullptr && unparsed_ > unparsed_max()) return drop("an endless answer from " + endpoint_.display());
      if (raw == nullptr) return;
      unparsed_ = 0;  // but for what is left of this piece
      Reply reply = to_reply(static_cast<redisReply*>(raw));
      freeReplyObject(raw);
      deliver(std::move(reply));
    }
  }

  size_t unparsed_max() const { return channels_.empty() ? options_.reply_bytes_max : kMessageBytesMax; }

  void deliver(Reply reply) {
    if (!channels_.empty() && reply.is_array() && reply.elements.size() == 3) {
      if (reply.elements[0].is_text("subscribe")) return;
      if (reply.elements[0].is_text("message")) {
        return on_message_(std::move(reply.elements[1].text), std::move(reply.elements[2].text));
      }
    }
    if (pending_.empty() && reply.is_error()) return drop(endpoint_.display() + " refused: " + reply.text);
    if (pending_.empty()) return drop("an answer that nobody asked for from " + endpoint_.display());
    Callback callback = std::move(pending_.front().callback);
    pending_.pop_front();
    callback(std::move(reply));
  }

  void drop(const std::string& why) {
    transport_.close();
    lost(why);
  }

  void lost(const std::string& why) {
    const auto alive = alive_;
    redisReaderFree(reader_);
    reader_ = redisReaderCreate();
    unparsed_ = 0;
    out_.clear();
    error_ = why;
    const bool was_ready = std::exchange(ready_, false);
    loop_.cancel(deadline_timer_);
    deadline_timer_ = 0;
    std::deque<Pending> failed;
    failed.swap(pending_);
    // Once handed to the socket, nobody knows whether it was executed.
    size_t sent = failed.size() - std::min(failed.size(), std::exchange(unsent_, 0));
    // A server that greets and hangs up is away too: the backoff starts anew only after a connection that was of use.
    if (was_ready && loop_.env().mono_ns() - ready_since_ns_ >= options_.backoff_max_ms * 1'000'000) backoff_ms_ = 0;
    if (wanted_) schedule_retry();
    for (auto& p : failed) {
      refuse(std::move(p.callback), sent > 0 ? Errc::kTimeout : Errc::kUnavailable, why);
      if (sent > 0) --sent;
    }
    if (was_ready && *alive && on_change_) on_change_(false);
  }

  void schedule_retry() {
    backoff_ms_ = backoff_ms_ == 0 ? options_.backoff_min_ms : std::min(backoff_ms_ * 2, options_.backoff_max_ms);
    const int64_t half = std::max<int64_t>(1, backoff_ms_ / 2);
    const int64_t wait_ms = half + static_cast<int64_t>(loop_.env().random_below(static_cast<uint64_t>(half) + 1));
    loop_.cancel(retry_timer_);
    retry_timer_ = loop_.at_ns(loop_.env().mono_ns() + wait_ms * 1'000'000, [this] {
      retry_timer_ = 0;
      attempt();
    });
  }

  bool wanted_ = false;
  int greeting_ = 0;
  int64_t backoff_ms_ = 0;
  int64_t ready_since_ns_ = 0;
  bool flush_queued_ = false;
  std::string out_;
  std::deque<Pending> pending_;
  size_t unsent_ = 0;  // the last so many of `pending_` are still in out_
  int64_t armed_ns_ = 0;
  EventLoop::TimerId retry_timer_ = 0;
  EventLoop::TimerId deadline_timer_ = 0;
  std::vector<std::string> channels_;
  std::function<void(std::string, std::string)> on_message_;
  redisReader* reader_;
  size_t unparsed_ = 0;  // bytes of the answer that is arriving, give or take a piece
  Transport transport_;
};

Connection::Connection(EventLoop& loop, Endpoint endpoint, ConnectionOptions options)
    : impl_(std::make_unique<Impl>(loop, std::move(endpoint), options)) {}
Connection::~Connection() = default;
void Connection::set_login(std::string user, std::string password) {
  impl_->endpoint_.user = std::move(user);
  impl_->endpoint_.password = std::move(password);
}
void Connection::start() { impl_->start(); }
void Connection::stop() { impl_->stop(); }
bool Connection::connected() const { return impl_->ready_; }
const std::string& Connection::last_error() const { return impl_->error_; }
void Connection::on_change(std::function<void(bool)> fn) { impl_->on_change_ = std::move(fn); }
void Connection::subscribe(std::vector<std::string> channels, std::function<void(std::string, std::string)> fn) {
  impl_->subscribe(std::move(channels), std::move(fn));
}
void Connection::call(const Command& command, Callback callback, int64_t timeout_ms) {
  impl_->call(command, std::move(callback), timeout_ms);
}

void Connection::eval(const redis_contract::Script& script, std::vector<std::string> keys,
                      std::vector<std::string> args, Callback callback) {
  Command command{"EVALSHA", std::string(script.sha1), std::to_string(keys.size())};
  command.insert(command.end(), std::make_move_iterator(keys.begin()), std::make_move_iterator(keys.end()));
  command.insert(command.end(), std::make_move_iterator(args.begin()), std::make_move_iterator(args.end()));
  auto again = std::make_shared<Command>(command);
  impl_->call(
      command,
      [this, alive = impl_->alive_, again, &script, callback = std::move(callback)](Result<Reply> reply) {
        if (!*alive || !reply || !reply->is_error() || !reply->text.starts_with("NOSCRIPT"))
          return callback(std::move(reply));
        (*again)[0] = "EVAL";
        (*again)[1] = std::string(script.source);
        impl_->call(*again, callback, 0);
      },
      0);
}

}  // namespace tallygate::redis
