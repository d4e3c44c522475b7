#include "core/http/places.h"

namespace tallygate::http {

std::unique_ptr<Places::Place> Places::enter(const std::optional<AddressKey>& address) {
  std::unique_ptr<Place> place(new Place(*this, address));
  std::shared_ptr<Guest> leaves;
  {
    const std::lock_guard lock(mutex_);
    if (address && is_full(*address)) {
      leaves = vacate_longest_waiting(by_address_.at(*address).waiting);
      if (!leaves) return nullptr;
    } else if (taken_ >= limits_.max) {
      leaves = vacate_longest_waiting(waiting_);
      if (!leaves && taken_ >= limits_.max + limits_.kept) return nullptr;
    }
    place->is_kept_ = taken_ >= limits_.max;
    take(*place);
  }
  if (leaves) {
    Guest& guest = *leaves;
    guest.give_way(std::move(leaves));
  }
  return place;
}

uint64_t Places::gave_way_total() const {
  const std::lock_guard lock(mutex_);
  return gave_way_;
}

// Null where all of them are on their way already.
std::shared_ptr<Places::Guest> Places::vacate_longest_waiting(const Waiting& among) {
  for (Place* place : among) {
    auto guest = place->guest_.lock();
    if (!guest) continue;
    stop_waiting(*place);
    vacate(*place);
    ++gave_way_;
    return guest;
  }
  return nullptr;
}

bool Places::is_full(const AddressKey& address) const {
  const auto known = by_address_.find(address);
  return known != by_address_.end() && known->second.taken >= limits_.per_address_max;
}

Places::Counted& Places::count(const AddressKey& address) {
  Counted& counted = *by_address_.try_emplace(address).first;
  ++counted.second.taken;
  return counted;
}

void Places::discount(Counted*& address) {
  if (address == nullptr) return;
  Counted& counted = *std::exchange(address, nullptr);
  if (--counted.second.taken == 0) by_address_.erase(by_address_.find(counted.first));
}

void Places::take(Place& place) {
  place.is_taken_ = true;
  ++taken_;
  if (place.address_) place.counted_ = &count(*place.address_);
}

void Places::vacate(Place& place) {
  if (!std::exchange(place.is_taken_, false)) return;
  --taken_;
  discount(place.counted_);
}

void Places::stop_waiting(Place& place) {
  if (!std::exchange(place.waits_, false)) return;
  place.places_.waiting_.erase(place.at_);
  if (place.counted_ != nullptr) place.counted_->second.waiting.erase(place.at_of_address_);
}

Places::Place::~Place() {
  const std::lock_guard lock(places_.mutex_);
  stop_waiting(*this);
  places_.vacate(*this);
  places_.discount(on_behalf_of_);
}

void Places::Place::wait(const std::shared_ptr<Guest>& guest) {
  const std::lock_guard lock(places_.mutex_);
  places_.discount(on_behalf_of_);
  if (waits_ || !is_taken_) return;
  waits_ = true;
  guest_ = guest;
  at_ = places_.waiting_.insert(places_.waiting_.end(), this);
  if (counted_ == nullptr) return;
  Waiting& of_address = counted_->second.waiting;
  at_of_address_ = of_address.insert(of_address.end(), this);
}

bool Places::Place::begin_request(const std::optional<AddressKey>& on_behalf_of) {
  const std::lock_guard lock(places_.mutex_);
  stop_waiting(*this);
  if (!is_taken_) places_.take(*this);  // it was to leave, and its request came first
  if (!on_behalf_of) return true;
  if (places_.is_full(*on_behalf_of)) return false;
  on_behalf_of_ = &places_.count(*on_behalf_of);
  return true;
}

bool Places::Place::is_kept() {
  if (!is_kept_) return false;
  const std::lock_guard lock(places_.mutex_);
  is_kept_ = places_.taken_ > places_.limits_.max;
  return is_kept_;
}

}  // namespace tallygate::http
