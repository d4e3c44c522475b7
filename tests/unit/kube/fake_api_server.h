// An API server that keeps objects of one resource (things.example.dev/v1), with their history, in memory: lists in
// pages, watches, compaction, and the ways in which real ones fail. Plain HTTP.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "operator/kube/object.h"

namespace tallygate::kube {

class FakeApiServer {
 public:
  struct Seen {
    std::string method, target, head, body;
    std::string header(const std::string& lower_name) const;
    bool is_list() const { return method == "GET" && target.find("/things?") != std::string::npos && !is_watch(); }
    bool is_watch() const { return target.find("watch=true") != std::string::npos; }
  };
  struct Answer {
    int status = 200;
    std::string headers = {};  // lines
    std::string body = {};
    bool cut = false;  // after the head and half of the body; status 0: before anything
  };

  FakeApiServer();
  ~FakeApiServer();
  FakeApiServer(const FakeApiServer&) = delete;
  FakeApiServer& operator=(const FakeApiServer&) = delete;

  static ResourceType type() { return {"example.dev", "v1", "things", "Thing", true}; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

  // The world. `spec` is JSON; an object that is there keeps its uid.
  void put(const std::string& name, const std::string& spec = "{}");
  void remove(const std::string& name);
  void bookmark();  // all watches that are open get one
  // Nothing before now is remembered: older watches and older continue tokens get a 410.
  void compact();
  // name → resourceVersion
  std::map<std::string, std::string> versions() const;

  // Faults. Answers the next requests that `match` with `answer`, `times` of them; -1: until forgive().
  void fail(Answer answer, int times, std::function<bool(const Seen&)> match);
  void forgive();
  void cut_watches();                 // resets their connections
  void end_watches();                 // ends them in order
  void say(const std::string& line);  // a line on each open watch, whatever it is
  void send_in_pieces_of(size_t bytes);

  std::vector<Seen> seen() const;
  size_t lists() const;  // first pages
  size_t watches() const;
  size_t open_watches() const;

 private:
  struct Event {
    int64_t version;
    std::string name, line;
  };
  struct Fault {
    Answer answer;
    int times;
    std::function<bool(const Seen&)> match;
  };
  void accept_all();
  void serve(int fd);
  bool read_request(int fd, std::string& buffered, Seen& request) const;
  std::optional<Answer> fault_for(const Seen& request);
  bool answer(int fd, const Answer& answer) const;
  Answer list(const Seen& request);
  bool watch(int fd, const Seen& request);
  std::string object(const std::string& name) const;
  static Answer gone();

  int listener_ = -1;
  int port_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  struct Thing {
    std::string uid, spec;
    int64_t version;
  };
  std::map<std::string, Thing> things_;
  std::deque<Event> events_;
  int64_t version_ = 100, compacted_ = 0, next_uid_ = 1;
  std::vector<Fault> faults_;
  uint64_t cuts_ = 0, ends_ = 0;
  size_t open_watches_ = 0;
  size_t piece_bytes_ = SIZE_MAX;
  std::vector<Seen> seen_;
  std::vector<int> connections_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace tallygate::kube
