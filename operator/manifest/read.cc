#include "operator/manifest/read.h"

#include <algorithm>
#include <charconv>

#include "operator/manifest/decode.h"
#include "operator/manifest/formats.h"

namespace tallygate::manifest {
namespace {

enum class Kind : uint8_t { kPlan, kTenant, kPolicy };
constexpr Choice<Kind> kKinds[] = {
    {"BillingPlan", Kind::kPlan}, {"BillingTenant", Kind::kTenant}, {"BillingPolicy", Kind::kPolicy}};

// kubectl keeps the whole manifest there once more.
constexpr char kLastApplied[] = "kubectl.kubernetes.io/last-applied-configuration";

const char* name_of(Kind kind) { return kKinds[static_cast<size_t>(kind)].text; }

// False where the document is not one of ours to read any further.
bool read_type(Fields& root, Kind* kind) {
  std::string version, name;
  const Form any{253, nullptr, kApiVersion};
  bool ok = root.text("apiVersion", kRequired, any, &version);
  if (ok && version != kApiVersion) {
    root.fault("apiVersion", Reason::kUnknownKind, "\"" + version.substr(0, 80) + "\" is not known",
               std::string("use ") + kApiVersion);
    ok = false;
  }
  if (!root.text("kind", kRequired, {253, nullptr, "BillingPlan, BillingTenant or BillingPolicy"}, &name)) return false;
  std::vector<std::string_view> names;
  for (const auto& choice : kKinds) {
    if (name == choice.text) {
      *kind = choice.value;
      return ok;
    }
    names.push_back(choice.text);
  }
  const auto meant = did_you_mean(name, names);
  root.fault(
      "kind", Reason::kUnknownKind, "\"" + name.substr(0, 80) + "\" is not known",
      meant.empty() ? "use BillingPlan, BillingTenant or BillingPolicy" : "did you mean " + std::string(meant) + "?");
  return false;
}

void read_metadata(Fields& f, Kind kind, Metadata* metadata) {
  const Form name{253, is_dns_subdomain, "a name of lower-case letters, digits, - and . (RFC 1123)"};
  const Form name_space{63, is_dns_label, "a namespace of lower-case letters, digits and - (RFC 1123)"};
  f.text("name", kRequired, name, &metadata->name);
  if (kind == Kind::kPlan) {
    f.ignore("namespace");
    if (f.has("namespace")) {
      f.fault("namespace", Reason::kConflict, "a BillingPlan belongs to the cluster, not to a namespace",
              "remove namespace");
    }
  } else {
    f.text("namespace", kRequired, name_space, &metadata->name_space);
  }
  f.string_map("labels", kOptional, 64, 63, is_label_value, &metadata->labels);
  f.string_map("annotations", kOptional, 64, 65'536, nullptr, &metadata->annotations);
  metadata->annotations.erase(kLastApplied);
  const auto is_default = metadata->annotations.find(kDefaultPlanAnnotation);
  if (is_default != metadata->annotations.end() && is_default->second != "true" && is_default->second != "false") {
    f.invalid("annotations", std::string(kDefaultPlanAnnotation) + " is neither true nor false",
              "write \"true\" or \"false\", in quotes");
  }
  // What an API server adds to the objects it stores.
  for (const char* key : {"resourceVersion", "deletionTimestamp", "generateName", "deletionGracePeriodSeconds",
                          "selfLink", "managedFields", "ownerReferences", "finalizers"}) {
    f.ignore(key);
  }
  if (const Node* created = f.get("creationTimestamp", kOptional)) metadata->created = created->text;
  if (const Node* uid = f.get("uid", kOptional)) metadata->version.uid = uid->text;
  if (const Node* generation = f.get("generation", kOptional)) {
    const std::string& text = generation->text;
    std::from_chars(text.data(), text.data() + text.size(), metadata->version.generation);
  }
}

std::string describe(Kind kind, const Metadata& metadata) {
  std::string text = name_of(kind);
  if (metadata.name.empty()) return text;
  return text + " " + (metadata.name_space.empty() ? "" : metadata.name_space + "/") + metadata.name;
}

// What was declared, without what an API server or kubectl adds.
std::shared_ptr<const std::string> declared(const Node& document) {
  const auto keep = [](const Node& map, std::initializer_list<std::string_view> keys) {
    Node kept;
    kept.kind = Node::Kind::kMap;
    for (const auto key : keys) {
      const auto found =
          std::find_if(map.members.begin(), map.members.end(), [&](const auto& m) { return m.key == key; });
      if (found != map.members.end()) kept.members.push_back(*found);
    }
    return kept;
  };
  Node kept = keep(document, {"apiVersion", "kind", "metadata", "spec"});
  for (Member& member : kept.members) {
    if (member.key != "metadata") continue;
    member.value = keep(member.value, {"name", "namespace", "creationTimestamp", "labels", "annotations"});
    for (Member& part : member.value.members) {
      if (part.key == "annotations")
        std::erase_if(part.value.members, [](const auto& m) { return m.key == kLastApplied; });
    }
  }
  std::string text;
  append_json(kept, &text);
  return std::make_shared<const std::string>(std::move(text));
}

template <class T>
Object decode_as(void (*decode)(Fields&, Metadata, T*), Fields& root, Metadata metadata) {
  T value;
  decode(root, std::move(metadata), &value);
  return value;
}

bool has(const Node& document, std::string_view key, std::string_view value) {
  return std::any_of(document.members.begin(), document.members.end(),
                     [&](const Member& member) { return member.key == key && member.value.text == value; });
}

// A folder for kubectl has the namespaces too that its objects are in; nothing here depends on them.
bool is_namespace(const Node& document) {
  return has(document, "apiVersion", "v1") && has(document, "kind", "Namespace");
}

// `kubectl get -o yaml` writes what it finds as one list.
const std::vector<Node>* items_of_list(const Node& document) {
  if (!has(document, "apiVersion", "v1") || !has(document, "kind", "List")) return nullptr;
  for (const Member& member : document.members) {
    if (member.key == "items" && member.value.kind == Node::Kind::kList) return &member.value.items;
  }
  return nullptr;
}

// Where a template that nobody has rendered shows itself; 0: nowhere.
int line_of_template(std::string_view text) {
  const size_t at = text.find("{{");
  if (at == std::string_view::npos || text.find("}}", at) == std::string_view::npos) return 0;
  return 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(at), '\n'));
}

void read_document(const Node& document, FileContent* content) {
  Sink sink{content->file, "", &content->faults, &content->warnings};
  const size_t before = content->faults.size();
  if (document.kind != Node::Kind::kMap) {
    sink.fault(document.line, "", Reason::kInvalidValue, std::string("the document is ") + kind_name(document.kind),
               "write apiVersion, kind, metadata and spec");
    return;
  }
  if (is_namespace(document)) return;
  Fields root(sink, document, "");
  Kind kind = Kind::kPlan;
  if (!read_type(root, &kind)) return;
  Metadata metadata;
  metadata.place = {content->file, document.line};
  root.object("metadata", kRequired, [&](Fields& f) { read_metadata(f, kind, &metadata); });
  sink.object = describe(kind, metadata);
  for (size_t i = before; i < content->faults.size(); ++i) content->faults[i].object = sink.object;
  root.ignore("status");
  Object object = kind == Kind::kPlan     ? decode_as<BillingPlan>(decode_plan, root, std::move(metadata))
                  : kind == Kind::kTenant ? decode_as<BillingTenant>(decode_tenant, root, std::move(metadata))
                                          : decode_as<BillingPolicy>(decode_policy, root, std::move(metadata));
  root.finish();
  if (content->faults.size() != before) return;
  std::visit([&](auto& o) { o.metadata.version.text = declared(document); }, object);
  content->objects.push_back(std::move(object));
}

}  // namespace

std::string object_key(const Object& object) {
  return describe(static_cast<Kind>(object.index()), metadata_of(object));
}

std::string key_of(const BillingPlan& plan) { return "BillingPlan " + plan.name.str(); }
std::string key_of(const BillingTenant& tenant) { return "BillingTenant " + tenant.id.str(); }
std::string key_of(const BillingPolicy& policy) { return "BillingPolicy " + policy.id.str(); }

const Metadata& metadata_of(const Object& object) {
  return std::visit([](const auto& o) -> const Metadata& { return o.metadata; }, object);
}

void insert(Resources* resources, Object object) {
  if (auto* plan = std::get_if<BillingPlan>(&object)) resources->plans.emplace(plan->name, std::move(*plan));
  if (auto* tenant = std::get_if<BillingTenant>(&object)) resources->tenants.emplace(tenant->id, std::move(*tenant));
  if (auto* policy = std::get_if<BillingPolicy>(&object)) resources->policies.emplace(policy->id, std::move(*policy));
}

FileContent read_manifest(const std::string& file, std::string_view text, Syntax syntax) {
  FileContent content;
  content.file = file;
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    content.faults.push_back({file, 1, "", "", Reason::kRequired, "the file is empty",
                              "delete it, if its objects are to go: an empty file may be one that is not written yet"});
    return content;
  }
  const auto parse = syntax == Syntax::kJson ? parse_json : parse_yaml;
  for (const Node& document : parse(file, text, &content.faults)) {
    if (const auto* items = items_of_list(document)) {
      for (const Node& item : *items) read_document(item, &content);
    } else {
      read_document(document, &content);
    }
  }
  // What follows from it would send its reader the wrong way.
  if (const int line = line_of_template(text); line != 0 && !content.faults.empty()) {
    content.faults = {{file, line, "", "", Reason::kSyntax, "a template, not a manifest: {{ … }} stands in it",
                       "render it first: put what `helm template` prints here"}};
  }
  return content;
}

}  // namespace tallygate::manifest
