// What finished incarnations on this data folder are owed and owe: their records to the ledger (courier), their unspent
// units back to the buckets (rule 1), the news that a disk lost its tail (rule 2). Also the drain of the live one.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "sidecar/escrow/courier.h"
#include "sidecar/escrow/escrow.h"
#include "sidecar/log/data_folder.h"
#include "sidecar/log/predecessor.h"

namespace tallygate::sidecar {

// What an incarnation spent, as its log tells.
struct Spending {
  Spent spent;
  int64_t forgotten_until_s = 0;
  // The most that it can be: all there is, of windows of which something was forgotten.
  int64_t most(const std::pair<int64_t, std::string>& key) const;
};

class Handover {
 public:
  Handover(EventLoop& loop, redis::Connection& redis, Escrow& escrow, Courier& courier, LedgerLeases* ledger = nullptr);
  ~Handover();

  // Folders of those that are done are kept for a while (log/kept.h); else they are deleted.
  void keep_booked(bool keep) { keep_ = keep; }
  void each(const std::function<void(const Predecessor&)>& fn) const;
  // Sends again what the ledger lacks of those that were done, by the folders kept of them. Calls `done` once it has
  // all.
  void resend(const std::vector<std::string>& kept_folders, std::function<void()> done);
  // Called for a predecessor of which more is booked than its log has: an older copy was put in the place of the folder.
  // What it spent is not known, so that its units stay held, and nothing of it is sent. False: it cannot be told now, and
  // is called again.
  void on_outdated(std::function<bool(const Predecessor&)> fn) { on_outdated_ = std::move(fn); }
  // Sees a recovered predecessor through; deletes its folder when everything is done.
  void take(std::unique_ptr<Predecessor> predecessor);
  size_t pending() const { return estates_.size(); }
  // Of these, how many have not given back their units yet.
  size_t returning() const;

  // Gives back what a closed incarnation leased and did not spend: to the ledger by `notes`, then to Redis in all
  // `shards`. Calls `done` when everyone has answered. Tries again for as long as it takes.
  void give_back(const std::string& incarnation, Spending spending, const std::set<LeaseNote>& notes,
                 std::vector<int> shards, std::function<void()> done);

 private:
  struct Estate {
    std::unique_ptr<Predecessor> predecessor;
    bool returned = false;
    std::set<int> unheard;  // shards of which it is not known yet what is booked
    bool checked = false, outdated = false;
  };
  struct Return {  // of one shard
    std::string incarnation;
    Spending spending;
    int shard;
    std::function<void()> done;
  };
  void send(Predecessor* predecessor);
  void hear_booked(Predecessor* predecessor);
  void heard_booked(Predecessor* predecessor);
  void give_back_to_redis(const std::string& incarnation, const Spending& spending, const std::vector<int>& shards,
                          std::function<void()> done);
  void step(std::shared_ptr<Return> r);
  void again(std::shared_ptr<Return> r, int64_t after_ms = 100);
  void give_slice(std::shared_ptr<Return> r, int64_t epoch, std::shared_ptr<const redis::Reply> members, size_t from);
  void finish(Predecessor* predecessor);
  Estate* find(const Predecessor* predecessor);
  Estate* find(const std::string& incarnation);

  EventLoop& loop_;
  redis::Connection& redis_;
  Escrow& escrow_;
  Courier& courier_;
  LedgerLeases* ledger_;
  std::function<bool(const Predecessor&)> on_outdated_;
  bool keep_ = false;
  std::vector<std::unique_ptr<Outbox>> resending_;
  std::vector<std::unique_ptr<Estate>> estates_;
  std::set<std::string> outdated_;  // incarnations, also when their estates are closed
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tallygate::sidecar
