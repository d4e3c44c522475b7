#include "operator/api/json_strict.h"

#include <set>
#include <vector>

namespace tallygate::api {
namespace {

constexpr int kDepthMax = 16;

}  // namespace

std::optional<nlohmann::json> parse_strict(std::string_view text, std::string& why) {
  using json = nlohmann::json;
  // The parser takes a NUL for the end of its input and would not look at what follows.
  if (text.find('\0') != std::string_view::npos) {
    why = "it is no JSON";
    return std::nullopt;
  }
  std::vector<std::set<std::string>> members;
  std::string fault;
  const auto look = [&](int depth, json::parse_event_t event, json& parsed) {
    if (!fault.empty()) throw std::length_error(fault);
    if (depth > kDepthMax) throw std::length_error("it is nested too deeply");
    if (event == json::parse_event_t::object_start) {
      members.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      members.pop_back();
    } else if (event == json::parse_event_t::key &&
               !members.back().insert(parsed.get_ref<const std::string&>()).second) {
      fault = "it has a member twice";
      throw std::length_error(fault);
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), look);
  } catch (const json::parse_error& e) {
    why = "it is no JSON, at byte " + std::to_string(e.byte);
  } catch (const json::exception&) {
    why = "it is no JSON";
  } catch (const std::exception& e) {
    why = e.what();
  }
  return std::nullopt;
}

}  // namespace tallygate::api
