#include "tests/unit/kube/fake_api_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "core/result.h"

namespace tallygate::kube {
namespace {

std::string parameter(const std::string& target, const std::string& name) {
  for (const char before : {'?', '&'}) {
    const size_t at = target.find(before + name + "=");
    if (at == std::string::npos) continue;
    const size_t begin = at + name.size() + 2;
    return target.substr(begin, target.find('&', begin) - begin);
  }
  return "";
}

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool send_chunk(int fd, std::string_view bytes) {
  char size[32];
  std::snprintf(size, sizeof size, "%zx\r\n", bytes.size());
  return send_all(fd, size + std::string(bytes) + "\r\n");
}

void reset(int fd) {
  const linger now{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

}  // namespace

std::string FakeApiServer::Seen::header(const std::string& lower_name) const {
  std::string lower;
  for (const char c : head) lower += static_cast<char>(tolower(c));
  const size_t at = lower.find("\r\n" + lower_name + ":");
  if (at == std::string::npos) return "";
  const size_t begin = head.find_first_not_of(' ', at + lower_name.size() + 3);
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

FakeApiServer::FakeApiServer() {
  listener_ = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  TG_ASSERT(bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  TG_ASSERT(listen(listener_, 64) == 0);
  socklen_t size = sizeof address;
  getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

FakeApiServer::~FakeApiServer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const int fd : connections_) shutdown(fd, SHUT_RDWR);
  }
  changed_.notify_all();
  shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  for (std::thread& thread : threads_) thread.join();
  for (const int fd : connections_) close(fd);
  close(listener_);
}

void FakeApiServer::put(const std::string& name, const std::string& spec) {
  {
    const std::lock_guard lock(mutex_);
    const bool is_new = things_.count(name) == 0;
    Thing& thing = things_[name];
    if (is_new) thing.uid = "uid-" + std::to_string(next_uid_++);
    thing.spec = spec;
    thing.version = ++version_;
    events_.push_back(
        {version_, name,
         std::string(R"({"type":")") + (is_new ? "ADDED" : "MODIFIED") + R"(","object":)" + object(name) + "}\n"});
  }
  changed_.notify_all();
}

void FakeApiServer::remove(const std::string& name) {
  {
    const std::lock_guard lock(mutex_);
    if (things_.count(name) == 0) return;
    things_[name].version = ++version_;
    events_.push_back({version_, name, R"({"type":"DELETED","object":)" + object(name) + "}\n"});
    things_.erase(name);
  }
  changed_.notify_all();
}

void FakeApiServer::bookmark() {
  const std::string version = [&] {
    const std::lock_guard lock(mutex_);
    return std::to_string(version_);
  }();
  say(R"({"type":"BOOKMARK","object":{"kind":"Thing","apiVersion":"example.dev/v1","metadata":{"resourceVersion":")" +
      version + R"("}}})");
}

void FakeApiServer::say(const std::string& line) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back({version_, "", line + "\n"});
  }
  changed_.notify_all();
}

void FakeApiServer::compact() {
  const std::lock_guard lock(mutex_);
  compacted_ = version_;
}

std::map<std::string, std::string> FakeApiServer::versions() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::string> all;
  for (const auto& [name, thing] : things_) all[name] = std::to_string(thing.version);
  return all;
}

void FakeApiServer::fail(Answer answer, int times, std::function<bool(const Seen&)> match) {
  const std::lock_guard lock(mutex_);
  faults_.push_back({std::move(answer), times, std::move(match)});
}
void FakeApiServer::forgive() {
  const std::lock_guard lock(mutex_);
  faults_.clear();
}
void FakeApiServer::cut_watches() {
  {
    const std::lock_guard lock(mutex_);
    ++cuts_;
  }
  changed_.notify_all();
}
void FakeApiServer::end_watches() {
  {
    const std::lock_guard lock(mutex_);
    ++ends_;
  }
  changed_.notify_all();
}
void FakeApiServer::send_in_pieces_of(size_t bytes) {
  const std::lock_guard lock(mutex_);
  piece_bytes_ = bytes;
}

std::vector<FakeApiServer::Seen> FakeApiServer::seen() const {
  const std::lock_guard lock(mutex_);
  return seen_;
}
size_t FakeApiServer::lists() const {
  const auto all = seen();
  return static_cast<size_t>(std::count_if(all.begin(), all.end(), [](const Seen& one) {
    return one.is_list() && one.target.find("continue=") == std::string::npos;
  }));
}
size_t FakeApiServer::watches() const {
  const auto all = seen();
  return static_cast<size_t>(std::count_if(all.begin(), all.end(), [](const Seen& one) { return one.is_watch(); }));
}
size_t FakeApiServer::open_watches() const {
  const std::lock_guard lock(mutex_);
  return open_watches_;
}

void FakeApiServer::accept_all() {
  while (true) {
    const int fd = accept(listener_, nullptr, nullptr);
    if (fd < 0) return;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      close(fd);
      return;
    }
    connections_.push_back(fd);
    threads_.emplace_back([this, fd] {
      serve(fd);
      shutdown(fd, SHUT_RDWR);
    });
  }
}

void FakeApiServer::serve(int fd) {
  std::string buffered;
  Seen request;
  while (read_request(fd, buffered, request)) {
    {
      const std::lock_guard lock(mutex_);
      seen_.push_back(request);
    }
    bool alive = true;
    if (const auto fault = fault_for(request)) {
      alive = answer(fd, *fault);
    } else if (request.is_watch()) {
      alive = watch(fd, request);
    } else if (request.is_list()) {
      alive = answer(fd, list(request));
    } else {
      alive = answer(fd, {200, "", request.body.empty() ? "{}" : request.body});
    }
    if (!alive) return;
  }
}

bool FakeApiServer::read_request(int fd, std::string& buffered, Seen& request) const {
  size_t end = std::string::npos;
  const auto more = [&] {
    char piece[16384];
    const ssize_t got = recv(fd, piece, sizeof piece, 0);
    if (got > 0) buffered.append(piece, static_cast<size_t>(got));
    return got > 0;
  };
  while ((end = buffered.find("\r\n\r\n")) == std::string::npos) {
    if (!more()) return false;
  }
  request = {};
  request.head = buffered.substr(0, end + 2);
  buffered.erase(0, end + 4);
  const size_t space = request.head.find(' ');
  request.method = request.head.substr(0, space);
  request.target = request.head.substr(space + 1, request.head.find(' ', space + 1) - space - 1);
  const std::string length = request.header("content-length");
  const size_t size = length.empty() ? 0 : std::stoul(length);
  while (buffered.size() < size) {
    if (!more()) return false;
  }
  request.body = buffered.substr(0, size);
  buffered.erase(0, size);
  return true;
}

std::optional<FakeApiServer::Answer> FakeApiServer::fault_for(const Seen& request) {
  const std::lock_guard lock(mutex_);
  for (Fault& fault : faults_) {
    if (fault.times == 0 || !fault.match(request)) continue;
    if (fault.times > 0) --fault.times;
    return fault.answer;
  }
  return std::nullopt;
}

bool FakeApiServer::answer(int fd, const Answer& answer) const {
  if (answer.status == 0) {
    reset(fd);
    return false;
  }
  const std::string head = "HTTP/1.1 " + std::to_string(answer.status) + " X\r\nContent-Type: application/json\r\n" +
                           answer.headers + "Content-Length: " + std::to_string(answer.body.size()) + "\r\n\r\n";
  if (answer.cut) {
    send_all(fd, head + answer.body.substr(0, answer.body.size() / 2));
    return false;
  }
  return send_all(fd, head + answer.body);
}

FakeApiServer::Answer FakeApiServer::gone() {
  return {410, "",
          R"({"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,)"
          R"("message":"too old resource version"})"};
}

// The continue token is the version of the first page and the name to go on behind. Lists are made of what there is
// now: the pages of one list may differ in what they know, which a client must bear.
FakeApiServer::Answer FakeApiServer::list(const Seen& request) {
  const std::lock_guard lock(mutex_);
  const size_t limit = std::stoul(parameter(request.target, "limit"));
  const std::string token = parameter(request.target, "continue");
  int64_t version = version_;
  std::string after;
  if (!token.empty()) {
    version = std::stoll(token);
    after = token.substr(token.find('.') + 1);
    if (version < compacted_) return gone();
  }
  std::string items, next;
  size_t count = 0;
  for (auto it = things_.upper_bound(after); it != things_.end(); ++it) {
    if (count == limit) {
      next = std::to_string(version) + "." + std::prev(it)->first;
      break;
    }
    items += (count++ == 0 ? "" : ",") + object(it->first);
  }
  return {200, "",
          R"({"kind":"ThingList","apiVersion":"example.dev/v1","metadata":{"resourceVersion":")" +
              std::to_string(version) + R"(","continue":")" + next + R"("},"items":[)" + items + "]}"};
}

bool FakeApiServer::watch(int fd, const Seen& request) {
  std::unique_lock lock(mutex_);
  int64_t from = std::stoll(parameter(request.target, "resourceVersion"));
  if (from < compacted_) {
    lock.unlock();
    return answer(fd, gone());
  }
  const uint64_t cuts = cuts_, ends = ends_;
  const size_t piece_bytes = piece_bytes_;
  // What is said to all is for who listens now.
  size_t at = 0;
  const size_t begun_at = events_.size();
  ++open_watches_;
  bool alive = send_all(fd, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
  while (alive && !stopping_ && cuts == cuts_ && ends == ends_) {
    if (at == events_.size()) {
      changed_.wait(lock);
      continue;
    }
    const Event event = events_[at];
    const bool wanted = event.name.empty() ? at >= begun_at : event.version > from;
    ++at;
    if (!wanted) continue;
    lock.unlock();
    for (size_t sent = 0; alive && sent < event.line.size(); sent += std::min(piece_bytes, event.line.size() - sent)) {
      alive = send_chunk(fd, std::string_view(event.line).substr(sent, piece_bytes));
    }
    lock.lock();
  }
  --open_watches_;
  if (ends != ends_) return send_all(fd, "0\r\n\r\n");
  reset(fd);
  return false;
}

std::string FakeApiServer::object(const std::string& name) const {
  const Thing& thing = things_.at(name);
  return R"({"apiVersion":"example.dev/v1","kind":"Thing","metadata":{"name":")" + name +
         R"(","namespace":"shop","uid":")" + thing.uid + R"(","resourceVersion":")" + std::to_string(thing.version) +
         R"(","generation":1,"managedFields":[{"manager":"kubectl","fieldsV1":{"f:spec":{}}}]},"spec":)" + thing.spec +
         "}";
}

}  // namespace tallygate::kube
