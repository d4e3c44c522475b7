#include "sidecar/admission/published.h"

#include <utility>

#include "core/redis_contract/keys.h"

namespace tallygate::sidecar {

namespace rc = redis_contract;

Published::Published(EventLoop& loop, redis::Connection& redis, bool signatures)
    : loop_(loop), redis_(redis), signatures_(signatures) {}

void Published::ask(const std::string& key, std::function<void(Told)> then) {
  if (asked_.empty()) {
    loop_.defer([this, alive = alive_] {
      if (*alive) answer();
    });
  }
  auto asked = std::make_shared<Asked>(Asked{fail(Errc::kUnavailable, ""), std::move(then)});
  asked_.push_back(asked);
  redis_.call(signatures_ ? redis::Command{"MGET", key, rc::signature_key(key)} : redis::Command{"GET", key},
              [asked](Result<redis::Reply> reply) { asked->reply = std::move(reply); });
}

// Asked after the keys: what is missing while the publication stands is nobody's.
void Published::answer() {
  redis_.call({"HGET", rc::meta_key(), "generation"},
              [this, alive = alive_, batch = std::exchange(asked_, {})](Result<redis::Reply> meta) {
                const bool stands = meta && meta->is_text();
                for (const auto& asked : batch) {
                  if (!*alive) return;
                  asked->then(told_of(asked->reply, stands));
                }
              });
}

Told Published::told_of(Result<redis::Reply>& reply, bool stands) const {
  Told told;
  if (!reply || (signatures_ && (!reply->is_array() || reply->elements.size() != 2))) return told;
  redis::Reply& value = signatures_ ? reply->elements[0] : *reply;
  if (value.is_text()) {
    told.kind = Told::Kind::kText;
    told.text = std::move(value.text);
    if (signatures_) told.signature = std::move(reply->elements[1].text);
  } else if (value.is_nil() && stands) {
    told.kind = Told::Kind::kAbsent;
  }
  return told;
}

}  // namespace tallygate::sidecar
