// A crash must not write the process's memory, and with it every secret, to disk; nor may others of its user look into
// it (ptrace, /proc/PID/mem). Not inherited by programs that it executes.
#pragma once

namespace tallygate {

// First of all in main(), before any secret is read.
void forbid_core_dumps();
// As it was, for who looks for a fault.
void allow_core_dumps();

}  // namespace tallygate
