#include "sidecar/log/kept.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <functional>
#include <system_error>

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

// What may go: booked files anywhere, every file of a kept folder.
std::vector<File> kept_files(const std::string& data_folder) {
  std::vector<File> files;
  std::error_code error;
  for (const auto& folder : fs::directory_iterator(data_folder, error)) {
    const std::string name = folder.path().filename();
    const bool kept = name.starts_with("kept-");
    if (!kept && !name.starts_with("inc-")) continue;
    for (const auto& file : fs::directory_iterator(folder.path(), error)) {
      if (kept || file.path().filename().string().starts_with("booked-")) add_file(file.path(), &files);
    }
  }
  std::ranges::sort(files, {}, [](const File& f) { return f.changed_s; });
  return files;
}

}  // namespace

std::deque<std::string> read_kept(const std::string& folder, int shard, int64_t after, int64_t upto) {
  std::deque<std::string> found;
  int64_t next = 0;  // number after the last one found
  each_record(folder, [&](int of_shard, std::string_view record) {
    if (of_shard != shard) return;
    const int64_t seq = seq_of(record);
    if (seq <= after || seq > upto || (seq < next && !found.empty())) return;
    if (seq != next) found.clear();  // a gap: only what comes after it is of use
    found.emplace_back(record);
    next = seq + 1;
  });
  if (next != upto + 1) found.clear();
  return found;
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
  for (const auto& folder : fs::directory_iterator(data_folder, error)) {
    if (folder.path().filename().string().starts_with("kept-")) fs::remove(folder.path(), error);  // where it is empty
  }
  return bytes;
}

}  // namespace tallygate::sidecar
