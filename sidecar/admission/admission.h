// The Gate of the real sidecar: identify → admit before a request is forwarded, settle after it (README.md beside
// this).
//
// Threading: the event loop's thread only, but counters(), which any thread may read.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "core/tenant/route_table.h"
#include "sidecar/admission/amounts.h"
#include "sidecar/admission/cors.h"
#include "sidecar/admission/denial_log.h"
#include "sidecar/admission/directory.h"
#include "sidecar/admission/identify.h"
#include "sidecar/admission/plan.h"
#include "sidecar/admission/reason.h"
#include "sidecar/escrow/escrow.h"
#include "sidecar/log/usage_log.h"
#include "sidecar/proxy/gate.h"

namespace tallygate::sidecar {

struct AdmissionOptions {
  int64_t wait_ms = 1000;  // how long a request may wait for its tenant or its units
  size_t waiting_max = 10'000;
};

// Decisions by route and reason. Routes past the table's end count in its last row.
struct AdmissionCounters {
  static constexpr size_t kRoutes = 66;  // 64, the default one, and "none" (before a route is known)
  static constexpr size_t kDefaultRoute = kRoutes - 2, kNoRoute = kRoutes - 1;
  std::array<std::array<std::atomic<uint64_t>, static_cast<size_t>(Reason::kCount)>, kRoutes> decisions{};
  // Of the charges whose amount comes from somewhere, by route.
  struct Amounts {
    std::array<std::atomic<uint64_t>, static_cast<size_t>(Basis::kCount)> requests{}, units{};
    std::atomic<uint64_t> overshoot_units{0};  // beyond what any lease covered
    struct Ratio {  // of what it came to, to what was estimated, in hundredths
      static constexpr std::array<int64_t, 10> kUpperBounds{10, 25, 50, 75, 90, 100, 125, 150, 200, 400};
      std::array<std::atomic<uint64_t>, kUpperBounds.size() + 1> buckets{};
      std::atomic<uint64_t> sum{0};
      void observe(int64_t units, int64_t estimate);
    } ratio;
  };
  std::array<Amounts, kRoutes> amounts{};
  std::array<std::atomic<uint64_t>, kRoutes> cut{};  // responses that were ended when what was held was used up
  std::atomic<uint64_t> paused{0};                   // responses that waited for units in their middle
  std::atomic<uint64_t> waited{0}, released_units{0}, charged_units{0}, allowed_units{0};
};

class Admission final : public proxy::Gate {
 public:
  Admission(EventLoop& loop, Directory& directory, Escrow& escrow, UsageLog& log, const Spent& allowed_before,
            std::string policy_namespace, AdmissionOptions options = {});
  ~Admission() override;

  proxy::Verdict admit(const proxy::RequestView& request, std::string_view request_id, proxy::Ticket ticket,
                       proxy::Admission& admission, proxy::Denial& denial) override;
  proxy::Verdict readmit(proxy::Ticket ticket, proxy::Admission& admission, proxy::Denial& denial) override;
  proxy::Verdict with_body(proxy::Ticket ticket, proxy::Admission& admission, std::string_view body, bool whole,
                           proxy::Denial& denial) override;
  void response_head(proxy::Ticket ticket, proxy::Admission& admission, const proxy::ResponseView& response) override;
  proxy::Flow response_body(proxy::Admission& admission, std::string_view offered, bool last) override;
  bool drains(proxy::Admission& admission) override;
  void abandon(proxy::Ticket ticket, proxy::Admission& admission) override;
  const proxy::NameSet& guarded() const override;
  size_t request_headers(proxy::Admission& admission, std::span<char> out) override;
  size_t response_headers(proxy::Admission& admission, std::span<char> out) override;
  void problem_headers(std::string_view origin, std::string* fields) override { cors_.append_denial(origin, fields); }
  void settle(proxy::Admission& admission, const proxy::Outcome& outcome) override;

  // Where a ticket that may be asked again goes: Proxy::resume.
  void on_resume(std::function<void(proxy::Ticket)> fn) { resume_ = std::move(fn); }
  // A definition was logged: there may be a hello record to send.
  void on_logged(std::function<void()> fn) { logged_ = std::move(fn); }

  const AdmissionCounters& counters() const { return counters_; }
  // Names of the routes by row of the counters; for the admin thread a copy under a lock.
  std::vector<std::string> route_names() const;
  size_t waiting() const { return waiting_.size(); }

 private:
  struct Waiting {  // what a request that waits is remembered by
    std::string method, path, request_id, credential, prefix, origin;
    bool api_key = false;
    int64_t deadline_ns = 0;
    uint64_t identity_serial = 0;
  };
  struct Request {  // what is known of the request being decided
    std::string_view method, path, request_id, credential;
    std::string_view prefix;                   // of the field that says it to the app
    const proxy::RequestView* view = nullptr;  // null once it has waited
    std::string_view origin;                   // then; else it is in the view
    bool api_key = false;
    proxy::Ticket ticket;
    int64_t deadline_ns = 0;  // 0: has not waited yet
    size_t route = AdmissionCounters::kNoRoute;
    TenantEntry* tenant = nullptr;
    RequestAmounts* amounts = nullptr;   // null where all charges of its route are fixed
    std::span<const int64_t> units;      // by charge, once there is a plan
  };
  struct Held {  // in proxy::Admission::state
    Plan* plan;  // null: not metered
    Slot* slot;
    int64_t epoch;  // 0: no lease stands behind it
    // For request_headers(), not valid later. No tenant: nobody was identified, and in shadow the credential is one
    // that is not known here.
    const TenantEntry* tenant;
    RequestAmounts* amounts;  // in amounts_
    const char *prefix, *credential;
    uint16_t prefix_size, credential_size;
    Reason reason;
  };
  static Held& hold(proxy::Admission& admission) { return *reinterpret_cast<Held*>(admission.state.data()); }

  // Admitted, and to be settled once units that it lacks have come, or until then.
  struct Debt {
    Held held;
    std::array<int64_t, kMaxCharges> bill{};
    int64_t until_ns = 0;
  };
  enum class Cover : uint8_t { kYes, kPending, kNo };

  // admission_amounts.cc
  void choose_encodings(const RouteAmounts& route, const proxy::RequestView& view, proxy::Admission& admission);
  void begin_amounts(Request& request, proxy::Admission& admission);
  void drop_amounts(RequestAmounts* amounts);
  proxy::Verdict want_body(Request& request, proxy::Admission& admission, proxy::Denial& denial);
  bool estimate_amounts(Request& request, Plan& plan, proxy::Admission& admission, proxy::Denial& denial,
                        proxy::Verdict* verdict);
  void watch(const Request& request, const Plan& plan, Reason reason, proxy::Admission& admission);
  Cover cover(Held& held, std::span<const int64_t> need, const PlanItem** short_of);
  bool is_over(const PlanItem& item) const;
  int64_t available_to(const Held& held, size_t charge) const;
  void take_more(Held& held, size_t charge, int64_t units);
  Cover may_pass(Held& held, uint64_t bytes, const PlanItem** short_of);
  void note_passed(Held& held, size_t bytes);
  proxy::Flow pass_bytes(Held& held, std::string_view offered, bool last);
  size_t bytes_covered(const Held& held) const;
  proxy::Flow pass_events(Held& held, std::string_view offered, bool last);
  proxy::Flow pause(Held& held, size_t pass, const PlanItem* short_of);
  proxy::Flow end_early(Held& held, size_t pass, const PlanItem* short_of);
  Amount amount_of(Held& held, size_t charge, const proxy::Outcome& outcome);
  void settle_amounts(proxy::Admission& admission, const proxy::Outcome& outcome);
  void note_amount(Held& held, size_t charge, const Amount& amount, const proxy::Outcome& outcome);
  bool pay(Debt& debt, bool finally);
  bool ask_for(Purse& purse, int64_t units);
  bool comes_soon(const Held& held, size_t charge, int64_t lack);
  void give_back(Held& held, size_t charge, int64_t units);
  bool book_overshoot(Plan& plan, std::span<const int64_t> units);
  void sweep_amounts();

  bool recall(proxy::Ticket ticket, Request& request, proxy::Admission& admission, proxy::Denial& denial,
              proxy::Verdict* verdict);
  proxy::Verdict decide_again(Request& request, proxy::Admission& admission, proxy::Denial& denial);
  void remember(const Request& request, int64_t deadline_ns);
  proxy::Verdict answer_preflight(Request& request, proxy::Denial& denial);
  proxy::Verdict decide_route(Request& request, proxy::Admission& admission, proxy::Denial& denial);
  proxy::Verdict decide(Request& request, proxy::Admission& admission, proxy::Denial& denial);
  proxy::Verdict decide_tenant(Request& request, proxy::Admission& admission, proxy::Denial& denial);
  proxy::Verdict decide_units(Request& request, Plan& plan, proxy::Admission& admission, proxy::Denial& denial);
  std::string why_unavailable(const PlanItem& item) const;
  proxy::Verdict unavailable(Request& request, Plan& plan, const PlanItem& item, proxy::Admission& admission,
                             proxy::Denial& denial);
  proxy::Verdict take(Request& request, Plan& plan, uint32_t definition, Reason reason, proxy::Admission& admission,
                      proxy::Denial& denial);
  static Held held(const Request& request, Reason reason);
  proxy::Verdict admit_unmetered(Request& request, Reason reason, proxy::Admission& admission);
  proxy::Verdict lacking(Request& request, Plan& plan, proxy::Admission& admission, proxy::Denial& denial);
  proxy::Verdict deny(const Request& request, Reason reason, std::string_view detail, proxy::Denial& denial,
                      const Plan* plan = nullptr, const PlanItem* item = nullptr, int64_t requested = 0);
  // As deny(), but in shadow mode the request goes through, uncharged, with its credential.
  proxy::Verdict refuse(Request& request, Reason reason, std::string_view detail, proxy::Admission& admission,
                        proxy::Denial& denial);
  proxy::Verdict wait(Request& request, std::vector<uint64_t>& list);
  bool may_wait(const Request& request) const;
  bool shadow(const Request& request) const;
  Plan* plan_for(Request& request, Reason* reason, std::string* detail);
  void retire(Plan* plan);
  bool stale(const Request& request) const;
  const tenant::Route& route(size_t index) const;
  // Sets the request's route, and its path where another is forwarded. Not empty: why it has none.
  std::string_view find_route(Request& request);
  proxy::Verdict decided(size_t route, Reason reason, proxy::Verdict verdict);
  void policy_changed();
  void sweep();
  void look_at_clock();

  EventLoop& loop_;
  Directory& directory_;
  Escrow& escrow_;
  UsageLog& log_;
  std::map<std::string, int64_t> allowed_before_;  // by "tenant|bucket": what predecessors admitted without a lease
  std::string namespace_;
  AdmissionOptions options_;
  // Made anew, and counted, with each change of what it is made of.
  std::unique_ptr<Identifier> identifier_;
  std::vector<tenant::IdentitySource> identity_;
  std::string tenant_header_;
  bool forward_overrides_ = false;
  uint64_t identity_serial_ = 0;
  Cors cors_;
  DenialLog denial_log_;
  tenant::RouteTable routes_;
  std::unordered_map<const Plan*, std::unique_ptr<Plan>> plans_;
  std::vector<std::shared_ptr<const RouteAmounts>> route_amounts_;  // by row of the counters
  std::vector<std::string> amounts_faults_;
  std::unordered_map<const RequestAmounts*, std::unique_ptr<RequestAmounts>> amounts_;
  std::unordered_map<uint64_t, int64_t> paused_;  // responses that wait for units: until when, by ticket
  std::vector<Debt> debts_;
  std::string encodings_;  // room for what an app is told
  std::unordered_map<uint64_t, Waiting> waiting_;
  Waiting readmitted_;  // the last: request_headers() comes after readmit()
  std::string path_;    // room for a path in normal form
  int64_t wall_offset_ns_ = 0;
  EventLoop::TimerId timer_ = 0;
  std::function<void(proxy::Ticket)> resume_ = [](proxy::Ticket) {};
  std::function<void()> logged_ = [] {};
  mutable std::mutex names_mutex_;
  std::vector<std::string> names_;
  AdmissionCounters counters_;
};

}  // namespace tallygate::sidecar
