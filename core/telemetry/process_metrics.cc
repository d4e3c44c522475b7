#include <dirent.h>
#include <unistd.h>

#include <cstdio>

#include "core/telemetry/log.h"
#include "core/telemetry/metrics.h"

namespace tallygate::metrics {
namespace {

struct ProcessFigures {
  double cpu_seconds = 0, start_seconds_since_boot = 0, virtual_bytes = 0, resident_bytes = 0;
  long threads = 0;
};

// proc(5): /proc/self/stat, fields 14, 15, 20, 22, 23 and 24, counted behind the program's name, which may hold
// anything.
bool read_figures(ProcessFigures& figures) {
  char text[2048] = {};
  FILE* f = std::fopen("/proc/self/stat", "re");
  if (f == nullptr) return false;
  const size_t size = std::fread(text, 1, sizeof text - 1, f);
  std::fclose(f);
  const std::string_view line(text, size);
  const size_t name_end = line.rfind(')');
  if (name_end == std::string_view::npos) return false;
  unsigned long user = 0, system = 0, virtual_bytes = 0;
  unsigned long long start = 0;
  long threads = 0, pages = 0;
  const int found = std::sscanf(
      text + name_end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %ld %*d %llu %lu %ld",
      &user, &system, &threads, &start, &virtual_bytes, &pages);
  if (found != 6) return false;
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  figures.cpu_seconds = static_cast<double>(user + system) / ticks;
  figures.start_seconds_since_boot = static_cast<double>(start) / ticks;
  figures.virtual_bytes = static_cast<double>(virtual_bytes);
  figures.resident_bytes = static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE));
  figures.threads = threads;
  return true;
}

double boot_time_seconds() {
  double seconds = 0;
  if (FILE* f = std::fopen("/proc/stat", "re")) {
    char line[512];
    while (std::fgets(line, sizeof line, f) != nullptr) {
      if (std::sscanf(line, "btime %lf", &seconds) == 1) break;
    }
    std::fclose(f);
  }
  return seconds;
}

double open_descriptors() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  double count = 0;
  while (const dirent* entry = readdir(folder)) count += entry->d_name[0] != '.';
  closedir(folder);
  return count - 1;  // the folder's own
}

}  // namespace

std::shared_ptr<Registry::Collector> collect_process(Registry& registry, const std::string& component) {
  registry
      .gauge("tallygate_" + component + "_build_info", "1, labelled with the build's version.",
             {{"version", TALLYGATE_VERSION}})
      .set(1);
  return registry.collect([component, boot = boot_time_seconds()](Scrape& scrape) {
    scrape.counter("tallygate_" + component + "_log_lines_dropped_total", "Log lines lost because the queue was full.",
                   {}, static_cast<double>(log::dropped_lines()));
    ProcessFigures figures;
    if (!read_figures(figures)) return;
    scrape.counter("process_cpu_seconds_total", "Processor time, user and system.", {}, figures.cpu_seconds);
    scrape.gauge("process_resident_memory_bytes", "Resident memory.", {}, figures.resident_bytes);
    scrape.gauge("process_virtual_memory_bytes", "Virtual memory.", {}, figures.virtual_bytes);
    scrape.gauge("process_threads", "Threads.", {}, static_cast<double>(figures.threads));
    scrape.gauge("process_open_fds", "Open descriptors.", {}, open_descriptors());
    scrape.gauge("process_start_time_seconds", "Start, as a Unix time.", {}, boot + figures.start_seconds_since_boot);
  });
}

}  // namespace tallygate::metrics
