// What several tests of the client need.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <string>

#include "core/env.h"

namespace tallygate::kube {

// Whether it holds within a time that no working machine needs.
inline bool eventually(const std::function<bool()>& holds) {
  for (int i = 0; i < 6000; ++i) {
    if (holds()) return true;
    system_env().sleep_ms(5);
  }
  return false;
}

// A file that goes with this.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text)
      : path_(testing::TempDir() + "tg_kube_" + system_env().random_hex(6)) {
    write(text);
  }
  ~TemporaryFile() { std::remove(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }
  // Never half of it: as kubelet replaces files.
  void write(const std::string& text) {
    std::ofstream(path_ + ".new") << text;
    std::rename((path_ + ".new").c_str(), path_.c_str());
  }

 private:
  const std::string path_;
};

}  // namespace tallygate::kube
