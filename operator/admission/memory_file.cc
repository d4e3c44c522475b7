#include "operator/admission/memory_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tallygate::admission {

MemoryFile::~MemoryFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

Result<void> MemoryFile::write(std::string_view content) {
  if (descriptor_ < 0) descriptor_ = memfd_create("tallygate", MFD_CLOEXEC);
  const bool ok = descriptor_ >= 0 && ftruncate(descriptor_, 0) == 0 &&
                  pwrite(descriptor_, content.data(), content.size(), 0) == static_cast<ssize_t>(content.size());
  if (!ok) return fail(Errc::kExhausted, std::string("no file in memory: ") + std::strerror(errno));
  return {};
}

}  // namespace tallygate::admission
