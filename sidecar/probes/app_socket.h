// One connection to the app with a deadline for everything. Blocks; for the admin port's workers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/env.h"
#include "core/result.h"

namespace tallygate::sidecar {

class AppSocket {
 public:
  // `upstream` as of --upstream; each of its addresses is tried. `env` outlives it.
  static Result<AppSocket> connect(Env& env, const std::string& upstream, int64_t deadline_ns);
  AppSocket(AppSocket&& other) noexcept;
  AppSocket& operator=(AppSocket&&) = delete;
  ~AppSocket();

  Result<void> write(std::string_view bytes);
  // Appends what comes next; nothing at the end of the stream. kTimeout at the deadline.
  Result<void> read(std::string* into);
  // An earlier deadline for what is read from now on.
  void give_up_at(int64_t deadline_ns) { deadline_ns_ = std::min(deadline_ns_, deadline_ns); }
  const std::string& address() const { return address_; }

 private:
  AppSocket(Env& env, int descriptor, int64_t deadline_ns)
      : env_(&env), descriptor_(descriptor), deadline_ns_(deadline_ns) {}
  Result<void> await(short events);

  Env* env_;
  int descriptor_;
  int64_t deadline_ns_;
  std::string address_;
};

}  // namespace tallygate::sidecar
