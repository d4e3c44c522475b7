#include "sidecar/escrow/known_ledger.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace tallygate::sidecar {

void LedgerMemory::load() {
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  char text[128] = {};
  const ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  long long generation = 0, mark = 0, resent = 0;
  char id[33] = {};
  if (n <= 0 || std::sscanf(text, "%32[0-9a-f] %lld %lld %lld", id, &generation, &mark, &resent) != 4) return;
  const auto sane = [](long long n) { return n >= 0 && n < (1LL << 53); };  // what Redis's scripts can count
  if (!sane(generation) || !sane(mark) || !sane(resent)) return;
  mark_ = {id, generation, mark};
  resent_ = resent;
}

Result<void> LedgerMemory::remember(const LedgerMark& mark, int64_t resent) {
  if (mark.id.empty() || (mark == mark_ && resent == resent_ && written_)) return {};
  mark_ = mark;
  resent_ = resent;
  auto done = write();
  written_ = done.has_value();
  return done;
}

// Of a fixed length, in one write: what is read is what was written, before or after.
Result<void> LedgerMemory::write() const {
  const int fd = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return fail(Errc::kUnavailable, "cannot open " + path_ + ": " + std::strerror(errno));
  char text[128];
  const int n = std::snprintf(text, sizeof text, "%-32s %-20lld %-20lld %-20lld\n", mark_.id.c_str(),
                              static_cast<long long>(mark_.generation), static_cast<long long>(mark_.mark),
                              static_cast<long long>(resent_));
  const ssize_t written = pwrite(fd, text, static_cast<size_t>(n), 0);
  const std::string why = written < 0 ? std::strerror(errno) : "the disk took part of it";
  close(fd);
  if (written == n) return {};
  return fail(Errc::kUnavailable, "cannot write " + path_ + ": " + why);
}

}  // namespace tallygate::sidecar
