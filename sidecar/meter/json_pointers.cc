#include "sidecar/meter/json_pointers.h"

namespace tallygate::meter {
namespace {

// RFC 6901 4: ~1 is a slash, ~0 a tilde; nothing else may follow a tilde.
bool unescape(std::string_view token, std::string* out) {
  for (size_t i = 0; i < token.size(); ++i) {
    if (token[i] != '~') {
      *out += token[i];
      continue;
    }
    if (++i == token.size() || (token[i] != '0' && token[i] != '1')) return false;
    *out += token[i] == '0' ? '~' : '/';
  }
  return true;
}

int64_t as_index(std::string_view key) {
  if (key.empty() || key.size() > 9 || (key[0] == '0' && key.size() > 1)) return -1;
  int64_t index = 0;
  for (const char c : key) {
    if (c < '0' || c > '9') return -1;
    index = index * 10 + (c - '0');
  }
  return index;
}

}  // namespace

Result<uint16_t> JsonPointers::child_of(uint16_t parent, std::string_view token, bool any_element) {
  std::string key;
  if (!unescape(token, &key)) return fail(Errc::kInvalid, "after a ~ there must be a 0 or a 1");
  if (key.size() > kTokenBytesMax) {
    return fail(Errc::kInvalid, "a token is longer than " + std::to_string(kTokenBytesMax) + " bytes");
  }
  for (uint16_t at = nodes_[parent].child; at != kNone; at = nodes_[at].sibling) {
    if (nodes_[parent].wildcard == any_element && nodes_[at].key == key) return at;
  }
  if (nodes_[parent].wildcard || (any_element && nodes_[parent].child != kNone)) {
    return fail(Errc::kInvalid, "* stands beside another token");
  }
  Node node;
  node.index = as_index(key);
  node.key = std::move(key);
  node.sibling = nodes_[parent].child;
  node.ordinal = nodes_[parent].children++;
  const auto id = static_cast<uint16_t>(nodes_.size());
  nodes_[parent].child = id;
  nodes_[parent].wildcard = any_element;
  nodes_.push_back(std::move(node));
  return id;
}

Result<JsonPointers> JsonPointers::compile(std::span<const PointerSpec> specs) {
  if (specs.size() > kPointersMax) {
    return fail(Errc::kInvalid, "there are more than " + std::to_string(kPointersMax) + " JSON pointers");
  }
  JsonPointers made;
  made.nodes_.emplace_back();
  for (const PointerSpec& spec : specs) {
    const auto refuse = [&](const std::string& why) {
      return fail(Errc::kInvalid, "JSON pointer \"" + spec.pointer + "\": " + why);
    };
    const uint64_t bit = uint64_t{1} << made.equals_.size();
    made.nodes_[0].at_or_below |= bit;
    std::string_view rest = spec.pointer;
    if (!rest.empty() && rest[0] != '/') return refuse("it must be empty, or begin with a slash");
    uint16_t node = 0;
    for (size_t tokens = 0; !rest.empty(); ++tokens) {
      if (tokens == kTokensMax) return refuse("it has more than " + std::to_string(kTokensMax) + " tokens");
      rest.remove_prefix(1);
      const std::string_view token = rest.substr(0, rest.find('/'));
      rest.remove_prefix(token.size());
      auto child = made.child_of(node, token, !spec.equals.empty() && token == "*");
      if (!child) return refuse(child.error().message);
      node = *child;
      made.nodes_[node].at_or_below |= bit;
    }
    made.nodes_[node].ends_here |= bit;
    made.equals_.push_back(spec.equals);
  }
  return made;
}

Result<JsonPointers> JsonPointers::compile(std::span<const std::string> pointers) {
  std::vector<PointerSpec> specs;
  for (const std::string& pointer : pointers) specs.push_back({pointer});
  return compile(specs);
}

}  // namespace tallygate::meter
