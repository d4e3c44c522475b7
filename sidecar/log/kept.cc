#include "sidecar/log/kept.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <functional>
#include <system_error>
#include <utility>

#include "core/redis_contract/record.h"
#include "sidecar/log/frames.h"
#include "sidecar/log/record_files.h"

namespace tallygate::sidecar {
namespace {

namespace fs = std::filesystem;

// Calls `fn` for each whole record in the folder's files, in the order in which they were written.
void each_record(const std::string& folder, const std::function<void(int shard, std::string_view record)>& fn) {
  for (const auto& path : RecordFiles::list_with_booked(folder)) {
    const auto bytes = RecordFiles::read(path);
    if (!bytes) continue;
    std::string_view rest = *bytes;
    Frame frame;
    while (next_frame(&rest, &frame)) {
      if (frame.kind != FrameKind::kRecord) continue;
      if (const auto record = decode_record_frame(frame.payload)) fn(record->first, record->second);
    }
  }
}

// The record's number, without decoding the rest: "1\tU\t<incarnation>\t<seq>\t…". 0: it has none.
int64_t seq_of(std::string_view record) {
  for (int field = 0; field < 3; ++field) {
    const size_t tab = record.find('\t');
    if (tab == std::string_view::npos) return 0;
    record.remove_prefix(tab + 1);
  }
  int64_t seq = 0;
  std::from_chars(record.data(), record.data() + record.size(), seq);
  return seq;
}

struct File {
  fs::path path;
  int64_t changed_s = 0, bytes = 0;
};

void add_file(const fs::path& path, std::vector<File>* files) {
  struct stat info {};
  if (stat(path.c_str(), &info) == 0) files->push_back({path, info.st_mtim.tv_sec, info.st_size});
}

// The entries of a folder, as far as it can be read: one that goes meanwhile, or cannot be read, has none.
std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) found.push_back(it->path());
  return found;
}

// What may go: booked files anywhere, every file of a kept folder.
std::vector<File> kept_files(const std::string& data_folder) {
  std::vector<File> files;
  for (const fs::path& folder : entries(data_folder)) {
    const std::string name = folder.filename();
    const bool kept = name.starts_with("kept-");
    if (!kept && !name.starts_with("inc-")) continue;
    for (const fs::path& file : entries(folder)) {
      if (kept || file.filename().string().starts_with("booked-")) add_file(file, &files);
    }
  }
  std::ranges::sort(files, {}, [](const File& f) { return f.changed_s; });
  return files;
}

}  // namespace

void KeptRecords::read() {
  by_shard_.clear();
  each_record(folder_, [&](int shard, std::string_view record) {
    const int64_t seq = seq_of(record);
    Run& run = by_shard_[shard];
    if (seq <= run.last) return;
    if (seq != run.last + 1) run.records.clear();  // a gap: only what comes after it is of use
    run.records.emplace_back(record);
    run.last = seq;
  });
  is_read_ = true;
}

std::deque<std::string> KeptRecords::take(int shard, int64_t after, int64_t upto) {
  // Files of a live incarnation grow: what was read earlier may end too early.
  if (!is_read_ || by_shard_[shard].last < upto) read();
  Run run = std::exchange(by_shard_[shard], {});
  if (run.last < upto) return {};
  auto& records = run.records;
  const int64_t first = std::max(after, run.last - static_cast<int64_t>(records.size())) + 1;
  while (!records.empty() && run.last > upto) records.pop_back(), --run.last;
  while (static_cast<int64_t>(records.size()) > std::max<int64_t>(upto + 1 - first, 0)) records.pop_front();
  return std::move(records);
}

void KeptRecords::clear() {
  by_shard_.clear();
  is_read_ = false;
}

std::map<int, int64_t> last_kept(const std::string& folder) {
  std::map<int, int64_t> last;
  each_record(folder, [&](int shard, std::string_view record) { last[shard] = std::max(last[shard], seq_of(record)); });
  return last;
}

int64_t sweep_kept(const std::string& data_folder, const KeptBounds& bounds, int64_t now_s) {
  const auto files = kept_files(data_folder);
  int64_t bytes = 0;
  for (const File& file : files) bytes += file.bytes;
  std::error_code error;
  for (const File& file : files) {
    if (bytes <= bounds.bytes && now_s - file.changed_s <= bounds.age_s) continue;
    fs::remove(file.path, error);
    bytes -= file.bytes;
  }
  for (const fs::path& folder : entries(data_folder)) {
    if (folder.filename().string().starts_with("kept-")) fs::remove(folder, error);  // where it is empty
  }
  return bytes;
}

}  // namespace tallygate::sidecar
