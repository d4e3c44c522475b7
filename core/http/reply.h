// The answer that an asynchronous handler owes. Called once, from any thread; one that is dropped without a call
// answers 500. The request is there until the call, not after it.
//
// The handler runs on its connection's I/O thread and must not block: what has to goes on_worker(). What comes back on
// another thread, with many others at the same moment, is best continued on_io_thread(). Both keep the request's turn;
// a task that throws is logged, and answers 500 by what it drops.
#pragma once

#include <functional>
#include <memory>

#include "core/http/message.h"

namespace tallygate::http {

class Reply {
 public:
  // Where replies go; a connection, or a test's.
  class Target {
   public:
    virtual ~Target() = default;
    // `self` is this, to be let go of where it may be.
    virtual void answer(std::shared_ptr<Target> self, Response response) = 0;
    virtual void on_io_thread(std::function<void()> task) = 0;
    virtual void on_worker(std::function<void()> task) = 0;
  };

  explicit Reply(std::shared_ptr<Target> target) : target_(std::move(target)) {}
  Reply(Reply&&) noexcept = default;
  Reply& operator=(Reply&&) = delete;
  ~Reply();

  void operator()(Response response);
  // Before the call.
  void on_io_thread(std::function<void()> task) { target_->on_io_thread(std::move(task)); }
  void on_worker(std::function<void()> task) { target_->on_worker(std::move(task)); }

 private:
  std::shared_ptr<Target> target_;
};

}  // namespace tallygate::http
