#include "core/http/request_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/http1/chars.h"

namespace tallygate::http {
namespace {

http1::Limits limits_of(size_t head_bytes_max) {
  http1::Limits limits;
  limits.request_head_bytes_max = static_cast<uint32_t>(head_bytes_max);
  limits.request_line_bytes_max = std::min(limits.request_line_bytes_max, limits.request_head_bytes_max);
  return limits;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = http1::lower(c);
  return out;
}

ReasonName reason_of(int status) {
  switch (status) {
    case 414:
      return "TargetTooLong";
    case 431:
      return "RequestHeadTooLarge";
    case 501:
      return "MethodNotImplemented";
    case 505:
      return "VersionNotSupported";
    default:
      return "MalformedRequest";
  }
}

}  // namespace

bool BodyBudget::take(size_t bytes) {
  if (taken_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= bytes_max_) return true;
  give_back(bytes);
  return false;
}

RequestReader::RequestReader(size_t head_bytes_max) : limits_(limits_of(head_bytes_max)) {}

char* RequestReader::prepare(size_t size) {
  if (begin_ == end_) clear();
  if (capacity_ - end_ < size) {
    const size_t unread = end_ - begin_;
    if (capacity_ < unread + size) {
      const size_t grown = std::max(unread + size, 2 * capacity_);  // so that small reads are not copied at each
      std::unique_ptr<char[]> larger(new char[grown]);
      if (unread > 0) std::memcpy(larger.get(), bytes_.get() + begin_, unread);
      bytes_ = std::move(larger);
      capacity_ = grown;
    } else {
      std::memmove(bytes_.get(), bytes_.get() + begin_, unread);
    }
    begin_ = 0;
    end_ = unread;
  }
  return bytes_.get() + end_;
}

void RequestReader::begin() {
  drop_body();
  if (begin_ == end_ && capacity_ > kKeptBytes) {
    clear();
    bytes_.reset();
    capacity_ = 0;
  }
  request_ = Request{};
  http_1_0_ = false;
  head_.reset();
}

RequestReader::Step RequestReader::refuse(http1::ParseError error) {
  const http1::ParseErrorInfo& info = http1::info(error);
  return refuse(info.status, reason_of(info.status), info.detail);
}

RequestReader::Step RequestReader::refuse(int status, ReasonName reason, std::string detail) {
  refused_ = {status, reason, std::move(detail)};
  return Step::kRefused;
}

RequestReader::Step RequestReader::read_head() {
  if (unread().empty()) return Step::kMore;
  if (!head_) {
    head_ = std::make_unique<http1::Head>();
    head_->start(http1::Head::Kind::kRequest);
  }
  switch (head_->parse(bytes_.get() + begin_, end_ - begin_, limits_)) {
    case http1::Progress::kNeedMore:
      return Step::kMore;
    case http1::Progress::kError:
      return refuse(head_->error());
    case http1::Progress::kComplete:
      break;
  }
  take_head();
  const auto expects = request_.header_count("expect");
  if (expects > 1 || (expects == 1 && !head_->expect_continue)) {
    return refuse(417, "ExpectationFailed", "Nothing but 100-continue can be expected.");
  }
  begin_ += head_->size();
  head_.reset();
  return Step::kDone;
}

void RequestReader::take_head() {
  const http1::Head& head = *head_;
  const char* data = bytes_.get() + begin_;
  request_.method = head.view(data, head.method);
  request_.path = head.view(data, head.path);
  if (request_.path.empty()) request_.path = "/";
  request_.query = head.view(data, head.query);
  request_.host = head.view(data, head.authority);
  request_.headers.reserve(head.field_count);
  for (size_t i = 0; i < head.field_count; ++i) {
    const http1::Field& field = head.fields[i];
    request_.headers.emplace_back(lower(head.name(data, field)), head.value(data, field));
  }
  http_1_0_ = head.minor_version == 0;
  keep_alive_ = !head.close && (head.keep_alive || !http_1_0_);
  expects_continue_ = head.expect_continue && !http_1_0_;
  content_length_ = head.chunked ? -1 : std::max<int64_t>(head.content_length, 0);
}

void RequestReader::begin_body(size_t bytes_max, BodyBudget& budget) {
  budget_ = &budget;
  body_bytes_max_ = bytes_max;
  if (content_length_ < 0) {
    body_.start_chunked();
  } else {
    body_.start_length(static_cast<uint64_t>(content_length_));
  }
}

RequestReader::Step RequestReader::read_body() {
  const auto too_large = [this] { return refuse(413, "BodyTooLarge", "The body is too large."); };
  if (content_length_ > static_cast<int64_t>(body_bytes_max_)) return too_large();
  while (!body_.done()) {
    if (begin_ == end_) return Step::kMore;
    const auto step = body_.next(bytes_.get() + begin_, end_ - begin_, limits_);
    if (step.error != http1::ParseError::kNone) return refuse(step.error);
    if (step.payload_size > body_bytes_max_ - request_.body.size()) return too_large();
    if (!has_room_for(step.payload_size)) {
      return refuse(503, "Overloaded", "The server holds as many bodies as it can; try again.");
    }
    request_.body.append(step.payload, step.payload_size);
    begin_ += step.consumed;
  }
  return Step::kDone;
}

// Grows by doubling, never past what may come.
bool RequestReader::has_room_for(size_t bytes) {
  std::string& body = request_.body;
  const size_t wanted = body.size() + bytes;
  if (wanted <= body.capacity()) return true;
  const size_t end = content_length_ < 0 ? body_bytes_max_ : static_cast<size_t>(content_length_);
  const size_t grown = std::min(std::max(wanted, 2 * body.capacity()), end);
  const size_t counted = grown > kUncountedBytes ? grown : 0;
  if (counted > counted_bytes_) {
    if (!budget_->take(counted - counted_bytes_)) return false;
    counted_bytes_ = counted;
  }
  body.reserve(grown);
  return true;
}

void RequestReader::drop_body() {
  if (counted_bytes_ > 0) budget_->give_back(std::exchange(counted_bytes_, 0));
  request_.body = std::string();
}

}  // namespace tallygate::http
