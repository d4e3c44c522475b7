#include "tests/integration/operator/operator_process.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/env.h"

namespace tallygate::testing {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::string> command_line(const std::vector<std::string>& args,
                                      const std::vector<std::string>& environment) {
  std::vector<std::string> argv{"/usr/bin/env", "-i", "PATH=/usr/bin:/bin"};
  argv.insert(argv.end(), environment.begin(), environment.end());
  argv.push_back(TALLYGATE_OPERATOR);
  argv.insert(argv.end(), args.begin(), args.end());
  return argv;
}

void remove_folder(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

}  // namespace

Ended run_operator(const std::vector<std::string>& args, const std::vector<std::string>& environment) {
  const std::string folder = make_temporary_folder();
  ChildProcess process;
  ChildProcess::Options options;
  options.output_file = folder + "/out";
  process.start(command_line(args, environment), options);
  Ended ended;
  ended.code = process.wait();
  ended.output = read_file(options.output_file);
  remove_folder(folder);
  return ended;
}

OperatorProcess::OperatorProcess() : folder_(make_temporary_folder()), http_(make_curl_client()) {}

OperatorProcess::~OperatorProcess() {
  if (process_.running()) {
    process_.signal(9);
    process_.wait();
  }
  remove_folder(folder_);
}

void OperatorProcess::start(const std::vector<std::string>& args, const std::vector<std::string>& environment) {
  admin_.clear();
  std::filesystem::remove(folder_ + "/log");
  ChildProcess::Options options;
  options.output_file = folder_ + "/log";
  process_.start(command_line(args, environment), options);
}

std::string OperatorProcess::log() const { return read_file(folder_ + "/log"); }

std::string OperatorProcess::wait_line(const std::vector<std::string>& parts) {
  for (int i = 0; i < 500; ++i) {
    std::istringstream lines(log());
    for (std::string line; std::getline(lines, line);) {
      const auto has = [&](const auto& part) { return line.find(part) != std::string::npos; };
      if (std::all_of(parts.begin(), parts.end(), has)) return line;
    }
    system_env().sleep_ms(20);
  }
  return "";
}

HttpResponse OperatorProcess::get(const std::string& path) {
  if (admin_.empty()) {
    const std::string line = wait_line({"\"msg\":\"listening\""});
    if (!line.empty()) admin_ = nlohmann::json::parse(line)["admin"].get<std::string>();
  }
  HttpRequest request;
  request.url = "http://" + admin_ + path;
  request.timeout_ms = 3'000;
  return http_->send(request).value_or(HttpResponse{});
}

bool OperatorProcess::wait_ready() {
  for (int i = 0; i < 500; ++i) {
    if (get("/readyz").status == 200) return true;
    system_env().sleep_ms(20);
  }
  return false;
}

double OperatorProcess::metric(const std::string& name_and_labels) {
  std::istringstream lines(get("/metrics").body);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name_and_labels + " ")) return std::stod(line.substr(name_and_labels.size() + 1));
  }
  return -1;
}

ManifestFolder::ManifestFolder() : path_(make_temporary_folder()) {}
ManifestFolder::~ManifestFolder() { remove_folder(path_); }

void ManifestFolder::write(const std::string& file, const std::string& text) {
  const std::string partial = path_ + "/." + file;
  std::ofstream(partial) << text;
  std::filesystem::rename(partial, path_ + "/" + file);
}

void ManifestFolder::remove(const std::string& file) { std::filesystem::remove(path_ + "/" + file); }

}  // namespace tallygate::testing
