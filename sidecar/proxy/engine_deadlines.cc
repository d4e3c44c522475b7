// What happens when something takes too long. See engine.h.
#include <utility>

#include "sidecar/proxy/engine.h"

namespace tallygate::proxy {
namespace {

constexpr int64_t kUploadWindowMs = 10'000;
// A pause that is longer may be why an app gives up: the strictest of common servers bear a slow reader for 5 s.
constexpr int64_t kHoldMs = 2'000;
constexpr uint64_t kLingerBytesPerSecondMin = 1024;

bool came_at_rate(uint64_t bytes, int64_t window_ms, uint64_t bytes_per_second) {
  return bytes >= bytes_per_second * static_cast<uint64_t>(window_ms) / 1000;
}

}  // namespace

void Engine::tick() {
  wheel_.advance(now_ns_, [this](DeadlineWheel::Node& node) { on_deadline(static_cast<Conn&>(node)); });
}

void Engine::on_deadline(Conn& conn) {
  if (conn.is_upstream) on_upstream_deadline(static_cast<Upstream&>(conn));
  else on_client_deadline(static_cast<Client&>(conn));
}

void Engine::on_client_deadline(Client& client) {
  switch (client.phase) {
    case Phase::kHead:
      if (has_begun(client)) {
        counters_.client_timeouts.add();
        client.request_id_size = 0;
        client.http10 = client.is_head_method = false;
        client.close_after = true;
        return reply_problem(client, Reason::kRequestTimeout);
      }
      return close(client, false);
    case Phase::kForward:
      if (client.out.empty() && client.expect_continue) {
        // The app ignores Expect. Saying it in its place is allowed to a gateway that wants the body.
        client.expect_continue = false;
        Gather gather;
        gather.add("HTTP/1.1 100 Continue\r\n\r\n");
        emit(client, gather);
        return arm(client);
      }
      if (ends_rate_window(client)) return arm(client);
      counters_.client_timeouts.add();
      if (!client.out.empty() || client.outcome.response_started) return client_gone(client);
      detach_upstream(client);
      settle(client, End::kClientAborted);
      client.close_after = true;
      return reply_problem(client, Reason::kRequestTimeout);
    case Phase::kFlush:
      counters_.client_timeouts.add();
      return client_gone(client);
    case Phase::kLinger: {
      const int64_t idle_ms = options_.timeouts.linger_idle_ms;
      const uint64_t came = client.discarded_bytes - client.rate_window_bytes;
      if (now_ns_ >= client.linger_end_ns || !came_at_rate(came, idle_ms, kLingerBytesPerSecondMin)) break;
      client.rate_window_bytes = client.discarded_bytes;
      return wheel_.set(client, std::min(now_ns_ + idle_ms * 1'000'000, client.linger_end_ns));
    }
    case Phase::kCollect:
      counters_.client_timeouts.add();
      return refuse_collecting(client, Reason::kRequestTimeout, {});
    case Phase::kDiscard:
      break;
    case Phase::kWait:
      return;
  }
  close(client, false);
}

// Of a client whose body came fast enough to the end of a window.
bool Engine::ends_rate_window(Client& client) {
  if (client.rate_window_end_ns == 0 || now_ns_ < client.rate_window_end_ns) return false;
  const uint64_t came = client.outcome.request_body_bytes - client.rate_window_bytes;
  client.rate_window_end_ns = 0;
  return came_at_rate(came, kUploadWindowMs, options_.upload_bytes_per_second_min);
}

void Engine::on_upstream_deadline(Upstream& upstream) {
  if (upstream.client == nullptr) return release_upstream(upstream, false);
  counters_.upstream_timeouts.add();
  if (upstream.connecting) counters_.upstream_connect_failures.add();
  upstream_lost(upstream, Reason::kUpstreamTimeout, false);
}

// Sets the deadline that the client's side of an exchange has now; called on progress and on changes.
void Engine::arm(Client& client) {
  const Timeouts& t = options_.timeouts;
  if (client.dead || client.ghost) return;
  const int64_t rate_window_end_ns = std::exchange(client.rate_window_end_ns, 0);
  if (!client.out.empty()) return set_deadline(client, t.client_write_idle_ms);
  if (client.phase == Phase::kCollect) return set_deadline(client, t.client_body_idle_ms);
  if (client.phase != Phase::kForward) return;
  if (client.expect_continue) return set_deadline(client, t.expect_continue_ms);
  if (!wants_read(client)) return wheel_.clear(client);
  set_deadline(client, t.client_body_idle_ms);
  client.rate_window_end_ns = rate_window_end_ns;
  if (options_.upload_bytes_per_second_min != 0) arm_upload(client);
}

// A window ends when the app is what is slow, and a new one begins when more is read.
void Engine::arm_upload(Client& client) {
  if (client.rate_window_end_ns == 0) {
    client.rate_window_end_ns = now_ns_ + kUploadWindowMs * 1'000'000;
    client.rate_window_bytes = client.outcome.request_body_bytes;
  }
  if (client.rate_window_end_ns < client.deadline_ns) wheel_.set(client, client.rate_window_end_ns);
}

// Of a client that takes nothing or little of a response, for whose sake the app is not read.
void Engine::note_pause(Client& client, bool paused) {
  if (paused && client.paused_since_ns == 0) client.paused_since_ns = now_ns_;
  if (paused || client.paused_since_ns == 0) return;
  client.held_app |= now_ns_ - client.paused_since_ns >= kHoldMs * 1'000'000;
  client.paused_since_ns = 0;
}

// The same for the app's side. While the other side is the one that is slow, only that one's deadline runs.
void Engine::arm(Upstream& upstream) {
  const Timeouts& t = options_.timeouts;
  if (upstream.dead || upstream.connecting || upstream.client == nullptr) return;
  note_pause(*upstream.client, upstream.client->out.size() >= options_.buffer_high_bytes);
  if (!upstream.out.empty()) return set_deadline(upstream, t.upstream_idle_ms);
  if (!wants_read(upstream)) return wheel_.clear(upstream);
  if (upstream.head_done) return set_deadline(upstream, t.upstream_idle_ms);
  if (upstream.client->body.done()) return set_deadline(upstream, t.upstream_head_ms);
  wheel_.clear(upstream);
}

}  // namespace tallygate::proxy
