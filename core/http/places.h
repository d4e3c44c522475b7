// Who may be connected at once: a bounded number, and of each address, so that one cannot have all places. Where there
// is no place left, whoever has waited longest for a request to come gives way; never one whose request has begun. A
// few places are kept for probes: they are given when all others are taken by requests, and it is the server that
// serves nothing else there.
//
// Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "core/http/address.h"

namespace tallygate::http {

class Places {
 public:
  struct Limits {
    size_t max = 0, per_address_max = 0, kept = 0;
  };
  class Guest {
   public:
    // Leave, if no request has begun meanwhile. Must be quick. `self` is this, to be let go of where it may be.
    virtual void give_way(std::shared_ptr<Guest> self) = 0;

   protected:
    ~Guest() = default;
  };
  class Place;

  explicit Places(Limits limits) : limits_(limits) {}

  // Null where there is no room. nullopt: a proxy, whose requests have addresses of their own.
  std::unique_ptr<Place> enter(const std::optional<AddressKey>& address);
  uint64_t gave_way_total() const;

 private:
  using Waiting = std::list<Place*>;
  struct Address {
    size_t taken = 0;
    Waiting waiting;  // longest first
  };
  struct Hash {
    size_t operator()(const AddressKey& key) const {
      return key.high * 0x9e3779b97f4a7c15u ^ key.low * 0xff51afd7ed558ccdu;
    }
  };
  using Addresses = std::unordered_map<AddressKey, Address, Hash>;
  using Counted = Addresses::value_type;

  // With the mutex held.
  std::shared_ptr<Guest> vacate_longest_waiting(const Waiting& among);
  bool is_full(const AddressKey& address) const;
  Counted& count(const AddressKey& address);
  void discount(Counted*& address);
  void take(Place& place);
  void vacate(Place& place);
  static void stop_waiting(Place& place);

  const Limits limits_;
  mutable std::mutex mutex_;
  size_t taken_ = 0;
  uint64_t gave_way_ = 0;
  Waiting waiting_;  // longest first
  Addresses by_address_;
};

// Of one connection; given back when it dies.
class Places::Place {
 public:
  ~Place();
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  // From now on `guest` waits for a request, until begin_request().
  void wait(const std::shared_ptr<Guest>& guest);
  // `on_behalf_of`: whose request a proxy brings; false where that address has its number of them already.
  bool begin_request(const std::optional<AddressKey>& on_behalf_of);
  // Whether it is one of those that are kept for probes; no longer where another is free.
  bool is_kept();

 private:
  friend class Places;
  Place(Places& places, const std::optional<AddressKey>& address) : places_(places), address_(address) {}

  Places& places_;
  const std::optional<AddressKey> address_;
  Counted* counted_ = nullptr;
  Counted* on_behalf_of_ = nullptr;
  std::weak_ptr<Guest> guest_;
  Waiting::iterator at_, at_of_address_;  // while it waits
  bool waits_ = false, is_taken_ = false, is_kept_ = false;
};

}  // namespace tallygate::http
