#include "sidecar/admission/amounts.h"

#include <algorithm>

#include "core/http1/chars.h"
#include "core/money.h"
#include "sidecar/meter/json_number.h"

namespace tallygate::sidecar {

using tenant::AmountFrom;

namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

static_assert(tenant::kTokenKinds.size() == meter::kTokenKinds);
constexpr int64_t kBytesPerToken = 4;  // of a request whose tokens are not told

bool is_of_response_body(AmountFrom from) { return from == AmountFrom::kResponseJson || from == AmountFrom::kTokens; }

// Where nothing is to be found in an answer that is none (300 to 499).
bool is_of_response(AmountFrom from) { return is_of_response_body(from) || from == AmountFrom::kResponseHeader; }

int64_t seconds_up(int64_t ns) { return std::max<int64_t>(0, ns / kSecondNs + (ns % kSecondNs > 0 ? 1 : 0)); }

}  // namespace

const char* to_string(Basis basis) {
  switch (basis) {
    case Basis::kMeasured:
      return "measured";
    case Basis::kCounted:
      return "counted";
    case Basis::kAbsent:
      return "absent";
    case Basis::kUnreadable:
      return "unreadable";
    case Basis::kNotCharged:
    case Basis::kCount:
      break;
  }
  return "not_charged";
}

std::optional<int64_t> parse_amount(std::string_view text) {
  const auto units = meter::scaled_up(text, 0);
  if (!units || *units < 0 || *units > kMaxInteger || text.front() == '-') return std::nullopt;
  return *units;
}

// --- RouteAmounts -----------------------------------------------------------------------------------------------

namespace {

// Notes a pointer once; returns its index.
size_t note(std::vector<std::string>* pointers, const std::string& pointer) {
  const auto found = std::find(pointers->begin(), pointers->end(), pointer);
  if (found != pointers->end()) return static_cast<size_t>(found - pointers->begin());
  pointers->push_back(pointer);
  return pointers->size() - 1;
}

}  // namespace

Result<std::shared_ptr<const RouteAmounts>> RouteAmounts::compile(const tenant::Route& route,
                                                                  const tenant::Policy& policy) {
  const bool fixed = std::all_of(route.charges.begin(), route.charges.end(),
                                 [](const tenant::Charge& c) { return c.from == AmountFrom::kFixed; });
  if (fixed) return std::shared_ptr<const RouteAmounts>();
  auto out = std::make_shared<RouteAmounts>();
  std::vector<std::string> of_request, of_response;
  for (const tenant::Charge& c : route.charges) {
    Charge& charge = out->charges.emplace_back();
    charge.from = c.from;
    charge.header = c.header;
    charge.tokens = c.tokens;
    charge.estimate = c.estimate;
    charge.units = c.units;
    if (c.from == AmountFrom::kRequestJson) charge.pointer = note(&of_request, c.pointer);
    if (c.from == AmountFrom::kResponseJson) charge.pointer = note(&of_response, c.pointer);
    if (!c.estimate.request_pointer.empty()) charge.bound_pointer = note(&of_request, c.estimate.request_pointer);
    out->reads_request |= c.from == AmountFrom::kRequestJson;
    out->reads_response |= is_of_response_body(c.from);
    out->tokens |= c.from == AmountFrom::kTokens;
    if (is_of_response(c.from)) out->listens |= proxy::kResponseHead;
    if (is_of_response_body(c.from) || c.from == AmountFrom::kResponseBytes || c.from == AmountFrom::kDuration) {
      out->listens |= proxy::kAll;
    }
    if (!c.tokens.api.empty() && !meter::llm_api_named(c.tokens.api)) {
      return fail(Errc::kInvalid, "the API " + c.tokens.api + " is not known to this version");
    }
  }
  out->wants_body = !of_request.empty();
  auto request = meter::JsonPointers::compile(of_request);
  if (!request) return tl::unexpected(request.error());
  auto response = meter::JsonPointers::compile(of_response);
  if (!response) return tl::unexpected(response.error());
  out->request_pointers = std::move(*request);
  out->response_pointers = std::move(*response);
  out->streaming = policy.streaming;
  out->bodies = policy.request_bodies;
  return std::shared_ptr<const RouteAmounts>(std::move(out));
}

namespace {

// By whom it matters to that not a byte of the body changes.
bool is_signed(const proxy::RequestView& request) {
  for (const char* name : {"signature", "signature-input", "content-digest", "digest", "content-md5", "x-amz-content-sha256"}) {
    if (request.header(name).data() != nullptr) return true;
  }
  return request.header("authorization").starts_with("AWS4-");
}

}  // namespace

// --- The request ------------------------------------------------------------------------------------------------

void RequestAmounts::start(std::shared_ptr<const RouteAmounts> route, const proxy::RequestView& request) {
  route_ = std::move(route);
  request_bytes_ = request.content_length;
  for (size_t i = 0; i < route_->charges.size(); ++i) {
    if (route_->charges[i].from != AmountFrom::kRequestHeader) continue;
    const auto found = request.find(route_->charges[i].header);
    // Of two an app may take either.
    if (found.count > 0) known_[i] = {true, found.count == 1 ? parse_amount(found.value) : std::nullopt};
  }
  request_coding_ = meter::coding_of(request.header("content-encoding"));
  if (route_->tokens) call_ = meter::llm_call_of(request.method, request.path);
  asks_usage_ = route_->tokens && request.method == "POST" && api() == meter::LlmApi::kOpenAiChat &&
                request_coding_ == meter::Coding::kIdentity && !is_signed(request);
  passed.fill(-1);
}

void RequestAmounts::read_value(const meter::ValueReader::Value& value, Known* known) {
  using meter::JsonKind;
  if (value.kind == JsonKind::kAbsent || value.kind == JsonKind::kNull) return;
  known->there = true;
  // Numbers of 64 bits are written as strings by many an API.
  const bool number = value.kind == JsonKind::kNumber || value.kind == JsonKind::kString;
  known->units = number && !value.cut ? parse_amount(value.text) : std::nullopt;
}

// A body in which that cannot be told is left as it is: what its stream does not tell is counted.
void RequestAmounts::ask_usage(std::string_view body) {
  const auto edit = meter::ask_for_usage(body);
  if (!edit || !edit->remove_chunk()) return;
  filter_.emplace();
  if (edit->insert.empty()) return;
  edited_.emplace(body);
  edit->apply(&*edited_);
}

std::string_view RequestAmounts::filtered(std::string_view passing, bool end) {
  if (!filter_) return {};
  filtered_.clear();
  for (std::string_view rest = passing; !rest.empty();) {
    const std::string_view passes = filter_->next(rest);
    if (passes.empty()) break;
    filtered_.append(passes);
  }
  if (end) filtered_.append(filter_->finish());
  return filtered_;
}

std::string_view RequestAmounts::read_body(std::string_view body, bool whole) {
  body_read_ = true;
  if (!whole) return {};
  if (asks_usage_) ask_usage(body);
  if (!route_->wants_body) return {};
  std::string decoded;
  if (request_coding_ == meter::Coding::kUnknown) {
    return route_->reads_request ? "the body's Content-Encoding is none that can be read here" : "";
  }
  if (request_coding_ != meter::Coding::kIdentity) {
    meter::Decoder decoder(request_coding_, {static_cast<uint64_t>(route_->bodies.bytes_max), 1'100});
    std::array<char, 16 * 1024> out;
    std::string_view rest = body;
    size_t size = 0;
    auto step = decoder.next(rest, out, size);
    for (; step == meter::Decoder::Step::kData; step = decoder.next(rest, out, size)) decoded.append(out.data(), size);
    if (step == meter::Decoder::Step::kMore) step = decoder.finish();
    if (step != meter::Decoder::Step::kMore) {
      return route_->reads_request ? "the body cannot be decoded, or is too large once it is" : "";
    }
    body = decoded;
  }
  meter::ValueReader reader(route_->request_pointers, meter::Framing::kWhole);
  reader.feed(body);
  reader.finish();
  if (reader.malformed() || reader.too_deep()) {
    return route_->reads_request ? "the body is no JSON, which the charge is read from" : "";
  }
  for (size_t i = 0; i < route_->charges.size(); ++i) {
    const auto& charge = route_->charges[i];
    if (charge.from == AmountFrom::kRequestJson) {
      const auto& value = reader.value(charge.pointer);
      if (value.duplicate || value.alias) return "a key that the charge is read from is there twice";
      read_value(value, &known_[i]);
    }
    if (charge.bound_pointer == RouteAmounts::kNone) continue;
    const auto& bound = reader.value(charge.bound_pointer);
    if (bound.duplicate || bound.alias) return "a key that bounds the charge is there twice";
    read_value(bound, &bounds_[i]);
  }
  return {};
}

void RequestAmounts::estimate(std::span<const bool> capped, std::span<const int64_t> recent) {
  for (size_t i = 0; i < route_->charges.size(); ++i) {
    const auto& charge = route_->charges[i];
    const tenant::Estimate& e = charge.estimate;
    int64_t& units = estimates_[i];
    units = e.fallback > 0 ? e.fallback : std::max<int64_t>(1, recent[i]);
    if (bounds_[i].units) units = *bounds_[i].units;
    if (e.max > 0) units = std::min(units, e.max);
    held[i] = units;
    // The most that it may come to, where no unit past the cap may pass.
    if (capped[i] && e.max > 0 && !bounds_[i].units) held[i] = e.max;
    switch (charge.from) {
      case AmountFrom::kFixed:
        held[i] = units = charge.units;
        break;
      case AmountFrom::kRequestBytes:
        if (request_bytes_ >= 0) held[i] = request_bytes_;
        break;
      case AmountFrom::kRequestHeader:
      case AmountFrom::kRequestJson:
        held[i] = known_[i].units.value_or(units);
        break;
      default:
        break;
    }
  }
}

// --- The response -----------------------------------------------------------------------------------------------

void RequestAmounts::response_head(const proxy::ResponseView& response) {
  status_ = response.status;
  std::string_view type, coding;
  for (const proxy::Header& header : response.headers) {
    if (proxy::name_equals(header.name, "content-type")) type = header.value;
    if (proxy::name_equals(header.name, "content-encoding")) coding = header.value;
  }
  coding_ = meter::coding_of(coding);
  framing_ = meter::framing_of(type);
  if (framing_ != meter::Framing::kSse || coding_ != meter::Coding::kIdentity || !response.may_grow) filter_.reset();
  for (size_t i = 0; i < route_->charges.size(); ++i) {
    if (route_->charges[i].from != AmountFrom::kResponseHeader) continue;
    size_t count = 0;
    for (const proxy::Header& header : response.headers) {
      if (!proxy::name_equals(header.name, route_->charges[i].header)) continue;
      known_[i] = {true, ++count == 1 ? parse_amount(header.value) : std::nullopt};
    }
  }
  if (!route_->reads_response || !response.has_body || status_ < 200 || status_ >= 300) return;
  undecodable_ = coding_ == meter::Coding::kUnknown;
  if (!undecodable_ && coding_ != meter::Coding::kIdentity) decoder_.emplace(coding_);
  if (route_->response_pointers.size() > 0) values_.emplace(route_->response_pointers, framing_);
  if (route_->tokens) read_tokens(response, type);
}

// The API that the policy names, else that of the path.
std::optional<meter::LlmApi> RequestAmounts::api() const {
  for (const auto& charge : route_->charges) {
    if (charge.from == AmountFrom::kTokens && !charge.tokens.api.empty()) return meter::llm_api_named(charge.tokens.api);
  }
  return call_ ? std::optional(call_->api) : std::nullopt;
}

void RequestAmounts::read_tokens(const proxy::ResponseView& response, std::string_view type) {
  const auto of = api();
  if (!of) return;
  const meter::Framing framing = meter::llm_framing(*of, type);
  streams_ = framing != meter::Framing::kWhole;
  usage_.emplace(*of, framing);
  for (const proxy::Header& header : response.headers) usage_->header(http1::fold_name(header.name), header.value);
}

void RequestAmounts::feed(std::string_view decoded) {
  if (values_) values_->feed(decoded);
  if (usage_) usage_->feed(decoded);
}

void RequestAmounts::response_piece(std::string_view piece) {
  if (undecodable_ || (!values_ && !usage_)) return;
  if (!decoder_) return feed(piece);
  std::array<char, 16 * 1024> out;
  size_t size = 0;
  auto step = decoder_->next(piece, out, size);
  for (; step == meter::Decoder::Step::kData; step = decoder_->next(piece, out, size)) feed({out.data(), size});
  undecodable_ = step != meter::Decoder::Step::kMore;
}

void RequestAmounts::response_end() {
  if (ended_) return;
  ended_ = true;
  if (decoder_ && !undecodable_) undecodable_ = decoder_->finish() != meter::Decoder::Step::kMore;
  if (values_) values_->finish();
  if (usage_) usage_->finish();
}

// Millionths summed exactly, and rounded up once. What is not reported counts nothing.
int64_t RequestAmounts::tokens_of(const RouteAmounts::Charge& charge, const meter::LlmUsage& usage) const {
  __int128 sum = 0;
  for (size_t kind = 0; kind < meter::kTokenKinds; ++kind) {
    if (usage.counts[kind] > 0) sum += static_cast<__int128>(usage.counts[kind]) * charge.tokens.weights[kind];
  }
  const __int128 units = (sum + kMicrosPerUnit - 1) / kMicrosPerUnit;
  return static_cast<int64_t>(std::min<__int128>(units, kMaxInteger));
}

// Usage as told; where input or output is not, counted: a token for four bytes of the request, and what the reader makes
// of the answer that passed.
meter::LlmUsage RequestAmounts::counted() const {
  using meter::TokenKind;
  meter::LlmUsage usage = usage_->usage();
  const auto fill = [&usage](TokenKind kind, int64_t tokens) {
    int64_t& count = usage.counts[static_cast<size_t>(kind)];
    if (count < 0) count = tokens;
  };
  if (usage[TokenKind::kCachedInput] < 0) {
    fill(TokenKind::kInput, (std::max<int64_t>(0, request_bytes_) + kBytesPerToken - 1) / kBytesPerToken);
  }
  fill(TokenKind::kOutput, 0);
  int64_t& output = usage.counts[static_cast<size_t>(TokenKind::kOutput)];
  if (!usage.final) output = std::max(output, usage_->estimated_output());
  return usage;
}

bool RequestAmounts::grows(size_t i) const {
  const AmountFrom from = route_->charges[i].from;
  if (from == AmountFrom::kResponseBytes || from == AmountFrom::kDuration) return true;
  // Of a whole body the amount is known when it has come: to withhold the rest would serve nobody.
  return is_of_response_body(from) && (framing_ != meter::Framing::kWhole || streams_);
}

int64_t RequestAmounts::so_far(size_t i, uint64_t bytes, int64_t elapsed_ns) {
  const auto& charge = route_->charges[i];
  switch (charge.from) {
    case AmountFrom::kFixed:
      return charge.units;
    case AmountFrom::kResponseBytes:
      return static_cast<int64_t>(std::min<uint64_t>(bytes, kMaxInteger));
    case AmountFrom::kDuration:
      return seconds_up(elapsed_ns);
    case AmountFrom::kRequestHeader:
    case AmountFrom::kResponseHeader:
    case AmountFrom::kRequestJson:
      return known_[i].units.value_or(-1);
    case AmountFrom::kResponseJson: {
      if (!values_) return -1;
      Known known;
      read_value(values_->value(charge.pointer), &known);
      return known.units.value_or(-1);
    }
    case AmountFrom::kTokens:
      if (!usage_ || usage_->events() == 0) return -1;
      return tokens_of(charge, counted());
    case AmountFrom::kRequestBytes:
      break;
  }
  return -1;
}

// Neither there nor to be expected of an answer that is none.
Amount RequestAmounts::missing(size_t i) const { return {estimates_[i], Basis::kAbsent}; }

Amount RequestAmounts::final(size_t i, const proxy::Outcome& outcome, bool partly) {
  const auto& charge = route_->charges[i];
  const auto told = [&](const Known& known) -> Amount {
    if (!known.there) return missing(i);
    return known.units ? Amount{*known.units, Basis::kMeasured} : Amount{estimates_[i], Basis::kUnreadable};
  };
  switch (charge.from) {
    case AmountFrom::kFixed:
      return {charge.units, Basis::kMeasured};
    case AmountFrom::kRequestBytes:
      return {static_cast<int64_t>(std::min<uint64_t>(outcome.request_body_bytes, kMaxInteger)), Basis::kMeasured};
    case AmountFrom::kResponseBytes:
    case AmountFrom::kDuration:
      return {so_far(i, outcome.response_body_bytes, outcome.duration_ns), Basis::kMeasured};
    case AmountFrom::kRequestHeader:
    case AmountFrom::kRequestJson:
    case AmountFrom::kResponseHeader:
      return told(known_[i]);
    case AmountFrom::kResponseJson: {
      if (partly) return passed[i] >= 0 ? Amount{passed[i], Basis::kMeasured} : missing(i);
      if (!values_) return missing(i);
      if (undecodable_ || values_->malformed() || values_->too_deep()) return {estimates_[i], Basis::kUnreadable};
      const auto& value = values_->value(charge.pointer);
      if (value.duplicate || value.alias) return {estimates_[i], Basis::kUnreadable};
      Known known;
      read_value(value, &known);
      return told(known);
    }
    case AmountFrom::kTokens: {
      if (!usage_) return missing(i);
      const meter::LlmUsage usage = usage_->usage();
      if (partly) return passed[i] >= 0 ? Amount{passed[i], Basis::kCounted} : missing(i);
      if (undecodable_ || usage.unreadable) return {estimates_[i], Basis::kUnreadable};
      if (usage.reported()) return {tokens_of(charge, usage), Basis::kMeasured};
      if (usage_->events() > 0 && framing_ != meter::Framing::kWhole) return {tokens_of(charge, counted()), Basis::kCounted};
      return missing(i);
    }
  }
  return missing(i);
}

}  // namespace tallygate::sidecar
