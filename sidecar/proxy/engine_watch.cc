// Responses that the gate listens to: what of them goes on, pauses, ends early, or is read without a client. See
// engine.h and Flow.
#include <algorithm>
#include <utility>

#include "sidecar/proxy/engine.h"

namespace tallygate::proxy {

void Engine::show_head(Client& client, const http1::Head& head, const char* data) {
  size_t count = 0;
  for (size_t i = 0; i < head.field_count; ++i) {
    const http1::Field& field = head.fields[i];
    if (!field.hop_by_hop) view_fields_[count++] = {head.name(data, field), head.value(data, field)};
  }
  const Upstream& upstream = *client.upstream;
  ResponseView view;
  view.status = head.status;
  view.headers = {view_fields_.data(), count};
  view.content_length = head.content_length;
  view.has_body = !upstream.body.done();
  view.may_grow = client.chunk_response || client.close_delimited;
  if ((client.admission.listens & kResponseBody) != 0) {
    client.watched = std::make_unique<Watched>();
    client.watched->may_grow = view.may_grow;
  }
  if ((client.admission.listens & kResponseHead) != 0) gate_.response_head(client.ticket(), client.admission, view);
}

// Offers payload to the gate, and adds what it lets pass to `gather`, within a chunk. False: no more is to be read now.
bool Engine::offer(Client& client, const char* data, size_t size, bool last, Gather& gather, bool again) {
  Watched& watched = *client.watched;
  if (size == 0 && !last && !again) return true;
  const bool kept = !watched.kept.empty();
  if (kept) watched.kept.append(data, size);
  const std::string_view offered =
      kept ? std::string_view(watched.kept.data(), watched.kept.size()) : std::string_view(data, size);
  const Flow flow = gate_.response_body(client.admission, offered, last);
  const bool all = last && flow.next == Flow::kGoOn;
  const size_t pass = all ? offered.size() : std::min(flow.pass, offered.size());
  const bool other = flow.instead.data() != nullptr && watched.may_grow;
  const std::string_view sent = other ? flow.instead : offered.substr(0, pass);
  gather.add_payload(sent.data(), sent.size());
  if (kept || other) send_watched(client, gather, true);
  if (kept) {
    watched.kept.consume(pass);
  } else if (flow.next != Flow::kEnd) {
    watched.kept.append(offered.data() + pass, offered.size() - pass);
  }
  if (flow.next == Flow::kEnd) {
    cut_response(client, flow.tail, gather);
    return false;
  }
  if (flow.next != Flow::kPause) return true;
  watched.paused = true;
  counters_.response_pauses.add();
  return false;
}

// Sends what was gathered; `more` of the same may follow.
void Engine::send_watched(Client& client, Gather& gather, bool more) {
  if (client.chunk_response) gather.end_chunk();
  client.outcome.response_body_bytes += gather.payload();
  emit(client, gather);
  gather.clear();
  if (more && client.chunk_response) gather.begin_chunk();
}

// As add_body() and emit() for a response that the gate listens to; `gather` may begin with the head. Returns the wire
// bytes used and sets body_error_. What follows is forward_watched_end().
size_t Engine::forward_watched(Upstream& upstream, const char* data, size_t size, Gather& gather) {
  Client& client = *upstream.client;
  size_t used = 0;
  body_error_ = http1::ParseError::kNone;
  if (client.chunk_response) gather.begin_chunk();
  while (used < size && !upstream.body.done() && gather.has_room()) {
    const auto step = upstream.body.next(data + used, size - used, options_.limits);
    used += step.consumed;
    if (step.error != http1::ParseError::kNone) {
      body_error_ = step.error;
      break;
    }
    if (!offer(client, step.payload, step.payload_size, upstream.body.done(), gather)) break;
  }
  if (client.upstream != nullptr) send_watched(client, gather, false);
  return used;
}

// After forward_watched(), or a resumed pause: whether the response is complete, and its end where it is.
bool Engine::end_watched(Upstream& upstream) {
  Client& client = *upstream.client;
  if (!upstream.body.done() || client.watched->paused || !client.watched->kept.empty()) return false;
  if (!client.chunk_response) return true;
  Gather gather;
  gather.add("0\r\n");
  if (!upstream.body.trailers().empty()) {
    add_trailers(upstream.body.trailers(), client.gate_spoke ? &gate_response_ : nullptr, gather);
  }
  gather.add("\r\n");
  emit(client, gather);
  return true;
}

// The gate has ended it: nothing more is read of the app, which is told by the end of its connection. It is settled now:
// what passed is on its way.
void Engine::cut_response(Client& client, std::string_view tail, Gather& gather) {
  const bool well_formed = tail.data() != nullptr && client.watched->may_grow;
  if (well_formed) gather.add_payload(tail.data(), tail.size());
  send_watched(client, gather, false);
  if (well_formed) client.outcome.response_body_bytes -= tail.size();  // that is nothing of the app's
  if (well_formed && client.chunk_response) {
    Gather end;
    end.add("0\r\n\r\n");
    emit(client, end);
  }
  detach_upstream(client);
  settle(client, End::kCut);
  if (!well_formed || client.ghost) return close(client, client.close_delimited);
  if (client.write_broken) return;  // client_gone() follows, from the queue
  client.phase = Phase::kFlush;
  if (client.out.empty())
    after_response(client);
  else
    arm(client);
}

// A pause is over: what was kept is offered again, and then what had been read behind it.
void Engine::go_on(Upstream& upstream) {
  Client& client = *upstream.client;
  Watched& watched = *client.watched;
  watched.resumed = watched.paused = false;
  Gather gather;
  if (client.chunk_response) gather.begin_chunk();
  const bool goes_on = offer(client, nullptr, 0, upstream.body.done(), gather, true);
  if (client.upstream == nullptr) return;
  send_watched(client, gather, false);
  if (!goes_on) return;
  if (end_watched(upstream)) return response_complete(upstream, !upstream.in.empty());
  if (!upstream.in.empty()) {
    const size_t used = consume_upstream(upstream, upstream.in.data(), upstream.in.size());
    if (upstream.dead) return;
    upstream.in.consume(upstream.client == nullptr ? upstream.in.size() : used);
    if (upstream.client == nullptr) return;
  }
  arm(client);
  arm(upstream);
}

// The client left, and the app is to be heard to its end: the connection goes, the rest stays until then.
bool Engine::becomes_ghost(Client& client) {
  if (client.phase != Phase::kForward || !client.admitted || !client.body.done() || client.upstream == nullptr ||
      (client.admission.listens & kResponseBody) == 0 || closing_ || !gate_.drains(client.admission)) {
    return false;
  }
  transport_.close(client, false);
  client.io = nullptr;
  client.ghost = client.write_broken = true;
  client.readable = false;
  client.in.clear();
  client.out.clear();
  wheel_.remove(client);
  counters_.drained.add();
  if (client.upstream->readable) enqueue(*client.upstream);
  arm(*client.upstream);
  return true;
}

}  // namespace tallygate::proxy
