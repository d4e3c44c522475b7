// Manifests from a folder: *.yaml and *.yml directly in it, hidden and editors' files ignored, symbolic links followed.
//
// Lifecycle: create, load() once for the state at start, start() on the loop, stop() (idempotent, also by the
// destructor). load() may be repeated at any time. After start(), the callback runs on the loop's thread at most
// 300 ms after a file was saved: inotify on the folder and on its parent (the folder may be removed, recreated, or be
// a symbolic link that is swapped, as Kubernetes does with ..data), a pause of 50 ms to let a series of events end
// (200 ms at most), then a reload of everything that changed. A file that is being written counts as unchanged until
// its writer closes it. Where inotify says nothing (network file systems), a scan every 2 s does the same.
//
// A folder that is gone, or cannot be read, keeps all last good objects and is a fault. An empty one means no objects.
// Threading: everything on the loop's thread; no thread of its own. A reload takes about 1 ms per changed file.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/io/event_loop.h"
#include "core/result.h"
#include "operator/manifest/accept.h"

namespace tallygate::manifest {

struct Snapshot {
  int64_t generation = 0;  // 1 for the first load, one more with every reload that is told
  std::shared_ptr<const Accepted> accepted;
  bool resources_changed = false;  // false: only faults or warnings differ from the last snapshot
};

struct DirSourceOptions {
  std::string path;
  int64_t debounce_ms = 50;
  int64_t debounce_max_ms = 200;
  int64_t rescan_ms = 2'000;
};

class DirSource {
 public:
  // `loop` outlives the source.
  DirSource(EventLoop& loop, DirSourceOptions options);
  ~DirSource();
  DirSource(const DirSource&) = delete;
  DirSource& operator=(const DirSource&) = delete;

  // Reads the folder now. Faulty files are in the snapshot's faults; fails only where the folder cannot be read and
  // nothing was ever loaded.
  Result<Snapshot> load();
  // Calls back whenever the accepted objects, faults or warnings differ from the last snapshot. Fails where the kernel
  // gives no inotify instance.
  Result<void> start(std::function<void(const Snapshot&)> on_change);
  void stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallygate::manifest
