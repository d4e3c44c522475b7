// Bad input, one case a row: every message must name the place and the field, and say how to put it right; none may
// repeat a secret.
#include "tests/unit/core_config/support.h"

namespace tallygate::config {
namespace {

constexpr const char* kSecret = "hunter2";

struct Case {
  std::vector<std::string> args;
  std::map<std::string, std::string> environment;
  std::string file;                 // the configuration file's content; none if empty
  std::vector<std::string> expect;  // parts of the message: the place with the field, the fix
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      // Flags as such.
      {{"--lisetn=:1"}, {}, "", {"flag --lisetn", "did you mean --listen?"}},
      {{"--workrs", "4"}, {}, "", {"flag --workrs", "did you mean --workers?"}},
      {{"--no-shado"}, {}, "", {"flag --no-shado", "did you mean --no-shadow?"}},
      {{"--frobnicate"}, {}, "", {"flag --frobnicate", "see --help"}},
      {{"--redis-url-fil=/x"}, {}, "", {"flag --redis-url-fil", "did you mean --redis-url-file?"}},
      {{"-listen=:1"}, {}, "", {"flag \"-listen\" (listen)", "write --listen"}},
      {{"listen=:1"}, {}, "", {"flag \"listen\" (listen)", "write --listen"}},
      {{"surplus"}, {}, "", {"argument \"surplus\"", "write settings as --name=value"}},
      {{"--"}, {}, "", {"argument \"--\"", "write settings as --name=value"}},
      {{"--workers"}, {}, "", {"flag --workers", "has no value", "write --workers=N"}},
      {{"--workers", "--shadow"}, {}, "", {"flag --workers", "has no value", "write --workers=N"}},
      {{"--workers=1", "--workers=2"}, {}, "", {"flag --workers", "more than once", "write it once"}},
      {{"--no-shadow=true"}, {}, "", {"flag --no-shadow", "write --no-shadow"}},
      {{"--no-workers"}, {}, "", {"flag --no-workers", "write --workers=N"}},
      {{"--shadow=maybe"}, {}, "", {"flag --shadow", "\"maybe\"", "write true or false"}},
      {{std::string("--\x01\nx=1")}, {}, "", {"\\x01", "see --help"}},
      // Values from flags.
      {{"--workers=0"}, {}, "", {"flag --workers", "is below 1", "from 1 to 64"}},
      {{"--workers=65"}, {}, "", {"flag --workers", "is above 64", "from 1 to 64"}},
      {{"--workers=four"}, {}, "", {"flag --workers", "is not a whole number", "from 1 to 64"}},
      {{"--workers="}, {}, "", {"flag --workers", "from 1 to 64"}},
      {{"--workers=99999999999999999999"}, {}, "", {"flag --workers", "is above 64", "from 1 to 64"}},
      {{"--drain=30"}, {}, "", {"flag --drain", "has no unit", "250ms, 5s, 1m30s or 24h"}},
      {{"--drain=5parsec"}, {}, "", {"flag --drain", "unknown unit \"parsec\"", "250ms, 5s"}},
      {{"--drain=1h"}, {}, "", {"flag --drain", "longer than 10m", "from 0s to 10m"}},
      {{"--drain=1s1h"}, {}, "", {"flag --drain", "largest down", "1m30s"}},
      {{"--listen=8080"}, {}, "", {"flag --listen", "has no port", ":8080"}},
      {{"--listen=::1:80"}, {}, "", {"flag --listen", "without brackets", "[::1]:8080"}},
      {{"--listen=:70000"}, {}, "", {"flag --listen", "0 to 65535", "HOST:PORT"}},
      {{"--listen=[::1:80"}, {}, "", {"flag --listen", "[v6]:PORT"}},
      {{"--tls-secret=tls"}, {}, "", {"flag --tls-secret", "has no \"/\"", "NAMESPACE/NAME"}},
      {{"--tls-secret=Billing/tls"}, {}, "", {"flag --tls-secret", "namespace", "lower case"}},
      {{"--log-format=jsn"}, {}, "", {"flag --log-format", "one of json, text", "did you mean json?"}},
      {{"--state-dir=/nonexistent"}, {}, "", {"flag --state-dir", "does not exist", "create the directory"}},
      {{"--state-dir=/dev/null"}, {}, "", {"flag --state-dir", "not a directory", "path of a directory"}},
      {{"--source=dir"}, {}, "", {"flag --source", "has no PATH", "write dir:PATH or kubernetes"}},
      {{"--source=git:x"}, {}, "", {"flag --source", "no known kind", "write dir:PATH or kubernetes"}},
      {{"--roles=api,,x"}, {}, "", {"flag --roles", "empty", "write 1 to 20 characters"}},
      {{"--redis-url=http://cache"},
       {},
       "",
       {"flag --redis-url", "scheme", "redis://HOST…, rediss://HOST… or unix:///PATH"}},
      {{"--redis-url=cache:6379"}, {}, "", {"flag --redis-url", "no scheme", "redis://HOST…"}},
      {{"--redis-url=redis://cache:0"}, {}, "", {"flag --redis-url", "port", "redis://HOST…"}},
      {{"--redis-url=unix://tmp/x"}, {}, "", {"flag --redis-url", "no absolute path", "unix:///PATH"}},
      // Secrets where they must not be.
      {{"--redis-url=redis://u:hunter2@cache"}, {}, "", {"flag --redis-url", "REDIS_URL or --redis-url-file=FILE"}},
      {{"--stripe-key=hunter2hunter2"}, {}, "", {"flag --stripe-key", "STRIPE_API_KEY or --stripe-key-file=FILE"}},
      {{}, {}, "stripe-key: hunter2hunter2\n", {":1 (stripe-key)", "STRIPE_API_KEY or --stripe-key-file=FILE"}},
      {{},
       {{"STRIPE_API_KEY", "hunter2"}},
       "",
       {"environment STRIPE_API_KEY (stripe-key)", "write 8 to 4096 characters"}},
      {{},
       {{"REDIS_URL", "redis://u:hunter2@h:x"}},
       "",
       {"environment REDIS_URL (redis-url)", "port", "redis://HOST…"}},
      {{}, {{"REDIS_URL", "hunter2"}}, "", {"environment REDIS_URL (redis-url)", "no scheme", "redis://HOST…"}},
      {{"--stripe-key-file=/nonexistent"}, {}, "", {"flag --stripe-key-file", "cannot be opened", "correct the path"}},
      {{},
       {{"STRIPE_API_KEY", "hunter2hunter2"}, {"STRIPE_API_KEY_FILE", "/x"}},
       "",
       {"environment STRIPE_API_KEY (stripe-key)", "both", "keep one of --stripe-key and --stripe-key-file"}},
      // The environment.
      {{}, {{"TALLYGATE_WORKERS", "many"}}, "", {"environment TALLYGATE_WORKERS (workers)", "from 1 to 64"}},
      {{}, {{"TALLYGATE_DRAIN", "soon"}}, "", {"environment TALLYGATE_DRAIN (drain)", "250ms, 5s"}},
      {{}, {{"TALLYGATE_SHADOW", "2"}}, "", {"environment TALLYGATE_SHADOW (shadow)", "write true or false"}},
      // The file.
      {{}, {}, "workers: 0\n", {":1 (workers)", "is below 1", "from 1 to 64"}},
      {{}, {}, "\n\ndrain: 30\n", {":3 (drain)", "has no unit", "250ms, 5s"}},
      {{}, {}, "worker: 3\n", {":1 (worker)", "no such setting", "did you mean workers?"}},
      {{}, {}, "redis:\n  ulr: redis://x\n", {":2 (redis-ulr)", "did you mean redis-url?"}},
      {{}, {}, "workers: [1, 2]\n", {":1 (workers)", "is a list", "write one value"}},
      {{}, {}, "roles: []\n", {":1 (roles)", "empty list", "list a value"}},
      {{}, {}, "roles: [[a]]\n", {":1 (roles)", "list plain values"}},
      {{}, {}, "listen:\n", {":1 (listen)", "the value is missing", "remove the key"}},
      {{}, {}, "workers: 1\nworkers: 2\n", {":2 (workers)", "more than once", "write it once"}},
      {{}, {}, "a: {b: {c: {d: {e: 1}}}}\n", {":1 (a-b-c-d)", "too deeply", "flat keys"}},
      {{}, {}, "workers: [1\n", {"(config)", "not YAML", "check indentation"}},
      {{}, {}, ",", {":1 (config)", "more than 10000 values", "split the file"}},
      {{}, {}, "[]s\n? ", {":2 (config)", "more than 10000 values", "split the file"}},
      {{}, {}, "- a\n", {":1 (config)", "not one map", "write lines such as"}},
      {{}, {}, "a: 1\n---\nb: 2\n", {":1 (config)", "not one map", "write lines such as"}},
      {{}, {}, "config: x\n", {":1 (config)", "no such setting", ";"}},
      {{"--config=/nonexistent.yaml"}, {}, "", {"flag --config", "cannot be opened", "correct the path"}},
      {{"--config=/"}, {}, "", {"flag --config", "cannot be read", "plain file"}},
  };
  return all;
}

TEST(Faults, EachNamesThePlaceTheFieldAndTheFix) {
  static_assert(std::string_view(kSecret).size() == 7);
  ASSERT_GE(cases().size(), 40u);
  for (const Case& c : cases()) {
    Sample sample;
    OptionSet options;
    declare(options, sample);
    std::vector<std::string> args = c.args;
    auto variables = c.environment;
    const bool names_redis = c.args.end() != std::find_if(c.args.begin(), c.args.end(), [](const std::string& a) {
                               return a.starts_with("--redis-url=");
                             });
    if (!names_redis && variables.count("REDIS_URL") == 0) variables["REDIS_URL"] = "redis://cache:6379";
    std::optional<TemporaryFile> file;
    if (!c.file.empty()) {
      file.emplace(c.file);
      args.push_back("--config=" + file->path());
    }
    const MapEnvironment environment(variables);
    const auto faults = options.parse(args, environment.lookup());
    const std::string message = joined(faults);
    EXPECT_EQ(faults.size(), 1u) << message << testing::PrintToString(c.args) << c.file;
    for (const std::string& part : c.expect) {
      EXPECT_NE(message.find(part), std::string::npos) << "missing: " << part << "\nin: " << message;
    }
    EXPECT_EQ(message.find(kSecret), std::string::npos) << message;
  }
}

TEST(Faults, AllAreReportedAtOnce) {
  const TemporaryFile file("drain: never\nnonsense: 1\n");
  const MapEnvironment environment(std::map<std::string, std::string>{{"TALLYGATE_WORKERS", "0"}});
  Sample sample;
  OptionSet options;
  declare(options, sample);
  const std::vector<std::string> args = {"--listen=x", "--frob", "--config", file.path()};
  const std::string message = joined(options.parse(args, environment.lookup()));
  for (const char* part :
       {"flag --listen", "flag --frob", ":1 (drain)", ":2 (nonsense)", "environment TALLYGATE_WORKERS (workers)",
        "setting --redis-url: is required and not set; set --redis-url=URL, REDIS_URL, "
        "--redis-url-file=FILE, or redis-url in the configuration file"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << "\nin: " << message;
  }
}

}  // namespace
}  // namespace tallygate::config
