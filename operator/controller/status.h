// What is said of a plan, a tenant or a policy in its status. Values, and how they are written and read as JSON. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tallygate::controller {

enum class Truth : uint8_t { kUnknown, kFalse, kTrue };

// Types. A type that an object has not does not apply to it.
inline constexpr char kAccepted[] = "Accepted";        // this generation is without faults, and taken
inline constexpr char kProgrammed[] = "Programmed";    // it is in force: ledger and Redis have it
inline constexpr char kPending[] = "Pending";          // its reason while that is under way
inline constexpr char kReady[] = "Ready";              // both: this generation is in force, and nothing more
inline constexpr char kBalanceHealthy[] = "BalanceHealthy";
inline constexpr char kBillingSynced[] = "BillingSynced";
inline constexpr char kPaymentCurrent[] = "PaymentCurrent";

struct Condition {
  std::string type;
  Truth status = Truth::kUnknown;
  std::string reason;  // UpperCamelCase, stable
  std::string message;
  int64_t observed_generation = 0;
  int64_t since_s = 0;  // of `status`
  bool operator==(const Condition&) const = default;
};

// From best to worst.
enum class LimitState : uint8_t { kOk, kWarned, kSoftOver, kGrace, kHard };
const char* to_string(LimitState state);  // "ok", "warned", "soft-over", "grace", "hard"

struct LimitUsage {
  std::string limit, meter, window;
  int64_t amount = 0, used = 0;
  LimitState state = LimitState::kOk;
  int64_t resets_at_s = 0;
  int64_t percent() const;
  bool operator==(const LimitUsage&) const = default;
};

struct Status {
  int64_t observed_generation = 0;
  std::vector<Condition> conditions;  // in the order of the types above
  // Of tenants.
  std::optional<LimitState> state;  // the worst
  std::vector<LimitUsage> usage;    // by limit
  std::string balance;  // "61.90 GBP"
  int64_t period_start_s = 0, period_end_s = 0;
  std::string stripe_customer;
  // Of plans.
  std::optional<int64_t> tenants;
  // Of policies.
  std::vector<std::string> conflicts;

  const Condition* condition(std::string_view type) const;
  int64_t used_percent() const;  // of the limit that is used up furthest
  bool operator==(const Status&) const = default;
};

// What a write is worth: nothing differs; only figures have moved, by a percent or more; or something has happened.
enum class Difference : uint8_t { kNone, kFigures, kNews };
Difference compare(const Status& now, const Status& written);

// Gives each condition the time since which its status is what it is: that of `before` where it was the same.
void set_times(Status& now, const Status& before, int64_t now_s);

// The object to apply to the status subresource.
std::string to_json(const Status& status, std::string_view kind, std::string_view name_space, std::string_view name,
                    std::string_view uid);
// Of an object as the API server has it; what cannot be read is left out.
Status read_status(std::string_view object_json);

}  // namespace tallygate::controller
