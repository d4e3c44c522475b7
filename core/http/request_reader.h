// Requests out of a connection's bytes, by the strict parser of core/http1; without sockets. One request after the
// other:
//
//   reader.begin(); … while (reader.read_head() == kMore) take in bytes …
//   reader.begin_body(4096, budget); … while (reader.read_body() == kMore) take in bytes … reader.request() …
//
// After kRefused the bytes mean nothing any more. Whatever the bytes are and however they are split, the requests and
// the refusal are the same.
//
// Memory: what has arrived and was not read yet (a head, or one read of the socket), and the body, which grows with
// what arrives, whatever length was announced, and is counted in a budget that all connections share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/http/message.h"
#include "core/http1/body.h"
#include "core/http1/head.h"

namespace tallygate::http {

// Memory of bodies, of all connections together. Any thread.
class BodyBudget {
 public:
  explicit BodyBudget(size_t bytes_max) : bytes_max_(bytes_max) {}
  bool take(size_t bytes);
  void give_back(size_t bytes) { taken_.fetch_sub(bytes, std::memory_order_relaxed); }
  size_t taken() const { return taken_.load(std::memory_order_relaxed); }

 private:
  const size_t bytes_max_;
  std::atomic<size_t> taken_{0};
};

struct Refused {
  int status = 400;
  ReasonName reason = "MalformedRequest";
  std::string detail;
};

class RequestReader {
 public:
  // What each body may hold without the budget: as much as there may be connections, small bodies find room.
  static constexpr size_t kUncountedBytes = 4 * 1024;
  // What arrived takes no more than this once it has been read, until more comes.
  static constexpr size_t kKeptBytes = 4 * 1024;
  enum class Step : uint8_t { kMore, kDone, kRefused };

  explicit RequestReader(size_t head_bytes_max);
  ~RequestReader() { drop_body(); }
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;

  // Where the next `size` bytes go; committed once they are there.
  char* prepare(size_t size);
  void commit(size_t size) { end_ += size; }
  // What has arrived and was not read.
  std::string_view unread() const { return {bytes_.get() + begin_, end_ - begin_}; }
  void clear() { begin_ = end_ = 0; }

  size_t capacity_bytes() const { return capacity_; }  // of what arrives

  // Forgets the last request.
  void begin();
  Step read_head();
  // After read_head(): the body may be this long, and is counted there. `budget` outlives the reader.
  void begin_body(size_t bytes_max, BodyBudget& budget);
  Step read_body();
  const Refused& refused() const { return refused_; }

  // Valid after read_head(), its body after read_body().
  Request& request() { return request_; }
  bool keep_alive() const { return keep_alive_; }
  bool http_1_0() const { return http_1_0_; }
  bool expects_continue() const { return expects_continue_; }
  // Gives the body's memory back; the rest of the request stays.
  void drop_body();

 private:
  Step refuse(http1::ParseError error);
  Step refuse(int status, ReasonName reason, std::string detail);
  void take_head();
  bool has_room_for(size_t bytes);

  const http1::Limits limits_;
  BodyBudget* budget_ = nullptr;
  std::unique_ptr<char[]> bytes_;
  size_t begin_ = 0, end_ = 0, capacity_ = 0;
  std::unique_ptr<http1::Head> head_;  // while one is read
  http1::BodyReader body_;
  size_t body_bytes_max_ = 0, counted_bytes_ = 0;
  int64_t content_length_ = -1;
  Request request_;
  Refused refused_;
  bool keep_alive_ = true, http_1_0_ = false, expects_continue_ = false;
};

}  // namespace tallygate::http
