// What happens when something takes too long. See engine.h.
#include "sidecar/proxy/engine.h"

namespace tallygate::proxy {

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
      if (client.head) {  // in part
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
      counters_.client_timeouts.add();
      if (!client.out.empty() || client.outcome.response_started) return client_gone(client);
      detach_upstream(client);
      settle(client, End::kClientAborted);
      client.close_after = true;
      return reply_problem(client, Reason::kRequestTimeout);
    case Phase::kFlush:
      counters_.client_timeouts.add();
      return client_gone(client);
    case Phase::kDiscard:
    case Phase::kLinger:
      return close(client, false);
    case Phase::kWait:
      return;
  }
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
  if (client.dead) return;
  if (!client.out.empty()) return set_deadline(client, t.client_write_idle_ms);
  if (client.phase != Phase::kForward) return;
  if (client.expect_continue) return set_deadline(client, t.expect_continue_ms);
  if (wants_read(client)) return set_deadline(client, t.client_body_idle_ms);
  wheel_.clear(client);
}

// The same for the app's side. While the other side is the one that is slow, only that one's deadline runs.
void Engine::arm(Upstream& upstream) {
  const Timeouts& t = options_.timeouts;
  if (upstream.dead || upstream.connecting || upstream.client == nullptr) return;
  if (!upstream.out.empty()) return set_deadline(upstream, t.upstream_idle_ms);
  if (!wants_read(upstream)) return wheel_.clear(upstream);
  if (upstream.head_done) return set_deadline(upstream, t.upstream_idle_ms);
  if (upstream.client->body.done()) return set_deadline(upstream, t.upstream_head_ms);
  wheel_.clear(upstream);
}

}  // namespace tallygate::proxy
