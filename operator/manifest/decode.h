// Decoding a tree into values, strictly: every mapping is read through Fields, which reports what is missing, of the
// wrong type or out of range, given twice, or not known. Nothing stops at the first fault.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/money.h"
#include "operator/manifest/fault.h"
#include "operator/manifest/read.h"
#include "operator/manifest/resources.h"
#include "operator/manifest/tree.h"

namespace tallygate::manifest {

// Where faults of the object at hand go.
struct Sink {
  std::string file;
  std::string object;
  Faults* faults = nullptr;
  Faults* warnings = nullptr;

  void fault(int line, std::string field, Reason reason, std::string message, std::string fix) {
    faults->push_back({file, line, object, std::move(field), reason, std::move(message), std::move(fix)});
  }
  // What is accepted, and hardly meant.
  void warning(int line, std::string field, Reason reason, std::string message, std::string fix) {
    warnings->push_back({file, line, object, std::move(field), reason, std::move(message), std::move(fix)});
  }
  // A feature that is accepted and has no effect in this version.
  void not_in_force(int line, std::string field, std::string feature) {
    warnings->push_back({file, line, object, std::move(field), Reason::kNotInForceYet,
                         feature + " is accepted, but not in force in this version",
                         "remove it, or leave it for a later version: until then nothing else depends on it"});
  }
};

enum class Need : uint8_t { kOptional, kRequired };
inline constexpr Need kOptional = Need::kOptional;
inline constexpr Need kRequired = Need::kRequired;

// The form of a text: at most `max` characters, `ok`, described by `want` for the message: "write a header name, such as
// X-Api-Key".
struct Form {
  size_t max;
  bool (*ok)(std::string_view);
  const char* want;
  bool secret = false;  // a secret may stand there by mistake: no message quotes it
};

template <class E>
struct Choice {
  const char* text;
  E value;
};

class Fields {
 public:
  // `node` and `sink` outlive it. A node that is not a mapping is a fault, and reads as an empty one.
  Fields(Sink& sink, const Node& node, std::string path);
  Fields(const Fields&) = delete;
  Fields& operator=(const Fields&) = delete;

  // The member, or null where it is absent or null (a fault if required).
  const Node* get(std::string_view key, Need need);
  // For members that are known and not looked at.
  void ignore(std::string_view key) { get(key, kOptional); }
  // Reports members that nobody asked for. Call once, last.
  void finish();

  bool text(std::string_view key, Need need, const Form& form, std::string* out);
  bool flag(std::string_view key, Need need, bool* out);
  bool integer(std::string_view key, Need need, int64_t min, int64_t max, int64_t* out);
  // A quoted decimal; `whole_minor_of`: a currency whose smallest unit it must be a multiple of, or "".
  bool money(std::string_view key, Need need, const std::string& whole_minor_of, Micros* out);
  bool duration_ms(std::string_view key, Need need, int64_t min_ms, int64_t max_ms, int64_t* out);
  // Distinct texts of one form.
  void texts(std::string_view key, Need need, size_t max, const Form& form, std::vector<std::string>* out);
  void moneys(std::string_view key, Need need, size_t max, const std::string& whole_minor_of, std::vector<Micros>* out);
  void string_map(std::string_view key, Need need, size_t max, size_t max_value_bytes,
                  bool (*value_ok)(std::string_view), std::map<std::string, std::string>* out);
  // Calls `read` for every item; true if the list is there.
  bool list(std::string_view key, Need need, size_t max,
            const std::function<void(const Node& item, const std::string& path)>& read);
  // Reads a nested mapping and finishes it; true if it is there.
  bool object(std::string_view key, Need need, const std::function<void(Fields&)>& read);

  template <class E>
  bool choice(std::string_view key, Need need, std::span<const Choice<E>> choices, E* out) {
    std::vector<std::string_view> names;
    for (const auto& choice : choices) names.push_back(choice.text);
    size_t index = 0;
    if (!choose(key, need, names, &index)) return false;
    *out = choices[index].value;
    return true;
  }
  template <class E, size_t N>
  bool choice(std::string_view key, Need need, const Choice<E> (&choices)[N], E* out) {
    return choice(key, need, std::span<const Choice<E>>(choices), out);
  }
  // An identifier of core/ids.h, or any other type with parse().
  template <class IdType>
  bool id(std::string_view key, Need need, const char* want, IdType* out) {
    std::string value;
    if (!text(key, need, {253, nullptr, want}, &value)) return false;
    auto parsed = IdType::parse(value);
    if (!parsed) {
      invalid(key, parsed.error().message, std::string("write ") + want);
      return false;
    }
    *out = std::move(*parsed);
    return true;
  }

  void fault(std::string_view key, Reason reason, std::string message, std::string fix) {
    sink_.fault(line(key), path(key), reason, std::move(message), std::move(fix));
  }
  void invalid(std::string_view key, std::string message, std::string fix) {
    fault(key, Reason::kInvalidValue, std::move(message), std::move(fix));
  }
  void not_in_force(std::string_view key, std::string feature) {
    sink_.not_in_force(line(key), path(key), std::move(feature));
  }

  bool has(std::string_view key) const;
  int line(std::string_view key) const;  // of the member, or of the mapping where it is absent
  std::string path(std::string_view key) const;
  Place place(std::string_view key) const { return {sink_.file, line(key)}; }
  Sink& sink() { return sink_; }

 private:
  const Member* find(std::string_view key) const;
  bool choose(std::string_view key, Need need, const std::vector<std::string_view>& names, size_t* index);
  bool check_text(const Node& node, int line, const std::string& path, const Form& form);
  bool check_money(const Node& node, int line, const std::string& path, const std::string& whole_minor_of, Micros* out);

  Sink& sink_;
  const Node& node_;
  std::string path_;
  std::vector<std::string_view> known_;
};

// A reader of the items of one list whose names must differ: reports the second of a pair.
class Names {
 public:
  void add(Sink& sink, const std::string& name, int line, const std::string& path);

 private:
  std::map<std::string, int> lines_;
};

// Kind by kind; `root` is the document, `metadata` already read.
void decode_plan(Fields& root, Metadata metadata, BillingPlan* plan);
void decode_tenant(Fields& root, Metadata metadata, BillingTenant* tenant);
void decode_policy(Fields& root, Metadata metadata, BillingPolicy* policy);

}  // namespace tallygate::manifest
