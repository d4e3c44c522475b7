// Fuzzes what the admin ports and the API read before any credential: whatever comes, nothing aborts, what is read does
// not depend on how it was split, and the bounds hold.
#include "tests/fuzz/fuzz_requests.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "core/http/request_reader.h"

namespace tallygate::testing {
namespace {

using http::RequestReader;

constexpr size_t kHeadBytesMax = 1024, kBodyBytesMax = 6'000, kBudgetBytes = 64 * 1024;

void require(bool condition, std::string_view what, std::string_view bytes) {
  if (condition) return;
  std::cerr << "fuzz_requests: " << what << "\n" << bytes << "\n";
  std::abort();
}

std::string text_of(const RequestReader& reader, const http::Request& request) {
  std::string text = request.method + ' ' + request.path + " ? " + request.query + " @ " + request.host + '\n';
  for (const auto& [name, value] : request.headers) text += name + ": " + value + '\n';
  text += reader.keep_alive() ? "keep " : "close ";
  text += reader.expects_continue() ? "continue\n" : "\n";
  return text + request.body + '\n';
}

// One connection: head, body, the next request.
class Script {
 public:
  explicit Script(http::BodyBudget& budget) : budget_(budget), reader_(kHeadBytesMax) { reader_.begin(); }
  void feed(std::string_view bytes) {
    if (ended_) return;
    std::copy(bytes.begin(), bytes.end(), reader_.prepare(bytes.size()));
    reader_.commit(bytes.size());
    while (advance()) {
    }
    require(reader_.request().body.size() <= kBodyBytesMax, "a body is too large", bytes);
  }
  std::string read() const { return read_; }

 private:
  bool advance() {
    const auto step = in_body_ ? reader_.read_body() : reader_.read_head();
    if (step == RequestReader::Step::kMore) return false;
    if (step == RequestReader::Step::kRefused) {
      read_ += "refused " + std::to_string(reader_.refused().status) + ' ' + reader_.refused().detail;
      ended_ = true;
      return false;
    }
    if (std::exchange(in_body_, !in_body_)) {
      read_ += text_of(reader_, reader_.request());
      reader_.begin();
    } else {
      reader_.begin_body(kBodyBytesMax, budget_);
    }
    return true;
  }

  http::BodyBudget& budget_;
  RequestReader reader_;
  bool in_body_ = false, ended_ = false;
  std::string read_;
};

}  // namespace

std::string read_requests(std::string_view bytes, const std::function<size_t()>& piece) {
  http::BodyBudget budget(kBudgetBytes);
  std::string read;
  {
    Script script(budget);
    for (std::string_view rest = bytes; !rest.empty();) {
      const size_t n = std::min(std::max<size_t>(piece(), 1), rest.size());
      script.feed(rest.substr(0, n));
      rest.remove_prefix(n);
    }
    read = script.read();
  }
  require(budget.taken() == 0, "bodies are still counted", bytes);
  return read;
}

void fuzz_requests(const uint8_t* data, size_t size) {
  if (size == 0) return;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string whole = read_requests(bytes, [&] { return bytes.size(); });
  require(read_requests(bytes, [] { return size_t{1}; }) == whole, "byte by byte reads differently", bytes);
  uint32_t state = data[0] + 1u;
  const auto piece = [&state] {
    state = state * 1664525u + 1013904223u;
    return size_t{1} << (state >> 28);
  };
  require(read_requests(bytes, piece) == whole, "pieces read differently", bytes);
}

}  // namespace tallygate::testing
