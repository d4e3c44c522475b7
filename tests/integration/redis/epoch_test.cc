// The epoch guard: who may act, after everything that makes a server another one.
#include "tests/integration/redis/scratch_redis.h"

namespace tallygate::testing {
namespace {

namespace rc = redis_contract;
const std::string kDay = "day@" + std::to_string(system_env().wall_s() - 600) + "+86400";

// Every script that an epoch guards refuses, and changes nothing.
void expect_closed(Scripts& s, int64_t epoch) {
  const std::string before = s.dump();
  EXPECT_NE(s.renew(), epoch);
  EXPECT_EQ(s.lease(epoch, "a", {{kDay, 1, 1}}).status, "EPOCH");
  EXPECT_EQ(s.fund(epoch, kDay, {0, 100, 0, 0, "", 1}).text, "EPOCH");
  EXPECT_EQ(s.recall(epoch, kDay, 10).text, "EPOCH");
  EXPECT_EQ(s.enrol(epoch, {"a"}).text, "EPOCH");
  EXPECT_EQ(s.close(epoch, "a").text, "EPOCH");
  EXPECT_EQ(s.give_back(epoch, "a", {{kDay, 0}}).text, "EPOCH");
  EXPECT_EQ(s.stat(epoch, {kDay}).text, "EPOCH");
  EXPECT_EQ(s.dump(), before);
}

void fill(Scripts& s, int64_t epoch) {
  ASSERT_EQ(s.open(epoch), epoch);
  EXPECT_EQ(s.renew(), epoch);
  EXPECT_EQ(s.enrol(epoch, {"a", "b"}).integer, 2);
  EXPECT_EQ(s.fund(epoch, kDay, {0, 100, 0, 0, "", 1}).integer, 100);
  EXPECT_EQ(s.lease(epoch, "a", {{kDay, 1, 1}}).status, "GRANT");
}

TEST(Epoch, OpensOnlyHigherNumbers) {
  ScratchRedis server;
  redis::Client client(system_env(), server.endpoint());
  Scripts s(client);
  EXPECT_EQ(s.renew(), 0) << "renewal never creates";
  EXPECT_EQ(s.dump(), "");
  expect_closed(s, 1);
  fill(s, 5);
  EXPECT_EQ(s.open(5), 0);
  EXPECT_EQ(s.open(4), 0);
  EXPECT_EQ(s.renew(), 5);
  expect_closed(s, 4);
  expect_closed(s, 6);
  EXPECT_EQ(s.open(6), 6);
  EXPECT_EQ(s.lease(6, "a", {{kDay, 1, 1}}).status, "REG") << "a new epoch starts with nothing";
  EXPECT_EQ(s.lease(5, "a", {{kDay, 1, 1}}).epoch, 6);
  EXPECT_EQ(s.open((int64_t{1} << 53) - 1), (int64_t{1} << 53) - 1);
  EXPECT_EQ(s.renew(), (int64_t{1} << 53) - 1);
}

TEST(Epoch, IsGoneAfterFlushall) {
  ScratchRedis server;
  redis::Client client(system_env(), server.endpoint());
  Scripts s(client);
  fill(s, 1);
  s.call({"FLUSHALL"});
  expect_closed(s, 1);
  fill(s, 2);
}

TEST(Epoch, IsGoneAfterARestartEvenWhereTheDataIsNot) {
  ScratchRedis server({"--save", "", "--dbfilename", "kept.rdb"});
  {
    redis::Client client(system_env(), server.endpoint());
    Scripts s(client);
    fill(s, 1);
    s.call({"SAVE"});
  }
  server.kill();
  server.start();
  redis::Client client(system_env(), server.endpoint());
  Scripts s(client);
  ASSERT_EQ(s.field(kDay, 1, "f"), 100) << "it remembers, perhaps not everything";
  expect_closed(s, 1);
  EXPECT_EQ(s.open(1), 0) << "the same number never again";
  EXPECT_EQ(s.open(2), 2);
}

TEST(Epoch, AReplicaRefusesAndSoDoesAPromotedOne) {
  ScratchRedis primary;
  redis::Client to_primary(system_env(), primary.endpoint());
  Scripts p(to_primary);
  fill(p, 3);
  ScratchRedis replica(
      {"--replicaof", "127.0.0.1 " + std::to_string(primary.port()), "--repl-diskless-sync-delay", "0"});
  redis::Client to_replica(system_env(), replica.endpoint());
  Scripts r(to_replica);
  const int64_t until_ms = system_env().mono_ms() + 20'000;
  while (to_replica.call({"INFO", "replication"})->text.find("master_link_status:up") == std::string::npos) {
    ASSERT_LT(system_env().mono_ms(), until_ms);
    system_env().sleep_ms(20);
  }
  ASSERT_EQ(r.field(kDay, 3, "f"), 100);
  // The first replica of a server makes it begin a new history, with a new id: one epoch more than needed, never fewer.
  expect_closed(p, 3);
  fill(p, 5);
  const int64_t synced_ms = system_env().mono_ms() + 20'000;
  while (r.field(kDay, 5, "f") != 100) {
    ASSERT_LT(system_env().mono_ms(), synced_ms);
    system_env().sleep_ms(20);
  }
  EXPECT_EQ(p.renew(), 5);
  expect_closed(r, 5);
  EXPECT_EQ(r.open(9), 0) << "a replica opens nothing";
  EXPECT_EQ(p.lease(5, "a", {{kDay, 10, 10}}).status, "GRANT");

  r.call({"REPLICAOF", "NO", "ONE"});
  expect_closed(r, 5);
  EXPECT_EQ(r.open(5), 0);
  EXPECT_EQ(r.open(6), 6);
  EXPECT_EQ(r.renew(), 6);
  // Split brain: the old primary goes on under its own epoch; the ledger holds that float back until it reports.
  EXPECT_EQ(p.renew(), 5);
  // And when it rejoins as a replica it acts no more.
  p.call({"REPLICAOF", "127.0.0.1", std::to_string(replica.port())});
  EXPECT_EQ(p.renew(), 0);
  EXPECT_EQ(p.lease(5, "a", {{kDay, 11, 11}}).status, "EPOCH");
}

// A full Redis refuses writes: what a script does then is nothing, not a part.
TEST(Epoch, WithoutMemoryAScriptDoesNothing) {
  ScratchRedis server;
  redis::Client client(system_env(), server.endpoint());
  Scripts s(client);
  fill(s, 1);
  s.fund(1, "hour@0+3600", {0, 10, 0, 0, "", 50});
  s.call({"CONFIG", "SET", "maxmemory", "1"});
  const std::string before = s.dump();
  EXPECT_FALSE(s.try_lease(1, "a", {{kDay, 10, 10, 0, 0}, {"hour@0+3600", 5, 5}}).has_value());
  EXPECT_FALSE(s.try_lease(1, "a", {{kDay, 10, 10, 1, 0}}).has_value());
  EXPECT_FALSE(s.try_lease(1, "a", {{"hour@0+3600", 50, 50}}).has_value());
  EXPECT_EQ(s.dump(), before);
  s.call({"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_EQ(s.lease(1, "a", {{kDay, 10, 10}}).status, "GRANT");
}

}  // namespace
}  // namespace tallygate::testing
