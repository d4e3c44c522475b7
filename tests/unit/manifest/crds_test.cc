// The CRDs and the decoder agree: every field of the documented example is in the schema, and all that the schema lists
// is bounded.
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "core/money.h"
#include "operator/manifest/formats.h"
#include "operator/manifest/tree.h"
#include "tests/unit/manifest/manifests.h"

namespace tallygate::manifest {
namespace {

std::vector<Node> parse_file(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  Faults faults;
  auto documents = parse_yaml(path, text.str(), &faults);
  EXPECT_EQ(all_of(faults), "");
  return documents;
}

const Node* member(const Node* node, const std::string& key) {
  if (node == nullptr) return nullptr;
  for (const Member& m : node->members) {
    if (m.key == key) return &m.value;
  }
  return nullptr;
}

std::string text_of(const Node* node) { return node == nullptr ? "" : node->text; }

const Node* schema_of(const Node& crd) {
  const Node* spec = member(&crd, "spec");
  const Node* versions = member(spec, "versions");
  if (versions == nullptr || versions->items.size() != 1) return nullptr;
  return member(member(&versions->items[0], "schema"), "openAPIV3Schema");
}

void expect_covered(const Node& value, const Node* schema, const std::string& path) {
  ASSERT_NE(schema, nullptr) << path << " is not in the schema";
  const std::string type = text_of(member(schema, "type"));
  switch (value.kind) {
    case Node::Kind::kMap:
      EXPECT_EQ(type, "object") << path;
      for (const Member& m : value.members) {
        const Node* additional = member(schema, "additionalProperties");
        expect_covered(m.value, additional ? additional : member(member(schema, "properties"), m.key),
                       path + "." + m.key);
      }
      break;
    case Node::Kind::kList:
      EXPECT_EQ(type, "array") << path;
      for (const Node& item : value.items) expect_covered(item, member(schema, "items"), path + "[]");
      break;
    case Node::Kind::kBool:
      EXPECT_EQ(type, "boolean") << path;
      break;
    case Node::Kind::kInt:
      EXPECT_EQ(type, "integer") << path;
      break;
    default:
      EXPECT_EQ(type, "string") << path;
  }
}

// Structural, and within what the API server can estimate the cost of rules for.
void expect_bounded(const Node& schema, const std::string& path) {
  const std::string type = text_of(member(&schema, "type"));
  EXPECT_FALSE(type.empty()) << path << " has no type";
  if (type == "string") {
    EXPECT_TRUE(member(&schema, "maxLength") || member(&schema, "enum") || member(&schema, "format")) << path;
  }
  if (type == "array") {
    EXPECT_TRUE(member(&schema, "maxItems")) << path;
    ASSERT_TRUE(member(&schema, "items")) << path;
    EXPECT_FALSE(member(member(&schema, "items"), "default")) << path;
    expect_bounded(*member(&schema, "items"), path + "[]");
  }
  if (const Node* additional = member(&schema, "additionalProperties")) {
    EXPECT_TRUE(member(&schema, "maxProperties")) << path;
    expect_bounded(*additional, path + ".*");
  }
  const Node* properties = member(&schema, "properties");
  if (properties == nullptr) return;
  for (const Member& m : properties->members) expect_bounded(m.value, path + "." + m.key);
  const Node* required = member(&schema, "required");
  if (required == nullptr) return;
  for (const Node& name : required->items)
    EXPECT_TRUE(member(properties, name.text)) << path << " requires " << name.text;
}

TEST(Crds, AgreeWithTheDocumentedExample) {
  std::map<std::string, Node> crds;
  for (const char* file : {"crds/billingplans.yaml", "crds/billingtenants.yaml", "crds/billingpolicies.yaml"}) {
    for (Node& crd : parse_file(file)) {
      const std::string kind = text_of(member(member(member(&crd, "spec"), "names"), "kind"));
      crds.emplace(kind, std::move(crd));
    }
  }
  ASSERT_EQ(crds.size(), 3u);
  for (const Node& example : parse_file("tests/golden/manifests/resources.yaml")) {
    const std::string kind = text_of(member(&example, "kind"));
    ASSERT_TRUE(crds.contains(kind)) << kind;
    const Node* schema = schema_of(crds.at(kind));
    ASSERT_NE(schema, nullptr) << kind;
    expect_covered(*member(&example, "spec"), member(member(schema, "properties"), "spec"), kind + ".spec");
    for (const char* part : {"spec", "status"}) {
      const Node* of_part = member(member(schema, "properties"), part);
      ASSERT_NE(of_part, nullptr) << kind << part;
      expect_bounded(*of_part, kind + "." + part);
    }
  }
}

// The words between ' of each list that follows `before` in the text of a CRD's rules.
std::vector<std::set<std::string>> lists_after(const std::string& path, const std::string& before) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  const std::string all = text.str();
  std::vector<std::set<std::string>> lists;
  for (size_t at = all.find(before); at != std::string::npos; at = all.find(before, at + 1)) {
    const size_t end = all.find(']', at);
    auto& list = lists.emplace_back();
    for (size_t quote = all.find('\'', at); quote < end; quote = all.find('\'', quote + 5)) list.insert(all.substr(quote + 1, 3));
  }
  return lists;
}

TEST(Crds, KnowTheSameCurrencies) {
  std::set<std::string> known, whole, thousandths;
  for (int i = 0; i < 26 * 26 * 26; ++i) {
    const std::string word = {static_cast<char>('A' + i / 676), static_cast<char>('A' + i / 26 % 26), static_cast<char>('A' + i % 26)};
    if (is_currency(word)) known.insert(word);
    if (currency_digits(word).value() == 0) whole.insert(word);
    if (currency_digits(word).value() == 3) thousandths.insert(word);
  }
  const std::vector<std::set<std::string>> digits = {whole, thousandths};
  for (const char* file : {"crds/billingplans.yaml", "crds/billingtenants.yaml"}) {
    EXPECT_EQ(lists_after(file, "self in ["), std::vector{known}) << file;
    EXPECT_EQ(lists_after(file, "self.currency in ["), digits) << file;
  }
}

std::string flow(const Node& node) {
  if (node.kind != Node::Kind::kMap) return "\"" + node.text + "\"";
  std::string text;
  for (const Member& m : node.members) text += (text.empty() ? "" : ", ") + m.key + ": " + flow(m.value);
  return "{" + text + "}";
}

// Each default below `schema`, as a mapping that sets it: "paths: {ambiguous: …}".
void collect_defaults(const Node& schema, const std::string& before, const std::string& after, std::vector<std::string>* out) {
  const Node* properties = member(&schema, "properties");
  if (properties == nullptr) return;
  for (const Member& m : properties->members) {
    if (const Node* value = member(&m.value, "default")) {
      const bool quoted = value->kind == Node::Kind::kString || value->kind == Node::Kind::kMap;
      out->push_back(before + m.key + ": " + (quoted ? flow(*value) : value->text) + after);
    }
    collect_defaults(m.value, before + m.key + ": {", "}" + after, out);
  }
}

TEST(Crds, TheirDefaultsAreThoseOfTheDecoder) {
  const std::map<std::string, std::string> smallest = {{"crds/billingplans.yaml", plan_yaml()},
                                                       {"crds/billingtenants.yaml", tenant_yaml()},
                                                       {"crds/billingpolicies.yaml", policy_yaml()}};
  size_t count = 0;
  for (const auto& [file, text] : smallest) {
    const auto without = read_manifest("a.yaml", text);
    std::vector<std::string> defaults;
    const auto crd = parse_file(file);
    collect_defaults(*member(member(schema_of(crd.at(0)), "properties"), "spec"), "", "", &defaults);
    for (const std::string& field : defaults) {
      const auto with = read_manifest("a.yaml", text + "  " + field + "\n");
      EXPECT_EQ(all_of(with.faults), "") << file << ": " << field;
      EXPECT_EQ(with.objects, without.objects) << file << ": " << field;
    }
    count += defaults.size();
  }
  EXPECT_GE(count, 8u);
}

}  // namespace
}  // namespace tallygate::manifest
