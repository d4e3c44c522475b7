// How exchanges end: settled, answered by the proxy itself, or cut. See engine.h.
#include <time.h>

#include <cstdio>

#include "core/http1/chars.h"
#include "sidecar/proxy/engine.h"

namespace tallygate::proxy {
namespace {

constexpr size_t kFreeBlocksMax = 128;  // what a burst needed beyond that is given back

// The Origin in a head as the app gets it; empty: there is none.
std::string_view origin_of(std::string_view head) {
  constexpr std::string_view kBreak = "\r\n";
  for (size_t at = head.find(kBreak); at != head.npos; at = head.find(kBreak, at)) {
    at += kBreak.size();
    const std::string_view line = head.substr(at, head.find(kBreak, at) - at);
    if (line.empty()) break;
    const size_t colon = std::min(line.find(':'), line.size() - 1);
    if (name_equals(line.substr(0, colon), "origin")) return http1::trim(line.substr(colon + 1));
  }
  return {};
}

}  // namespace

void Engine::settle(Client& client, End end) {
  if (!client.admitted) return;
  client.admitted = false;
  Outcome& outcome = client.outcome;
  outcome.end = end;
  outcome.duration_ns = now_ns_ - client.started_ns;
  if (end != End::kCompleted && end != End::kCut) {
    // What still waits to be sent was not received. Chunk frames make this a few bytes too low, in the client's favour.
    outcome.response_body_bytes -= std::min<uint64_t>(outcome.response_body_bytes, client.out.size());
  }
  switch (end) {
    case End::kCompleted:
      counters_.settled_completed.add();
      break;
    case End::kClientAborted:
      counters_.settled_client_aborted.add();
      break;
    case End::kUpstreamFailed:
      counters_.settled_upstream_failed.add();
      break;
    case End::kCut:
      counters_.settled_cut.add();
      break;
  }
  counters_.request_body_bytes.add(outcome.request_body_bytes);
  counters_.response_body_bytes.add(outcome.response_body_bytes);
  counters_.duration.observe(outcome.duration_ns);
  gate_.settle(client.admission, outcome);
}

void Engine::detach_upstream(Client& client) {
  Upstream* upstream = client.upstream;
  if (upstream == nullptr) return;
  client.outcome.app_reached |= upstream->sent_bytes > 0;
  client.upstream = nullptr;
  upstream->client = nullptr;
  close(*upstream, false);
}

void Engine::release_block(Client& client) {
  if (client.block == nullptr) return;
  client.block->large.reset();
  if (const size_t collected = std::exchange(client.block->collected, 0); collected > 0)
    counters_.collected_bytes.set(collected_bytes_ -= collected);
  if (free_blocks_.size() < kFreeBlocksMax) free_blocks_.push_back(std::move(client.block));
  client.block.reset();
}

// The client left, or is to be cut off, whatever was going on.
void Engine::client_gone(Client& client) {
  if (client.dead || (client.admission.listens != kNothing && !client.ghost && becomes_ghost(client))) return;
  if (client.phase == Phase::kWait) counters_.requests_waiting.set(--waiting_);
  if (client.phase == Phase::kWait || client.phase == Phase::kCollect) {
    counters_.abandoned.add();
    gate_.abandon(client.ticket(), client.admission);
  }
  detach_upstream(client);
  settle(client, End::kClientAborted);
  release_block(client);
  // Without a length only a reset tells it that this is not the end; where that was sent, one would destroy the rest.
  close(client, client.close_delimited && (client.phase == Phase::kForward || client.phase == Phase::kFlush));
}

// An HTTP date, formatted once a second.
std::string_view Engine::date() {
  const int64_t second = env_.wall_s();
  if (second != date_second_) {
    date_second_ = second;
    const time_t t = static_cast<time_t>(second);
    tm utc;
    gmtime_r(&t, &utc);
    strftime(date_text_.data(), date_text_.size(), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  }
  return date_text_.data();
}

void Engine::append_reply(std::string& text, int status, std::string_view fields, std::string_view body,
                          std::string_view id, std::string_view connection, bool with_body) {
  text.append("HTTP/1.1 ").append(std::to_string(status)).append(" ").append(reason_phrase(status)).append("\r\n");
  text.append("Date: ").append(date()).append("\r\n");
  text.append(fields);
  if (!id.empty()) text.append("X-Request-Id: ").append(id).append("\r\n");
  if (!body.empty()) text.append("Content-Type: application/problem+json\r\n");
  if (status != 204 && status != 304) {
    text.append("Content-Length: ").append(std::to_string(body.size())).append("\r\n");
  }
  if (!connection.empty()) text.append("Connection: ").append(connection).append("\r\n");
  text.append("\r\n");
  if (with_body && status != 204 && status != 304) text.append(body);
}

void Engine::reply_problem(Client& client, Reason reason, std::string_view detail, std::string_view origin) {
  counters_.problems[static_cast<size_t>(reason)].add();
  if (options_.on_refusal) options_.on_refusal({reason, detail, client.id(), client.address()});
  const Problem& p = problem(reason);
  std::string fields;
  if (reason == Reason::kMethodNotAllowed) fields = kAllow;
  if (reason == Reason::kWaitingLimitReached || reason == Reason::kUpstreamLimitReached) fields = "Retry-After: 1\r\n";
  if (client.block != nullptr) origin = origin_of({client.block->data(), client.block->size});
  gate_.problem_headers(origin, &fields);
  reply(client, p.status, fields, problem_json(reason, detail, client.id()));
}

std::string Engine::refusal() {
  counters_.problems[static_cast<size_t>(Reason::kConnectionLimitReached)].add();
  if (options_.on_refusal) options_.on_refusal({Reason::kConnectionLimitReached, {}, {}, {}});
  counters_.responses[5].add();
  std::string text;
  append_reply(text, 503, "Retry-After: 1\r\n", problem_json(Reason::kConnectionLimitReached, {}, {}), {}, "close",
               true);
  return text;
}

// Answers in the app's place. Nothing of a response has been sent, no connection to the app is attached.
void Engine::reply(Client& client, int status, std::string_view fields, std::string_view body) {
  if (client.ghost) return close(client, false);
  note_busy(client);
  release_block(client);
  release_watched(client);
  if (!client.body.done() && (client.expect_continue || client.body.kind() != http1::BodyReader::Kind::kLength ||
                              client.body.left() > options_.discard_body_bytes_max)) {
    client.close_after = true;
  }
  client.close_after |= draining_;
  client.expect_continue = false;
  std::string_view connection;
  if (client.close_after)
    connection = "close";
  else if (client.http10)
    connection = "keep-alive";
  reply_.clear();
  append_reply(reply_, status, fields, body, client.id(), connection, !client.is_head_method);
  counters_.responses[static_cast<size_t>(status / 100) % 6].add();
  client.phase = Phase::kFlush;
  Gather gather;
  gather.add(reply_);
  emit(client, gather);
  if (client.write_broken) return;
  if (client.out.empty())
    after_response(client);
  else
    arm(client);
}

void Engine::finish_request(Client& client) {
  settle(client, End::kCompleted);
  after_response(client);
}

// The response is sent: on to the next request, or away.
void Engine::after_response(Client& client) {
  if (client.close_after || draining_) return shut(client);
  note_idle(client);
  if (client.body.done()) {
    client.phase = Phase::kHead;
    set_deadline(client, options_.timeouts.client_idle_ms);
  } else {
    client.phase = Phase::kDiscard;
    set_deadline(client, options_.timeouts.client_body_idle_ms);
  }
  if (client.readable || !client.in.empty()) enqueue(client);
}

// Closes in a way that lets the client read the response: with unread bytes, close(2) would send a reset that may
// destroy it on the way (RFC 9112 9.6). Many clients send all of a body before they look for an answer.
void Engine::shut(Client& client) {
  client.phase = Phase::kLinger;
  client.discarded_bytes = client.rate_window_bytes = 0;
  const int64_t idle_ms = std::min(options_.timeouts.linger_idle_ms, options_.timeouts.linger_ms);
  client.linger_end_ns = now_ns_ + (draining_ ? idle_ms : options_.timeouts.linger_ms) * 1'000'000;
  transport_.shutdown_write(client);
  set_deadline(client, idle_ms);
  note_idle(client);
  enqueue(client);
}

}  // namespace tallygate::proxy
