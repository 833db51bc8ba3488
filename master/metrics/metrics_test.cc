#include "master/metrics/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

namespace pangea {
namespace {

constexpr double kBounds[] = {0.1, 1, 2.5};

TEST(MetricsPage, EveryKindFollowsTheExpositionFormat) {
  Counter counter({"a_total", "Things, counted."});
  counter.Add(3);
  LabelledCounter labelled({"b_total", "By kind."}, "kind", {"x", "y"});
  labelled.Add("y", 2);
  labelled.Add("z");
  PairCounter pairs({"p_total", "By two."}, "route", {"/c"}, "status", "200");
  pairs.Add("/b", "200");
  pairs.Add("/a", "404");
  pairs.Add("/b", "200");
  Histogram histogram({"c_seconds", "Time."}, kBounds);
  for (const double value : {0.05, 0.1, 0.11, 2.5, 100.0}) histogram.Add(value);
  MetricsPage page(std::nullopt);
  page.Add(counter);
  page.Add(labelled);
  page.Add(pairs);
  page.Add(histogram);
  page.AddGauge({"d", "Now."}, {{0.25, {{"stage", "0"}, {"rank", "1"}}}, {-1e30}});
  EXPECT_EQ(page.Take(),
            "# HELP a_total Things, counted.\n"
            "# TYPE a_total counter\n"
            "a_total 3\n"
            "# HELP b_total By kind.\n"
            "# TYPE b_total counter\n"
            "b_total{kind=\"x\"} 0\n"
            "b_total{kind=\"y\"} 2\n"
            "b_total{kind=\"z\"} 1\n"
            "# HELP p_total By two.\n"
            "# TYPE p_total counter\n"
            "p_total{route=\"/a\",status=\"404\"} 1\n"
            "p_total{route=\"/b\",status=\"200\"} 2\n"
            "p_total{route=\"/c\",status=\"200\"} 0\n"
            "# HELP c_seconds Time.\n"
            "# TYPE c_seconds histogram\n"
            "c_seconds_bucket{le=\"0.1\"} 2\n"  // a bound belongs to its bucket
            "c_seconds_bucket{le=\"1\"} 3\n"
            "c_seconds_bucket{le=\"2.5\"} 4\n"
            "c_seconds_bucket{le=\"+Inf\"} 5\n"
            "c_seconds_sum 102.76\n"
            "c_seconds_count 5\n"
            "# HELP d Now.\n"
            "# TYPE d gauge\n"
            "d{stage=\"0\",rank=\"1\"} 0.25\n"
            "d -1e+30\n");
}

TEST(MetricsPage, WhatTheFormatCannotHoldIsEscaped) {
  MetricsPage page(std::nullopt);
  page.AddGauge({"a", "back\\slash\nline"}, {{1, {{"name", "C:\\x \"y\"\nz é"}}}});
  EXPECT_EQ(page.Take(), "# HELP a back\\\\slash\\nline\n# TYPE a gauge\na{name=\"C:\\\\x \\\"y\\\"\\nz é\"} 1\n");
}

TEST(MetricsPage, NanAndInfinity) {
  MetricsPage page(std::nullopt);
  page.AddGauge({"a", "b"}, {{NAN}, {INFINITY}, {-INFINITY}, {18446744073709551615.0}});
  EXPECT_EQ(page.Take(), "# HELP a b\n# TYPE a gauge\na NaN\na +Inf\na -Inf\na 18446744073709551616\n");
}

TEST(MetricsPage, VllmNamesAreAddedWhenAskedFor) {
  Counter counter({"a_total", "A.", {"vllm:a_total"}});
  Histogram histogram({"c", "C.", {"vllm:c"}}, std::span(kBounds).first(1));
  for (const bool asked : {false, true}) {
    std::optional<MetricLabels> labels;
    if (asked) labels.emplace().emplace_back("model_name", "m");
    MetricsPage page(labels);
    page.Add(counter);
    page.Add(histogram);
    const std::string text = page.Take();
    EXPECT_NE(text.find("\na_total 0\n"), text.npos);
    for (const char* line : {"# TYPE vllm:a_total counter\nvllm:a_total{model_name=\"m\"} 0\n",
                             "# TYPE vllm:c histogram\nvllm:c_bucket{model_name=\"m\",le=\"0.1\"} 0\n",
                             "vllm:c_sum{model_name=\"m\"} 0\nvllm:c_count{model_name=\"m\"} 0\n"}) {
      EXPECT_EQ(text.find(line) != text.npos, asked) << text;
    }
  }
}

TEST(Metrics, NoCountIsLostBetweenThreads) {
  Counter counter({"a", "a"});
  LabelledCounter labelled({"b", "b"}, "kind", {});
  Histogram histogram({"c", "c"}, kBounds);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10'000; ++i) {
        counter.Add();
        histogram.Add(t);  // whole numbers: their sum is exact in any order
        labelled.Add(t % 2 == 0 ? "even" : "odd");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.value(), 40'000u);
  EXPECT_EQ(histogram.values().counts, (std::vector<uint64_t>{10'000, 10'000, 10'000, 10'000}));
  EXPECT_EQ(histogram.values().sum, 60'000);
  ASSERT_EQ(labelled.values().size(), 2u);
  EXPECT_EQ(labelled.values()[0].value, 20'000);
  EXPECT_EQ(labelled.values()[1].value, 20'000);
}

}  // namespace
}  // namespace pangea
