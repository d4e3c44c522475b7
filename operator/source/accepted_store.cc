#include "operator/source/accepted_store.h"

#include <nlohmann/json.hpp>

#include "core/telemetry/log.h"

namespace tallygate::source {
namespace {

using Json = nlohmann::json;

}  // namespace

bool AcceptedStore::Kept::operator==(const Kept& o) const {
  return file == o.file && uid == o.uid && generation == o.generation && (text == o.text || *text == *o.text);
}

AcceptedStore::KeptObjects AcceptedStore::of(const manifest::Resources& resources) {
  KeptObjects objects;
  const auto add = [&](const auto& map) {
    for (const auto& [id, object] : map) {
      const manifest::Metadata& m = object.metadata;
      objects.emplace(manifest::key_of(object), Kept{m.place.file, m.version.uid, m.version.generation, m.version.text});
    }
  };
  add(resources.plans);
  add(resources.tenants);
  add(resources.policies);
  return objects;
}

Result<AcceptedStore::KeptObjects> AcceptedStore::read() {
  const auto rows = session_.exec("select object, file, uid, generation, manifest from accepted_manifests");
  if (!rows) return tl::unexpected<Error>(rows.error());
  KeptObjects objects;
  for (size_t i = 0; i < rows->size(); ++i) {
    objects.emplace(rows->text(i, 0), Kept{std::string(rows->text(i, 1)), std::string(rows->text(i, 2)), rows->integer(i, 3),
                                           std::make_shared<const std::string>(rows->text(i, 4))});
  }
  return objects;
}

Result<Baseline> AcceptedStore::load() {
  const auto objects = read();
  if (!objects) return tl::unexpected<Error>(objects.error());
  const auto source = session_.exec("select cluster from manifest_source");
  if (!source) return tl::unexpected<Error>(source.error());
  Baseline baseline;
  baseline.cluster = source->empty() ? "" : std::string(source->text(0, 0));
  for (const auto& [key, kept] : *objects) {
    auto content = manifest::read_manifest(kept.file, *kept.text, manifest::Syntax::kJson);
    for (const auto& fault : content.faults) {
      log::error("what the ledger keeps of an object cannot be read any more; it is left out",
                 {{"object", key}, {"fault", manifest::to_string(fault)}});
    }
    for (auto& object : content.objects) {
      std::visit(
          [&](auto& o) {
            o.metadata.version.uid = kept.uid;
            o.metadata.version.generation = kept.generation;
            o.metadata.version.text = kept.text;
          },
          object);
      manifest::insert(&baseline.resources, std::move(object));
    }
  }
  return baseline;
}

Result<void> AcceptedStore::keep(const manifest::Resources& resources, const std::string& cluster, int64_t reign,
                                 int64_t now_ns) {
  if (!kept_ || reign_ != reign) {
    kept_.reset();
    auto objects = read();
    if (!objects) return tl::unexpected<Error>(objects.error());
    kept_ = std::move(*objects);
    reign_ = reign;
    cluster_.clear();
  }
  KeptObjects now = of(resources);
  Json changed = Json::array(), removed = Json::array();
  for (const auto& [key, object] : now) {
    const auto before = kept_->find(key);
    if (before != kept_->end() && before->second == object) continue;
    changed.push_back({{"object", key},
                       {"file", object.file},
                       {"uid", object.uid},
                       {"generation", object.generation},
                       {"manifest", *object.text}});
  }
  for (const auto& [key, object] : *kept_) {
    if (!now.contains(key)) removed.push_back(key);
  }
  if (!changed.empty() || !removed.empty() || cluster != cluster_) {
    const auto rows = session_.exec("select keep_accepted($1, $2, $3, $4, $5)", {reign, cluster, changed.dump(), removed.dump(),
                                                                                 ledger::timestamp_text(now_ns)});
    if (!rows) {
      kept_.reset();  // an answer may have been lost
      return tl::unexpected<Error>(rows.error());
    }
    if (!rows->boolean(0, 0)) return fail(Errc::kConflict, "another publisher reigns");
  }
  kept_ = std::move(now);
  cluster_ = cluster;
  return {};
}

}  // namespace tallygate::source
