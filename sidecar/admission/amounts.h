// Amounts that are not one per request: what of request and response they are read from, and what they came to.
//
// RouteAmounts is compiled once per route and policy. RequestAmounts reads one request: its head, its body where that is
// wanted first, its response as it passes. Nothing here knows of purses: what is held, and taken, is admission_amounts.cc.
//
// Threading: the event loop's thread. Ownership: a request shares its route's, which may be of a policy that is over.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/tenant/model.h"
#include "sidecar/log/frames.h"
#include "sidecar/meter/decoder.h"
#include "sidecar/meter/event_reader.h"
#include "sidecar/meter/json_pointers.h"
#include "sidecar/meter/llm_usage.h"
#include "sidecar/meter/usage_chunk.h"
#include "sidecar/meter/value_reader.h"
#include "sidecar/proxy/gate.h"

namespace tallygate::sidecar {

// What an amount that was charged rests on.
enum class Basis : uint8_t {
  kMeasured,
  kCounted,     // of tokens that the answer did not tell: counted by what passed (RequestAmounts::counted)
  kAbsent,      // it was not there, or not yet when the client left: the estimate
  kUnreadable,  // it was there, and no amount: negative, no number, beyond 2^53 − 1, cut off: the estimate
  kNotCharged,  // nothing to charge: a failure of the app's, or an answer of 300 to 499 without it
  kCount,
};
const char* to_string(Basis basis);

struct Amount {
  int64_t units = 0;
  Basis basis = Basis::kMeasured;
};

// "3", "2.5", "1e3", as a header or JSON has it; rounded up. Nothing where it is no amount.
std::optional<int64_t> parse_amount(std::string_view text);

class RouteAmounts {
 public:
  static constexpr size_t kNone = SIZE_MAX;
  struct Charge {
    tenant::AmountFrom from;
    std::string header;            // lower case
    size_t pointer = kNone;        // of the amount, among the request's or the response's
    size_t bound_pointer = kNone;  // of the estimate, among the request's
    tenant::TokenSource tokens;
    tenant::Estimate estimate;
    int64_t units = 0;  // kFixed
  };

  // Null where every charge of the route is fixed. kInvalid: this version cannot read one of them.
  static Result<std::shared_ptr<const RouteAmounts>> compile(const tenant::Route& route,
                                                             const tenant::Policy& policy);

  std::vector<Charge> charges;  // as the route's
  meter::JsonPointers request_pointers, response_pointers;
  bool wants_body = false;      // of the request
  bool reads_request = false;   // an amount, not only an estimate, is in the request's body
  bool reads_response = false;  // in the response's
  bool tokens = false;
  uint8_t listens = proxy::kNothing;
  tenant::Streaming streaming;
  tenant::RequestBodies bodies;
};

class RequestAmounts {
 public:
  void start(std::shared_ptr<const RouteAmounts> route, const proxy::RequestView& request);
  const RouteAmounts& route() const { return *route_; }
  bool same_route(const std::shared_ptr<const RouteAmounts>& other) const { return route_ == other; }

  bool needs_body() const { return (route_->wants_body || asks_usage_) && !body_read_; }
  // Whether the request may be made to ask for its stream's usage; what the app gets then, or null.
  bool may_ask_usage() const { return asks_usage_; }
  const std::string* edited_body() const { return edited_ ? &*edited_ : nullptr; }
  // What is wrong with it, for people; empty: nothing. Not `whole`: it is larger than what is read.
  std::string_view read_body(std::string_view body, bool whole);

  // What is held for each charge before anything is known but the request. `capped`: by charge, whether it spends from a
  // hard cap or a wallet; `recent`: what the tenant's requests came to of late.
  void estimate(std::span<const bool> capped, std::span<const int64_t> recent);

  void response_head(const proxy::ResponseView& response);
  // Payload, once each. Returns false where it is coded in a way that cannot be read.
  void response_piece(std::string_view piece);
  void response_end();
  // What the amount of a charge has come to, as far as is known; `bytes`: of the response that would have passed then.
  int64_t so_far(size_t charge, uint64_t bytes, int64_t elapsed_ns);
  // What it came to in the end. `partly`: the client left before that. kFixed charges too.
  Amount final(size_t charge, const proxy::Outcome& outcome, bool partly);

  // Whether the amount grows while the response passes: what comes next may be withheld.
  bool grows(size_t charge) const;
  // What the client gets of bytes that pass, where a chunk that it did not ask for is taken out; data() == nullptr: those.
  std::string_view filtered(std::string_view passing, bool end);
  bool ended() const { return ended_; }
  bool response_is_coded() const { return coding_ != meter::Coding::kIdentity; }
  meter::Framing framing() const { return framing_; }
  int64_t estimate_of(size_t charge) const { return estimates_[charge]; }

  // By charge. Whoever admits keeps these up.
  std::array<int64_t, kMaxCharges> held{};    // in the slot, and taken of the purses
  std::array<int64_t, kMaxCharges> passed{};  // what had come to when the last byte passed; -1: nothing is known

  // Of the response as it passes (admission_amounts.cc).
  struct Passage {
    std::optional<meter::EventReader> events;  // where it may be ended between two events
    bool cuts = false;                         // it may be ended, or paused
    bool between_events = true;
    size_t fed = 0;            // of what is offered next, looked at before
    bool whole_event = false;  // that is a whole event, which what is held does not cover
    uint64_t bytes = 0;        // passed
    int64_t started_ns = 0;
    int64_t pause_until_ns = 0;  // 0: it does not wait for units
    bool cut = false;
    std::string tail;
  } passage;
  proxy::Ticket ticket;

 private:
  struct Known {  // of a value outside of the response's body
    bool there = false;
    std::optional<int64_t> units;
  };
  void ask_usage(std::string_view body);
  void read_value(const meter::ValueReader::Value& value, Known* known);
  std::optional<meter::LlmApi> api() const;
  void feed(std::string_view decoded);
  void read_tokens(const proxy::ResponseView& response, std::string_view type);
  Amount missing(size_t charge) const;
  int64_t tokens_of(const RouteAmounts::Charge& charge, const meter::LlmUsage& usage) const;
  meter::LlmUsage counted() const;

  std::shared_ptr<const RouteAmounts> route_;
  std::array<Known, kMaxCharges> known_{};   // RequestHeader, ResponseHeader, RequestJSON
  std::array<Known, kMaxCharges> bounds_{};  // estimate.requestPointer
  std::array<int64_t, kMaxCharges> estimates_{};
  int64_t request_bytes_ = 0;  // -1: not known before it is forwarded
  bool body_read_ = false;
  meter::Coding request_coding_ = meter::Coding::kIdentity, coding_ = meter::Coding::kIdentity;
  meter::Framing framing_ = meter::Framing::kWhole;
  int status_ = 0;
  std::optional<meter::LlmCall> call_;
  std::optional<meter::ValueReader> values_;
  std::optional<meter::LlmUsageReader> usage_;
  std::optional<meter::Decoder> decoder_;
  bool asks_usage_ = false;  // of OpenAI's chat, and nobody has signed it
  std::optional<std::string> edited_;
  std::optional<meter::UsageChunkFilter> filter_;
  std::string filtered_;
  bool undecodable_ = false, ended_ = false;
  bool streams_ = false;  // an LLM's answer in a framing of its own
};

}  // namespace tallygate::sidecar
