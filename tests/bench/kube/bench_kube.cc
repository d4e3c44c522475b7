// What following an API server costs: CPU per object listed and per change watched, and memory, against a real etcd and
// kube-apiserver. bench_kube [objects …]; by default 100 1000 10000.
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <thread>

#include "operator/kube/reflector.h"
#include "tests/integration/support/kube_server.h"

namespace tallygate::kube {
namespace {

const ResourceType kThing = {"example.dev", "v1", "things", "Thing", true};
constexpr int kWriters = 4;

template <class T>
T must(Result<T> result) {
  if (!result) assertion_failed(result.error().message.c_str(), __FILE__, __LINE__);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

double cpu_s() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double rss_mib() {
  malloc_trim(0);
  std::ifstream file("/proc/self/statm");
  double all = 0, resident = 0;
  file >> all >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1048576;
}

// Of the size of a tenant, or of a pod's metadata, with who owns what.
std::string thing(int n, int version) {
  const std::string id = std::to_string(n);
  std::string json =
      R"({"apiVersion":"example.dev/v1","kind":"Thing","metadata":{"name":"t)" + id +
      R"(","labels":{"app.kubernetes.io/name":"bench","app.kubernetes.io/instance":"t)" + id +
      R"(","team":"checkout"},"annotations":{"example.dev/owner":"team@example.com","example.dev/version":")" +
      std::to_string(version) + R"("}},"spec":{"planRef":{"name":"standard"},"limits":[)";
  for (int i = 0; i < 6; ++i) {
    json += std::string(i == 0 ? "" : ",") + R"({"name":"calls-)" + std::to_string(i) +
            R"(","meter":"api-calls","amount":1000000,"window":"Month","mode":"Hard"})";
  }
  return json + "]}}";
}

// The one who writes, in a process of its own so that its CPU time is not counted: "make N" or "touch N".
int write_all(const Config& config, int commands, int answers) {
  metrics::Registry registry;
  const auto client = must(Client::create(system_env(), config, "bench", registry));
  FILE* in = fdopen(commands, "r");
  int upto = 0, version = 0;
  while (in != nullptr && std::fscanf(in, "%d", &upto) == 1) {
    ++version;
    std::vector<std::thread> writers;
    for (int w = 0; w < kWriters; ++w) {
      writers.emplace_back([&, w] {
        for (int n = w; n < upto; n += kWriters) {
          must(client->apply(kThing, {"default", "t" + std::to_string(n)}, thing(n, version)));
        }
      });
    }
    for (auto& writer : writers) writer.join();
    if (write(answers, "x", 1) != 1) return 1;
  }
  return 0;
}

void run(const Config& config, int objects, const std::function<void(int)>& write_upto) {
  write_upto(objects);
  for (const bool metadata_only : {false, true}) {
    metrics::Registry registry;
    const auto client = must(Client::create(system_env(), config, "bench", registry));
    must(client->raw("GET", "/version"));  // connected, TLS and all
    const double rss_before = rss_mib(), cpu_before = cpu_s();
    const int64_t began_ms = system_env().mono_ms();
    std::atomic<int> seen = 0;
    Reflector reflector(
        system_env(), *client, {.type = kThing, .name_space = "default", .metadata_only = metadata_only},
        [&](const std::vector<Change>& changes, bool) { seen += static_cast<int>(changes.size()); }, registry);
    reflector.start();
    while (seen < objects) system_env().sleep_ms(1);
    const double list_s = cpu_s() - cpu_before;
    const int64_t list_ms = system_env().mono_ms() - began_ms;
    const double rss = rss_mib() - rss_before;
    size_t bytes = 0;
    for (const auto& [name, object] : *reflector.known()) bytes += object->json.size();
    const double watch_before = cpu_s();
    write_upto(objects);
    while (seen < 2 * objects) system_env().sleep_ms(1);
    const double watch_s = cpu_s() - watch_before;
    std::printf(
        "%6d objects%-15s list %7.1f ms CPU (%5.1f us each), %6lld ms in all; change %5.1f us CPU each; %5.1f MiB"
        " (%4.0f bytes of JSON each)\n",
        objects, metadata_only ? ", metadata only:" : ":", list_s * 1e3, list_s * 1e6 / objects,
        static_cast<long long>(list_ms), watch_s * 1e6 / objects, rss, static_cast<double>(bytes) / objects);
    std::fflush(stdout);
  }
}

int main_of(int argc, char** argv) {
  if (const std::string& why = testing::KubeServer::missing(); !why.empty()) {
    std::cerr << "bench_kube: " << why << std::endl;
    return 2;
  }
  testing::KubeServer server;
  server.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
              R"({"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
    "metadata":{"name":"things.example.dev"},"spec":{"group":"example.dev","scope":"Namespaced",
    "names":{"plural":"things","singular":"thing","kind":"Thing"},"versions":[{"name":"v1","served":true,"storage":true,
    "schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object",
    "x-kubernetes-preserve-unknown-fields":true}}}}}]}})");
  system_env().sleep_ms(2'000);
  int commands[2], answers[2];
  TG_ASSERT(pipe(commands) == 0 && pipe(answers) == 0);
  testing::ChildProcess writer;
  const Config config = server.admin();
  writer.start([&] {
    close(commands[1]);
    return write_all(config, commands[0], answers[1]);
  });
  const auto write_upto = [&](int objects) {
    const std::string command = std::to_string(objects) + "\n";
    char answer = 0;
    TG_ASSERT(write(commands[1], command.data(), command.size()) > 0 && read(answers[0], &answer, 1) == 1);
  };
  std::vector<int> sizes;
  for (int i = 1; i < argc; ++i) sizes.push_back(std::atoi(argv[i]));
  if (sizes.empty()) sizes = {100, 1'000, 10'000};
  for (const int objects : sizes) run(config, objects, write_upto);
  close(commands[1]);
  return writer.wait();
}

}  // namespace
}  // namespace tallygate::kube

int main(int argc, char** argv) { return tallygate::kube::main_of(argc, argv); }
