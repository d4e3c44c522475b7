// The CRDs and the decoder agree: every field of the documented example is in the schema, and all that the schema lists
// is bounded.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

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

}  // namespace
}  // namespace tallygate::manifest
