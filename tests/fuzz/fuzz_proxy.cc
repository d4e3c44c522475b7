// Fuzzes both parsers and the whole engine on the in-memory transport. The input is a script: a byte says who acts and
// how, the next how many bytes of the rest it takes. Whatever the client and the app do, the gate's contract holds, and
// what reaches the app reads as well-formed requests to an independent reader, never more of them than were admitted.
#include "tests/fuzz/fuzz_proxy.h"

#include <cctype>
#include <cstdlib>
#include <iostream>

#include "tests/fuzz/memory_world.h"
#include "tests/fuzz/strict_message.h"

namespace tallygate::testing {
namespace {

void require(bool condition, std::string_view what, std::string_view bytes = {}) {
  if (condition) return;
  std::cerr << "fuzz_proxy: " << what << "\n" << bytes << "\n";
  std::abort();
}

// All that the app got, message by message; the last may be incomplete. Returns how many requests were begun.
int check_forwarded(const Peer& app) {
  std::string_view bytes = app.from_engine;
  int requests = 0;
  while (!bytes.empty()) {
    const StrictMessage message = read_strict(bytes, false);
    require(message.state != StrictMessage::State::kBroken, message.why, bytes);
    ++requests;
    for (const auto& [name, value] : message.fields) {
      const bool guarded =
          name.size() == 3 && name[0] == 'x' && name[2] == 't' && !std::isalnum(static_cast<unsigned char>(name[1]));
      require(!guarded || value == "ours", "a field that is guarded was forwarded", bytes);
    }
    if (message.state == StrictMessage::State::kIncomplete) break;
    bytes.remove_prefix(message.size);
  }
  return requests;
}

void check_answers(const Peer& client) {
  std::string_view bytes = client.from_engine;
  while (!bytes.empty()) {
    // HEAD's answers cannot be told apart here, so bodies are checked only as far as they frame themselves.
    const StrictMessage message = read_strict(bytes, true);
    if (message.state != StrictMessage::State::kComplete || message.until_close) break;
    bytes.remove_prefix(message.size);
  }
}

}  // namespace

void fuzz_proxy(const uint8_t* data, size_t size) {
  proxy::Options options;
  options.buffer_high_bytes = 600;
  options.buffer_low_bytes = 100;
  options.limits.request_head_bytes_max = 1024;
  options.limits.request_line_bytes_max = 256;
  options.limits.response_head_bytes_max = 2048;
  options.discard_body_bytes_max = 64;
  MemoryWorld world(options);
  world.gate.guarded_fields = proxy::NameSet({"x-t"});
  world.gate.request_fields = "X-T: ours\r\n";
  world.gate.body_bytes_max = 40;
  unsigned pieces = 0;
  world.gate.on_body = [&pieces](std::string_view offered, bool) {
    const size_t n = offered.size();
    switch (++pieces % 8) {
      case 3: return proxy::Flow{n / 2};
      case 5: return proxy::Flow{n / 3, proxy::Flow::kPause};
      case 7: return pieces % 16 == 7 ? proxy::Flow{n / 2, proxy::Flow::kEnd} : proxy::Flow{n, proxy::Flow::kEnd, "end"};
      default: return proxy::Flow{n};
    }
  };
  std::vector<Peer*> clients;
  const auto* at = data;
  const uint8_t* end = data + size;
  const auto take = [&] { return at == end ? uint8_t{0} : *at++; };
  if (take() & 1) world.connect_result = proxy::Connecting::kInProgress;
  while (at != end) {
    const uint8_t what = take();
    const size_t wanted = take();
    const size_t n = std::min(wanted, static_cast<size_t>(end - at));
    const std::string_view bytes(reinterpret_cast<const char*>(at), n);
    Peer* client = clients.empty() ? nullptr : clients[what / 16 % clients.size()];
    Peer* app = world.apps.empty() ? nullptr : world.apps[what / 16 % world.apps.size()];
    const auto move = [&] { at += n; };
    switch (what % 16) {
      case 0:
        if (clients.size() < 4) clients.push_back(world.connect_client());
        break;
      case 1: case 2: case 3:
        if (clients.empty()) clients.push_back(client = world.connect_client());
        world.send(*client, bytes);
        move();
        break;
      case 4: case 5: case 6:
        if (app != nullptr) world.send(*app, bytes);
        move();
        break;
      case 7: if (app != nullptr) world.end(*app); break;
      case 8: if (client != nullptr) world.end(*client); break;
      case 9: if (app != nullptr) world.reset(*app); break;
      case 10: if (client != nullptr) world.reset(*client); break;
      case 11: world.advance_ms(static_cast<int64_t>(n) * 500); break;
      case 12: if (app != nullptr && app->connecting && app->conn != nullptr) world.finish_connect(*app); break;
      case 13:
        world.gate.verdict = static_cast<proxy::Verdict>(n % 4);
        world.gate.readmit_verdict = static_cast<proxy::Verdict>(n / 4 % 4);
        world.gate.body_verdict = static_cast<proxy::Verdict>(n / 16 % 3);
        world.gate.drain = n / 64 % 2 != 0;
        world.gate.listens = n < 128 ? proxy::kNothing : proxy::kAll;
        break;
      case 14:
        if (world.gate.asked > 0) world.engine().resume(world.gate.last_ticket);
        world.run();
        break;
      case 15:
        if (client != nullptr) {
          if (n & 1) world.open_window(*client, n * 8);
          else client->window = n;
        }
        break;
    }
    require(!world.gate.broken, "the gate's contract was broken");
  }
  int forwarded = 0;
  for (const Peer* app : world.apps) forwarded += check_forwarded(*app);
  for (const Peer* client : clients) check_answers(*client);
  const auto& counters = world.counters();
  require(forwarded <= static_cast<int>(counters.admitted.get() + counters.upstream_retries.get()),
          "more requests were forwarded than admitted");
  world.engine().close_all();
  world.run();
  require(world.gate.open == 0 && world.gate.held == 0, "a request was not settled");
  require(!world.gate.broken, "the gate's contract was broken at the end");
  require(counters.clients_active.get() == 0 && counters.upstreams_active.get() == 0, "a connection is left");
}

}  // namespace tallygate::testing
