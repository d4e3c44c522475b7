#include "sidecar/meter/llm_usage.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/base64.h"
#include "core/money.h"
#include "sidecar/meter/interest.h"
#include "sidecar/meter/json_number.h"
#include "sidecar/meter/llm_fields.h"

namespace tallygate::meter {
namespace {

using F = LlmField;
using Kind = EventReader::Step::Kind;

constexpr size_t kWrapperBytesMax = 64 * 1024;
constexpr int64_t kBytesPerToken = 4;

bool is_anthropic(LlmApi api) { return api == LlmApi::kAnthropicMessages || api == LlmApi::kBedrockInvoke; }

struct Header {
  std::string_view name;
  F field;
};
constexpr Header kHeaders[] = {{"x-amzn-bedrock-input-token-count", F::kMetricIn},
                               {"x-amzn-bedrock-output-token-count", F::kMetricOut},
                               {"x-amzn-bedrock-cache-read-input-token-count", F::kMetricCached},
                               {"x-amzn-bedrock-cache-write-input-token-count", F::kMetricWrite}};

}  // namespace

struct LlmUsageReader::State {
  State(LlmApi of, Framing framing)
      : api(of),
        table(llm_table(of)),
        reader(framing),
        wrapped(of == LlmApi::kBedrockInvoke && framing == Framing::kAwsEventStream),
        scanner(table.pointers),
        wrapper(bedrock_wrapper_table().pointers, kWrapperBytesMax) {}

  void feed(std::string_view body);
  void take(const EventReader::Step& step);
  void scan(std::string_view data);
  bool may_skip(std::string_view event) const;
  void end_event();
  void end_document();
  void end_wrapper();
  void measure();
  void apply();
  void apply(F field, const JsonValue& value);
  void apply_pairs();
  void set(F field, std::string_view number);
  void judge(const std::string& type, const std::string& status);

  LlmApi api;
  const LlmTable& table;
  EventReader reader;
  bool wrapped;  // the events' data is base64 in JSON
  JsonScanner scanner, wrapper;

  std::string_view held;  // of an event that is in one piece up to now; points into what feed() was given
  bool scanning = false;  // the event's data goes to the scanner
  uint64_t event_bytes = 0;

  LlmFields fields;
  LlmUsage told;
  std::string type, status;  // of the document that is read
  bool generated_nothing = false;
  bool malformed = false;
  uint64_t unreadable = 0, texts = 0, text_bytes = 0, size_sum = 0;
  uint64_t size_min = std::numeric_limits<uint64_t>::max();
};

void LlmUsageReader::State::feed(std::string_view body) {
  for (;;) {
    const auto step = reader.next(body);
    if (step.kind == Kind::kMore) break;
    take(step);
  }
  if (!held.empty()) scan(std::exchange(held, {}));
}

void LlmUsageReader::State::take(const EventReader::Step& step) {
  switch (step.kind) {
    case Kind::kData:
      event_bytes += step.data.size();
      if (!scanning && held.empty()) {
        held = step.data;
        return;
      }
      if (!held.empty()) scan(std::exchange(held, {}));
      return scan(step.data);
    case Kind::kEnd:
      return end_event();
    case Kind::kDone:
      told.final |= fields[F::kIn] >= 0;
      return;
    default:
      malformed = true;
      held = {};
      scanner.reset();
      wrapper.reset();
  }
}

void LlmUsageReader::State::scan(std::string_view data) {
  scanning = true;
  (wrapped ? wrapper : scanner).feed(data);
}

// The model is read from the first event; after that an event without usage has nothing new.
bool LlmUsageReader::State::may_skip(std::string_view event) const {
  if (reader.framing() != Framing::kSse || api == LlmApi::kGemini || told.model.empty()) return false;
  return !may_hold_usage(event);
}

void LlmUsageReader::State::end_event() {
  if (reader.is_error()) {  // an exception's own words are no usage
    told.error = true;
    held = {};
    scanning = false;
    scanner.reset();
    wrapper.reset();
    event_bytes = 0;
    return;
  }
  if (!held.empty()) {
    if (!may_skip(held)) scan(held);
    held = {};
  }
  if (scanning) {
    wrapped ? end_wrapper() : end_document();
  }
  measure();
  scanning = false;
  event_bytes = 0;
}

void LlmUsageReader::State::end_wrapper() {
  const auto state = wrapper.finish();
  const JsonValue bytes = wrapper.value(0);
  const auto data = state == JsonScanner::State::kDone && bytes.kind == JsonKind::kString && !bytes.cut
                        ? base64_decode(bytes.text)
                        : std::nullopt;
  wrapper.reset();
  if (data) {
    scanner.feed(*data);
    end_document();
  } else {
    ++unreadable;
  }
}

void LlmUsageReader::State::end_document() {
  if (scanner.finish() == JsonScanner::State::kDone) {
    apply();
  } else {
    ++unreadable;
  }
  scanner.reset();
}

// What estimated_output() is made of.
void LlmUsageReader::State::measure() {
  if (event_bytes == 0 || reader.framing() == Framing::kWhole) return;
  const std::string_view name = reader.type();
  if (api == LlmApi::kAnthropicMessages && name != "content_block_delta") return;
  if (api == LlmApi::kOpenAiResponses && !name.ends_with(".delta")) return;
  if (api == LlmApi::kBedrockConverse && name != "contentBlockDelta") return;
  if (api == LlmApi::kBedrockInvoke && type != "content_block_delta") return;
  if (api == LlmApi::kOpenAiChat && std::exchange(generated_nothing, false)) return;
  ++texts;
  size_sum += event_bytes;
  size_min = std::min(size_min, event_bytes);
}

void LlmUsageReader::State::set(F field, std::string_view number) {
  const auto value = exact_integer(number);
  const bool counts = value && *value >= 0 && *value <= kMaxInteger;
  told.unreadable |= !counts;
  fields[field] = counts ? *value : LlmUsage::kUnknown;
}

void LlmUsageReader::State::apply() {
  type.clear();
  status.clear();
  if (is_anthropic(api)) {  // only these have usage of the answer
    for (size_t i = 0; i < table.fields.size(); ++i) {
      if (table.fields[i] == F::kType) type = scanner.value(i).text;
    }
    told.error |= type == "error";
    const bool counts =
        type == "message" || type == "message_start" || type == "message_delta" || type == "message_stop";
    if (!counts && type != "content_block_delta") return;
  }
  for (size_t i = 0; i < table.fields.size(); ++i) {
    const JsonValue value = scanner.value(i);
    if (value.kind != JsonKind::kAbsent || value.count != 0) apply(table.fields[i], value);
  }
  apply_pairs();
  judge(type, status);
}

void LlmUsageReader::State::apply(F field, const JsonValue& value) {
  if (static_cast<size_t>(field) < kLlmNumbers) {
    if (value.kind == JsonKind::kNumber) {
      set(field, value.cut ? std::string_view("-1") : value.text);
    } else if (field == F::kWebSearches && value.kind == JsonKind::kArray) {
      fields[field] = static_cast<int64_t>(value.count);
    } else if (value.kind == JsonKind::kAbsent) {  // a count
      fields[field] = static_cast<int64_t>(value.count);
    } else if (value.kind != JsonKind::kNull) {
      told.unreadable = true;
    }
    return;
  }
  const bool text = value.kind == JsonKind::kString;
  switch (field) {
    case F::kModel:
      if (text) told.model = value.text;
      break;
    case F::kType:
      if (text) type = value.text;
      break;
    case F::kStatus:
      if (text) status = value.text;
      break;
    case F::kError:
      told.error |= value.kind != JsonKind::kNull;
      break;
    case F::kFinish:
      told.final |= text;
      break;
    case F::kText:
      if (text) text_bytes += value.end - value.begin - 2;
      break;
    case F::kChoices:
      generated_nothing = value.kind == JsonKind::kArray && value.count == 0;
      if (api != LlmApi::kOpenAiResponses || value.kind != JsonKind::kArray) break;
      for (const F calls : {F::kWebSearches, F::kFileSearches, F::kCodeRuns}) fields[calls] = 0;
      break;
    default:
      break;
  }
}

// Modalities and times to live: a list of pairs, of which the audio's and the hour's number matter.
void LlmUsageReader::State::apply_pairs() {
  int64_t prompt = LlmUsage::kUnknown, cached = LlmUsage::kUnknown;
  for (size_t i = 0; i + 1 < table.fields.size(); ++i) {
    const F name = table.fields[i];
    if (name != F::kPromptModality && name != F::kCacheModality && name != F::kOutModality && name != F::kTtl) continue;
    const std::string_view text = scanner.value(i).text;
    const JsonValue number = scanner.value(i + 1);
    const bool audio = text == "AUDIO", hour = text == "1h";
    if ((!audio && !hour && text != "5m") || number.kind != JsonKind::kNumber) continue;
    const auto value = exact_integer(number.text);
    if (!value || *value < 0 || *value > kMaxInteger) {
      told.unreadable = true;
      continue;
    }
    if (name == F::kPromptModality) prompt = *value;
    if (name == F::kCacheModality) cached = *value;
    if (name == F::kOutModality) fields[F::kAudioOut] = *value;
    if (name == F::kTtl) fields[hour ? F::kWrite1h : F::kWrite5m] = *value;
  }
  if (prompt >= 0) fields[F::kAudioIn] = prompt - std::min(prompt, std::max<int64_t>(cached, 0));
}

// Whether that was the API's last word.
void LlmUsageReader::State::judge(const std::string& event, const std::string& state) {
  const bool whole = reader.framing() == Framing::kWhole;
  const bool reported = fields[F::kIn] >= 0 || fields[F::kOut] >= 0 || fields[F::kMetricOut] >= 0;
  switch (api) {
    case LlmApi::kOpenAiChat:
      told.final |= reported && (whole || generated_nothing);
      break;
    case LlmApi::kOpenAiResponses:
      told.error |= event == "error" || state == "failed";
      told.pending = whole && (state == "queued" || state == "in_progress");
      told.final |= state == "completed" || state == "incomplete" || state == "failed" || state == "cancelled";
      break;
    case LlmApi::kAnthropicMessages:
    case LlmApi::kBedrockInvoke:
      told.final |= whole || ((event == "message_delta" || event == "message_stop") && reported);
      break;
    case LlmApi::kGemini:
      told.final |= whole && reported;
      break;
    case LlmApi::kBedrockConverse:
      told.final |= reported;
      break;
  }
}

LlmUsageReader::LlmUsageReader(LlmApi api, Framing framing) : state_(std::make_unique<State>(api, framing)) {}
LlmUsageReader::~LlmUsageReader() = default;
LlmUsageReader::LlmUsageReader(LlmUsageReader&&) noexcept = default;
LlmUsageReader& LlmUsageReader::operator=(LlmUsageReader&&) noexcept = default;

void LlmUsageReader::header(std::string_view lower_name, std::string_view value) {
  for (const Header& known : kHeaders) {
    if (known.name == lower_name) state_->set(known.field, value);
  }
}

void LlmUsageReader::feed(std::string_view body) {
  if (state_->reader.framing() == Framing::kWhole) state_->text_bytes += body.size();
  state_->feed(body);
}

void LlmUsageReader::finish() {
  for (;;) {
    const auto step = state_->reader.finish();
    if (step.kind == Kind::kMore) break;
    state_->take(step);
  }
}

LlmUsage LlmUsageReader::usage() const {
  LlmUsage usage = state_->told;
  tokens_of(state_->api, state_->fields, &usage);
  return usage;
}

int64_t LlmUsageReader::estimated_output() const {
  const State& s = *state_;
  const auto of_bytes = [](uint64_t bytes) {
    return (static_cast<int64_t>(bytes) + kBytesPerToken - 1) / kBytesPerToken;
  };
  const auto events = static_cast<int64_t>(s.texts);
  switch (s.api) {
    case LlmApi::kOpenAiChat:
    case LlmApi::kOpenAiResponses:
      if (s.reader.framing() != Framing::kWhole) return events;
      break;
    case LlmApi::kAnthropicMessages:
    case LlmApi::kGemini:
      if (s.texts != 0) return std::max(events, of_bytes(s.size_sum - s.texts * s.size_min));
      break;
    default:
      break;
  }
  return std::max(events, of_bytes(s.text_bytes));
}

uint64_t LlmUsageReader::events() const { return state_->reader.events(); }
uint64_t LlmUsageReader::unreadable_events() const { return state_->unreadable; }
bool LlmUsageReader::malformed() const { return state_->malformed; }

}  // namespace tallygate::meter
