// Request bodies that the gate wants to see before it decides. See engine.h and Verdict::kBody.
#include "core/result.h"
#include "sidecar/proxy/engine.h"

namespace tallygate::proxy {

// The head has been taken. What of the body is there already comes with the next call of consume_client().
void Engine::begin_collecting(Client& client) {
  client.watched = std::make_unique<Watched>();
  client.phase = Phase::kCollect;
  counters_.bodies_collected.add();
  using Kind = http1::BodyReader::Kind;
  if (client.body.kind() == Kind::kLength && client.body.left() > client.admission.body_bytes_max) {
    return end_collecting(client, false);  // refused before the client has sent it, as a rule
  }
  if (client.body.done()) return end_collecting(client, true);
  if (client.expect_continue) {
    client.expect_continue = false;
    Gather gather;
    gather.add("HTTP/1.1 100 Continue\r\n\r\n");
    emit(client, gather);
  }
  arm(client);
}

size_t Engine::collect_request_body(Client& client, const char* data, size_t size) {
  std::string& body = client.watched->body;
  size_t used = 0;
  while (used < size && !client.body.done()) {
    const auto step = client.body.next(data + used, size - used, options_.limits);
    used += step.consumed;
    if (step.error != http1::ParseError::kNone) {
      counters_.request_parse_errors[static_cast<size_t>(step.error)].add();
      refuse_collecting(client, Reason::kMalformedBody, http1::info(step.error).detail);
      return size;
    }
    if (step.payload_size == 0) continue;
    body.append(step.payload, step.payload_size);
    counters_.collected_bytes.set(collected_bytes_ += step.payload_size);
    if (body_too_large(body.size()) || collected_bytes_ > options_.collected_bytes_max) {
      refuse_collecting(client, body_too_large(body.size()) ? Reason::kBodyTooLarge : Reason::kWaitingLimitReached, {});
      return size;
    }
    if (body.size() > client.admission.body_bytes_max) {
      end_collecting(client, false);
      return used;
    }
  }
  if (client.body.done())
    end_collecting(client, true);
  else
    arm(client);
  return used;
}

// Of a body that is broken, too large or too slow: nothing was admitted.
void Engine::refuse_collecting(Client& client, Reason reason, std::string_view detail) {
  gate_.abandon(client.ticket(), client.admission);
  counters_.abandoned.add();
  client.close_after = true;
  reply_problem(client, reason, detail);
}

void Engine::end_collecting(Client& client, bool whole) {
  wheel_.clear(client);
  if (denial_.status != 0) denial_.clear();
  client.admission.body_instead = nullptr;
  const Verdict verdict =
      gate_.with_body(client.ticket(), client.admission, client.watched->body, whole, denial_);
  TG_ASSERT(verdict != Verdict::kBody);
  if (whole && verdict != Verdict::kDeny && client.admission.body_instead != nullptr) {
    replace_collected(client, *client.admission.body_instead);
  }
  if (verdict == Verdict::kWait) return begin_waiting(client);
  decided(client, verdict);
}

// Its length is what the head in the client's block ends with.
void Engine::replace_collected(Client& client, std::string_view body) {
  std::string& collected = client.watched->body;
  collected_bytes_ -= collected.size();
  collected.assign(body);
  counters_.collected_bytes.set(collected_bytes_ += body.size());
  if (client.chunk_request) return;
  RequestBlock& block = *client.block;
  constexpr std::string_view kName = "Content-Length: ";
  const size_t at = std::string_view(block.data(), block.size).rfind(kName);
  if (at == std::string_view::npos) return;  // there was no body
  Out out{block.data() + at + kName.size()};
  out.put_number(body.size());
  out.put("\r\n");
  block.size = static_cast<size_t>(out.at - block.data());
}

// The head is in the client's block.
void Engine::begin_waiting(Client& client) {
  if (waiting_ >= options_.waiting_requests_max) {
    gate_.abandon(client.ticket(), client.admission);
    counters_.abandoned.add();
    return reply_problem(client, Reason::kWaitingLimitReached);
  }
  client.phase = Phase::kWait;
  wheel_.clear(client);
  counters_.waited.add();
  counters_.requests_waiting.set(++waiting_);
}

// Of a request whose head is in its block: forwarded, or answered.
void Engine::decided(Client& client, Verdict verdict) {
  if (verdict == Verdict::kDeny) {
    counters_.denied.add();
    release_block(client);
    return reply(client, denial_.status, denial_.headers, denial_.body);
  }
  client.admitted = true;
  counters_.admitted.add();
  finish_block(client);
  dispatch(client, nullptr, 0);
}

// Adds what was read of the body, as the app is to get it: behind the head in the client's block, so that it can be sent
// again.
void Engine::add_collected(Client& client) {
  const std::string& body = client.watched->body;
  Gather gather;
  if (client.chunk_request) gather.begin_chunk();
  gather.add_payload(body.data(), body.size());
  if (client.chunk_request) {
    gather.end_chunk();
    if (client.body.done()) {
      gather.add("0\r\n");
      if (!client.body.trailers().empty()) add_trailers(client.body.trailers(), &gate_.guarded(), gather);
      gather.add("\r\n");
    }
  }
  client.outcome.request_body_bytes += body.size();
  RequestBlock& block = *client.block;
  if (block.size + gather.total() > block.capacity) {
    std::unique_ptr<char[]> larger(new char[block.size + gather.total()]);
    std::memcpy(larger.get(), block.data(), block.size);
    block.capacity = block.size + gather.total();
    block.large = std::move(larger);
  }
  for (int i = 0; i < gather.count(); ++i) {
    std::memcpy(block.data() + block.size, gather.parts()[i].iov_base, gather.parts()[i].iov_len);
    block.size += gather.parts()[i].iov_len;
  }
  release_watched(client);
}

void Engine::release_watched(Client& client) {
  if (client.watched == nullptr) return;
  counters_.collected_bytes.set(collected_bytes_ -= client.watched->body.size());
  client.watched.reset();
}

}  // namespace tallygate::proxy
