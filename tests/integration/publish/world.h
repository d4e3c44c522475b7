// A publisher on a real PostgreSQL and a real Redis, driven step by step.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/redis_contract/keys.h"
#include "core/tenant/wire.h"
#include "operator/publish/publisher.h"
#include "tests/integration/support/postgres_server.h"
#include "tests/integration/support/redis_server.h"
#include "tests/unit/publish/sample.h"

namespace tallygate::testing {

class PublishWorld {
 public:
  PublishWorld()
      : url(PostgresServer::shared().create_database()), session(url), redis(system_env(), server.endpoint()) {
    restart();
  }

  // A new process, as far as the publisher can tell.
  void restart() {
    publisher.reset();
    registry = std::make_unique<metrics::Registry>();
    publish::PublisherOptions options;
    options.database_url = url;
    options.redis = server.endpoint();
    options.key_file = key_file;
    options.keys_interval_ms = 0;
    options.on_tenant_changed = [this](const TenantId& id) { kicked.push_back(id.str()); };
    publisher = std::make_unique<publish::Publisher>(system_env(), options, *registry);
  }

  Result<void> offer(const plan::Compiled& compiled) {
    publisher->offer(std::make_shared<const plan::Compiled>(compiled), system_env().mono_ns());
    kicked.clear();
    return publisher->run_once();
  }
  // Fails the test where it does not work.
  int64_t publish(const plan::Compiled& compiled) {
    const auto done = offer(compiled);
    EXPECT_TRUE(done) << (done ? "" : done.error().message);
    return version();
  }
  void step() {
    const auto done = publisher->run_once();
    EXPECT_TRUE(done) << (done ? "" : done.error().message);
  }

  redis::Reply call(const redis::Command& command) {
    auto reply = redis::Client::check(redis.call(command));
    // After a restart of Redis the first call may find the old connection closed.
    for (int i = 0; i < 50 && !reply; ++i) {
      system_env().sleep_ms(20);
      reply = redis::Client::check(redis.call(command));
    }
    if (!reply) throw std::runtime_error(reply.error().message);
    return *reply;
  }
  int64_t version() { return call({"HGET", redis_contract::meta_key(), "version"}).to_integer(-1); }
  std::string generation() { return call({"HGET", redis_contract::meta_key(), "generation"}).text; }
  std::string identity(const std::string& kind, const std::string& value) {
    return call({"GET", redis_contract::identity_key(kind, value)}).text;
  }
  // Its document's version; -1 where there is none.
  int64_t tenant_version(const std::string& id) {
    const auto reply = call({"GET", redis_contract::tenant_key(id)});
    if (reply.is_nil()) return -1;
    const auto tenant = tenant::tenant_from_json(reply.text);
    return tenant ? tenant->version : -2;
  }
  // What the change index says; -1 where it does not know the name.
  int64_t score(const std::string& name) {
    const auto reply = call({"ZSCORE", redis_contract::changes_key(), name});
    return reply.is_nil() ? -1 : reply.to_integer(-2);
  }
  int64_t number(const std::string& sql) {
    const auto rows = session.exec(sql);
    if (!rows) throw std::runtime_error(rows.error().message);
    return rows->empty() ? -1 : rows->integer(0, 0);
  }

  // Whose signature is under a value; "" where it is nobody's that the ledger's keys, or `key_file`'s, know of.
  std::string signed_by(const std::string& name) {
    const auto keys = publish::PublicationKeys(system_env(), url, key_file).load();
    if (!keys) throw std::runtime_error(keys.error().message);
    std::string document = call({"GET", publish::key_of(name)}).text;
    const std::string signature = call({"GET", redis_contract::signature_key(publish::key_of(name))}).text;
    std::vector<redis_contract::PublicKey> all = keys->others;
    all.push_back(keys->signer.public_key());
    const auto edition = redis_contract::TrustedKeys::of(all).verify(name, document, signature);
    return edition ? signature.substr(2, 16) : "";
  }
  bool head_is_signed_by(const std::string& key) {
    const auto head = call({"HMGET", redis_contract::meta_key(), "generation", "version", "sig"});
    const auto keys = publish::PublicationKeys(system_env(), url, key_file).load();
    const publish::Meta meta{head.elements[0].text, head.elements[1].to_integer(), head.elements[2].text};
    return keys && keys->signer.public_key().id() == key && meta.is_signed_by(keys->signer);
  }

  std::string key_file;  // of the publisher after restart(); empty: the ledger's keys
  RedisServer server;
  std::string url;
  ledger::Session session;
  redis::Client redis;
  std::vector<std::string> kicked;
  std::unique_ptr<metrics::Registry> registry;
  std::unique_ptr<publish::Publisher> publisher;
};

}  // namespace tallygate::testing
