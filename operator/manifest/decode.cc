#include "operator/manifest/decode.h"

#include <algorithm>
#include <charconv>

#include "operator/manifest/formats.h"

namespace tallygate::manifest {
namespace {

std::string shown(std::string_view text) {
  return "\"" + std::string(text.substr(0, 80)) + (text.size() > 80 ? "…" : "") + "\"";
}

std::string joined(const std::vector<std::string_view>& words) {
  std::string text;
  for (const auto word : words) text += (text.empty() ? "" : ", ") + std::string(word);
  return text;
}

// As an API server counts: code points of UTF-8.
size_t characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool is_scalar(const Node& node) { return node.kind != Node::Kind::kList && node.kind != Node::Kind::kMap; }

Micros smallest_unit(const std::string& currency) {
  const int digits = currency_digits(currency).value_or(2);
  Micros unit = kMicrosPerUnit;
  for (int i = 0; i < digits; ++i) unit /= 10;
  return unit;
}

constexpr Micros kMaxPrice = 1'000'000'000 * kMicrosPerUnit;

}  // namespace

const char* kind_name(Node::Kind kind) {
  switch (kind) {
    case Node::Kind::kNull:
      return "nothing";
    case Node::Kind::kBool:
      return "a yes-or-no value";
    case Node::Kind::kInt:
      return "a number";
    case Node::Kind::kFloat:
      return "a floating-point number";
    case Node::Kind::kString:
      return "a string";
    case Node::Kind::kList:
      return "a list";
    case Node::Kind::kMap:
      return "a mapping";
  }
  return "";
}

Fields::Fields(Sink& sink, const Node& node, std::string path) : sink_(sink), node_(node), path_(std::move(path)) {
  if (node_.kind != Node::Kind::kMap) {
    sink_.fault(node_.line, path_, Reason::kInvalidValue,
                std::string("is ") + kind_name(node_.kind) + ", not a mapping", "write key: value pairs");
  }
  Names seen;
  for (const Member& member : node_.members) seen.add(sink_, member.key, member.line, this->path(member.key));
}

const Member* Fields::find(std::string_view key) const {
  for (const Member& member : node_.members) {
    if (member.key == key) return &member;
  }
  return nullptr;
}

bool Fields::has(std::string_view key) const {
  const Member* member = find(key);
  return member != nullptr && member->value.kind != Node::Kind::kNull;
}

int Fields::line(std::string_view key) const {
  const Member* member = find(key);
  return member != nullptr ? member->line : node_.line;
}

std::string Fields::path(std::string_view key) const {
  if (key.empty()) return path_;
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

const Node* Fields::get(std::string_view key, Need need) {
  known_.push_back(key);
  if (has(key)) return &find(key)->value;
  if (need == kRequired && node_.kind == Node::Kind::kMap) {
    fault(key, Reason::kRequired, "is required", "add " + std::string(key));
  }
  return nullptr;
}

void Fields::finish() {
  for (const Member& member : node_.members) {
    if (std::find(known_.begin(), known_.end(), member.key) != known_.end()) continue;
    const auto meant = did_you_mean(member.key, known_);
    sink_.fault(
        member.line, path(member.key), Reason::kUnknownField, "there is no field " + shown(member.key),
        meant.empty() ? "remove it; known here: " + joined(known_) : "did you mean " + std::string(meant) + "?");
  }
}

bool Fields::check_text(const Node& node, int line, const std::string& path, const Form& form) {
  const std::string write = std::string("write ") + form.want;
  if (!is_scalar(node)) {
    sink_.fault(line, path, Reason::kInvalidValue, std::string("is ") + kind_name(node.kind) + ", not a string", write);
    return false;
  }
  if (node.kind != Node::Kind::kString) {
    sink_.fault(line, path, Reason::kInvalidValue, std::string("is ") + kind_name(node.kind) + ", not a string",
                form.secret ? write : "quote it: \"" + node.text + "\"");
    return false;
  }
  if (characters(node.text) > form.max) {
    sink_.fault(line, path, Reason::kOutOfRange, "is longer than " + std::to_string(form.max) + " characters",
                "shorten it to at most " + std::to_string(form.max));
    return false;
  }
  if (form.ok != nullptr && !form.ok(node.text)) {
    const std::string what =
        form.secret ? "what stands there, of " + std::to_string(node.text.size()) + " bytes," : shown(node.text);
    sink_.fault(line, path, Reason::kInvalidValue, what + " is not " + form.want, write);
    return false;
  }
  return true;
}

bool Fields::text(std::string_view key, Need need, const Form& form, std::string* out) {
  const Node* node = get(key, need);
  if (node == nullptr || !check_text(*node, line(key), path(key), form)) return false;
  *out = node->text;
  return true;
}

bool Fields::choose(std::string_view key, Need need, const std::vector<std::string_view>& names, size_t* index) {
  std::string value;
  const std::string list = joined(names);
  if (!text(key, need, {80, nullptr, ("one of " + list).c_str()}, &value)) return false;
  for (*index = 0; *index < names.size(); ++*index) {
    if (names[*index] == value) return true;
  }
  const auto meant = did_you_mean(value, names);
  invalid(key, shown(value) + " is not known",
          (meant.empty() ? "" : "did you mean " + std::string(meant) + "? ") + "use one of " + list);
  return false;
}

bool Fields::flag(std::string_view key, Need need, bool* out) {
  const Node* node = get(key, need);
  if (node == nullptr) return false;
  if (node->kind != Node::Kind::kBool || (node->text != "true" && node->text != "false")) {
    invalid(key, (is_scalar(*node) ? shown(node->text) : kind_name(node->kind)) + std::string(" is not true or false"),
            "write true or false, without quotes");
    return false;
  }
  *out = node->text == "true";
  return true;
}

bool Fields::integer(std::string_view key, Need need, int64_t min, int64_t max, int64_t* out) {
  const Node* node = get(key, need);
  if (node == nullptr) return false;
  const std::string range = "a whole number from " + std::to_string(min) + " to " + std::to_string(max);
  if (node->kind != Node::Kind::kInt) {
    const bool in_quotes = node->kind == Node::Kind::kString && !node->text.empty() &&
                           node->text.find_first_not_of("0123456789") == std::string::npos;
    invalid(key, std::string("is ") + kind_name(node->kind) + ", not a whole number",
            in_quotes ? "remove the quotes" : "write " + range);
    return false;
  }
  const std::string_view text = node->text;
  const std::string_view magnitude = text.substr(text.starts_with('-') ? 1 : 0);
  if (magnitude.find_first_not_of("0123456789") != std::string_view::npos ||
      (magnitude.size() > 1 && magnitude.front() == '0')) {
    invalid(key, shown(text) + " is not a plain decimal number",
            "write the digits only: no sign, leading zero, underscore or other base");
    return false;
  }
  int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc{} || value < min || value > max) {
    fault(key, Reason::kOutOfRange, std::string(text.substr(0, 40)) + " is out of range", "use " + range);
    return false;
  }
  *out = value;
  return true;
}

bool Fields::check_money(const Node& node, int line, const std::string& path, const std::string& whole_minor_of,
                         Micros* out) {
  constexpr const char* kWrite = "write a decimal in quotes, such as \"2.50\" (at most six decimals)";
  if (node.kind == Node::Kind::kFloat || node.kind == Node::Kind::kInt) {
    sink_.fault(line, path, Reason::kInvalidValue, "is a number; money is a decimal string, so that no digit is lost",
                "quote it: \"" + node.text + "\"");
    return false;
  }
  const auto value = node.kind == Node::Kind::kString ? parse_money(node.text) : fail(Errc::kInvalid, "");
  if (!value) {
    sink_.fault(line, path, Reason::kInvalidValue,
                (is_scalar(node) ? shown(node.text) : kind_name(node.kind)) + std::string(" is not a decimal amount"),
                kWrite);
    return false;
  }
  if (*value > kMaxPrice) {
    sink_.fault(line, path, Reason::kOutOfRange, "is more than " + format_money(kMaxPrice),
                "use at most " + format_money(kMaxPrice));
    return false;
  }
  if (!whole_minor_of.empty() && *value % smallest_unit(whole_minor_of) != 0) {
    sink_.fault(line, path, Reason::kInvalidValue, "is finer than the smallest unit of " + whole_minor_of,
                "round it to a multiple of " + format_money(smallest_unit(whole_minor_of), 0));
    return false;
  }
  *out = *value;
  return true;
}

bool Fields::money(std::string_view key, Need need, const std::string& whole_minor_of, Micros* out) {
  const Node* node = get(key, need);
  return node != nullptr && check_money(*node, line(key), path(key), whole_minor_of, out);
}

bool Fields::duration_ms(std::string_view key, Need need, int64_t min_ms, int64_t max_ms, int64_t* out) {
  std::string value;
  if (!text(key, need, {32, nullptr, "a duration such as 24h, 1h30m or 500ms"}, &value)) return false;
  const auto duration = parse_duration_ms(value);
  if (!duration) {
    invalid(key, duration.error().message, "write h, m, s or ms after each number, such as 24h, 1h30m or 500ms");
    return false;
  }
  if (*duration < min_ms || *duration > max_ms) {
    fault(key, Reason::kOutOfRange, shown(value) + " is out of range",
          "use " + std::to_string(min_ms) + "ms to " + std::to_string(max_ms / 3'600'000) + "h");
    return false;
  }
  *out = *duration;
  return true;
}

bool Fields::list(std::string_view key, Need need, size_t max,
                  const std::function<void(const Node&, const std::string&)>& read) {
  const Node* node = get(key, need);
  if (node == nullptr) return false;
  if (node->kind != Node::Kind::kList) {
    invalid(key, std::string("is ") + kind_name(node->kind) + ", not a list", "write a list: - item");
    return false;
  }
  if (need == kRequired && node->items.empty()) {
    fault(key, Reason::kRequired, "is empty", "add at least one item");
    return false;
  }
  if (node->items.size() > max) {
    fault(key, Reason::kTooMany, std::to_string(node->items.size()) + " items", "use at most " + std::to_string(max));
    return false;
  }
  for (size_t i = 0; i < node->items.size(); ++i) read(node->items[i], path(key) + "[" + std::to_string(i) + "]");
  return true;
}

void Fields::texts(std::string_view key, Need need, size_t max, const Form& form, std::vector<std::string>* out) {
  Names names;
  list(key, need, max, [&](const Node& item, const std::string& item_path) {
    if (!check_text(item, item.line, item_path, form)) return;
    names.add(sink_, item.text, item.line, item_path);
    out->push_back(item.text);
  });
}

void Fields::moneys(std::string_view key, Need need, size_t max, const std::string& whole_minor_of,
                    std::vector<Micros>* out) {
  list(key, need, max, [&](const Node& item, const std::string& item_path) {
    check_money(item, item.line, item_path, whole_minor_of, &out->emplace_back());
  });
}

void Fields::string_map(std::string_view key, Need need, size_t max, size_t max_value_bytes,
                        bool (*value_ok)(std::string_view), std::map<std::string, std::string>* out) {
  const Node* node = get(key, need);
  if (node == nullptr) return;
  if (node->members.size() > max) {
    fault(key, Reason::kTooMany, std::to_string(node->members.size()) + " entries",
          "use at most " + std::to_string(max));
    return;
  }
  Fields map(sink_, *node, path(key));
  for (const Member& member : node->members) {
    if (!is_label_key(member.key)) {
      map.invalid(member.key, shown(member.key) + " is not a key", "write [prefix/]name of letters, digits, - _ .");
      continue;
    }
    std::string value;
    if (map.text(member.key, kOptional, {max_value_bytes, value_ok, "letters, digits, - _ ."}, &value)) {
      (*out)[member.key] = std::move(value);
    }
  }
}

bool Fields::object(std::string_view key, Need need, const std::function<void(Fields&)>& read) {
  const Node* node = get(key, need);
  if (node == nullptr) return false;
  Fields fields(sink_, *node, path(key));
  if (node->kind != Node::Kind::kMap) return false;
  read(fields);
  fields.finish();
  return true;
}

void Names::add(Sink& sink, const std::string& name, int line, const std::string& path) {
  const auto [first, inserted] = lines_.emplace(name, line);
  if (inserted) return;
  sink.fault(line, path, Reason::kDuplicate,
             shown(name) + " is given twice, first at line " + std::to_string(first->second), "remove one of the two");
}

}  // namespace tallygate::manifest
