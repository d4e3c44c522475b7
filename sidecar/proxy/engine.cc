// Connections and events. See engine.h.
#include "sidecar/proxy/engine.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "core/result.h"

namespace tallygate::proxy {
namespace {

constexpr int kReadsPerTurn = 16;  // then others get their turn
// A peer that writes a message in pieces may wait for the acknowledgement of one before it sends the next, and our
// kernel for something to send with it: 40 ms a piece. More bytes than these are acknowledged anyway.
constexpr size_t kPieceBytesMax = 16 * 1024;

// Of a request that waits, and whose client has sent all that it will: whether its body lacks bytes. Of a chunked one
// that is not known before it is read.
bool body_is_cut(const Client& client) {
  return client.body.kind() == http1::BodyReader::Kind::kLength && client.in.size() < client.body.left();
}

}  // namespace

Engine::Engine(Env& env, const Options& options, std::string upstream_host, Gate& gate, Transport& transport,
               int64_t now_ns)
    : env_(env),
      options_(options),
      upstream_host_(std::move(upstream_host)),
      gate_(gate),
      transport_(transport),
      now_ns_(now_ns),
      wheel_(now_ns),
      gate_response_(options.gate_response_headers),
      via_(options.via.empty() ? "" : "1.1 " + options.via),
      spare_head_(std::make_unique<http1::Head>()),
      read_buffer_(new char[kReadBytes]),
      head_out_(options.limits.response_head_bytes_max + 2 * Gather::kSmallBytes + 1024 + via_.size()),
      view_fields_(http1::kFieldsCapacity),
      id_state_{env.random_u64(), env.random_u64()} {}

Engine::~Engine() { close_all(); }

namespace {

// What a socket of both families says of an IPv4 peer, in the peer's own terms; null for all else.
const sockaddr* as_ipv4(const sockaddr* peer, sockaddr_in& plain) {
  if (peer == nullptr || peer->sa_family != AF_INET6) return nullptr;
  const auto& mapped = *reinterpret_cast<const sockaddr_in6*>(peer);
  if (!IN6_IS_ADDR_V4MAPPED(&mapped.sin6_addr)) return nullptr;
  plain.sin_family = AF_INET;
  plain.sin_port = mapped.sin6_port;
  std::memcpy(&plain.sin_addr, &mapped.sin6_addr.s6_addr[12], sizeof plain.sin_addr);
  return reinterpret_cast<const sockaddr*>(&plain);
}

// The address as a number: of IPv6 the network's half, which is one customer's as a rule; of IPv4 behind a prefix that
// no peer has.
uint64_t counted_by(const sockaddr* peer) {
  sockaddr_in plain{};
  if (const sockaddr* ipv4 = as_ipv4(peer, plain)) peer = ipv4;
  if (peer == nullptr) return 0;
  if (peer->sa_family == AF_INET) {
    return 0xffff'ffff'0000'0000 | reinterpret_cast<const sockaddr_in*>(peer)->sin_addr.s_addr;
  }
  uint64_t network = 0;
  if (peer->sa_family == AF_INET6) {
    std::memcpy(&network, &reinterpret_cast<const sockaddr_in6*>(peer)->sin6_addr, sizeof network);
  }
  return network;
}

// Keeps the address for the gate, and its text for X-Forwarded-For.
void note_peer(Client& client, const sockaddr* peer) {
  client.has_peer = false;
  client.peer_text_size = 0;
  sockaddr_in plain{};
  if (const sockaddr* ipv4 = as_ipv4(peer, plain)) peer = ipv4;
  if (peer == nullptr) return;
  const void* address = nullptr;
  size_t size = 0;
  if (peer->sa_family == AF_INET) {
    address = &reinterpret_cast<const sockaddr_in*>(peer)->sin_addr;
    size = sizeof(sockaddr_in);
  } else if (peer->sa_family == AF_INET6) {
    address = &reinterpret_cast<const sockaddr_in6*>(peer)->sin6_addr;
    size = sizeof(sockaddr_in6);
  } else {
    return;
  }
  static_assert(sizeof(sockaddr_in6) <= sizeof(Client::peer));
  std::memcpy(client.peer.data(), peer, size);
  client.has_peer = true;
  char text[INET6_ADDRSTRLEN];
  if (inet_ntop(peer->sa_family, address, text, sizeof text) == nullptr) return;
  client.peer_text_size = static_cast<uint8_t>(std::strlen(text));
  std::memcpy(client.peer_text.data(), text, client.peer_text_size);
}

}  // namespace

// Makes room for a client from there, if that can be done.
bool Engine::has_room(uint64_t from) {
  if (!takes_new_) return false;
  const size_t max = options_.connections_per_address_max;
  if (from != 0 && max != 0) {
    const auto found = origins_.find(from);
    if (found != origins_.end() && found->second.clients >= max) {
      const auto* idle = static_cast<Client::IdleOfOrigin*>(found->second.idle.front());
      return displace(idle == nullptr ? nullptr : idle->client);
    }
  }
  if (clients_active_ < options_.client_connections_max) return true;
  return displace(static_cast<Client*>(idle_.front()));
}

// False if there is none.
bool Engine::displace(Client* idle) {
  if (idle == nullptr) return false;
  counters_.clients_displaced.add();
  close(*idle, false);
  return true;
}

void Engine::note_idle(Client& client) {
  idle_.push(client);
  if (client.origin != nullptr) client.origin->idle.push(client.idle_of_origin);
}

void Engine::note_busy(Client& client) {
  idle_.remove(client);
  if (client.origin != nullptr) client.origin->idle.remove(client.idle_of_origin);
}

Client* Engine::accept(void* io, const sockaddr* peer) {
  const uint64_t from = counted_by(peer);
  if (!has_room(from)) {
    counters_.clients_refused.add();
    return nullptr;
  }
  if (free_clients_.empty()) {
    clients_.push_back(std::make_unique<Client>());
    clients_.back()->slot = static_cast<uint32_t>(clients_.size() - 1);
    free_clients_.push_back(clients_.back().get());
  }
  Client& client = *free_clients_.back();
  free_clients_.pop_back();
  client.dead = client.readable = client.peer_closed = client.write_broken = client.connecting = false;
  client.io = io;
  client.phase = Phase::kHead;
  client.first = true;
  client.close_after = false;
  client.body.start_none();
  note_peer(client, peer);
  client.origin = nullptr;
  if (from != 0) {
    client.idle_of_origin.client = &client;
    client.origin = &origins_[from];
    client.origin->address = from;
    ++client.origin->clients;
  }
  note_idle(client);
  set_deadline(client, options_.timeouts.client_head_ms);
  counters_.clients_accepted.add();
  counters_.clients_active.set(++clients_active_);
  return &client;
}

void Engine::enqueue(Conn& conn) {
  if (conn.queued || conn.dead) return;
  conn.queued = true;
  ready_.push_back(&conn);
}

void Engine::close(Conn& conn, bool reset) {
  if (conn.dead) return;
  conn.dead = true;
  wheel_.remove(conn);
  if (conn.io != nullptr) transport_.close(conn, reset);
  conn.io = nullptr;
  if (conn.is_upstream)
    counters_.upstreams_active.set(--upstreams_active_);
  else
    forget(static_cast<Client&>(conn));
  graveyard_.push_back(&conn);
}

void Engine::forget(Client& client) {
  counters_.clients_active.set(--clients_active_);
  release_block(client);
  release_watched(client);
  note_busy(client);
  if (client.origin != nullptr && --client.origin->clients == 0) origins_.erase(client.origin->address);
}

// Makes the object of a closed connection ready for the next.
void Engine::bury(Conn& conn) {
  conn.in.clear();
  conn.out.clear();
  if (conn.head) free_heads_.push_back(std::move(conn.head));
  if (conn.is_upstream) free_upstreams_.push_back(static_cast<Upstream*>(&conn));
  else free_clients_.push_back(static_cast<Client*>(&conn));
}

void Engine::run_ready() {
  ready_batch_.swap(ready_);  // what these queue runs in the next turn, after I/O
  for (Conn* conn : ready_batch_) {
    conn->queued = false;
    if (conn->dead) continue;
    if (conn->is_upstream) {
      pump_upstream(static_cast<Upstream&>(*conn));
    } else {
      auto& client = static_cast<Client&>(*conn);
      if (client.resumed && client.phase == Phase::kWait) readmit(client);
      pump_client(client);
    }
  }
  ready_batch_.clear();
  size_t kept = 0;
  for (Conn* conn : graveyard_) {
    if (conn->queued) graveyard_[kept++] = conn;
    else bury(*conn);
  }
  graveyard_.resize(kept);
}

void Engine::on_event(Conn& conn, unsigned events) {
  if (conn.dead) return;
  if (events & (kPeerClosed | kFailed)) conn.peer_closed = true;
  if (events & (kReadable | kPeerClosed | kFailed)) conn.readable = true;
  if (!conn.is_upstream) {
    auto& client = static_cast<Client&>(conn);
    // One whose both sides are closed is reported so too, though it may still be about to take the end of a response.
    if ((events & kFailed) && client.phase != Phase::kLinger) return client_gone(client);
  } else if (conn.connecting) {
    if (events & (kFailed | kPeerClosed)) {
      counters_.upstream_connect_failures.add();
      upstream_lost(static_cast<Upstream&>(conn), Reason::kUpstreamUnreachable, false);
    }
    return;
  }
  if ((events & kWritable) && !conn.out.empty()) flush(conn);
  if (conn.dead || !conn.readable) return;
  // What a failed upstream had sent before is still there to be read.
  if (conn.is_upstream) pump_upstream(static_cast<Upstream&>(conn));
  else pump_client(static_cast<Client&>(conn));
}

void Engine::on_connected(Conn& conn) {
  if (conn.dead || !conn.connecting) return;
  auto& upstream = static_cast<Upstream&>(conn);
  upstream.connecting = false;
  flush(upstream);
  if (!upstream.dead) arm(upstream);
}

// Whether something of a request came: a blank line before it, as some send after a body, is nothing.
bool Engine::has_begun(const Client& client) {
  return client.head &&
         std::string_view(client.in.data(), client.in.size()).find_first_not_of("\r\n") != std::string_view::npos;
}

bool Engine::wants_read(const Client& client) const {
  switch (client.phase) {
    case Phase::kHead:
    case Phase::kDiscard:
    case Phase::kLinger:
      return true;
    case Phase::kCollect:
      return !client.body.done();
    case Phase::kForward:
      return !client.body.done() && client.upstream != nullptr &&
             client.upstream->out.size() < options_.buffer_high_bytes;
    case Phase::kWait:
      // A client that will send no more is read to its end: a body that cannot become whole need not wait.
      return client.peer_closed && !client.body.done() && client.in.size() < options_.buffer_high_bytes;
    case Phase::kFlush:
      return false;
  }
  return false;
}

bool Engine::wants_read(const Upstream& upstream) const {
  if (upstream.client == nullptr) return true;
  const Client& client = *upstream.client;
  return client.out.size() < options_.buffer_high_bytes && (client.watched == nullptr || !client.watched->paused);
}

void Engine::pump_client(Client& client) {
  for (int reads = 0;; ++reads) {
    if (client.write_broken && !client.ghost) client_gone(client);
    if (client.dead || client.ghost) return;
    if (!client.in.empty()) {
      const size_t used = consume_client(client, client.in.data(), client.in.size());
      if (client.dead) return;
      client.in.consume(used);
    }
    if (!client.readable || !wants_read(client)) return;
    if (reads == kReadsPerTurn) return enqueue(client);
    const ssize_t n = transport_.read(client, read_buffer_.get(), kReadBytes);
    if (n == kIoAgain) {
      client.readable = false;
      return;
    }
    if (n == kIoFailed) return client_gone(client);
    if (n == kIoEof) return on_client_eof(client);
    const auto size = static_cast<size_t>(n);
    if (size < kReadBytes && !client.peer_closed) client.readable = false;
    size_t used = 0;
    if (client.in.empty()) {
      used = consume_client(client, read_buffer_.get(), size);
      if (client.dead) return;
    }
    client.in.append(read_buffer_.get() + used, size - used);
  }
}

// A client that has sent all of its request is answered; only a reset is leaving.
void Engine::on_client_eof(Client& client) {
  client.peer_closed = true;
  if (client.phase == Phase::kWait && !body_is_cut(client)) return;  // `readable` stays, so that its end is found again
  if (client.phase == Phase::kWait || client.phase == Phase::kCollect || client.phase == Phase::kForward)
    client_gone(client);  // in the middle of a body
  else
    close(client, false);
}

void Engine::pump_upstream(Upstream& upstream) {
  for (int reads = 0; !upstream.dead; ++reads) {
    if (upstream.client == nullptr) return release_upstream(upstream, false);  // an idle one has nothing to say
    if (upstream.client->watched != nullptr && upstream.client->watched->resumed) [[unlikely]] {
      go_on(upstream);
      if (upstream.dead || upstream.client == nullptr) return;
    }
    if (!upstream.readable || !wants_read(upstream)) return;
    if (reads == kReadsPerTurn) return enqueue(upstream);
    const ssize_t n = transport_.read(upstream, read_buffer_.get(), kReadBytes);
    if (n == kIoAgain) {
      upstream.readable = false;
      if (upstream.write_broken) on_upstream_eof(upstream, true);
      return;
    }
    if (n == kIoFailed || n == kIoEof) return on_upstream_eof(upstream, n == kIoFailed);
    const auto size = static_cast<size_t>(n);
    if (size < kReadBytes && !upstream.peer_closed && !upstream.write_broken) upstream.readable = false;
    if (upstream.in.empty()) {
      const size_t used = consume_upstream(upstream, read_buffer_.get(), size);
      if (upstream.dead || upstream.client == nullptr) return;
      upstream.in.append(read_buffer_.get() + used, size - used);
    } else {
      upstream.in.append(read_buffer_.get(), size);
      const size_t used = consume_upstream(upstream, upstream.in.data(), upstream.in.size());
      if (upstream.dead) return;
      upstream.in.consume(upstream.client == nullptr ? upstream.in.size() : used);
      if (upstream.client == nullptr) return;
    }
    if (!upstream.readable && size < kPieceBytesMax) transport_.acknowledge(upstream);
  }
}

void Engine::emit(Conn& conn, Gather& gather) {
  if (conn.write_broken || gather.empty()) return;
  gather.merge();
  const iovec* parts = gather.parts();
  const int count = gather.count();
  size_t skip = 0;
  if (conn.out.empty() && !conn.connecting) {
    const ssize_t n = transport_.write(conn, parts, count);
    if (n == kIoFailed) {
      // Not dealt with here, deep in someone's frame: the reader finds out, and what was received before is not lost.
      conn.write_broken = conn.readable = true;
      return enqueue(conn);
    }
    if (n > 0) skip = static_cast<size_t>(n);
    if (conn.is_upstream) static_cast<Upstream&>(conn).sent_bytes += skip;
  }
  if (skip == gather.total()) return;
  for (int i = 0; i < count; ++i) {
    const size_t size = parts[i].iov_len;
    const size_t done = std::min(skip, size);
    conn.out.append(static_cast<const char*>(parts[i].iov_base) + done, size - done);
    skip -= done;
  }
}

void Engine::flush(Conn& conn) {
  bool progress = false;
  while (!conn.out.empty() && !conn.write_broken) {
    const iovec part{const_cast<char*>(conn.out.data()), conn.out.size()};
    const ssize_t n = transport_.write(conn, &part, 1);
    if (n == kIoAgain) break;
    if (n <= 0) {
      conn.write_broken = conn.readable = true;
      conn.out.clear();
      enqueue(conn);
      return;
    }
    conn.out.consume(static_cast<size_t>(n));
    if (conn.is_upstream) static_cast<Upstream&>(conn).sent_bytes += static_cast<size_t>(n);
    progress = true;
  }
  if (!progress) return;
  const bool low = conn.out.size() <= options_.buffer_low_bytes;
  if (conn.is_upstream) {
    auto& upstream = static_cast<Upstream&>(conn);
    arm(upstream);
    if (upstream.client == nullptr) return;
    if (!low) return;  // until then nothing is read of the client, so no time of its runs
    arm(*upstream.client);
    enqueue(*upstream.client);
  } else {
    auto& client = static_cast<Client&>(conn);
    arm(client);
    if (client.upstream != nullptr && low) {
      arm(*client.upstream);
      if (client.upstream->readable) enqueue(*client.upstream);
    }
    if (client.out.empty()) flushed(client);
  }
}

// All of a response that was complete has been taken by the client's connection.
void Engine::flushed(Client& client) {
  if (client.phase != Phase::kFlush) return;
  if (client.admitted) finish_request(client);
  else after_response(client);
}

void Engine::resume(Ticket ticket) {
  if (ticket.slot >= clients_.size()) return;
  Client& client = *clients_[ticket.slot];
  if (client.dead || client.generation != ticket.generation) return;
  if (client.phase == Phase::kForward && client.watched != nullptr && client.watched->paused) {
    client.watched->resumed = true;
    return enqueue(*client.upstream);
  }
  if (client.phase != Phase::kWait) return;
  client.resumed = true;
  enqueue(client);
}

void Engine::note_upstream_moved() {
  ++upstream_moves_;
  while (!pool_.empty()) release_upstream(*pool_.back(), false);
}

void Engine::drain(bool takes_new) {
  draining_ = true;
  takes_new_ = takes_new;
  while (!pool_.empty()) release_upstream(*pool_.back(), false);
  for (auto& client : clients_) {
    if (client->dead) continue;
    client->close_after = true;
    // Answered, so it is not waited for any longer than this takes.
    if (client->phase == Phase::kDiscard || client->phase == Phase::kLinger) shut(*client);
    if (client->phase != Phase::kHead) continue;
    client->readable = true;  // its next request may be there
    pump_client(*client);
    if (!client->dead && client->phase == Phase::kHead && !has_begun(*client)) close(*client, false);
  }
}

void Engine::close_all() {
  closing_ = true;
  for (auto& client : clients_) {
    if (client->dead) continue;
    if (client->admitted && !client->outcome.response_started) {
      detach_upstream(*client);  // which says whether the app was reached
      settle(*client, End::kUpstreamFailed);
    }
    client_gone(*client);
  }
  while (!pool_.empty()) release_upstream(*pool_.back(), false);
  closing_ = false;
}

}  // namespace tallygate::proxy
