// A JSON object read member by member; the first fault is kept with its path, and reading goes on with what was there.
// Private to wire.cc.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/money.h"

namespace tallygate::tenant::wire {

inline constexpr size_t kMaxDocumentBytes = 4u << 20;
inline constexpr size_t kMaxListItems = 4096;

class Reader {
 public:
  // `json` and `fault` outlive the reader.
  Reader(const nlohmann::json& json, std::string path, std::string* fault)
      : json_(json), path_(std::move(path)), fault_(fault) {
    if (!json_.is_object()) this->fault("", "is not an object");
  }

  bool has(const char* key) const { return json_.is_object() && json_.contains(key); }

  void fault(const std::string& key, const std::string& what) {
    if (!fault_->empty()) return;
    *fault_ = path_ + (path_.empty() || key.empty() ? "" : ".") + key + " " + what;
  }

  bool text(const char* key, std::string* out) {
    const nlohmann::json* member = find(key);
    if (member == nullptr) return false;
    if (!member->is_string()) return fault(key, "is not a string"), false;
    *out = member->get<std::string>();
    return true;
  }

  void flag(const char* key, bool* out) {
    const nlohmann::json* member = find(key);
    if (member == nullptr) return;
    if (!member->is_boolean()) return fault(key, "is not true or false");
    *out = member->get<bool>();
  }

  // 0 … kMaxInteger.
  void count(const char* key, int64_t* out) {
    if (const nlohmann::json* member = find(key)) as_count(key, *member, out);
  }

  void counts(const char* key, std::vector<int64_t>* out) {
    each(key, [&](const nlohmann::json& item, const std::string&) { as_count(key, item, &out->emplace_back()); });
  }

  void texts(const char* key, std::vector<std::string>* out) {
    each(key, [&](const nlohmann::json& item, const std::string&) {
      if (!item.is_string()) return fault(key, "is not a list of strings");
      out->push_back(item.get<std::string>());
    });
  }

  template <class Fn>
  void list(const char* key, Fn read_item) {
    each(key, [&](const nlohmann::json& item, const std::string& path) {
      Reader reader(item, path, fault_);
      read_item(reader);
    });
  }

  template <class Fn>
  void object(const char* key, Fn read) {
    const nlohmann::json* member = find(key);
    if (member == nullptr) return;
    Reader reader(*member, path_.empty() ? key : path_ + "." + key, fault_);
    read(reader);
  }

 private:
  const nlohmann::json* find(const char* key) {
    if (has(key)) return &json_.at(key);
    fault(key, "is missing");
    return nullptr;
  }

  void as_count(const char* key, const nlohmann::json& value, int64_t* out) {
    if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > kMaxInteger) ||
        value.get<int64_t>() < 0) {
      return fault(key, "is not a whole number from 0 to 2^53-1");
    }
    *out = value.get<int64_t>();
  }

  template <class Fn>
  void each(const char* key, Fn fn) {
    const nlohmann::json* member = find(key);
    if (member == nullptr) return;
    if (!member->is_array()) return fault(key, "is not a list");
    if (member->size() > kMaxListItems) return fault(key, "has too many items");
    for (size_t i = 0; i < member->size(); ++i) {
      fn((*member)[i], (path_.empty() ? "" : path_ + ".") + key + "[" + std::to_string(i) + "]");
    }
  }

  const nlohmann::json& json_;
  std::string path_;
  std::string* fault_;
};

}  // namespace tallygate::tenant::wire
