// From the client's bytes to the app. See engine.h.
#include "core/http1/chars.h"
#include "core/result.h"
#include "sidecar/proxy/engine.h"

namespace tallygate::proxy {
namespace {

constexpr size_t kGateBytesMax = 512;  // of its fields in the head for the app, beside what guarded ones took before

bool is_idempotent(std::string_view method) {  // RFC 9110 9.2.2
  return method == "GET" || method == "HEAD" || method == "PUT" || method == "DELETE" || method == "OPTIONS";
}

// Empty: there is none.
std::string_view origin_of(const http1::Head& head, const char* data) {
  for (size_t i = 0; i < head.field_count; ++i) {
    if (name_equals(head.name(data, head.fields[i]), "origin")) return head.value(data, head.fields[i]);
  }
  return {};
}

// RFC 9110 9.3.7, 9.3.8: the methods that Max-Forwards is of.
bool may_be_answered_here(std::string_view method) { return method == "OPTIONS" || method == "TRACE"; }

uint64_t mix(uint64_t z) {  // splitmix64's finaliser
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

constexpr std::array<char, 512> make_hex_pairs() {
  std::array<char, 512> pairs{};
  for (size_t i = 0; i < 256; ++i) {
    pairs[2 * i] = "0123456789abcdef"[i >> 4];
    pairs[2 * i + 1] = "0123456789abcdef"[i & 15];
  }
  return pairs;
}
constexpr std::array<char, 512> kHexPairs = make_hex_pairs();

// The lowest `bytes` bytes of `value`, highest first.
inline void put_hex_bytes(uint64_t value, int bytes, char*& at) {
  for (int i = bytes - 1; i >= 0; --i, at += 2) std::memcpy(at, &kHexPairs[(value >> (8 * i) & 255) * 2], 2);
}

}  // namespace

// Takes what the client's phase allows; what is left waits in Conn::in.
size_t Engine::consume_client(Client& client, const char* data, size_t size) {
  size_t used = 0;
  while (used < size && !client.dead && !client.write_broken) {
    const char* at = data + used;
    const size_t left = size - used;
    size_t step = 0;
    switch (client.phase) {
      case Phase::kHead:
        step = consume_request_head(client, at, left);
        break;
      case Phase::kForward:
        if (wants_read(client)) step = forward_request_body(client, at, left);
        break;
      case Phase::kCollect:
        step = collect_request_body(client, at, left);
        break;
      case Phase::kDiscard:
        step = discard_request_body(client, at, left);
        break;
      case Phase::kLinger:
        client.discarded_bytes += left;
        step = left;
        break;
      case Phase::kWait:
      case Phase::kFlush:
        break;
    }
    if (step == 0) break;
    used += step;
  }
  return used;
}

size_t Engine::consume_request_head(Client& client, const char* data, size_t size) {
  http1::Head& head = client.head ? *client.head : *spare_head_;
  if (!client.head) head.start(http1::Head::Kind::kRequest);
  switch (head.parse(data, size, options_.limits)) {
    case http1::Progress::kNeedMore:
      if (!client.head) {
        client.head = std::move(spare_head_);
        if (free_heads_.empty()) free_heads_.push_back(std::make_unique<http1::Head>());
        spare_head_ = std::move(free_heads_.back());
        free_heads_.pop_back();
        if (!client.first) set_deadline(client, options_.timeouts.client_head_ms);
      }
      return 0;
    case http1::Progress::kError: {
      const http1::ParseError error = head.error();
      counters_.request_parse_errors[static_cast<size_t>(error)].add();
      client.request_id_size = 0;
      client.http10 = client.is_head_method = false;
      client.close_after = true;
      reply_problem(client, reason_of(error), http1::info(error).detail);
      return size;  // whatever follows cannot be trusted
    }
    case http1::Progress::kComplete:
      break;
  }
  if (head.lists_fields()) keep_guarded(head, data);
  std::unique_ptr<http1::Head> own = std::move(client.head);
  const size_t used = begin_request(client, head, data, size);
  if (own) free_heads_.push_back(std::move(own));
  return used;
}

void Engine::note_request(Client& client, const http1::Head& head) {
  if (++client.generation == 0) client.generation = 1;
  client.first = false;
  client.http10 = head.minor_version == 0;
  client.close_after = draining_ || head.close || (client.http10 && !head.keep_alive);
  client.expect_continue = false;
  client.admitted = client.retried = client.resumed = client.replayable = false;
  client.chunk_request = head.chunked;
  client.chunk_response = client.close_delimited = client.gate_spoke = client.held_app = client.ghost = false;
  release_watched(client);
  client.discarded_bytes = 0;
  client.paused_since_ns = 0;
  client.started_ns = now_ns_;
  client.outcome = Outcome{};
  if (head.chunked)
    client.body.start_chunked();
  else if (head.content_length > 0)
    client.body.start_length(static_cast<uint64_t>(head.content_length));
  else
    client.body.start_none();
}

void Engine::choose_request_id(Client& client, const http1::Head& head, const char* data) {
  if (options_.trust_request_id && head.request_id_count == 1) {
    const std::string_view given = head.view(data, head.request_id);
    if (!given.empty() && given.size() <= client.request_id.size() && http1::all_of_class(given, http1::kIdChar)) {
      std::memcpy(client.request_id.data(), given.data(), given.size());
      client.request_id_size = static_cast<uint8_t>(given.size());
      return;
    }
  }
  // In the form of a version 4 UUID. Unique, not secret: a seeded counter, mixed.
  id_state_[0] += 0x9e3779b97f4a7c15;
  const uint64_t high = mix(id_state_[0]);
  const uint64_t low = mix(id_state_[0] ^ id_state_[1]);
  char* at = client.request_id.data();
  put_hex_bytes(high >> 32, 4, at);
  *at++ = '-';
  put_hex_bytes(high >> 16 & 0xffff, 2, at);
  *at++ = '-';
  put_hex_bytes((high & 0x0fff) | 0x4000, 2, at);
  *at++ = '-';
  put_hex_bytes((low >> 48 & 0x3fff) | 0x8000, 2, at);
  *at++ = '-';
  put_hex_bytes(low & 0xffffffffffff, 6, at);
  client.request_id_size = 36;
}

// What says who calls is end to end, whatever Connection says of it: the gate must see it.
void Engine::keep_guarded(http1::Head& head, const char* data) {
  const NameSet& guarded = gate_.guarded();
  for (size_t i = 0; i < head.field_count; ++i) {
    http1::Field& field = head.fields[i];
    if (field.id == http1::FieldId::kOther && guarded.contains_any_spelling(head.name(data, field))) {
      field.hop_by_hop = false;
    }
  }
}

Verdict Engine::ask_gate(Client& client, const http1::Head& head, const char* data) {
  RequestView view;
  view.method = head.view(data, head.method);
  view.path = head.path.size > 0 ? head.view(data, head.path) : std::string_view("/");
  if (head.has_query) view.query = head.view(data, head.query);
  view.host = head.view(data, head.authority);
  size_t count = 0;
  for (size_t i = 0; i < head.field_count; ++i) {
    const http1::Field& field = head.fields[i];
    if (!field.hop_by_hop) view_fields_[count++] = {head.name(data, field), head.value(data, field)};
  }
  view.headers = {view_fields_.data(), count};
  if (client.has_peer) view.peer = reinterpret_cast<const sockaddr*>(client.peer.data());
  view.content_length = head.chunked ? -1 : std::max<int64_t>(head.content_length, 0);
  client.admission.state.fill(std::byte{0});
  client.admission.forward_path = {};
  client.admission.accept_encoding = {};
  client.admission.listens = kNothing;
  if (denial_.status != 0) denial_.clear();
  return gate_.admit(view, client.id(), client.ticket(), client.admission, denial_);
}

// An app that takes TRACE echoes what the client must not see of this hop, so nobody's goes through. And what is
// allowed no further hop (RFC 9110 7.6.2) ends here.
bool Engine::answered_here(Client& client, http1::Head& head, const char* data) {
  if (head.view(data, head.method) == "TRACE") {
    reply_problem(client, Reason::kMethodNotAllowed, {}, origin_of(head, data));
    return true;
  }
  forwards_left_ = take_max_forwards(head, data) - 1;
  if (forwards_left_ != -1) return false;
  reply(client, 204, kAllow, {});
  return true;
}

// Returns how many bytes of the head and of the body behind it were taken.
size_t Engine::begin_request(Client& client, http1::Head& head, const char* data, size_t size) {
  note_request(client, head);
  note_busy(client);
  forwards_left_ = -1;
  const std::string_view method = head.view(data, head.method);
  client.is_head_method = method == "HEAD";
  client.idempotent = is_idempotent(method);
  choose_request_id(client, head, data);
  if (head.upgrade) {
    client.close_after = true;  // what follows may be of the other protocol
    reply_problem(client, Reason::kUpgradeNotImplemented, {}, origin_of(head, data));
    return head.size();
  }
  if (may_be_answered_here(method) && answered_here(client, head, data)) return head.size();
  if (head.has_expect && !client.http10) {
    client.expect_continue = head.expect_continue && !client.body.done();
    if (!head.expect_continue) {
      reply_problem(client, Reason::kExpectationFailed, {}, origin_of(head, data));
      return head.size();
    }
  }
  if (head.content_length > 0 && body_too_large(static_cast<uint64_t>(head.content_length))) {
    reply_problem(client, Reason::kBodyTooLarge, {}, origin_of(head, data));
    return head.size();
  }
  switch (ask_gate(client, head, data)) {
    case Verdict::kDeny:
      counters_.denied.add();
      reply(client, denial_.status, denial_.headers, denial_.body);
      return head.size();
    case Verdict::kWait:
      write_block(client, head, data);
      begin_waiting(client);
      return head.size();
    case Verdict::kBody:
      write_block(client, head, data);
      begin_collecting(client);
      return head.size();
    case Verdict::kAdmit:
      break;
  }
  client.admitted = true;
  counters_.admitted.add();
  write_block(client, head, data);
  finish_block(client);
  return head.size() + dispatch(client, data + head.size(), size - head.size());
}

// The head as the app will get it, but for its end; kept until the response begins.
void Engine::write_block(Client& client, const http1::Head& head, const char* data) {
  if (free_blocks_.empty()) free_blocks_.emplace_back(new RequestBlock);  // its bytes are not zeroed
  client.block = std::move(free_blocks_.back());
  free_blocks_.pop_back();
  RequestBlock& block = *client.block;
  const std::string_view path = client.admission.forward_path;
  const size_t bound = rewrite_bound(head, via_.size() + upstream_host_.size() + path.size() + kGateBytesMax);
  block.capacity = RequestBlock::kInlineBytes;
  if (bound > RequestBlock::kInlineBytes) {
    block.large.reset(new char[bound]);
    block.capacity = bound;
  }
  // An app that speaks HTTP/1.0 does not know Expect: the client is told to go on once the request is admitted.
  RequestRewrite how;
  how.path = path;
  how.default_host = upstream_host_;
  how.request_id = client.id();
  if (options_.forwarded_for) how.forwarded_for = client.address();
  how.forwarded_proto = options_.forwarded_proto;
  how.expect_continue = client.expect_continue && !app_is_http10_;
  how.accept_encoding = client.admission.accept_encoding;
  how.via = via_;
  how.strip = &gate_.guarded();
  how.max_forwards = forwards_left_;
  block.size = write_request_head(head, data, how, block.data());
}

// The gate's fields and the blank line: who it is from is not known before it is admitted.
void Engine::finish_block(Client& client) {
  RequestBlock& block = *client.block;
  char* at = block.data() + block.size;
  const size_t room = block.capacity - block.size - 2;
  const size_t size = gate_.request_headers(client.admission, {at, room});
  TG_ASSERT(size <= room);
  std::memcpy(at + size, "\r\n", 2);
  block.size += size + 2;
}

void Engine::readmit(Client& client) {
  client.resumed = false;
  if (denial_.status != 0) denial_.clear();
  const Verdict verdict = gate_.readmit(client.ticket(), client.admission, denial_);
  if (verdict == Verdict::kWait) return;
  counters_.requests_waiting.set(--waiting_);
  if (verdict == Verdict::kBody) return begin_collecting(client);
  decided(client, verdict);
}

// Sends the request, with as much of `body` as belongs to it and goes with it; returns how much that is.
size_t Engine::dispatch(Client& client, const char* body, size_t size) {
  client.phase = Phase::kForward;
  client.replayable = true;
  if (!connect_upstream(client, false)) return 0;
  Upstream& upstream = *client.upstream;
  if (client.watched != nullptr) [[unlikely]]
    add_collected(client);
  RequestBlock& block = *client.block;
  Gather gather;
  size_t used = 0;
  if (!client.body.done() && size > 0 && client.body.kind() == http1::BodyReader::Kind::kLength &&
      block.size + std::min<uint64_t>(size, client.body.left()) <= block.capacity) {
    const auto step = client.body.next(body, size, options_.limits);
    std::memcpy(block.data() + block.size, step.payload, step.payload_size);  // so that it can be sent again
    block.size += step.payload_size;
    client.outcome.request_body_bytes += step.payload_size;
    used = step.consumed;
  }
  gather.add_head(block.data(), block.size, block.capacity - block.size);
  if (used == 0 && !client.body.done() && size > 0) {
    used = add_body(client.body, client.chunk_request, &gate_.guarded(), body, size, gather);
    if (!body_is_good(client, gather)) return size;
    client.replayable = false;
  }
  if (used > 0) client.expect_continue = false;  // it did not wait
  emit(upstream, gather);
  if (client.expect_continue && app_is_http10_) {
    client.expect_continue = false;
    Gather go_on;
    go_on.add("HTTP/1.1 100 Continue\r\n\r\n");
    emit(client, go_on);
  }
  arm(client);
  arm(upstream);
  return used;
}

// Gives the client a connection to the app; if there is none, answers and returns false.
bool Engine::connect_upstream(Client& client, bool fresh) {
  Upstream* upstream = nullptr;
  if (!fresh && !pool_.empty()) {
    upstream = pool_.back();
    pool_.pop_back();
    counters_.upstreams_pooled.set(pool_.size());
    counters_.upstream_reuses.add();
    upstream->reused = true;
    upstream->pooled = false;
  } else if (upstreams_active_ >= options_.upstream_connections_max) {
    settle(client, End::kUpstreamFailed);
    reply_problem(client, Reason::kUpstreamLimitReached);
    return false;
  } else if ((upstream = open_upstream()) == nullptr) {
    settle(client, End::kUpstreamFailed);
    reply_problem(client, Reason::kUpstreamUnreachable);
    return false;
  }
  upstream->client = &client;
  upstream->got_bytes = upstream->head_done = upstream->keep = false;
  upstream->interim_bytes = 0;
  upstream->interim_count = 0;
  upstream->sent_bytes = 0;
  client.upstream = upstream;
  return true;
}

// Adds the payload in `data` to `gather`, framed anew, and trailers but for the unwanted ones (null: all are wanted);
// returns the wire bytes used and sets body_error_.
size_t Engine::add_body(http1::BodyReader& body, bool chunk, const NameSet* unwanted, const char* data, size_t size,
                        Gather& gather) {
  size_t used = 0;
  body_error_ = http1::ParseError::kNone;
  if (chunk) gather.begin_chunk();
  while (used < size && !body.done() && gather.has_room()) {
    const auto step = body.next(data + used, size - used, options_.limits);
    used += step.consumed;
    if (step.error != http1::ParseError::kNone) {
      body_error_ = step.error;
      return used;
    }
    gather.add_payload(step.payload, step.payload_size);
  }
  if (!chunk) return used;
  gather.end_chunk();
  if (body.done()) {
    gather.add("0\r\n");
    if (!body.trailers().empty()) add_trailers(body.trailers(), unwanted, gather);
    gather.add("\r\n");
  }
  return used;
}

// `gather` is to be sent before the next call.
void Engine::add_trailers(std::string_view trailers, const NameSet* unwanted, Gather& gather) {
  if (unwanted == nullptr) return gather.add(trailers);
  trailers_.clear();
  while (!trailers.empty()) {
    const size_t end = trailers.find("\r\n") + 2;
    const std::string_view line = trailers.substr(0, end);
    const std::string_view name = line.substr(0, line.find(':'));
    if (!unwanted->contains_any_spelling(name) && !mimics_own(name)) trailers_.append(line);
    trailers.remove_prefix(end);
  }
  gather.add(trailers_);
}

size_t Engine::forward_request_body(Client& client, const char* data, size_t size) {
  Gather gather;
  const size_t used = add_body(client.body, client.chunk_request, &gate_.guarded(), data, size, gather);
  if (!body_is_good(client, gather)) return size;
  client.expect_continue = false;
  client.replayable = false;
  emit(*client.upstream, gather);
  arm(client);
  arm(*client.upstream);
  return used;
}

// Counts what was read of a body; where it is broken, or too much, the request has been refused.
bool Engine::body_is_good(Client& client, const Gather& gather) {
  if (body_error_ != http1::ParseError::kNone) {
    counters_.request_parse_errors[static_cast<size_t>(body_error_)].add();
    refuse_body(client, Reason::kMalformedBody, http1::info(body_error_).detail);
    return false;
  }
  client.outcome.request_body_bytes += gather.payload();
  if (!body_too_large(client.outcome.request_body_bytes)) return true;
  refuse_body(client, Reason::kBodyTooLarge, {});
  return false;
}

// The app may have seen the beginning: it must not take it for complete.
void Engine::refuse_body(Client& client, Reason reason, std::string_view detail) {
  if (client.outcome.response_started) return client_gone(client);
  detach_upstream(client);
  settle(client, End::kClientAborted);
  client.close_after = true;
  reply_problem(client, reason, detail);
}

size_t Engine::discard_request_body(Client& client, const char* data, size_t size) {
  const auto step = client.body.next(data, size, options_.limits);
  client.discarded_bytes += step.consumed;
  if (step.error != http1::ParseError::kNone) {
    counters_.request_parse_errors[static_cast<size_t>(step.error)].add();
    close(client, false);
    return size;
  }
  if (client.body.done())
    after_response(client);
  else if (client.discarded_bytes > options_.discard_body_bytes_max)
    shut(client);
  return step.consumed;
}

}  // namespace tallygate::proxy
