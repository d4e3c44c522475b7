// The golden framing tables, each case delivered at once, byte by byte and at random splits: the verdict must not differ.
#include "tests/fuzz/memory_world.h"
#include "tests/fuzz/strict_message.h"
#include "tests/unit/sidecar_http/golden_table.h"

namespace tallygate::testing {
namespace {

using Splits = std::function<size_t(size_t left)>;

size_t at_once(size_t left) { return left; }
size_t one_byte(size_t) { return 1; }

// Answers every complete request that arrived at the app; returns how many, or -1 for one that is not strictly well-formed.
int serve_all(MemoryWorld& world, std::vector<std::string>& seen) {
  int served = 0;
  for (Peer* app : world.apps) {
    for (;;) {
      const StrictMessage message = read_strict(app->from_engine, false);
      if (message.state == StrictMessage::State::kBroken) {
        ADD_FAILURE() << message.why << " in what the app got:\n" << app->from_engine;
        return -1;
      }
      if (message.state == StrictMessage::State::kIncomplete || app->conn == nullptr) break;
      seen.push_back(app->from_engine.substr(0, message.size));
      app->from_engine.erase(0, message.size);
      world.send(*app, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
      ++served;
    }
  }
  return served;
}

std::string request_verdict(const std::string& bytes, const Splits& splits) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  int served = 0;
  std::vector<std::string> seen;
  for (size_t at = 0; at < bytes.size();) {
    const size_t n = std::min(splits(bytes.size() - at), bytes.size() - at);
    world.send(client, std::string_view(bytes).substr(at, n));
    at += n;
    const int now = serve_all(world, seen);
    if (now < 0) return "broken";
    served += now;
  }
  // The loop above answers what is complete; a pipelined successor becomes so by the answer.
  for (int now = 1; now > 0; served += now) now = serve_all(world, seen);
  std::string verdict = "none";
  std::string answers = client.take();
  int oks = 0;
  while (!answers.empty()) {
    const StrictMessage answer = read_strict(answers, true);
    if (answer.state != StrictMessage::State::kComplete) return "bad answer: " + answer.why;
    if (answer.status() == 200) verdict = ++oks == 1 ? "ok" : "ok" + std::to_string(oks);
    else verdict = std::to_string(answer.status());
    answers.erase(0, answer.size);
  }
  EXPECT_EQ(served, oks);
  world.reset(client);
  EXPECT_FALSE(world.gate.broken);
  EXPECT_EQ(world.gate.open, 0);
  return verdict;
}

std::string response_verdict(const GoldenCase& golden, const Splits& splits) {
  MemoryWorld world;
  Peer& client = *world.connect_client();
  const bool head = golden.name.ends_with("[HEAD]");
  world.send(client, (head ? "HEAD" : "GET") + std::string(" / HTTP/1.1\r\nHost: a\r\n\r\n"));
  Peer& app = world.app();
  for (size_t at = 0; at < golden.bytes.size() && app.conn != nullptr;) {
    const size_t n = std::min(splits(golden.bytes.size() - at), golden.bytes.size() - at);
    world.send(app, std::string_view(golden.bytes).substr(at, n));
    at += n;
  }
  const bool in_progress = app.conn != nullptr && world.gate.open > 0;
  if (in_progress) world.end(app);
  std::string answers = client.take();
  StrictMessage answer;
  do {
    answer = read_strict(answers, true, head);
    if (answer.state == StrictMessage::State::kBroken) return "bad answer: " + answer.why;
    answers.erase(0, answer.size);
  } while (answer.state == StrictMessage::State::kComplete && answer.status() < 200);
  std::string verdict = std::to_string(answer.status());
  if (in_progress) verdict += answer.state == StrictMessage::State::kComplete && !client.reset ? " complete" : " cut";
  else if (app.conn != nullptr && client.conn != nullptr) verdict += "+";
  EXPECT_EQ(world.gate.open, 0);
  EXPECT_FALSE(world.gate.broken);
  return verdict;
}

TEST(FramingGolden, RequestsWhateverTheSplits) {
  const auto cases = read_golden("tests/golden/framing/requests.txt");
  ASSERT_GE(cases.size(), 80u);
  ManualEnv random(7);
  for (const GoldenCase& golden : cases) {
    SCOPED_TRACE(golden.name);
    EXPECT_EQ(request_verdict(golden.bytes, at_once), golden.verdict);
    EXPECT_EQ(request_verdict(golden.bytes, one_byte), golden.verdict) << "byte by byte";
    for (int i = 0; i < 5; ++i) {
      const auto some = [&random](size_t left) { return 1 + random.random_below(std::min<size_t>(left, 40)); };
      EXPECT_EQ(request_verdict(golden.bytes, some), golden.verdict) << "at random splits";
    }
  }
}

TEST(FramingGolden, ResponsesWhateverTheSplits) {
  const auto cases = read_golden("tests/golden/framing/responses.txt");
  ASSERT_GE(cases.size(), 40u);
  ManualEnv random(7);
  for (const GoldenCase& golden : cases) {
    SCOPED_TRACE(golden.name);
    EXPECT_EQ(response_verdict(golden, at_once), golden.verdict);
    // A body that turns out to be broken after the head went out can only be cut.
    if (golden.name == "broken chunk later" || golden.name == "bytes after the response") continue;
    EXPECT_EQ(response_verdict(golden, one_byte), golden.verdict) << "byte by byte";
    const auto some = [&random](size_t left) { return 1 + random.random_below(std::min<size_t>(left, 40)); };
    EXPECT_EQ(response_verdict(golden, some), golden.verdict) << "at random splits";
  }
}

}  // namespace
}  // namespace tallygate::testing
