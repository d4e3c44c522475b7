// Points at which tests make the process die: TALLYGATE_FAULT="name:exit" (several joined by commas) ends it with code
// 137, as kill -9 would, when it passes that point; "name:exit:3" when it passes it for the third time. Off unless the variable is set. Points: pump.after_read,
// pump.after_commit, pump.after_ack; submitter.* are billing's.
#pragma once

#include <string_view>

namespace tallygate::ledger {

// The variable's value, empty when off: for a loud line at start.
std::string_view armed_faults();
void fault_point(std::string_view name);

}  // namespace tallygate::ledger
