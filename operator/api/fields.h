// Reads a request's JSON body and its query strictly: every member is asked for by name, with its form; what is left
// over is refused; all faults are told at once, each with its field. An absent required member, or one of a wrong form,
// reads as an empty value, so that the caller asks for everything first and then for the faults.
//
//   Fields fields(request);
//   const Micros amount = fields.amount("amount");
//   if (auto refused = fields.refusal()) return *refused;
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/http/message.h"
#include "core/money.h"

namespace tallygate::api {

class Fields {
 public:
  // kOptional: an empty body reads as {}. kNone: a body is not looked at.
  enum class Body : uint8_t { kRequired, kOptional, kNone };
  Fields(const http::Request& request, Body body);
  // An object inside of a body; `prefix` goes before its members' names in faults.
  Fields(std::string_view object, std::string prefix);
  Fields(Fields&&) noexcept;
  ~Fields();

  // Members of the body. Texts are UTF-8 without control characters.
  std::string text(const std::string& name, size_t max, bool required = true);
  Micros amount(const std::string& name, Micros min, bool negative = false);  // a decimal string; below 10^15 micros
  std::optional<Micros> optional_amount(const std::string& name, Micros min);
  std::optional<std::string> currency(const std::string& name = "currency", bool required = false);
  std::optional<int64_t> integer(const std::string& name, int64_t min, int64_t max, bool required = true);
  std::optional<int64_t> moment(const std::string& name, bool required = true);  // RFC 3339; nanoseconds
  // The objects of an array, at most `max`, each to be read as this is; their faults come back by take().
  std::vector<Fields> objects(const std::string& name, size_t max);
  // Adds the faults of a part.
  void take(Fields& part);
  // A map of at most 16 short texts; as JSON.
  std::string labels(const std::string& name);

  // Parameters of the query.
  std::optional<std::string> query_text(const std::string& name, size_t max);
  std::optional<std::string> query_currency(const std::string& name = "currency");
  std::optional<std::string> query_word(const std::string& name, const std::vector<std::string>& words);
  std::optional<int64_t> query_integer(const std::string& name, int64_t min, int64_t max);
  std::optional<int64_t> query_moment(const std::string& name);
  std::optional<int64_t> query_cursor(char kind);

  void refuse(const std::string& field, std::string detail);
  // 400, 415 or 422 with every fault; nothing where all is well. Also looks for members that nobody asked for.
  std::optional<http::Response> refusal();
  // As refusal(), for parts of a body: the faults, to be told with those of other parts.
  std::vector<std::pair<std::string, std::string>> take_faults();
  // Of the whole body, members in one order: equal for bodies that say the same.
  std::string canonical() const;
  // The same with a member, where it is there, as `text`: of those that have several spellings.
  std::string canonical_with(const std::string& name, const std::string& text) const;

 private:
  struct Json;
  void refuse_unasked();
  std::unique_ptr<Json> json_;
  std::string prefix_;
  std::optional<http::Response> whole_;  // the body as such cannot be read
  std::map<std::string, std::string> query_;
  std::set<std::string> asked_, asked_query_;
  std::vector<std::pair<std::string, std::string>> faults_;
};

// 422 with the faults: {"errors": [{"field", "detail"}]}.
http::Response faulty_fields(const std::vector<std::pair<std::string, std::string>>& faults);
bool is_json_type(std::string_view content_type, std::string_view wanted);

}  // namespace tallygate::api
