// Events for people (`kubectl describe`), by the API events.k8s.io/v1. The same event of one object again within ten
// minutes becomes a count on the first, told at the second one, then at most once a minute. One object gets 25 at once,
// then one each five minutes, as from client-go. While the API server is away, events wait: a thousand, and no more than
// fifteen minutes; others are dropped and counted (tallygate_operator_kube_event_records_total{result}). Never blocks.
#pragma once

#include <memory>
#include <string>

#include "core/env.h"
#include "core/telemetry/metrics.h"
#include "operator/kube/client.h"

namespace tallygate::kube {

struct EventText {
  enum class Type : uint8_t { kNormal, kWarning };
  Type type = Type::kNormal;
  std::string reason = {};  // a constant, UpperCamelCase, ≤ 128
  std::string action = {};  // what was being done, UpperCamelCase
  std::string note = {};    // for people, ≤ 1024 bytes: what is longer is cut
};

class EventRecorder {
 public:
  // `controller`: "billing.tallygate.dev/operator"; `instance`: this process (pod name). `client` outlives it.
  EventRecorder(Env& env, Client& client, std::string controller, std::string instance, metrics::Registry& registry);
  ~EventRecorder();  // stop()
  void start();
  void stop();  // what waits is tried once more, for two seconds at most and the call that is under way then
  // Any thread.
  void record(const ResourceType& type, const Object& about, EventText text);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallygate::kube
