// Manifests from a folder: *.yaml and *.yml directly in it, hidden and editors' files ignored, symbolic links followed.
//
// After start() it looks at most 300 ms after a file was saved: inotify on the folder and on its parent (the folder may be
// removed, recreated, or be a symbolic link that is swapped, as Kubernetes does with ..data), a pause of 50 ms to let a
// series of events end (200 ms at most), then a reload of everything that changed. A file that is being written counts
// as unchanged until its writer closes it. Where inotify says nothing (network file systems), a scan every 2 s does the
// same. A reload takes about 1 ms per changed file.
//
// A folder that is gone, or cannot be read, shows what it had and is a fault. An empty one means no objects. What is
// missing while a file has had faults ever since the start is doubted: it may be in that file.
#pragma once

#include <memory>
#include <string>

#include "core/io/event_loop.h"
#include "operator/source/source.h"

namespace tallygate::source {

struct FolderSourceOptions {
  std::string path;
  int64_t debounce_ms = 50;
  int64_t debounce_max_ms = 200;
  int64_t rescan_ms = 2'000;
};

class FolderSource final : public Source {
 public:
  // `loop` outlives the source.
  FolderSource(EventLoop& loop, FolderSourceOptions options);
  ~FolderSource() override;
  // Calls back before it returns. Fails where the kernel gives no inotify instance.
  Result<void> start(OnLook on_look) override;
  void stop() override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallygate::source
