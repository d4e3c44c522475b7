// The real binary as a process: its flags, its log, its admin port.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "operator/http_client/http_client.h"
#include "tests/integration/support/child_process.h"

namespace tallygate::testing {

// Runs to its end; the exit code and everything it wrote.
struct Ended {
  int code = 0;
  std::string output;
};
Ended run_operator(const std::vector<std::string>& args, const std::vector<std::string>& environment = {});

class OperatorProcess {
 public:
  OperatorProcess();
  ~OperatorProcess();
  // `environment`: "NAME=value"; nothing else is inherited but PATH.
  void start(const std::vector<std::string>& args, const std::vector<std::string>& environment);
  void signal(int number) { process_.signal(number); }
  int wait() { return process_.wait(); }

  std::string log() const;
  // Waits up to ten seconds for a line that has all of these; empty where none comes.
  std::string wait_line(const std::vector<std::string>& parts);
  // Of the admin port, once the log says that it listens.
  HttpResponse get(const std::string& path);
  bool wait_ready();
  double metric(const std::string& name_and_labels);

 private:
  std::string folder_, admin_;
  std::unique_ptr<HttpClient> http_;
  ChildProcess process_;
};

// A folder of manifests.
class ManifestFolder {
 public:
  ManifestFolder();
  ~ManifestFolder();
  const std::string& path() const { return path_; }
  // Replaces the file at once.
  void write(const std::string& file, const std::string& text);
  void remove(const std::string& file);

 private:
  std::string path_;
};

}  // namespace tallygate::testing
