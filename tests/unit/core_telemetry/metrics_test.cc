#include "core/telemetry/metrics.h"

#include <gtest/gtest.h>

namespace tallygate::metrics {
namespace {

bool holds(const std::string& text, const std::string& line) { return text.find(line + "\n") != std::string::npos; }

TEST(Metrics, HandlesOfTheSameLabelsCountTogether) {
  Registry registry;
  const Counter a = registry.counter("tallygate_sidecar_denied_total", "Denied.", {{"reason", "cap"}});
  const Counter b = registry.counter("tallygate_sidecar_denied_total", "Denied.", {{"reason", "cap"}});
  const Counter c = registry.counter("tallygate_sidecar_denied_total", "Denied.", {{"reason", "balance"}});
  a.add();
  b.add(2);
  c.add();
  EXPECT_EQ(a.value(), 3);
  const std::string text = registry.text();
  EXPECT_TRUE(holds(text, "# HELP tallygate_sidecar_denied_total Denied.")) << text;
  EXPECT_TRUE(holds(text, "# TYPE tallygate_sidecar_denied_total counter")) << text;
  EXPECT_TRUE(holds(text, "tallygate_sidecar_denied_total{reason=\"cap\"} 3")) << text;
  EXPECT_TRUE(holds(text, "tallygate_sidecar_denied_total{reason=\"balance\"} 1")) << text;
}

TEST(Metrics, GaugesAndHistograms) {
  Registry registry;
  const Gauge gauge = registry.gauge("tallygate_operator_queue_length", "Queue.");
  gauge.set(5);
  gauge.add(-2);
  const Histogram histogram = registry.histogram("tallygate_operator_sync_seconds", "Sync.", {0.1, 1});
  histogram.observe(0.5);
  const std::string text = registry.text();
  EXPECT_TRUE(holds(text, "tallygate_operator_queue_length 3")) << text;
  EXPECT_TRUE(holds(text, "tallygate_operator_sync_seconds_bucket{le=\"0.1\"} 0")) << text;
  EXPECT_TRUE(holds(text, "tallygate_operator_sync_seconds_bucket{le=\"1\"} 1")) << text;
  EXPECT_TRUE(holds(text, "tallygate_operator_sync_seconds_bucket{le=\"+Inf\"} 1")) << text;
}

TEST(Metrics, ADefaultHandleCountsNowhere) {
  Counter().add();
  Gauge().set(1);
  Histogram().observe(1);
  EXPECT_EQ(Counter().value(), 0);
}

TEST(Metrics, LabelSetsAreBounded) {
  Registry registry;
  for (size_t i = 0; i < Registry::kSeriesMax + 10; ++i) {
    registry.counter("many_total", "Many.", {{"id", std::to_string(i)}}).add();
  }
  const std::string text = registry.text();
  EXPECT_TRUE(holds(text, "many_total{id=\"999\"} 1"));
  EXPECT_FALSE(holds(text, "many_total{id=\"1000\"} 1"));
  EXPECT_TRUE(holds(text, "many_total{id=\"other\"} 10"));
}

TEST(Metrics, CollectorsAreAskedAtEachScrapeWhileTheirHandleLives) {
  Registry registry;
  uint64_t requests = 1;
  auto collector = registry.collect([&](Scrape& scrape) {
    scrape.counter("tallygate_sidecar_requests_total", "Requests.", {{"end", "ok"}}, static_cast<double>(requests));
    scrape.counter("tallygate_sidecar_requests_total", "Requests.", {{"end", "aborted"}}, 7);
    scrape.gauge("tallygate_sidecar_connections", "Connections.", {}, 2);
    scrape.histogram("tallygate_sidecar_request_seconds", "Latency.", {}, {0.1, 1}, {3, 2, 1}, 4.5);
  });
  requests = 5;
  const std::string text = registry.text();
  EXPECT_TRUE(holds(text, "tallygate_sidecar_requests_total{end=\"ok\"} 5")) << text;
  EXPECT_TRUE(holds(text, "tallygate_sidecar_requests_total{end=\"aborted\"} 7")) << text;
  EXPECT_TRUE(holds(text, "tallygate_sidecar_connections 2")) << text;
  EXPECT_TRUE(holds(text, "tallygate_sidecar_request_seconds_bucket{le=\"1\"} 5")) << text;
  EXPECT_TRUE(holds(text, "tallygate_sidecar_request_seconds_bucket{le=\"+Inf\"} 6")) << text;
  EXPECT_TRUE(holds(text, "tallygate_sidecar_request_seconds_sum 4.5")) << text;
  collector.reset();
  EXPECT_EQ(registry.text(), "");
}

TEST(Metrics, TheProcessDescribesItself) {
  Registry registry;
  const auto collector = collect_process(registry, "sidecar");
  const std::string text = registry.text();
  EXPECT_NE(text.find("\nprocess_resident_memory_bytes "), std::string::npos) << text;
  EXPECT_NE(text.find("tallygate_sidecar_build_info{version=\""), std::string::npos) << text;
  EXPECT_EQ(text.find("process_resident_memory_bytes 0\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace tallygate::metrics
