// Bodies and the bytes' splits; heads are in request_head_test.cc.
#include "core/http/request_reader.h"

#include <filesystem>
#include <fstream>

#include "core/env.h"
#include "tests/fuzz/fuzz_requests.h"
#include "tests/unit/sidecar_http/golden_table.h"

namespace tallygate::http {
namespace {

using tallygate::testing::fuzz_requests;
using tallygate::testing::GoldenCase;
using tallygate::testing::read_golden;
using tallygate::testing::read_requests;

const std::string kChunked = "POST /e HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";

// The bytes in two parts, at each place.
void expect_same_at_each_split(const std::string& name, const std::string& bytes) {
  const std::string whole = read_requests(bytes, [&] { return bytes.size(); });
  for (size_t at = 1; at < bytes.size(); ++at) {
    bool first = true;
    const auto piece = [&] { return std::exchange(first, false) ? at : bytes.size(); };
    ASSERT_EQ(read_requests(bytes, piece), whole) << name << " split at " << at;
  }
}

std::string status_of(const std::string& bytes) {
  const std::string read = read_requests(bytes, [&] { return bytes.size(); });
  const size_t refused = read.find("refused ");
  if (refused != std::string::npos) return read.substr(refused + 8, 3);
  return read.empty() ? "none" : "ok";
}

TEST(RequestReader, RefusesBodiesThatTwoCouldReadInTwoWaysWhereverTheyAreSplit) {
  const std::pair<const char*, const char*> cases[] = {
      {"0\r\n\rx", "400"},
      {"0\r\n\n", "400"},
      {"0\r\nA: b\r\n c\r\n\r\n", "400"},
      {"0\r\n A: b\r\n\r\n", "400"},
      {"0\r\nA: b\nC: d\r\n\r\n", "400"},
      {"0\r\nA\r\n\r\n", "400"},
      {"5;a\nb\r\nhello\r\n0\r\n\r\n", "400"},
      {"5;a\x01\r\nhello\r\n0\r\n\r\n", "400"},
      {"5;a\x7f\r\nhello\r\n0\r\n\r\n", "400"},
      {"5;a\rb\r\nhello\r\n0\r\n\r\n", "400"},
      {"5 \r\nhello\r\n0\r\n\r\n", "400"},
      {"5\nhello\r\n0\r\n\r\n", "400"},
      {"5\r\nhelloX0\r\n\r\n", "400"},
      {"5\r\nhello\n0\r\n\r\n", "400"},
      {"0x5\r\nhello\r\n0\r\n\r\n", "400"},
      {"-1\r\n\r\n", "400"},
      {"\r\n", "400"},
      {"ffffffffffffffff1\r\n", "400"},
      {"5;x=\"y\"\r\nhello\r\n0\r\nA: b\r\n\r\n", "ok"},
      {"005\r\nhello\r\n00\r\n\r\n", "ok"},
      {"0\r\n", "none"},
      {"0\r\nx", "none"},
      {"0\r\n\r", "none"},
  };
  for (const auto& [chunks, status] : cases) {
    EXPECT_EQ(status_of(kChunked + chunks), status) << chunks;
    expect_same_at_each_split(chunks, kChunked + chunks);
  }
}

TEST(RequestReader, ReadsTheTableOfFramingAsTheProxyDoesWhereverItIsSplit) {
  for (const GoldenCase& row : read_golden("tests/golden/framing/requests.txt")) {
    if (row.bytes.size() <= 2'000) expect_same_at_each_split(row.name, row.bytes);
    if (row.bytes.size() > 1'000) continue;  // the harness reads heads of at most 1 KiB
    const std::string status = status_of(row.bytes);
    // What is the proxy's alone: upgrades, OPTIONS *.
    if (row.verdict == "400" || row.verdict == "505") {
      EXPECT_EQ(status, row.verdict) << row.name;
    }
    if (row.verdict == "ok" || row.verdict == "ok2") {
      EXPECT_EQ(status, "ok") << row.name;
    }
  }
}

TEST(RequestReader, FuzzedCorpusAndMutations) {
  std::vector<std::string> inputs;
  for (const auto& entry : std::filesystem::directory_iterator("tests/fuzz/corpus_requests")) {
    std::ifstream file(entry.path(), std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  ASSERT_GE(inputs.size(), 8u);
  for (const GoldenCase& row : read_golden("tests/golden/framing/requests.txt")) {
    if (row.bytes.size() < 4'000) inputs.push_back('\3' + row.bytes);
  }
  const auto run = [](const std::string& input) {
    fuzz_requests(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  };
  for (const std::string& input : inputs) run(input);
  static const std::string kWords[] = {"\r\n",
                                       "\r\n\r\n",
                                       "0\r\n",
                                       "Content-Length: 5\r\n",
                                       "\r",
                                       "\n",
                                       " ",
                                       ";",
                                       ":",
                                       "Transfer-Encoding: chunked\r\n",
                                       "5\r\nabcde\r\n",
                                       "\t",
                                       "http://x"};
  const char* runs = std::getenv("TALLYGATE_FUZZ_RUNS");
  const char* seed = std::getenv("TALLYGATE_FUZZ_SEED");
  ManualEnv random(seed != nullptr ? std::stoull(seed) : 5);
  for (int i = runs != nullptr ? std::stoi(runs) : 5'000; i > 0; --i) {
    std::string input = inputs[random.random_below(inputs.size())];
    for (uint64_t n = 1 + random.random_below(4); n > 0; --n) {
      const size_t at = random.random_below(input.size() + 1);
      switch (random.random_below(4)) {
        case 0:
          input.insert(at, kWords[random.random_below(std::size(kWords))]);
          break;
        case 1:
          input.erase(at, random.random_below(8));
          break;
        case 2:
          if (at < input.size()) input[at] = static_cast<char>(random.random_below(256));
          break;
        case 3:
          input += inputs[random.random_below(inputs.size())].substr(1);
          break;
      }
    }
    run(input);
  }
}

RequestReader::Step feed(RequestReader& reader, const std::string& bytes) {
  std::copy(bytes.begin(), bytes.end(), reader.prepare(bytes.size()));
  reader.commit(bytes.size());
  return reader.read_body();
}

// A body costs what has come of it, not what was announced; all together have one budget, small ones aside.
// Each read asks for room for a whole one, however few bytes come.
TEST(RequestReader, SmallReadsAreNotCopiedAtEach) {
  RequestReader reader(64 * 1024);
  const std::string head = "GET / HTTP/1.1\r\nHost: x\r\nLong: " + std::string(16 * 1024, 'y') + "\r\n\r\n";
  reader.begin();
  int moves = 0;
  for (const char c : head) {
    const char* before = reader.unread().data();
    *reader.prepare(4096) = c;
    moves += reader.unread().data() != before ? 1 : 0;
    reader.commit(1);
  }
  EXPECT_EQ(reader.read_head(), RequestReader::Step::kDone);
  EXPECT_LE(moves, 5);
}

TEST(RequestReader, KeepsNoLargeBufferBetweenRequests) {
  RequestReader reader(64 * 1024);
  BodyBudget budget(1 << 20);
  reader.begin();
  const std::string text = "POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123456789";
  text.copy(reader.prepare(16 * 1024), text.size());
  reader.commit(text.size());
  ASSERT_EQ(reader.read_head(), RequestReader::Step::kDone);
  reader.begin_body(100, budget);
  ASSERT_EQ(reader.read_body(), RequestReader::Step::kDone);
  reader.begin();
  reader.prepare(4 * 1024);
  EXPECT_EQ(reader.capacity_bytes(), 4u * 1024);
}

TEST(RequestReader, BodiesShareABudgetThatCountsWhatHasArrived) {
  constexpr size_t kBodyMax = 1024 * 1024;
  BodyBudget budget(100'000);
  const auto begin = [&budget](RequestReader& reader) {
    const std::string head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    std::copy(head.begin(), head.end(), reader.prepare(head.size()));
    reader.commit(head.size());
    reader.begin();
    ASSERT_EQ(reader.read_head(), RequestReader::Step::kDone);
    reader.begin_body(kBodyMax, budget);
  };
  RequestReader first(16'384), second(16'384), small(16'384);
  begin(first);
  begin(second);
  begin(small);
  EXPECT_EQ(feed(first, std::string(60'000, 'a')), RequestReader::Step::kMore);
  EXPECT_EQ(budget.taken(), 60'000u);
  EXPECT_EQ(feed(second, std::string(50'000, 'b')), RequestReader::Step::kRefused);
  EXPECT_EQ(second.refused().status, 503);
  EXPECT_EQ(feed(small, std::string(RequestReader::kUncountedBytes, 'c')), RequestReader::Step::kMore);
  EXPECT_EQ(budget.taken(), 60'000u) << "small ones find room";
  first.drop_body();
  EXPECT_EQ(budget.taken(), 0u);
  second.clear();
  begin(second);
  EXPECT_EQ(feed(second, std::string(50'000, 'b')), RequestReader::Step::kMore);
}

}  // namespace
}  // namespace tallygate::http
