#include "operator/publish/documents.h"

#include <openssl/sha.h>

#include <algorithm>

#include "core/api_key.h"
#include "core/redis_contract/keys.h"
#include "core/tenant/wire.h"

namespace tallygate::publish {
namespace {

// "kind:value" of an identity's name without its "I"; a kind has no colon.
std::pair<std::string_view, std::string_view> split_identity(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return {text, {}};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

bool is_identity(const std::string& name) { return name.starts_with(static_cast<char>(Entry::Kind::kIdentity)); }

template <class Document>
std::string json_with_version(Document document, int64_t version) {
  document.version = version;
  return tenant::to_json(document);
}

template <class Document>
Held held_document(Result<Document> document) {
  if (!document) return {};
  const int64_t version = document->version;
  return {Held::State::kPresent, fingerprint(json_with_version(std::move(*document), 0)), version};
}

template <class Document>
void add_documents(Desired& out, Entry::Kind kind, const std::vector<Document>& now,
                   const std::vector<Document>& before, const Desired* desired_before) {
  const std::vector<size_t> same = equals_in(now, before);
  for (size_t i = 0; i < now.size(); ++i) {
    std::string name = static_cast<char>(kind) + now[i].id.str();
    const Fingerprint content =
        same[i] == kNone ? fingerprint(json_with_version(now[i], 0)) : desired_before->find(name)->second.content;
    out[std::move(name)] = {kind, i, content};
  }
}

}  // namespace

Fingerprint fingerprint(std::string_view content) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(content.data()), content.size(), digest.data());
  Fingerprint half{};
  std::copy_n(digest.begin(), half.size(), half.begin());
  return half;
}

Desired desired_of(const plan::Compiled& compiled, const plan::Compiled* before, const Desired* desired_before) {
  static const plan::Compiled kNothing;
  if (before == nullptr || desired_before == nullptr) before = &kNothing;
  Desired out;
  add_documents(out, Entry::Kind::kTenant, compiled.tenants, before->tenants, desired_before);
  add_documents(out, Entry::Kind::kPolicy, compiled.policies, before->policies, desired_before);
  for (size_t i = 0; i < compiled.identities.size(); ++i) {
    const auto& identity = compiled.identities[i];
    out["I" + identity.kind + ":" + identity.value] = {Entry::Kind::kIdentity, i, fingerprint(identity.tenant.str())};
  }
  return out;
}

std::shared_ptr<const plan::Compiled> with_suspensions(std::shared_ptr<const plan::Compiled> compiled,
                                                       const Suspensions& suspensions) {
  if (suspensions.empty()) return compiled;
  auto copy = std::make_shared<plan::Compiled>(*compiled);
  for (auto& tenant : copy->tenants) {
    const auto found = suspensions.find(tenant.id.str());
    if (found == suspensions.end() || tenant.suspended) continue;
    tenant.suspended = true;
    tenant.suspend_reason = found->second;
  }
  return copy;
}

std::shared_ptr<const plan::Compiled> with_pepper(std::shared_ptr<const plan::Compiled> compiled,
                                                  const std::string& pepper, bool keep_plain) {
  if (pepper.empty()) return compiled;
  auto copy = std::make_shared<plan::Compiled>(*compiled);
  std::vector<tenant::Identity> identities;
  for (auto& identity : copy->identities) {
    const bool is_key = identity.kind == kPlainKey;
    if (is_key) identities.push_back({kPepperedKey, peppered_hash(pepper, identity.value), identity.tenant});
    if (!is_key || keep_plain) identities.push_back(std::move(identity));
  }
  std::sort(identities.begin(), identities.end());
  copy->identities = std::move(identities);
  return copy;
}

std::string key_of(std::string_view name) {
  const std::string_view rest = name.substr(1);
  switch (static_cast<Entry::Kind>(name.front())) {
    case Entry::Kind::kTenant:
      return redis_contract::tenant_key(rest);
    case Entry::Kind::kPolicy:
      return redis_contract::policy_key(rest);
    case Entry::Kind::kIdentity:
      break;
  }
  const auto [kind, value] = split_identity(rest);
  return redis_contract::identity_key(kind, value);
}

std::string value_of(const plan::Compiled& compiled, const Entry& entry, int64_t version) {
  switch (entry.kind) {
    case Entry::Kind::kTenant:
      return json_with_version(compiled.tenants[entry.index], version);
    case Entry::Kind::kPolicy:
      return json_with_version(compiled.policies[entry.index], version);
    case Entry::Kind::kIdentity:
      break;
  }
  return compiled.identities[entry.index].tenant.str();
}

Held held_of_value(std::string_view name, std::string_view value) {
  switch (static_cast<Entry::Kind>(name.front())) {
    case Entry::Kind::kTenant:
      return held_document(tenant::tenant_from_json(value));
    case Entry::Kind::kPolicy:
      return held_document(tenant::policy_from_json(value));
    case Entry::Kind::kIdentity:
      break;
  }
  return {Held::State::kPresent, fingerprint(value), 0};
}

Changes difference(const Holding& held, const Desired& desired) {
  Changes changes;
  for (const auto& [name, entry] : desired) {
    const auto it = held.find(name);
    const bool same =
        it != held.end() && it->second.state == Held::State::kPresent && it->second.content == entry.content;
    if (!same) changes.written.push_back(name);
  }
  for (const auto& [name, what] : held) {
    if (what.state != Held::State::kRemoved && !desired.contains(name)) changes.removed.push_back(name);
  }
  std::stable_partition(changes.written.begin(), changes.written.end(), [](const auto& n) { return !is_identity(n); });
  std::stable_partition(changes.removed.begin(), changes.removed.end(), is_identity);
  return changes;
}

}  // namespace tallygate::publish
