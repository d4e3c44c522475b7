// One resource of the cluster, kept known: lists it in pages, watches it with bookmarks, resumes where a watch ended,
// lists again where the server has forgotten (410), backs off with jitter while the server is away.
//
// What is known stays known while the server cannot be reached. A list replaces everything at once, after its last
// page: a consumer never sees half of one. Objects that a list no longer has are reported as gone then, together. A
// watch that stayed silent to its end, without a bookmark, proves nothing: then it lists again (a server whose data
// were restored from a backup is behind what we know, and would stay silent for long).
//
// Threading: start() makes one thread, on which `on_change` runs: it must be quick, and may call known(). stop() ends
// the watch within a second, idempotent, also by the destructor. known(), health() from any thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/env.h"
#include "core/telemetry/metrics.h"
#include "operator/kube/client.h"

namespace tallygate::kube {

struct ReflectorOptions {
  ResourceType type = {};
  std::string name_space = {};  // empty: all
  Selector selector = {};
  bool metadata_only = false;
  int64_t page_size = 500;
  // Makes less of an object, to spare memory, before it is kept (its json). Absent: managedFields are dropped, nothing
  // else.
  std::function<void(Object&)> transform = nullptr;
  int64_t backoff_min_ms = 200, backoff_max_ms = 30'000;
};

struct Change {
  ObjectName name;
  ObjectPtr before, now;  // one of them may be null: new, gone. Another uid: gone, and made again
};

struct ReflectorHealth {
  bool synced = false;        // a whole list has been seen
  bool connected = false;     // a watch is open, as far as is known
  std::string error;          // of the last failure, while not connected
  bool type_missing = false;  // the server does not know the resource (its CRD is gone)
  bool forbidden = false;     // the server refuses: our credentials, or RBAC
  int64_t heard_ms = 0;       // monotonic, when the server last said anything
};

class Reflector {
 public:
  using Known = std::map<ObjectName, ObjectPtr>;
  // Changes that came together: of one list (`listed`), or of a piece of a watch. Called with an empty list of changes
  // where a first list has nothing.
  using OnChange = std::function<void(const std::vector<Change>& changes, bool listed)>;

  // `env`, `client` and `registry` outlive it.
  Reflector(Env& env, Client& client, ReflectorOptions options, OnChange on_change, metrics::Registry& registry);
  ~Reflector();
  void start();
  void stop();

  // An unchanging copy of what is known.
  std::shared_ptr<const Known> known() const;
  ReflectorHealth health() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallygate::kube
