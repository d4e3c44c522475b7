// One thing of a log is changed at a time: a byte, the length of a file, a file that is there. Recovery never books
// what was not written, never counts less as spent than was, and never uses a record's number again: it says torn
// instead.
//
// Not among it: the counts inside a segment's slots. They have no check of their own, since it would cost each request;
// they are believed only within one boot of the machine, where they come from memory and not from a disk.
#include <cstddef>

#include "tests/unit/sidecar_log/log_world.h"

namespace tallygate::sidecar::log_tests {
namespace {

constexpr size_t kSegmentHeader = 48;

// A folder that can be put back as it was, each file the same one as before.
class Image {
 public:
  explicit Image(const std::string& folder) : folder_(folder) {
    for (const auto& entry : fs::directory_iterator(folder)) files_[entry.path().filename()] = read_all(entry.path());
  }
  void put_back() {
    for (const auto& [name, bytes] : files_) write_all(folder_ + "/" + name, bytes);
  }
  const std::map<std::string, std::string>& files() const { return files_; }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }

 private:
  std::string folder_;
  std::map<std::string, std::string> files_;
};

bool is_segment(const std::string& name) { return name.starts_with("segment-"); }

// Empty: what recovery made of the folder is in order.
std::string audit_folder(const std::string& folder, const Truth& truth, bool* torn) {
  auto found = Predecessor::recover(folder, kBoot);
  if (!found) return "no recovery: " + found.error().message;
  *torn = (*found)->torn();
  std::string problem = audit_damaged(truth, **found);
  if ((*found)->incarnation() != kIncarnation) problem += "another incarnation's name\n";
  found->reset();
  auto again = Predecessor::recover(folder, kBoot);
  if (!again || (*again)->torn() != *torn) problem += "a second look sees something else\n";
  return problem;
}

// A log, and what it takes to change it and to look.
struct Changed {
  explicit Changed(uint64_t seed) : random(seed) {
    make_log(folder, *truth, seed);
    image = std::make_unique<Image>(folder);
  }
  size_t below(size_t n) { return random() % n; }
  void expect_sound(const std::string& what) {
    ASSERT_EQ(audit_folder(folder, *truth, &torn), "") << what;
    image->put_back();
  }
  void expect_torn(const std::string& what) {
    expect_sound(what);
    ASSERT_TRUE(torn) << what;
  }

  TempFolder temp;
  const std::string folder = temp / "inc-a";
  SharedTruth truth;
  std::mt19937_64 random;
  std::unique_ptr<Image> image;
  bool torn = false;
};

TEST(LogMutation, AnyByteOfAnyFile) {
  Changed log(1);
  for (const auto& [name, bytes] : log.image->files()) {
    const size_t size = is_segment(name) ? kSegmentHeader : bytes.size();
    for (size_t i = 0; i < (name == "head" ? 30 : 4); ++i) {
      const size_t at = log.below(size);
      std::string changed = bytes;
      changed[at] ^= static_cast<char>(1 + log.below(255));
      write_all(log.image->path(name), changed);
      log.expect_sound(name + " byte " + std::to_string(at));
      if (HasFatalFailure()) return;
      EXPECT_TRUE(log.torn || name == "head") << name << " byte " << at;
    }
  }
  log.expect_sound("unchanged");
  EXPECT_FALSE(log.torn) << "the test itself changes more than it says";
}

// Lone stores of eight bytes, which no sum over the page can cover.
TEST(LogMutation, AnyByteOfWhatIsCommitted) {
  TempFolder temp;
  { ASSERT_TRUE(UsageLog::create(temp / "inc-a", identity()).has_value()); }
  Image image(temp / "inc-a");
  const std::string head = image.path("head"), bytes = read_all(head);
  const size_t committed = offsetof(Head, committed);
  for (size_t at = committed; at < committed + 8; ++at) {
    for (int change = 1; change < 256; ++change) {
      std::string changed = bytes;
      changed[at] ^= static_cast<char>(change);
      write_all(head, changed);
      auto found = Predecessor::recover(temp / "inc-a", kBoot);
      ASSERT_TRUE(found.has_value());
      ASSERT_TRUE((*found)->torn()) << "byte " << at - committed << " ^ " << change;
    }
  }
}

TEST(LogMutation, AnyLengthOfAnyFile) {
  Changed log(2);
  for (const auto& [name, bytes] : log.image->files()) {
    std::vector<size_t> lengths = {0, bytes.size() - 1};
    for (int i = 0; i < 2; ++i) lengths.push_back(log.below(bytes.size()));
    // And between two frames, where nothing is broken.
    std::vector<size_t> edges;
    std::string_view rest = bytes;
    for (Frame frame; name.starts_with("records-") && next_frame(&rest, &frame) && !rest.empty();) {
      edges.push_back(bytes.size() - rest.size());
    }
    for (int i = 0; i < 2 && !edges.empty(); ++i) lengths.push_back(edges[log.below(edges.size())]);
    for (const size_t length : lengths) {
      fs::resize_file(log.image->path(name), length);
      log.expect_torn(name + " cut to " + std::to_string(length));
      if (HasFatalFailure()) return;
    }
  }
}

TEST(LogMutation, AnyFileThatIsNotThere) {
  Changed log(3);
  ASSERT_GE(log.image->files().size(), 5u);
  for (const auto& [name, bytes] : log.image->files()) {
    const std::string path = log.image->path(name), aside = log.temp / "aside";
    fs::rename(path, aside);
    ASSERT_EQ(audit_folder(log.folder, *log.truth, &log.torn), "") << "without " << name;
    EXPECT_TRUE(log.torn) << "without " << name;
    fs::rename(aside, path);  // the same file again
    log.image->put_back();
  }
}

// A file that was made under another number.
TEST(LogMutation, AnyFileInTheTurnOfAnother) {
  Changed log(4);
  const auto& files = log.image->files();
  for (auto other = files.begin(), at = std::next(other); at != files.end(); other = at++) {
    if (at->first.substr(0, 4) != other->first.substr(0, 4)) continue;
    write_all(log.image->path(at->first), other->second);
    log.expect_torn(other->first + " in place of " + at->first);
    if (HasFatalFailure()) return;
  }
}

// Of what the oldest file held nothing is known: it must not be given back.
TEST(LogMutation, TheOldestFileEmptyAndLaterOnesWhole) {
  TempFolder temp;
  LogLimits limits;
  limits.max_file_bytes = 1;  // each batch ends a file
  {
    auto log = UsageLog::create(temp / "inc-a", identity(), limits);
    const int64_t seven[] = {7}, forty[] = {40};
    const uint32_t id = (*log)->define(definition("shop/acme")).value();
    (*log)->settle((*log)->admit(id, forty, kSecond), forty);
    ASSERT_TRUE((*log)->commit_batch().has_value());
    const uint32_t other = (*log)->define(definition("ns-1/globex")).value();
    (*log)->settle((*log)->admit(other, seven, kSecond), seven);
    ASSERT_TRUE((*log)->commit_batch().has_value());
  }
  fs::resize_file((temp / "inc-a") + "/records-0", 0);
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_TRUE((*found)->torn());
  EXPECT_NE((*found)->damage(), "");
  // What is whole is sent, under the numbers that it has; and the ledger is told in each shard.
  const int shard = redis_contract::shard_of("ns-1/globex");
  ASSERT_TRUE((*found)->outbox().shards().contains(shard));
  EXPECT_EQ((*found)->outbox().shard(shard).unacked.size(), 2u) << "hello and usage";
  EXPECT_TRUE((*found)->outbox().shards().contains(redis_contract::shard_of("shop/acme")));
}

TEST(LogMutation, AHeadThatNamesAnotherIsNotBelieved) {
  TempFolder temp;
  SharedTruth truth;
  make_log(temp / "inc-a", *truth, 5);
  const std::string head = (temp / "inc-a") + "/head";
  std::string bytes = read_all(head);
  const size_t at = 8 + 64;  // the incarnation
  ASSERT_EQ(bytes.substr(at, 2), std::string("a\0", 2));
  bytes[at] = 'E';
  write_all(head, bytes);
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_TRUE((*found)->torn());
  EXPECT_EQ((*found)->incarnation(), "a");
  EXPECT_EQ(audit_damaged(*truth, **found), "");
}

}  // namespace
}  // namespace tallygate::sidecar::log_tests
