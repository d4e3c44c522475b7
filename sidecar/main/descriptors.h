// How many descriptors the process may have open, and how many clients that leaves room for.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tallygate::sidecar {

// Raises the soft limit to the hard one; the limit that is in force then.
uint64_t raise_descriptor_limit();

// So many clients can be connected, each with a connection to the app, while usage log, Redis, ledger and admin port
// still get what they need. At least one.
size_t clients_within(uint64_t descriptor_limit);

}  // namespace tallygate::sidecar
