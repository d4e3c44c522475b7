// A file that is in memory only, for libraries that want a path: a private key need not touch a disk, and a container
// without a writable folder can have one.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace tallygate::admission {

class MemoryFile {
 public:
  MemoryFile() = default;
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // Replaces what is in it.
  Result<void> write(std::string_view content);
  // For this process alone; after the first write().
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_ = -1;
};

}  // namespace tallygate::admission
