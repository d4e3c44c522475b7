#include "core/yaml/read.h"

#include <yaml-cpp/anchor.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <map>
#include <sstream>

namespace tallygate::yaml {
namespace {

constexpr size_t kExpandedBytesMax = size_t{16} << 20;

// Leaves the parser from within an event; caught below, in this file.
struct Stop : std::exception {
  Stop(int at, std::string what, std::string remedy) : line(at), message(std::move(what)), fix(std::move(remedy)) {}
  int line;
  std::string message;
  std::string fix;
};

bool matches_number(std::string_view text, bool* is_float) {
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) text.remove_prefix(1);
  if (text == ".inf" || text == ".Inf" || text == ".INF") return *is_float = true;
  if (text.empty() || !((text.front() >= '0' && text.front() <= '9') || text.front() == '.')) return false;
  if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'o' || text[1] == 'b')) {
    return text.find_first_not_of("0123456789abcdefABCDEF_", 2) == std::string_view::npos;
  }
  bool digit = false, point = false, exponent = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c >= '0' && c <= '9') || (c == '_' && digit)) {
      digit = true;
    } else if (c == '.' && !point && !exponent) {
      point = true;
    } else if ((c == 'e' || c == 'E') && digit && !exponent) {
      exponent = true;
      if (i + 1 < text.size() && (text[i + 1] == '-' || text[i + 1] == '+')) ++i;
      if (i + 1 == text.size()) return false;
    } else {
      return false;
    }
  }
  *is_float = point || exponent;
  return digit;
}

// What a plain (unquoted) scalar is to kubectl and to us.
Node::Kind kind_of_plain(std::string_view text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return Node::Kind::kNull;
  static constexpr std::string_view kBools[] = {"true", "false", "yes", "no", "on", "off", "y", "n"};
  std::string lower(text.substr(0, 6));
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  for (const auto word : kBools) {
    if (lower == word && text.size() == word.size()) return Node::Kind::kBool;
  }
  if (text == ".nan" || text == ".NaN" || text == ".NAN") return Node::Kind::kFloat;
  bool is_float = false;
  if (matches_number(text, &is_float)) return is_float ? Node::Kind::kFloat : Node::Kind::kInt;
  return Node::Kind::kString;
}

// Builds one tree a document out of the parser's events: no node graph of yaml-cpp's in between, so that every limit
// holds while the text is read.
class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(const Limits& limits) : limits_(limits) {}
  void OnDocumentStart(const YAML::Mark&) override { anchors_.clear(); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { put(make(mark, Node::Kind::kNull), anchor); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      throw Stop(mark.line + 1, "an alias to the collection that it is in", "write the value out");
    }
    count(size_of(found->second), mark.line + 1);
    expanded_bytes_ += bytes_of(found->second);
    if (expanded_bytes_ > kExpandedBytesMax) {
      throw Stop(mark.line + 1, "aliases that make the file many times as long",
                 "write values out instead of nesting aliases");
    }
    put(Node(found->second), 0);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node = make(mark, Node::Kind::kString);
    if (tag == "?" || tag.empty()) {
      node.kind = kind_of_plain(value);
    } else if (tag != "!" && tag != "tag:yaml.org,2002:str") {
      refuse_tag(mark, tag);
    }
    node.text = value;
    put(std::move(node), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::kList);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

  Node take() { return std::move(root_); }

 private:
  struct Open {
    Node node;
    YAML::anchor_t anchor;
    bool has_key = false;  // a map that waits for the value of its last member
  };

  Node make(const YAML::Mark& mark, Node::Kind kind) {
    count(1, mark.line + 1);
    Node node;
    node.kind = kind;
    node.line = mark.line + 1;
    return node;
  }

  void count(size_t nodes, int line) {
    nodes_ += nodes;
    if (nodes_ > limits_.nodes_max) {
      throw Stop(line, "more than " + std::to_string(limits_.nodes_max) + " values in one file, aliases expanded",
                 "split the file; write values out instead of nesting aliases");
    }
  }

  static size_t size_of(const Node& node) {
    size_t size = 1;
    for (const Node& item : node.items) size += size_of(item);
    for (const Member& member : node.members) size += size_of(member.value);
    return size;
  }

  static size_t bytes_of(const Node& node) {
    size_t bytes = node.text.size();
    for (const Node& item : node.items) bytes += bytes_of(item);
    for (const Member& member : node.members) bytes += member.key.size() + bytes_of(member.value);
    return bytes;
  }

  static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    throw Stop(mark.line + 1, "the tag \"" + tag.substr(0, 60) + "\" is not supported",
               "remove the tag; quote a string");
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Node::Kind kind) {
    if (tag != "?" && tag != "!" && !tag.empty()) refuse_tag(mark, tag);
    if (stack_.size() >= limits_.depth_max) {
      throw Stop(mark.line + 1, "nested deeper than " + std::to_string(limits_.depth_max), "flatten it");
    }
    stack_.push_back({make(mark, kind), anchor});
  }

  void close() {
    Open done = std::move(stack_.back());
    stack_.pop_back();
    put(std::move(done.node), done.anchor);
  }

  void put(Node node, YAML::anchor_t anchor) {
    if (anchor != 0) anchors_[anchor] = node;
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = stack_.back();
    if (parent.node.kind == Node::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (parent.has_key) {
      parent.node.members.back().value = std::move(node);
      parent.has_key = false;
    } else {
      if (node.kind == Node::Kind::kList || node.kind == Node::Kind::kMap) {
        throw Stop(node.line, "a key that is a list or a map", "use a string as the key");
      }
      parent.node.members.push_back({std::move(node.text), node.line, Node{}});
      parent.has_key = true;
    }
  }

  const Limits limits_;
  std::vector<Open> stack_;
  std::map<YAML::anchor_t, Node> anchors_;
  Node root_;
  size_t nodes_ = 0, expanded_bytes_ = 0;
};

}  // namespace

Documents read(std::string_view text, const Limits& limits) {
  Documents out;
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    Builder builder(limits);
    while (parser.HandleNextDocument(builder)) {
      Node root = builder.take();
      if (root.kind != Node::Kind::kNull) out.documents.push_back(std::move(root));
    }
  } catch (const Stop& stop) {
    out.fault = Fault{stop.line, stop.message, stop.fix};
  } catch (const YAML::Exception& e) {
    out.fault = Fault{e.mark.line + 1, "not YAML: " + e.msg,
                      "check indentation (blanks, no tabs), quotes and brackets at this line and before"};
  } catch (const std::exception& e) {
    out.fault = Fault{0, std::string("not YAML: ") + e.what(), "check the file with a YAML linter"};
  }
  return out;
}

}  // namespace tallygate::yaml
