#include "sidecar/admission/quota_headers.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace tallygate::sidecar {
namespace {

// Appends to a fixed buffer; once something does not fit, nothing more is written and full() says so.
class Writer {
 public:
  explicit Writer(std::span<char> out) : at_(out.data()), end_(out.data() + out.size()), start_(out.data()) {}
  void text(std::string_view s) {
    if (static_cast<size_t>(end_ - at_) < s.size()) {
      full_ = true;
      return;
    }
    std::memcpy(at_, s.data(), s.size());
    at_ += s.size();
  }
  void number(int64_t n) {
    const auto [next, error] = std::to_chars(at_, end_, n);
    if (error != std::errc()) full_ = true;
    else at_ = next;
  }
  size_t size() const { return full_ ? 0 : static_cast<size_t>(at_ - start_); }

 private:
  char* at_;
  char* end_;
  char* start_;
  bool full_ = false;
};

}  // namespace

const char* to_string(CapState state) {
  switch (state) {
    case CapState::kOk: return "ok";
    case CapState::kWarned: return "warned";
    case CapState::kSoftOver: return "soft-over";
    case CapState::kGrace: return "grace";
    case CapState::kHard: return "hard";
  }
  return "ok";
}

int64_t used_of(const PlanItem& item) {
  if (!item.purse->told) return 0;
  return std::max<int64_t>(0, item.capacity - item.purse->unspent());
}

int64_t remaining_of(const PlanItem& item) {
  if (!item.purse->told) return item.amount;
  return std::max<int64_t>(0, item.amount - used_of(item));
}

bool comes_back(const PlanItem& item, int64_t units) {
  return item.purse->lying > 0 && units <= item.purse->unspent();
}

CapState cap_state(const PlanItem& item) {
  const int64_t used = used_of(item);
  // Past its grace a soft cap is a hard one.
  if (used >= item.capacity) return CapState::kHard;
  if (item.soft && used > item.amount) return item.grace ? CapState::kGrace : CapState::kSoftOver;
  return used * 5 >= item.amount * 4 ? CapState::kWarned : CapState::kOk;
}

namespace {

// Whether `item`, of which `left` units are left, is nearer to its end than `other`. The share that is left decides, so
// that a loose limit never hides a strict one; between equals the later reset, for until then it stays as it is.
bool nearer(const PlanItem& item, int64_t left, const PlanItem& other, int64_t other_left) {
  const __int128 mine = static_cast<__int128>(left) * other.amount,
                 others = static_cast<__int128>(other_left) * item.amount;
  return mine != others ? mine < others : item.end_s > other.end_s;
}

void write_trio(Writer& w, const PlanItem& item, int64_t now_s) {
  w.text("X-RateLimit-Limit: ");
  w.number(item.amount);
  if (item.purse->told) {
    w.text("\r\nX-RateLimit-Remaining: ");
    w.number(remaining_of(item));
  }
  w.text("\r\nX-RateLimit-Reset: ");
  w.number(std::max<int64_t>(0, item.end_s - now_s));
  w.text("\r\n");
}

}  // namespace

size_t write_quota_headers(const Plan& plan, int64_t now_s, std::span<char> out, const PlanItem* denied) {
  if (plan.policy_header.empty()) return 0;
  Writer w(out);
  w.text(plan.policy_header);
  const PlanItem* nearest = nullptr;
  int64_t nearest_left = 0;
  CapState worst = CapState::kOk;
  for (const auto& item : plan.items) {
    if (item.wallet || !item.purse->told) continue;
    const int64_t left = remaining_of(item);
    w.text(nearest == nullptr ? "RateLimit: \"" : ", \"");
    w.text(item.limit);
    w.text("\";r=");
    w.number(std::min(left, kFieldIntegerMax));
    w.text(";t=");
    w.number(std::clamp<int64_t>(item.end_s - now_s, 0, kFieldIntegerMax));
    worst = std::max(worst, cap_state(item));
    if (nearest == nullptr || nearer(item, left, *nearest, nearest_left)) {
      nearest = &item;
      nearest_left = left;
    }
  }
  const bool told = nearest != nullptr;
  if (told) w.text("\r\n");
  if (denied != nullptr && !denied->wallet) nearest = denied;
  if (nearest != nullptr) write_trio(w, *nearest, now_s);
  if (told) {
    w.text("X-Tallygate-Cap-State: ");
    w.text(to_string(worst));
    w.text("\r\n");
  }
  return w.size();
}

}  // namespace tallygate::sidecar
