#include "sidecar/log/predecessor.h"

#include <algorithm>

#include "core/redis_contract/keys.h"
#include "core/redis_contract/record.h"
#include "sidecar/log/record_files.h"
#include "sidecar/log/segments.h"
#include "sidecar/log/usage_log.h"

namespace tallygate::sidecar {

using redis_contract::Record;

class Recovery {
 public:
  Recovery(std::string folder, std::string boot_id) : folder_(std::move(folder)), boot_id_(std::move(boot_id)) {}

  Result<std::unique_ptr<Predecessor>> run() {
    const auto opened = head_.open(folder_);
    has_head_ = opened.has_value();
    if (!has_head_ && (opened.error().errc != Errc::kNotFound || !begun())) return tl::unexpected(opened.error());
    const auto checked = has_head_ ? head_.check(folder_) : opened;
    std::string damage = checked ? "" : checked.error().message;
    incarnation_ = has_head_ && head_.names_sound() ? head_.incarnation() : name_in_files();
    bool torn = !checked || head_.torn() || boot_id_.empty() || head_.boot_id() != boot_id_;
    if (!torn) {
      auto done = attempt(false);
      if (done) return std::move(found_);
      if (done.error().errc != Errc::kInvalid) return tl::unexpected(done.error());
      torn = true;
      damage = done.error().message;
    }
    if (auto done = attempt(true); !done) return tl::unexpected(done.error());
    found_->damage_ = std::move(damage);
    return std::move(found_);
  }

 private:
  // Whether anything may have been admitted, although there is no finished head.
  bool begun() const {
    if (Segments::exist(folder_)) return true;
    for (const uint32_t index : RecordFiles::list(folder_)) {
      const auto bytes = RecordFiles::read(folder_, index);
      if (!bytes || index > 0) return true;
      std::string_view rest = *bytes;
      Frame frame;
      while (next_frame(&rest, &frame)) {
        if (frame.kind != FrameKind::kFile && frame.kind != FrameKind::kSnapshot) return true;
      }
      if (!rest.empty()) return true;
    }
    return false;
  }

  // Whose log it is where the head cannot say.
  std::string name_in_files() const {
    for (const uint32_t index : RecordFiles::list(folder_)) {
      const auto bytes = RecordFiles::read(folder_, index);
      std::string_view rest = bytes ? std::string_view(*bytes) : std::string_view();
      Frame frame;
      if (!next_frame(&rest, &frame) || frame.kind != FrameKind::kFile) continue;
      if (const auto title = decode_title(frame.payload)) return title->incarnation;
    }
    const size_t at = folder_.rfind("/inc-");
    return at == std::string::npos ? folder_ : folder_.substr(at + 5);
  }

  // kInvalid: the files are not as we left them. With `torn` what is whole of them is taken all the same.
  Result<void> attempt(bool torn) {
    found_.reset(new Predecessor(folder_, incarnation_));
    found_->torn_ = torn;
    found_->is_copy_ = has_head_ && head_.is_copy(folder_);
    definitions_.clear();
    auto read = read_files();
    if (torn) {
      found_->unread_ = found_->outbox_.shards().empty() && begun();
      if (read && has_head_ && head_.names_sound()) head_.finish(head_.batch(), true);
      return read;
    }
    for (const auto& [shard, queue] : found_->outbox_.shards()) found_->written_[shard] = queue.last_seq();
    return !read || head_.finished() ? read : complete();
  }

  Result<void> damaged(const std::string& what) const {
    return fail(Errc::kInvalid, "usage log " + folder_ + ": " + what);
  }

  Result<void> read_files() {
    const auto files = RecordFiles::list(folder_);
    const bool torn = found_->torn_;
    if (!torn && (files.empty() || files[0] > head_.oldest_file()))
      return damaged("its oldest records file is missing");
    for (size_t i = 0; i < files.size(); ++i) {
      if (!torn && files[i] != files[0] + i) return damaged("a records file is missing");
      first_ = i == 0;
      last_ = i + 1 == files.size();
      last_index_ = files[i];
      if (auto read = read_file(); !read && !(torn && read.error().errc == Errc::kInvalid)) return read;
    }
    if (!torn && head_.end() > HeadFile::pack_end(last_index_, whole_bytes_)) {
      return damaged("records that were written are not there any more");
    }
    return {};
  }

  Result<void> read_file() {
    auto bytes = RecordFiles::read(folder_, last_index_);
    if (!bytes) return tl::unexpected(bytes.error());
    std::string_view rest = *bytes;
    Frame frame;
    sound_bytes_ = whole_bytes_ = 0;
    bool committed = true;
    snapshot_ = {};
    place_ = Place::kTitle;
    while (next_frame(&rest, &frame)) {
      // Frames of a batch that was never committed: its slots still stand, and are booked from there.
      committed = committed && (found_->torn_ || frame.batch <= head_.batch());
      whole_bytes_ = bytes->size() - rest.size();
      if (!committed) continue;
      // Of a torn log each frame that can be read is taken: what another version has put between them is passed over.
      if (auto taken = take(frame); !taken && !found_->torn_) return taken;
      sound_bytes_ = whole_bytes_;
    }
    if (auto ended = end_snapshot(); !ended) return ended;
    bytes_before_ = bytes->size();
    // Only the last file may end in a torn write.
    if (!last_ && sound_bytes_ != bytes->size()) {
      return damaged("records file " + std::to_string(last_index_) + " is damaged");
    }
    return {};
  }

  Result<void> take(const Frame& frame) {
    if (place_ == Place::kTitle) {
      place_ = Place::kSnapshot;
      if (frame.kind == FrameKind::kFile) return take_title(frame.payload);
      if (!found_->torn_) return damaged("a records file has no title");
    }
    if (frame.kind == FrameKind::kSnapshot) {
      if (place_ != Place::kSnapshot) return damaged("a snapshot out of place");
      return decode_snapshot(frame.payload, &snapshot_);
    }
    if (auto ended = end_snapshot(); !ended) return ended;
    switch (frame.kind) {
      case FrameKind::kDefinition: {
        auto definition = decode_definition(frame.payload);
        if (!definition) return tl::unexpected(definition.error());
        definitions_[definition->first] = std::move(definition->second);
        return {};
      }
      case FrameKind::kRecord:
        return take_record(frame.payload);
      case FrameKind::kFile:
      case FrameKind::kSnapshot:
        break;
    }
    return damaged("unknown frame");
  }

  // What a file says of the one before it: cut at any place, even between two frames, that one is found out.
  Result<void> take_title(std::string_view payload) {
    auto title = decode_title(payload);
    if (!title) return tl::unexpected(title.error());
    if (title->incarnation != incarnation_) return damaged("a file of " + title->incarnation + " is among it");
    if (found_->torn_) return {};
    if (title->index != last_index_) return damaged("its files have changed places");
    if (!first_ && title->bytes_before != bytes_before_) return damaged("a records file was cut");
    return {};
  }

  // The oldest file's snapshot is where we start; later ones repeat what we know.
  Result<void> end_snapshot() {
    if (place_ == Place::kRest) return {};
    place_ = Place::kRest;
    if (first_ || found_->torn_) return take_snapshot();
    std::erase_if(snapshot_.last_seq, [](const auto& entry) { return entry.second == 0; });
    std::map<int, int64_t> known;
    for (const auto& [shard, queue] : found_->outbox_.shards()) {
      if (queue.last_seq() > 0) known[shard] = queue.last_seq();
    }
    if (known != snapshot_.last_seq) {
      return damaged("records are missing before file " + std::to_string(last_index_));
    }
    return {};
  }

  // A shard of which nothing is known yet begins there.
  Result<void> take_snapshot() {
    found_->forgotten_until_s_ = std::max(found_->forgotten_until_s_, snapshot_.forgotten_until_s);
    for (const auto& [key, units] : snapshot_.spent) found_->spent_[key] = std::max(found_->spent_[key], units);
    for (const auto& [shard, seq] : snapshot_.last_seq) {
      if (!found_->outbox_.shards().contains(shard)) found_->outbox_.shard(shard).watermark = seq;
    }
    return {};
  }

  Result<void> take_record(std::string_view payload) {
    auto framed = decode_record_frame(payload);
    if (!framed) return tl::unexpected(framed.error());
    auto record = redis_contract::decode(framed->second);
    if (!record) return tl::unexpected(record.error());
    if (record->incarnation != incarnation_) return damaged("a record of " + record->incarnation + " is among it");
    const auto& shards = found_->outbox_.shards();
    const auto shard = shards.find(framed->first);
    if (record->seq != (shard == shards.end() ? 0 : shard->second.last_seq()) + 1) {
      if (found_->torn_) return {};  // behind a gap: the ledger could not book it
      return damaged("a record is missing before " + std::string(framed->second));
    }
    for (const auto& bucket : record->buckets) {
      add_saturating(&found_->spent_[{record->epoch, redis_contract::member(record->tenant, bucket)}], record->units);
    }
    found_->outbox_.add(framed->first, std::string(framed->second));
    return {};
  }

  using Sum = std::vector<int64_t>;                                        // requests, units…
  using Sums = std::map<std::pair<uint32_t, uint32_t>, std::vector<Sum>>;  // by definition and second
  Result<Sums> sum_unbooked();
  Result<void> complete();

  std::string folder_, boot_id_;
  std::string incarnation_;
  HeadFile head_;
  bool has_head_ = false;
  std::unique_ptr<Predecessor> found_;
  std::map<uint32_t, Definition> definitions_;
  enum class Place { kTitle, kSnapshot, kRest };
  Snapshot snapshot_;            // of the file being read
  Place place_ = Place::kTitle;  // in it
  bool first_ = false, last_ = false;
  uint32_t last_index_ = 0;
  uint64_t bytes_before_ = 0;  // of the file before
  uint64_t whole_bytes_ = 0;   // of the last file: sound frames
  uint64_t sound_bytes_ = 0;   // the same, without those of an uncommitted batch
};

// What no committed batch covers.
Result<Recovery::Sums> Recovery::sum_unbooked() {
  const uint32_t committed = head_.batch();
  Sums sums;
  std::string wrong;
  auto scanned = Segments::scan(folder_, head_.segments(), [&](const Slot& slot, size_t max_charges) {
    if (slot.mark != kMarkInFlight && slot.mark >= kFirstBatch && slot.mark <= committed) return;
    const auto definition = definitions_.find(slot.definition);
    const size_t n = definition == definitions_.end() ? 0 : definition->second.charges.size();
    int64_t any = 0;
    for (size_t i = 0; i < n && i < max_charges; ++i) any |= slot.units[i];
    if (definition == definitions_.end())
      wrong = "a slot refers to a definition that is not there";
    else if (n > max_charges || any < 0)
      wrong = "a slot holds no counts of its definition";
    else if (slot.mark != kMarkInFlight && slot.mark != committed + 1)
      wrong = "a slot's mark is none of ours";
    if (!wrong.empty() || any == 0) return;
    auto& parts = sums[{slot.definition, slot.second}];
    if (parts.empty() || !add_units(parts.back().data() + 1, slot.units, n)) {
      parts.emplace_back(slot.units, slot.units + n);
      parts.back().insert(parts.back().begin(), 0);
    }
    ++parts.back()[0];
    ++found_->recovered_admissions_;
  });
  if (!scanned) return tl::unexpected(scanned.error());
  if (!wrong.empty()) return fail(Errc::kInvalid, "usage log " + folder_ + ": " + wrong);
  return sums;
}

// Forms records of what no committed batch covers, under the predecessor's name, and closes its log in the same store
// that commits them: a crash before that leaves everything as it was found.
Result<void> Recovery::complete() {
  const uint32_t committed = head_.batch();
  auto sums = sum_unbooked();
  if (!sums) return tl::unexpected(sums.error());
  std::string bytes;
  std::vector<std::pair<int, std::string>> records;
  std::map<int, int64_t> added;
  Record record;
  record.incarnation = found_->incarnation();
  const auto form = [&](const Definition& definition, uint32_t second, const Sum& sum) {
    const int shard = redis_contract::shard_of(definition.tenant);
    for (size_t i = 0; i < definition.charges.size(); ++i) {
      if (sum[i + 1] == 0) continue;
      const int64_t seq = found_->outbox_.shard(shard).last_seq() + ++added[shard];
      fill_usage_record(&record, seq, definition, i, sum[i + 1], sum[0], second);
      std::string text = redis_contract::encode(record);
      append_record_frame(&bytes, committed + 1, shard, text);
      records.emplace_back(shard, std::move(text));
      add_spent(&found_->spent_, definition, i, sum[i + 1]);
    }
  };
  for (const auto& [key, parts] : *sums) {
    for (const Sum& sum : parts) form(definitions_[key.first], key.second, sum);
  }
  RecordFiles files(folder_);
  // Before the tail is cut: a crash in between must not look like a loss.
  head_.set_end(HeadFile::pack_end(last_index_, sound_bytes_));
  if (auto opened = files.reopen(last_index_, sound_bytes_); !opened) return opened;
  if (auto written = files.append(bytes); !written) return written;
  head_.set_end(files.end());
  head_.finish(committed + 1, false);
  for (auto& [shard, text] : records) found_->outbox_.add(shard, std::move(text));
  return {};
}

Result<std::unique_ptr<Predecessor>> Predecessor::recover(const std::string& folder, const std::string& boot_id) {
  return Recovery(folder, boot_id).run();
}

}  // namespace tallygate::sidecar
