#include "operator/publish/publication_keys.h"

#include "core/file.h"
#include "core/telemetry/log.h"

namespace tallygate::publish {
namespace {

using redis_contract::PublicKey;
using redis_contract::Signer;

constexpr size_t kSeedBytes = 32;

std::string hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

// What PostgreSQL's encode(…, 'hex') wrote.
std::string unhex(std::string_view digits) {
  const auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string out;
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    out += static_cast<char>(value(digits[i]) * 16 + value(digits[i + 1]));
  }
  return out;
}

struct Made {
  std::string seed;
  Signer signer;
};

Made make(Env& env) {
  std::string seed(kSeedBytes, '\0');
  env.random_bytes(seed.data(), seed.size());
  auto signer = Signer::from_seed(seed);
  TG_ASSERT(signer);
  return {std::move(seed), std::move(*signer)};
}

ledger::Params parameters(const Made& made) {
  return {made.signer.public_key().id(), hex(made.signer.public_key().raw()), hex(made.seed)};
}

Result<std::string> one_text(const Result<ledger::Rows>& rows) {
  if (!rows) return tl::unexpected(rows.error());
  return std::string(rows->text(0, 0));
}

}  // namespace

std::string Keys::public_pem() const {
  std::string pem = signer.public_key().pem();
  for (const PublicKey& key : others) {
    if (!(key == signer.public_key())) pem += key.pem();
  }
  return pem;
}

Result<Keys> keys_of_file(const std::string& path) {
  const auto pem = read_file(path, 64 * 1024);
  if (!pem) return tl::unexpected(pem.error());
  auto signer = Signer::from_pem(*pem);
  if (!signer) return fail(Errc::kInvalid, path + ": " + signer.error().message);
  auto others = redis_contract::public_keys_in(*pem);
  if (!others) return fail(Errc::kInvalid, path + ": " + others.error().message);
  if (others->size() + 1 > redis_contract::TrustedKeys::kMax) {
    return fail(Errc::kInvalid, path + ": there are more public keys in it than sidecars take");
  }
  return Keys{std::move(*signer), std::move(*others)};
}

PublicationKeys::PublicationKeys(Env& env, std::string database_url, std::string file)
    : env_(env), session_(std::move(database_url)), file_(std::move(file)) {}

Result<Keys> PublicationKeys::load() {
  if (!file_.empty()) return keys_of_file(file_);
  auto keys = load_ledgers();
  if (keys || keys.error().errc != Errc::kNotFound) return keys;
  const Made made = make(env_);
  const auto done =
      session_.exec("select make_publication_key($1, decode($2, 'hex'), decode($3, 'hex'))", parameters(made));
  if (!done) return tl::unexpected(done.error());
  keys = load_ledgers();  // ours, or that of another operator which was faster
  if (keys && keys->signer.public_key() == made.signer.public_key()) {
    log::info("a key for signing the publication was made", {{"key", made.signer.public_key().id()}});
  }
  return keys;
}

Result<Keys> PublicationKeys::load_ledgers() {
  const auto rows = session_.exec(
      "select encode(public_key, 'hex'), encode(seed, 'hex'), state from publication_keys "
      "order by state = 'former', made_at desc, id limit 8");
  if (!rows) return tl::unexpected(rows.error());
  std::optional<Signer> signer;
  std::vector<PublicKey> others;
  for (size_t i = 0; i < rows->size(); ++i) {
    if (rows->text(i, 2) == "current") {
      auto current = Signer::from_seed(unhex(rows->text(i, 1)));
      if (!current) return fail(Errc::kInternal, "the ledger's publication key cannot be used: " + current.error().message);
      signer = std::move(*current);
    } else if (auto key = PublicKey::from_raw(unhex(rows->text(i, 0)))) {
      others.push_back(std::move(*key));
    }
  }
  if (!signer) return fail(Errc::kNotFound, "the ledger has no publication key");
  return Keys{std::move(*signer), std::move(others)};
}

Result<std::string> prepare_key(Env& env, ledger::Session& session, const std::string& actor) {
  ledger::Params params = parameters(make(env));
  params.emplace_back(actor);
  return one_text(session.exec("select prepare_publication_key($1, decode($2, 'hex'), decode($3, 'hex'), $4)", params));
}

Result<std::string> rotate_key(ledger::Session& session, const std::string& actor) {
  return one_text(session.exec("select rotate_publication_key($1)", {actor}));
}

Result<int64_t> retire_keys(ledger::Session& session, const std::string& actor) {
  const auto rows = session.exec("select retire_publication_keys($1)", {actor});
  if (!rows) return tl::unexpected(rows.error());
  return rows->integer(0, 0);
}

}  // namespace tallygate::publish
