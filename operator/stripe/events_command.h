// `tallygate-operator stripe events list|show|replay`: Stripe's events as the ledger keeps them, from a terminal.
#pragma once

#include <cstdint>
#include <string>

#include "core/config/options.h"
#include "core/env.h"
#include "operator/ledger/settings.h"

namespace tallygate::stripe {

enum class EventsAction : uint8_t { kList, kShow, kReplay };

struct EventsSettings {
  ledger::DatabaseSettings database;
  std::string event, status, actor, reason;
  int64_t limit = 0;
};

// `settings` outlives the parse.
void declare_events(config::OptionSet& options, EventsAction action, EventsSettings& settings);
// Prints; returns the exit code.
int run_events_command(Env& env, EventsAction action, const EventsSettings& settings);

}  // namespace tallygate::stripe
