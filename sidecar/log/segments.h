// Slots in mapped files: one per admitted request, reused once booked.
//
// A slot's mark: 0 never used; 1 in flight; from 16 on the number of the batch that books it. Slots whose mark is at
// most the committed batch are free. Segments hold slots of one size; a segment is gone through again when none of its
// slots is unbooked, past those that are still in flight: one long stream does not hold the rest. Space is allocated
// when a segment is made: a full disk shows there, not as SIGBUS.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "sidecar/log/head_file.h"

namespace tallygate::sidecar {

inline constexpr size_t kSegmentBytes = 1 << 20;
inline constexpr uint32_t kMarkInFlight = 1;
inline constexpr uint32_t kFirstBatch = 16;

// In the file. Its room for units is the segment's slot size less the head.
struct Slot {
  uint32_t mark;
  uint32_t definition;
  uint32_t second;   // Unix time of admission, until 2106
  uint32_t segment;  // index of its segment in this process; meaningless to a successor
  int64_t units[1];  // one per charge of the definition

  void set_mark(uint32_t value) { __atomic_store_n(&mark, value, __ATOMIC_RELEASE); }
};

class Segments {
 public:
  // At most `max_segments` files of 1 MiB in `folder`, which exists. `head` outlives this; it is told of each.
  Segments(std::string folder, size_t max_segments, HeadFile& head);
  ~Segments();
  Segments(const Segments&) = delete;

  // A free slot for `charges` units, not marked yet; null where every segment is taken and no other can be made.
  Slot* take(size_t charges, uint32_t committed_batch);
  // The slot was marked with `batch` and is no longer in flight.
  void settled(const Slot* slot, uint32_t batch);

  // Calls `fn` for each slot in flight. Looks at every slot there is: for rare questions.
  void each_in_flight(const std::function<void(const Slot&)>& fn) const;

  std::vector<int> descriptors() const;
  size_t in_flight() const { return in_flight_; }
  size_t count() const { return segments_.size(); }
  const std::string& last_error() const { return last_error_; }

  // Calls `fn` for each slot of each segment file in `folder` whose mark is not 0. For recovery; reads, never writes.
  // kInvalid: the files are not as we left them; there were at least `known` of them.
  static Result<void> scan(const std::string& folder, uint32_t known,
                           const std::function<void(const Slot&, size_t max_charges)>& fn);
  // Whether there are any.
  static bool exist(const std::string& folder);

 private:
  struct Segment {
    char* base = nullptr;
    int fd = -1;
    uint32_t slot_bytes = 0;
    uint32_t next = 0;  // index of the next slot to hand out
    uint32_t in_flight = 0;
    uint32_t last_batch = 0;
  };
  static constexpr size_t kClasses = 2;  // 32 bytes for up to 2 charges, 96 for up to 8
  Segment* make(uint32_t slot_bytes);
  Segment* refill(size_t size_class, uint32_t committed_batch);

  std::string folder_;
  size_t max_segments_;
  HeadFile& head_;
  std::vector<Segment> segments_;  // reserved: pointers stay
  Segment* current_[kClasses] = {};
  size_t in_flight_ = 0;
  std::string last_error_;
};

}  // namespace tallygate::sidecar
