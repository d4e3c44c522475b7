#include "operator/api/wallet_history.h"

#include <nlohmann/json.hpp>

#include "operator/api/quotes.h"
#include "operator/api/wallet_json.h"

namespace tallygate::api {

std::map<std::string, int64_t> units_in(const ledger::Rows& rows, size_t row) {
  std::map<std::string, int64_t> out;
  // The ledger's own: a map of integers.
  const auto units = nlohmann::json::parse(rows.text(row, HistoryColumn::kUnits), nullptr, false);
  if (!units.is_object()) return out;
  for (const auto& [meter, count] : units.items()) {
    if (count.is_number_integer()) out[meter] = count.get<int64_t>();
  }
  return out;
}

std::optional<QuotedAmount> quoted_in(const ledger::Rows& rows, size_t row) {
  return read_quoted(rows, row, HistoryColumn::kQuote);
}

std::string description_of(const ledger::Rows& rows, size_t row) {
  std::string out;
  const auto add = [&out](const std::string& part) { out += (out.empty() ? "" : ", ") + part; };
  for (const auto& [meter, units] : units_in(rows, row)) add(std::to_string(units) + " units of " + meter);
  if (const std::string call(rows.text(row, HistoryColumn::kCallId)); !call.empty()) add("call " + call);
  if (const auto quoted = quoted_in(rows, row)) {
    add(money_text(quoted->amount, quoted->currency) + " " + quoted->currency + " at " + quoted->rate.str());
  }
  const std::string text(rows.text(row, HistoryColumn::kDescription));
  return out + (out.empty() || text.empty() ? "" : ": ") + text;
}

}  // namespace tallygate::api
