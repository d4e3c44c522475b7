#include <nlohmann/json.hpp>
#include <utility>

#include "operator/manifest/read.h"
#include "operator/manifest/tree.h"

namespace tallygate::manifest {
namespace {

using Json = nlohmann::json;

// One tree out of the parser's events; returning false stops the parse.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return put(make(Node::Kind::kNull, "")); }
  bool boolean(bool value) override { return put(make(Node::Kind::kBool, value ? "true" : "false")); }
  bool number_integer(int64_t value) override { return put(make(Node::Kind::kInt, std::to_string(value))); }
  bool number_unsigned(uint64_t value) override { return put(make(Node::Kind::kInt, std::to_string(value))); }
  bool number_float(double, const std::string& text) override { return put(make(Node::Kind::kFloat, text)); }
  bool string(std::string& value) override { return put(make(Node::Kind::kString, value)); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Node::Kind::kMap); }
  bool start_array(size_t) override { return open(Node::Kind::kList); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    stack_.back().members.push_back({name, 0, Node{}});
    return true;
  }
  bool parse_error(size_t position, const std::string&, const Json::exception& e) override {
    error_ = "at byte " + std::to_string(position) + ": " + e.what();
    return false;
  }

  const std::string& error() const { return error_; }
  Node take() { return std::move(root_); }

 private:
  static Node make(Node::Kind kind, std::string text) {
    Node node;
    node.kind = kind;
    node.text = std::move(text);
    return node;
  }
  bool open(Node::Kind kind) {
    if (stack_.size() >= kMaxDepth) {
      error_ = "nested deeper than " + std::to_string(kMaxDepth);
      return false;
    }
    stack_.push_back(make(kind, ""));
    return true;
  }
  bool close() {
    Node done = std::move(stack_.back());
    stack_.pop_back();
    return put(std::move(done));
  }
  bool put(Node node) {
    if (++nodes_ > kMaxNodesPerFile) {
      error_ = "more than " + std::to_string(kMaxNodesPerFile) + " values";
      return false;
    }
    if (stack_.empty()) {
      root_ = std::move(node);
    } else if (stack_.back().kind == Node::Kind::kList) {
      stack_.back().items.push_back(std::move(node));
    } else {
      stack_.back().members.back().value = std::move(node);
    }
    return true;
  }

  std::vector<Node> stack_;
  Node root_;
  size_t nodes_ = 0;
  std::string error_;
};

}  // namespace

namespace {

bool is_literal(const Node& node) {
  if (node.kind == Node::Kind::kNull) return true;
  if (node.kind == Node::Kind::kBool) return node.text == "true" || node.text == "false";
  return node.kind == Node::Kind::kInt && node.text.size() <= 20 && Json::accept(node.text);
}

void append_string(const std::string& text, std::string* out) {
  *out += Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

void append_json(const Node& node, std::string* out) {
  const char* separator = "";
  if (node.kind == Node::Kind::kMap) {
    *out += '{';
    for (const Member& member : node.members) {
      *out += std::exchange(separator, ",");
      append_string(member.key, out);
      *out += ':';
      append_json(member.value, out);
    }
    *out += '}';
  } else if (node.kind == Node::Kind::kList) {
    *out += '[';
    for (const Node& item : node.items) {
      *out += std::exchange(separator, ",");
      append_json(item, out);
    }
    *out += ']';
  } else if (is_literal(node)) {
    *out += node.kind == Node::Kind::kNull ? "null" : node.text;
  } else {
    append_string(node.text, out);
  }
}

std::vector<Node> parse_json(const std::string& file, std::string_view text, Faults* faults) {
  std::vector<Node> documents;
  Builder builder;
  bool ok = false;
  try {
    ok = text.size() <= kMaxFileBytes && Json::sax_parse(text.begin(), text.end(), &builder);
  } catch (const std::exception&) {
    ok = false;
  }
  if (ok) {
    documents.push_back(builder.take());
  } else {
    faults->push_back({file, 0, "", "", Reason::kSyntax,
                       "not JSON" + (builder.error().empty() ? "" : ": " + builder.error()), "send one JSON object"});
  }
  return documents;
}

}  // namespace tallygate::manifest
