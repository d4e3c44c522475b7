// From the app's bytes to the client. See engine.h.
#include "sidecar/proxy/engine.h"

namespace tallygate::proxy {

size_t Engine::consume_upstream(Upstream& upstream, const char* data, size_t size) {
  upstream.got_bytes = true;
  size_t used = 0;
  while (used < size && !upstream.dead && upstream.client != nullptr) {
    const size_t step = upstream.head_done ? forward_response_body(upstream, data + used, size - used)
                                           : consume_response_head(upstream, data + used, size - used);
    if (step == 0) break;
    used += step;
  }
  return used;
}

size_t Engine::consume_response_head(Upstream& upstream, const char* data, size_t size) {
  http1::Head& head = upstream.head ? *upstream.head : *spare_head_;
  if (!upstream.head) head.start(http1::Head::Kind::kResponse);
  switch (head.parse(data, size, options_.limits)) {
    case http1::Progress::kNeedMore:
      if (!upstream.head) {
        upstream.head = std::move(spare_head_);
        if (free_heads_.empty()) free_heads_.push_back(std::make_unique<http1::Head>());
        spare_head_ = std::move(free_heads_.back());
        free_heads_.pop_back();
      }
      return 0;
    case http1::Progress::kError:
      counters_.response_parse_errors[static_cast<size_t>(head.error())].add();
      upstream_lost(upstream, Reason::kUpstreamMalformedResponse, false);
      return size;
    case http1::Progress::kComplete:
      break;
  }
  const std::unique_ptr<http1::Head> own = std::move(upstream.head);
  if (head.status >= 200) return forward_response_head(upstream, head, data, size);
  // Nobody asked for 101, and a flood of interim responses is no answer.
  if (head.status == 101 || !interim_within_bounds(upstream, head.size())) {
    upstream_lost(upstream, Reason::kUpstreamMalformedResponse, false);
    return size;
  }
  const size_t used = head.size();
  forward_interim(*upstream.client, head, data);
  return used;
}

bool Engine::interim_within_bounds(Upstream& upstream, size_t size) {
  if (now_ns_ - upstream.interim_second_ns >= 1'000'000'000) {
    upstream.interim_second_ns = now_ns_;
    upstream.interim_count = 0;
  }
  upstream.interim_bytes += size;
  return ++upstream.interim_count <= options_.interim_per_second_max &&
         upstream.interim_bytes <= options_.interim_bytes_max;
}

void Engine::forward_interim(Client& client, const http1::Head& head, const char* data) {
  if (client.http10) return;
  if (head.status == 100) {
    if (!client.expect_continue) return;  // it was told already, or never asked
    client.expect_continue = false;
  }
  ResponseRewrite how;
  how.drop = &gate_response_;
  Gather gather;
  gather.add(head_out_.data(), write_response_head(head, data, how, head_out_.data()));
  emit(client, gather);
  arm(client);
  arm(*client.upstream);
}

// Decides how the body ends, on both sides; returns the Content-Length to send, -1 for none.
int64_t Engine::note_response(Upstream& upstream, const http1::Head& head) {
  Client& client = *upstream.client;
  app_is_http10_ = head.minor_version == 0;
  upstream.keep = app_is_http10_ ? head.keep_alive && !head.close : !head.close;
  client.outcome.status = head.status;
  if (client.is_head_method || head.status == 204 || head.status == 304) {
    upstream.body.start_none();
    return head.status == 204 ? -1 : head.content_length;
  }
  if (!head.chunked && head.content_length >= 0) {
    upstream.body.start_length(static_cast<uint64_t>(head.content_length));
    return head.content_length;
  }
  if (head.chunked) {
    upstream.body.start_chunked();
  } else {
    upstream.body.start_until_close();
    upstream.keep = false;
  }
  client.chunk_response = !client.http10;
  client.close_delimited = client.http10;
  return -1;
}

size_t Engine::forward_response_head(Upstream& upstream, const http1::Head& head, const char* data, size_t size) {
  Client& client = *upstream.client;
  upstream.head_done = true;
  release_block(client);
  ResponseRewrite how;
  how.content_length = note_response(upstream, head);
  how.chunked = client.chunk_response;
  how.request_id = client.id();
  if (!has_date(head, data)) how.date = date();  // RFC 9110 6.6.1
  how.via = via_;
  // The rest of the request's body is read to save the connection only if it is small and surely on its way.
  if (!client.body.done() &&
      (client.expect_continue || client.body.kind() != http1::BodyReader::Kind::kLength ||
       client.body.left() > options_.discard_body_bytes_max)) {
    client.close_after = true;
  }
  client.expect_continue = false;
  client.close_after |= client.close_delimited || draining_;
  if (client.close_after) how.connection = "close";
  else if (client.http10) how.connection = "keep-alive";
  const bool watched = client.admission.listens != kNothing;
  if (watched) [[unlikely]]
    show_head(client, head, data);
  const size_t extra = gate_.response_headers(client.admission, gate_fields_);
  how.extra = {gate_fields_.data(), std::min(extra, gate_fields_.size())};
  client.gate_spoke = extra > 0;
  if (client.gate_spoke) how.drop = &gate_response_;

  Gather gather;
  gather.add_head(head_out_.data(), write_response_head(head, data, how, head_out_.data()), Gather::kSmallBytes);
  size_t used = head.size();
  if (watched && (client.admission.listens & kResponseBody) != 0) [[unlikely]] {
    client.outcome.app_reached = client.outcome.response_started = true;
    counters_.responses[static_cast<size_t>(head.status / 100)].add();
    return used + forward_watched_part(upstream, data + used, size - used, gather);
  }
  if (used < size && !upstream.body.done()) {
    used += add_body(upstream.body, client.chunk_response, client.gate_spoke ? &gate_response_ : nullptr, data + used,
                     size - used, gather);
    if (body_error_ != http1::ParseError::kNone) {
      counters_.response_parse_errors[static_cast<size_t>(body_error_)].add();
      upstream_lost(upstream, Reason::kUpstreamMalformedResponse, false);  // nothing was sent yet: a clean 502
      return size;
    }
    client.outcome.response_body_bytes += gather.payload();
  }
  client.outcome.app_reached = client.outcome.response_started = true;
  counters_.responses[static_cast<size_t>(head.status / 100)].add();
  emit(client, gather);
  if (upstream.body.done()) {
    response_complete(upstream, used < size);
    return used;
  }
  arm(client);
  arm(upstream);
  return used;
}

size_t Engine::forward_response_body(Upstream& upstream, const char* data, size_t size) {
  Client& client = *upstream.client;
  Gather gather;
  if ((client.admission.listens & kResponseBody) != 0) [[unlikely]]
    return client.watched->paused ? 0 : forward_watched_part(upstream, data, size, gather);
  const size_t used =
      add_body(upstream.body, client.chunk_response, client.gate_spoke ? &gate_response_ : nullptr, data, size, gather);
  if (body_error_ != http1::ParseError::kNone) {
    counters_.response_parse_errors[static_cast<size_t>(body_error_)].add();
    upstream_lost(upstream, Reason::kUpstreamMalformedResponse, false);
    return size;
  }
  client.outcome.response_body_bytes += gather.payload();
  emit(client, gather);
  if (upstream.body.done()) {
    response_complete(upstream, used < size);
    return used;
  }
  if (!wants_read(upstream)) counters_.backpressure_pauses.add();
  arm(client);
  arm(upstream);
  return used;
}

// A part of a response that the gate listens to, as forward_response_body(); `gather` may begin with its head.
size_t Engine::forward_watched_part(Upstream& upstream, const char* data, size_t size, Gather& gather) {
  Client& client = *upstream.client;
  const bool had_body = !upstream.body.done();
  const size_t used = forward_watched(upstream, data, size, gather);
  if (client.upstream == nullptr) return size;  // cut
  if (body_error_ != http1::ParseError::kNone) {
    counters_.response_parse_errors[static_cast<size_t>(body_error_)].add();
    upstream_lost(upstream, Reason::kUpstreamMalformedResponse, false);
    return size;
  }
  if (had_body ? end_watched(upstream) : upstream.body.done()) {
    response_complete(upstream, used < size);
    return used;
  }
  if (!wants_read(upstream)) counters_.backpressure_pauses.add();
  arm(client);
  arm(upstream);
  return used;
}

// `more_bytes`: the app sent something after its response, so what it would say next cannot be trusted.
void Engine::response_complete(Upstream& upstream, bool more_bytes) {
  Client& client = *upstream.client;
  client.upstream = nullptr;
  upstream.client = nullptr;
  const bool reuse = upstream.keep && !more_bytes && client.body.done() && upstream.out.empty() && !upstream.readable &&
                     !upstream.write_broken && !draining_ && upstream.moves == upstream_moves_;
  release_upstream(upstream, reuse);
  if (client.ghost) [[unlikely]] {
    settle(client, End::kClientAborted);
    return close(client, false);
  }
  if (client.write_broken) return;  // client_gone() follows, from the queue
  client.phase = Phase::kFlush;
  if (client.out.empty()) finish_request(client);
  else arm(client);
}

void Engine::on_upstream_eof(Upstream& upstream, bool failed) {
  upstream.readable = true;  // never to be pooled
  if (upstream.head_done && !failed && upstream.body.kind() == http1::BodyReader::Kind::kUntilClose) {
    Client& client = *upstream.client;
    upstream.body.end_by_close();
    if ((client.admission.listens & kResponseBody) != 0) {
      Gather gather;
      if (client.chunk_response) gather.begin_chunk();
      offer(client, nullptr, 0, true, gather);
      if (client.upstream == nullptr) return;
      send_watched(client, gather, false);
      if (!end_watched(upstream)) {  // paused
        arm(client);
        return arm(upstream);
      }
    } else if (client.chunk_response) {
      Gather gather;
      gather.add("0\r\n\r\n");
      emit(client, gather);
    }
    return response_complete(upstream, false);
  }
  upstream_lost(upstream, Reason::kUpstreamClosed, true);
}

// The app's connection is of no use any more. A request that met a pooled connection just as the app closed it is sent
// once more, on a fresh one, if nothing of a response was seen and either nothing was delivered or sending twice does no
// harm (RFC 9110 9.2.2).
void Engine::upstream_lost(Upstream& upstream, Reason reason, bool may_retry) {
  Client& client = *upstream.client;
  const bool unsent = upstream.sent_bytes == 0;
  const bool retry = may_retry && upstream.reused && !upstream.got_bytes && !client.retried && client.replayable &&
                     client.block != nullptr && (unsent || (client.idempotent && options_.resend));
  detach_upstream(client);
  if (retry) {
    client.retried = true;
    counters_.upstream_retries.add();
    if (!unsent) counters_.upstream_resends.add();
    if (!connect_upstream(client, true)) return;
    Gather gather;
    gather.add(client.block->data(), client.block->size);
    emit(*client.upstream, gather);
    arm(client);
    return arm(*client.upstream);
  }
  const bool gave_up = client.held_app && reason == Reason::kUpstreamClosed;
  settle(client, gave_up && client.outcome.response_started ? End::kClientAborted : End::kUpstreamFailed);
  if (client.outcome.response_started) return close(client, client.close_delimited);
  reply_problem(client, reason);
}

Upstream* Engine::open_upstream() {
  if (free_upstreams_.empty()) {
    upstreams_.push_back(std::make_unique<Upstream>());
    free_upstreams_.push_back(upstreams_.back().get());
  }
  Upstream& upstream = *free_upstreams_.back();
  const Connecting connecting = transport_.connect(upstream);
  if (connecting == Connecting::kFailed) {
    counters_.upstream_connect_failures.add();
    return nullptr;
  }
  free_upstreams_.pop_back();
  upstream.dead = upstream.readable = upstream.peer_closed = upstream.write_broken = upstream.reused = false;
  upstream.connecting = connecting == Connecting::kInProgress;
  upstream.moves = upstream_moves_;
  upstream.body.start_none();
  set_deadline(upstream, options_.timeouts.upstream_connect_ms);
  counters_.upstream_connects.add();
  counters_.upstreams_active.set(++upstreams_active_);
  return &upstream;
}

// The connection has no client any more: into the pool, or closed.
void Engine::release_upstream(Upstream& upstream, bool reuse) {
  if (upstream.pooled) pool_remove(upstream);
  if (!reuse || pool_.size() >= options_.upstream_pooled_max) return close(upstream, false);
  pool_.push_back(&upstream);
  upstream.pooled = true;
  counters_.upstreams_pooled.set(pool_.size());
  set_deadline(upstream, options_.timeouts.upstream_pooled_ms);
}

void Engine::pool_remove(Upstream& upstream) {
  upstream.pooled = false;
  for (size_t i = pool_.size(); i-- > 0;) {
    if (pool_[i] != &upstream) continue;
    pool_.erase(pool_.begin() + static_cast<ptrdiff_t>(i));
    counters_.upstreams_pooled.set(pool_.size());
    return;
  }
}

}  // namespace tallygate::proxy
