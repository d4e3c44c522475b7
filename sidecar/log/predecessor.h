// What an earlier incarnation left in its folder: its records, and the admissions that are in none yet (rules 1 and 2).
//
// recover() completes the log: unbooked slots become records under the predecessor's own name and numbers, once,
// however often recovery itself is interrupted. If the node has rebooted in between, slots are not to be trusted: whole
// records are sent, nothing else is booked, nothing is returned, and the ledger is told (torn()). So too where the
// files are not as we left them (damage()): changed, cut, gone, or the copy of a folder whose process may live. A
// record formed now could bear a number under which another one was sent.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "sidecar/log/frames.h"
#include "sidecar/log/outbox.h"

namespace tallygate::sidecar {

class Predecessor {
 public:
  // `folder`: "…/inc-" and its incarnation. kNotFound: it was never finished, so nothing was ever admitted through it.
  // kExhausted, kInternal: the disk refuses; try again.
  static Result<std::unique_ptr<Predecessor>> recover(const std::string& folder, const std::string& boot_id);

  const std::string& folder() const { return folder_; }
  const std::string& incarnation() const { return outbox_.incarnation(); }
  bool torn() const { return torn_; }
  // What is wrong with the files, for people; empty where nothing is, and when an earlier recovery has found it.
  const std::string& damage() const { return damage_; }
  // It was copied from another folder, whose process may live: nobody may be told that this incarnation is over.
  bool is_copy() const { return is_copy_; }
  // Usage was admitted through it, and not one record can be read: the folder is to be kept, for people.
  bool unread() const { return unread_; }
  Outbox& outbox() { return outbox_; }
  const Outbox& outbox() const { return outbox_; }
  // The last record of a shard that was in its files when it was found: before this process sends anything of it, more
  // than that cannot be booked. Where more is, the folder is older than what was sent from it.
  int64_t written(int shard) const {
    const auto found = written_.find(shard);
    return found == written_.end() ? 0 : found->second;
  }
  // Complete: every unit it admitted, per (epoch, "tenant|bucket"). Not to be used when torn().
  const Spent& spent() const { return spent_; }
  // But for windows that end until then: of those it may have spent more.
  int64_t forgotten_until_s() const { return forgotten_until_s_; }
  size_t recovered_admissions() const { return recovered_admissions_; }

 private:
  explicit Predecessor(std::string folder, std::string incarnation)
      : folder_(std::move(folder)), outbox_(std::move(incarnation)) {}

  std::string folder_;
  bool torn_ = false;
  std::string damage_;
  bool is_copy_ = false, unread_ = false;
  Outbox outbox_;
  std::map<int, int64_t> written_;
  Spent spent_;
  int64_t forgotten_until_s_ = 0;
  size_t recovered_admissions_ = 0;

  friend class Recovery;
};

}  // namespace tallygate::sidecar
