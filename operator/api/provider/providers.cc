#include "operator/api/provider/providers.h"

#include <algorithm>
#include <set>

#include "core/config/yaml_settings.h"
#include "core/ids.h"
#include "core/json_strict.h"

namespace tallygate::api {
namespace {

using nlohmann::json;

constexpr size_t kProvidersMax = 64, kSecretsMax = 4, kRatesMax = 64, kSecretFileBytesMax = 4096;
constexpr int64_t kTtlMaxS = 7 * 24 * 3600;

constexpr std::array<std::string_view, kEventResults> kResultNames = {
    "unauthenticated", "rate_limited", "malformed", "unknown_tenant", "reserved", "refused", "continue",
    "end_call",        "settled",      "duplicate", "mismatch",       "unpaid",   "ignored", "failed"};

// Reads one entry; faults go to a list that all entries share.
class Entry {
 public:
  Entry(json entry, std::string place, const config::Environment& environment, std::vector<std::string>& faults,
        std::vector<std::string>* files)
      : entry_(std::move(entry)), place_(std::move(place)), environment_(environment), faults_(faults), files_(files) {}

  Provider read() {
    Provider provider;
    // Parts with a form of their own go first; what is left is a flat object.
    const ProviderSecrets secrets = read_secrets(take("secrets"));
    read_tenants(take("tenants"), provider);
    const json rates = take("rates");
    const json reserve = take("reserve");
    read_ignored(take("ignore"), provider);
    const json options = take("options");

    Fields fields(entry_.dump(), place_ + '.');
    provider.name = fields.text("name", 63);
    if (!provider.name.empty() && !is_dns_label(provider.name)) fields.refuse("name", "must be a DNS label");
    provider.principal.actor = "provider:" + provider.name;
    read_pointer(fields, provider);
    provider.currency = fields.currency().value_or("");
    provider.markup = *Decimal::parse("1");
    if (entry_.contains("markup")) provider.markup = read_rate(fields.text("markup", 20), place_ + ".markup");
    const AdapterKind* kind = read_kind(fields, provider);
    if (!entry_.contains("currency")) fields.refuse("currency", "is required: which currency are its costs in?");
    add_faults(fields);

    read_rates(rates, provider);
    if (kind == nullptr) return provider;
    read_reserve(reserve, *kind, provider);
    for (const auto& secret : secrets) {
      if (const auto wrong = kind->secret_fault(secret); !wrong.empty()) fault("secrets", "a secret " + wrong);
    }
    Fields adapter_options(options.is_null() ? "{}" : options.dump(), place_ + ".options.");
    provider.adapter = kind->make(secrets, adapter_options);
    add_faults(adapter_options);
    return provider;
  }

 private:
  void fault(const std::string& field, const std::string& detail) {
    faults_.push_back(place_ + '.' + field + ' ' + detail);
  }
  void add_faults(Fields& fields) {
    for (const auto& [field, detail] : fields.take_faults()) faults_.push_back(field + ' ' + detail);
  }
  // Null where there is none.
  json take(const char* name) {
    json part = entry_.contains(name) ? entry_[name] : json();
    entry_.erase(name);
    return part;
  }

  ProviderSecrets read_secrets(const json& list) {
    ProviderSecrets secrets;
    if (!list.is_array() || list.empty() || list.size() > kSecretsMax) {
      fault("secrets",
            R"(must be 1 to 4 of {"env": NAME} or {"file": PATH}: the one in use, and those that it replaces)");
      return secrets;
    }
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string field = "secrets[" + std::to_string(i) + "]";
      const bool named = list[i].is_object() && list[i].size() == 1 && list[i].begin()->is_string();
      const std::string source = named ? list[i].begin().key() : "";
      if (source != "env" && source != "file") {
        fault(field, R"(must be {"env": NAME} or {"file": PATH}; a secret itself does not belong here)");
        continue;
      }
      read_secret(field, source == "env", list[i].begin()->get<std::string>(), secrets);
    }
    return secrets;
  }

  void read_secret(const std::string& field, bool is_variable, const std::string& name, ProviderSecrets& secrets) {
    if (is_variable) {
      auto value = environment_(name);
      if (!value || value->empty())
        return fault(field, "names the environment variable " + name + ", which is not set");
      secrets.push_back(std::move(*value));
      return;
    }
    if (files_ != nullptr) files_->push_back(name);
    auto content = config::read_small_file(name, kSecretFileBytesMax);
    if (!content) return fault(field, content.error().problem);
    while (content->ends_with('\n') || content->ends_with('\r')) content->pop_back();
    if (content->empty()) return fault(field, "names the file " + name + ", which is empty");
    secrets.push_back(std::move(*content));
  }

  void read_tenants(const json& names, Provider& provider) {
    if (!names.is_array() || names.empty()) return fault("tenants", R"(must be a list of namespace/name, or ["*"])");
    for (const auto& name : names) {
      if (name == "*") {
        provider.principal.all_tenants = true;
      } else if (name.is_string() && TenantId::parse(name.get_ref<const std::string&>())) {
        provider.principal.tenants.push_back(name.get<std::string>());
      } else {
        fault("tenants", R"(must have names such as shop/acme, or "*")");
      }
    }
  }

  void read_ignored(const json& words, Provider& provider) {
    if (words.is_null()) return;
    const std::map<std::string, bool*> known = {{"unknown-type", &provider.ignores_unknown_types},
                                                {"unknown-tenant", &provider.ignores_unknown_tenants},
                                                {"unknown-hold", &provider.ignores_unknown_holds}};
    for (const auto& word : words.is_array() ? words : json::array({nullptr})) {
      const auto found = word.is_string() ? known.find(word.get<std::string>()) : known.end();
      if (found == known.end()) return fault("ignore", "must be a list of unknown-type, unknown-tenant, unknown-hold");
      *found->second = true;
    }
  }

  void read_pointer(Fields& fields, Provider& provider) {
    provider.tenant_pointer = fields.text("tenantPointer", 255, false);
    const Principal& whom = provider.principal;
    if (provider.tenant_pointer.empty()) {
      if (whom.all_tenants || whom.tenants.size() > 1) {
        fields.refuse("tenantPointer", "is required: a JSON pointer to the external ID, as tenants is not one tenant");
      }
      return;
    }
    try {
      const json::json_pointer checked(provider.tenant_pointer);
    } catch (const json::exception&) {
      fields.refuse("tenantPointer", "must be a JSON pointer such as /data/tenant");
    }
  }

  const AdapterKind* read_kind(Fields& fields, const Provider& provider) {
    const std::string name = fields.text("adapter", 32);
    for (const AdapterKind* kind : adapters()) {
      if (kind->name != name) continue;
      if (!kind->currency.empty() && !provider.currency.empty() && provider.currency != kind->currency) {
        fields.refuse("currency", "must be " + std::string(kind->currency) + ": that is what this provider reports");
      }
      return kind;
    }
    if (!name.empty()) fields.refuse("adapter", "must be standard, vapi or twilio");
    return nullptr;
  }

  Decimal read_rate(const std::string& text, const std::string& where) {
    const auto rate = Decimal::parse(text);
    if (rate && !rate->is_negative() && !rate->is_zero() && rate->significant_digits() <= kRateDigitsMax &&
        rate->decimals() <= kRateDigitsMax) {
      return *rate;
    }
    if (!text.empty()) {
      faults_.push_back(where + " must be a decimal string above 0 such as \"0.79\", of at most nine digits");
    }
    return *Decimal::parse("1");
  }

  void read_rates(const json& rates, Provider& provider) {
    provider.rates.emplace(provider.currency, *Decimal::parse("1"));
    if (rates.is_null()) return;
    if (!rates.is_object() || rates.size() > kRatesMax) {
      return fault("rates", R"(must be an object such as {"GBP": "0.79"})");
    }
    for (const auto& [currency, rate] : rates.items()) {
      if (!currency_digits(currency) || currency == provider.currency || !rate.is_string() ||
          rate.get_ref<const std::string&>().empty()) {
        fault("rates", R"(must have other currencies and decimal strings: {"GBP": "0.79"})");
        continue;
      }
      provider.rates.emplace(currency, read_rate(rate.get<std::string>(), place_ + ".rates." + currency));
    }
  }

  void read_reserve(const json& reserve, const AdapterKind& kind, Provider& provider) {
    if (!kind.has_calls) {
      if (!reserve.is_null()) fault("reserve", "does not belong here: this provider reports no calls");
      return;
    }
    if (reserve.is_null()) return fault("reserve", R"(is required: {"amount": "2.00", "ttlSeconds": 3600})");
    Fields fields(reserve.dump(), place_ + ".reserve.");
    const Micros amount = fields.amount("amount", 1);
    provider.reserve_amount = *Decimal::parse(format_money(amount));
    provider.reserve_ttl_s = fields.integer("ttlSeconds", 1, kTtlMaxS).value_or(0);
    add_faults(fields);
  }

  json entry_;
  const std::string place_;
  const config::Environment& environment_;
  std::vector<std::string>& faults_;
  std::vector<std::string>* files_;
};

}  // namespace

std::string_view to_string(EventResult result) { return kResultNames[static_cast<size_t>(result)]; }

tl::expected<Providers, std::vector<std::string>> Providers::parse(std::string_view text,
                                                                   const config::Environment& environment,
                                                                   std::vector<std::string>* files) {
  using Faults = std::vector<std::string>;
  std::string why;
  const auto document = parse_strict(text, why);
  if (!document) return tl::unexpected<Faults>(Faults{why});
  if (!document->is_object() || document->size() != 1 || !document->contains("providers") ||
      !(*document)["providers"].is_array() || (*document)["providers"].size() > kProvidersMax) {
    return tl::unexpected<Faults>(Faults{"it is not {\"providers\": [...]} with at most 64 of them"});
  }
  Providers providers;
  Faults faults;
  for (size_t i = 0; i < (*document)["providers"].size(); ++i) {
    const std::string place = "providers[" + std::to_string(i) + "]";
    const json& entry = (*document)["providers"][i];
    if (!entry.is_object()) {
      faults.push_back(place + " must be an object");
      continue;
    }
    Provider provider = Entry(entry, place, environment, faults, files).read();
    const std::string name = provider.name;
    if (!providers.by_name_.emplace(name, std::move(provider)).second && !name.empty()) {
      faults.push_back(place + ".name is another's too");
    }
  }
  if (!faults.empty()) return tl::unexpected<Faults>(std::move(faults));
  return providers;
}

const Provider* Providers::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &found->second;
}

void Providers::count_in(metrics::Registry& registry) {
  for (auto& [name, provider] : by_name_) {
    for (size_t i = 0; i < kEventResults; ++i) {
      provider.counters[i] =
          registry.counter("tallygate_operator_provider_events_total", "Requests of providers, by what became of them.",
                           {{"provider", name}, {"result", std::string(kResultNames[i])}});
    }
  }
}

}  // namespace tallygate::api
