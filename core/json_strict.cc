#include "core/json_strict.h"

#include <vector>

namespace tallygate {
namespace {

using nlohmann::json;

// JSON text has no binary values: one stands for a number as it was written.
json as_written(const std::string& number) { return json::binary({number.begin(), number.end()}); }

class Builder final : public nlohmann::json_sax<json> {
 public:
  Builder(const JsonRules& rules, std::string& why) : rules_(rules), why_(why) {}
  json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(int64_t value) override { return add(value); }
  bool number_unsigned(uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string& text) override {
    return rules_.exact_numbers ? add(as_written(text)) : add(value);
  }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(json::binary_t&) override { return false; }
  bool start_object(size_t) override { return open(json::object()); }
  bool start_array(size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    if (open_.back()->contains(name)) return refuse("it has a member twice");
    member_ = &(*open_.back())[name];
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return refuse("it is no JSON, at byte " + std::to_string(position));
  }

 private:
  bool refuse(std::string why) {
    why_ = std::move(why);
    return false;
  }
  json* place(json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (open_.back()->is_array()) return &open_.back()->emplace_back(std::move(value));
    return &(*member_ = std::move(value));
  }
  bool add(json value) {
    place(std::move(value));
    return true;
  }
  bool open(json value) {
    if (open_.size() >= rules_.levels_max) return refuse("it is nested too deeply");
    open_.push_back(place(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const JsonRules& rules_;
  std::string& why_;
  json root_;
  json* member_ = nullptr;   // where the value of the key just read goes
  std::vector<json*> open_;  // a container grows only while it is the last of them: the others do not move
};

}  // namespace

std::optional<json> parse_strict(std::string_view text, std::string& why, const JsonRules& rules) {
  // The parser takes a NUL for the end of its input and would not look at what follows.
  if (text.find('\0') != std::string_view::npos) {
    why = "it is no JSON";
    return std::nullopt;
  }
  Builder builder(rules, why);
  try {
    if (json::sax_parse(text.begin(), text.end(), &builder)) return builder.take();
  } catch (const json::exception&) {
    why = "it is no JSON";
  }
  return std::nullopt;
}

std::string number_text(const json& value) {
  if (value.is_number_integer()) return value.dump();
  if (!value.is_binary()) return "";
  const auto& bytes = value.get_binary();
  return {bytes.begin(), bytes.end()};
}

std::optional<std::string> text_at(const json& document, const std::string& pointer) {
  try {
    const json::json_pointer path(pointer);
    if (!document.contains(path)) return std::string();
    const json& found = document.at(path);
    return found.is_string() ? std::optional(found.get<std::string>()) : std::nullopt;
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

}  // namespace tallygate
