// Reads what is published under a key, three-valued: its text, absent though the publication stands, or nothing that tells.
//
// All that is asked for in one turn of the loop is told absent or not by one look at the publication's head.
// Threading: the event loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/io/event_loop.h"
#include "core/redis_client/connection.h"

namespace tallygate::sidecar {

struct Told {
  enum class Kind : uint8_t { kNothing, kAbsent, kText } kind = Kind::kNothing;
  std::string text, signature;
};

class Published {
 public:
  // `signatures`: whether they are asked for too.
  Published(EventLoop& loop, redis::Connection& redis, bool signatures);
  ~Published() { *alive_ = false; }
  // `then` is called once, later; not after the destruction of this.
  void ask(const std::string& key, std::function<void(Told)> then);

 private:
  struct Asked {
    Result<redis::Reply> reply;
    std::function<void(Told)> then;
  };
  void answer();
  Told told_of(Result<redis::Reply>& reply, bool stands) const;

  EventLoop& loop_;
  redis::Connection& redis_;
  const bool signatures_;
  std::vector<std::shared_ptr<Asked>> asked_;  // in this turn of the loop
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tallygate::sidecar
