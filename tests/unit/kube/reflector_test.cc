#include "operator/kube/reflector.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/kube/fake_api_server.h"
#include "tests/unit/kube/support.h"

namespace tallygate::kube {
namespace {

using Seen = FakeApiServer::Seen;

class ReflectorTest : public testing::Test {
 protected:
  ReflectorTest() {
    Config config;
    config.server = api_.url();
    client_ = std::move(*Client::create(system_env(), config, "test", registry_));
  }
  void start(ReflectorOptions options = {}) {
    options.type = FakeApiServer::type();
    options.backoff_min_ms = 5;
    options.backoff_max_ms = 20;
    if (options.page_size == 500) options.page_size = 10;
    reflector_ = std::make_unique<Reflector>(
        system_env(), *client_, options,
        [this](const std::vector<Change>& changes, bool listed) {
          const std::lock_guard lock(mutex_);
          batches_.push_back(changes);
          listed_.push_back(listed);
        },
        registry_);
    reflector_->start();
  }
  std::map<std::string, std::string> versions() const {
    std::map<std::string, std::string> all;
    for (const auto& [name, object] : *reflector_->known()) all[name.name] = object->resource_version;
    return all;
  }
  bool in_step() {
    return eventually([&] { return reflector_->health().synced && versions() == api_.versions(); });
  }
  bool watching() {
    return eventually([&] { return api_.open_watches() == 1 && reflector_->health().connected; });
  }
  std::vector<std::vector<Change>> batches() {
    const std::lock_guard lock(mutex_);
    return batches_;
  }
  std::vector<Change> changes() {
    std::vector<Change> all;
    for (const auto& batch : batches()) all.insert(all.end(), batch.begin(), batch.end());
    return all;
  }

  FakeApiServer api_;
  metrics::Registry registry_;
  std::unique_ptr<Client> client_;
  std::mutex mutex_;
  std::vector<std::vector<Change>> batches_;
  std::vector<bool> listed_;
  std::unique_ptr<Reflector> reflector_;
};

TEST_F(ReflectorTest, ListsInPagesAndShowsThemAtOnce) {
  for (int i = 0; i < 25; ++i) api_.put("t" + std::to_string(i));
  start();
  ASSERT_TRUE(in_step());
  ASSERT_EQ(batches().size(), 1u);
  EXPECT_EQ(batches()[0].size(), 25u);
  EXPECT_TRUE(listed_[0]);
  ASSERT_TRUE(watching());
  const auto seen = api_.seen();
  ASSERT_EQ(seen.size(), 4u);
  EXPECT_EQ(seen[0].target, "/apis/example.dev/v1/things?limit=10");
  EXPECT_TRUE(seen[1].target.starts_with("/apis/example.dev/v1/things?limit=10&continue=125.t")) << seen[1].target;
  EXPECT_TRUE(seen[3].target.starts_with(
      "/apis/example.dev/v1/things?watch=true&allowWatchBookmarks=true&resourceVersion=125&timeoutSeconds="))
      << seen[3].target;
}

TEST_F(ReflectorTest, SaysThatThereIsNothing) {
  start();
  ASSERT_TRUE(in_step());
  ASSERT_TRUE(eventually([&] { return batches().size() == 1; }));
  EXPECT_TRUE(batches()[0].empty());
  EXPECT_TRUE(listed_[0]);
}

TEST_F(ReflectorTest, FollowsChanges) {
  api_.put("a");
  start();
  ASSERT_TRUE(watching());
  const auto before = reflector_->known();
  api_.put("b", R"({"size":1})");
  api_.put("b", R"({"size":2})");
  api_.remove("a");
  ASSERT_TRUE(in_step());
  ASSERT_TRUE(eventually([&] { return changes().size() == 4; }));
  const auto all = changes();
  EXPECT_FALSE(all[1].before);
  EXPECT_EQ(all[1].now->json.find("managedFields"), std::string::npos);
  EXPECT_EQ(all[2].before, all[1].now);
  EXPECT_NE(all[2].now->json.find(R"("spec":{"size":2})"), std::string::npos) << all[2].now->json;
  EXPECT_EQ(all[3].name.str(), "shop/a");
  EXPECT_FALSE(all[3].now);
  EXPECT_EQ(before->size(), 1u) << "a copy that was taken does not change";
  EXPECT_FALSE(listed_.back());
}

TEST_F(ReflectorTest, KeepsWhatTheTransformLeaves) {
  api_.put("a", R"({"big":"xxxxxxxx"})");
  start({.transform = [](Object& object) { object.json = "less"; }});
  ASSERT_TRUE(in_step());
  EXPECT_EQ(reflector_->known()->begin()->second->json, "less");
}

TEST_F(ReflectorTest, ResumesWhereAWatchEnded) {
  api_.put("a");
  start();
  ASSERT_TRUE(watching());
  for (int i = 0; i < 5; ++i) {
    i % 2 == 0 ? api_.cut_watches() : api_.end_watches();
    api_.put("b" + std::to_string(i));
    ASSERT_TRUE(in_step());
  }
  ASSERT_TRUE(watching());
  EXPECT_EQ(api_.lists(), 1u);
  EXPECT_GE(api_.watches(), 6u);
  EXPECT_EQ(changes().size(), 6u) << "nothing came twice";
}

TEST_F(ReflectorTest, ResumesBehindABookmark) {
  api_.put("a");
  start();
  ASSERT_TRUE(watching());
  api_.put("elsewhere");  // moves the version on
  api_.remove("elsewhere");
  ASSERT_TRUE(in_step());
  api_.bookmark();
  const auto events =
      registry_.counter("tallygate_operator_kube_watch_events_total", "", {{"resource", "things.example.dev"}});
  ASSERT_TRUE(eventually([&] { return events.value() == 3; }));
  api_.compact();
  api_.cut_watches();
  ASSERT_TRUE(eventually([&] { return api_.watches() >= 2; }));
  ASSERT_TRUE(watching());
  EXPECT_EQ(api_.lists(), 1u);
  EXPECT_NE(api_.seen().back().target.find("resourceVersion=103&"), std::string::npos) << api_.seen().back().target;
}

TEST_F(ReflectorTest, ListsAgainWhereTheServerHasForgotten) {
  for (const bool as_event : {false, true}) {
    if (!reflector_) {
      api_.put("stays");
      api_.put("goes");
      start();
    }
    ASSERT_TRUE(watching());
    const size_t lists = api_.lists(), batches_before = batches().size();
    // The next watch is refused until a list has told the present.
    FakeApiServer::Answer too_old{410, "", R"({"kind":"Status","code":410,"reason":"Expired","message":"too old"})"};
    if (as_event) too_old = {200, "", R"({"type":"ERROR","object":)" + too_old.body + "}\n"};
    api_.fail(too_old, 1, [](const Seen& one) { return one.is_watch(); });
    api_.cut_watches();
    ASSERT_TRUE(eventually([&] { return api_.lists() == lists + 1; }));
    ASSERT_TRUE(watching());
    EXPECT_EQ(batches().size(), batches_before) << "what has not changed is not told";
  }
  // Gone, and made again, while nobody looked.
  ASSERT_TRUE(watching());
  api_.fail({0}, -1, [](const Seen&) { return true; });
  api_.cut_watches();
  ASSERT_TRUE(eventually([&] { return !reflector_->health().connected; }));
  api_.remove("goes");
  api_.remove("stays");
  api_.put("stays");
  api_.put("new");
  api_.compact();
  EXPECT_EQ(reflector_->known()->size(), 2u) << "known stays known";
  api_.forgive();
  ASSERT_TRUE(in_step());
  ASSERT_TRUE(eventually([&] { return batches().back().size() == 3; }));
  const auto last = batches().back();
  EXPECT_EQ(last[0].name.name, "goes");
  EXPECT_FALSE(last[0].now);
  EXPECT_EQ(last[1].name.name, "new");
  EXPECT_EQ(last[2].name.name, "stays");
  EXPECT_NE(last[2].before->uid, last[2].now->uid);
}

TEST_F(ReflectorTest, StartsAListOverWhoseTokenExpired) {
  for (int i = 0; i < 25; ++i) api_.put("t" + std::to_string(i));
  int pages = 0;
  api_.fail({410, "", R"({"kind":"Status","code":410,"reason":"Expired"})"}, 2, [&pages](const Seen& one) {
    return one.is_list() && one.target.find("continue=") != std::string::npos && ++pages % 2 == 0;
  });
  start();
  ASSERT_TRUE(in_step());
  EXPECT_EQ(batches().size(), 1u) << "nobody saw half a list";
  EXPECT_EQ(api_.lists(), 3u);
}

TEST_F(ReflectorTest, TakesALineSplitAnywhere) {
  start();
  ASSERT_TRUE(watching());
  for (const size_t bytes : {1, 2, 3, 5, 64, 1000}) {
    api_.send_in_pieces_of(bytes);
    api_.end_watches();
    for (int i = 0; i < 3; ++i) api_.put("t" + std::to_string(bytes) + "-" + std::to_string(i), R"({"text":"\"\\{ü"})");
    ASSERT_TRUE(in_step()) << bytes;
  }
  EXPECT_EQ(api_.lists(), 1u);
}

TEST_F(ReflectorTest, TakesALineOfThreeMegabytes) {
  start();
  ASSERT_TRUE(watching());
  api_.put("huge", R"({"text":")" + std::string(3'000'000, 'x') + "\"}");
  api_.put("after");
  ASSERT_TRUE(in_step());
  EXPECT_EQ(api_.lists(), 1u);
  EXPECT_GT(reflector_->known()->begin()->second->json.size(), 0u);
}

TEST_F(ReflectorTest, TellsThatTheTypeIsMissingOrForbiddenAndGoesOn) {
  api_.put("a");
  start();
  ASSERT_TRUE(watching());
  const auto refuse = [&](int status, const std::string& body) {
    api_.fail({status, "", body}, -1, [](const Seen&) { return true; });
    api_.cut_watches();
    ASSERT_TRUE(eventually([&] { return !reflector_->health().connected; }));
  };
  refuse(404, "404 page not found\n");
  ASSERT_TRUE(eventually([&] { return reflector_->health().type_missing; })) << reflector_->health().error;
  EXPECT_FALSE(reflector_->health().forbidden);
  EXPECT_NE(reflector_->health().error.find("404: 404 page not found"), std::string::npos);
  EXPECT_EQ(reflector_->known()->size(), 1u);
  api_.forgive();
  ASSERT_TRUE(watching());
  EXPECT_FALSE(reflector_->health().type_missing);
  refuse(403, R"({"kind":"Status","message":"things is forbidden: no","code":403})");
  ASSERT_TRUE(eventually([&] { return reflector_->health().forbidden; })) << reflector_->health().error;
  EXPECT_EQ(reflector_->known()->size(), 1u);
  api_.forgive();
  ASSERT_TRUE(watching());
  EXPECT_EQ(reflector_->health().error, "");
  EXPECT_EQ(api_.lists(), 1u);
}

TEST_F(ReflectorTest, KeepsWhatIsKnownThroughGarbage) {
  api_.put("a");
  start();
  ASSERT_TRUE(watching());
  const FakeApiServer::Answer answers[] = {
      {200, "", "<html>not an API server</html>\n"},
      {200, "", "{\"kind\":\"ThingList\"}\n"},
      {200, "", R"({"metadata":{"resourceVersion":"1"},"items":[{"metadata":{}}]})"},
      {200, "", R"({"metadata":{"resourceVersion":"1"},"items":[{"metadata")"},
      {200, "", ""},
      {500, "", "{}"},
      {503, "", ""},
      {302, "Location: /elsewhere\r\n", ""},
      {200, "", std::string(5000, '{'), true},
      {0},
  };
  for (const auto& answer : answers) {
    api_.fail(answer, -1, [](const Seen&) { return true; });
    api_.cut_watches();
    const size_t seen = api_.seen().size();
    ASSERT_TRUE(eventually([&] { return api_.seen().size() > seen + 3; })) << answer.body;
    EXPECT_TRUE(answer.status == 200 || !reflector_->health().connected) << answer.body;
    EXPECT_EQ(versions(), api_.versions());
    api_.forgive();
    ASSERT_TRUE(watching());
  }
  api_.say("garbage");
  api_.say(R"({"type":"ODD","object":{}})");
  api_.put("b");
  ASSERT_TRUE(in_step());
  for (const auto& change : changes()) EXPECT_TRUE(change.now) << change.name.str();
}

TEST_F(ReflectorTest, StopsAtOnceWhateverItDoes) {
  start();
  ASSERT_TRUE(watching());
  const int64_t began_ms = system_env().mono_ms();
  reflector_->stop();
  reflector_->stop();
  EXPECT_LT(system_env().mono_ms() - began_ms, 5'000);
  EXPECT_FALSE(reflector_->health().connected && api_.open_watches() > 1);
}

// Whatever fails, in the end it knows what there is, and its changes, applied one after the other, lead there.
TEST_F(ReflectorTest, EndsWhereTheServerIsAfterRandomFaults) {
  std::mt19937 random(20260101);
  const auto below = [&](uint32_t bound) { return random() % bound; };
  start();
  for (int i = 0; i < 600; ++i) {
    const std::string name = "t" + std::to_string(below(40));
    below(4) == 0 ? api_.remove(name) : api_.put(name, R"({"n":)" + std::to_string(i) + "}");
    if (below(10) == 0) api_.bookmark();
    if (below(15) == 0) api_.cut_watches();
    if (below(25) == 0) api_.end_watches();
    if (below(40) == 0) api_.compact();
    if (below(40) == 0) api_.say("garbage");
    if (below(30) == 0) {
      const FakeApiServer::Answer answers[] = {{0}, {500, "", "{}"}, {200, "", "{]"}, {410, "", "{}"}, {403, "", "{}"}};
      api_.fail(answers[below(5)], static_cast<int>(below(4)), [](const Seen&) { return true; });
    }
    if (below(20) == 0) api_.send_in_pieces_of(1 + below(200));
    if (below(5) == 0) system_env().sleep_ms(2);
  }
  api_.forgive();
  ASSERT_TRUE(in_step());
  reflector_->stop();
  std::map<std::string, std::string> replayed;
  for (const auto& change : changes()) {
    EXPECT_EQ(change.before ? change.before->resource_version : "", replayed[change.name.name]);
    if (change.now) {
      replayed[change.name.name] = change.now->resource_version;
    } else {
      replayed.erase(change.name.name);
    }
  }
  EXPECT_EQ(replayed, api_.versions());
}

}  // namespace
}  // namespace tallygate::kube
