#include "master/schedule/timeline.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace pangea {
namespace {

using nlohmann::json;

TEST(Timeline, SpansAreCompleteEventsInMicrosecondsFromTheFirst) {
  const std::vector<TimelineSpan> spans = {
      {.name = "step 8",
       .stage = 1,
       .rank = 2,
       .start_seconds = 100.5,
       .duration_seconds = 0.25,
       .args = {{"rows", 33}, {"sequences", 2}}},
      {.name = "step 7", .stage = 0, .rank = 0, .start_seconds = 100, .duration_seconds = 1e-6, .args = {}}};
  const json trace = json::parse(TimelineJson(spans));
  std::vector<json> events;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] == "X") events.push_back(event);
  }
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0]["name"], "step 8");
  EXPECT_DOUBLE_EQ(events[0]["ts"].get<double>(), 500000);
  EXPECT_DOUBLE_EQ(events[0]["dur"].get<double>(), 250000);
  EXPECT_EQ(events[0]["args"], json({{"rows", 33}, {"sequences", 2}}));
  EXPECT_DOUBLE_EQ(events[1]["ts"].get<double>(), 0);
  EXPECT_DOUBLE_EQ(events[1]["dur"].get<double>(), 1);
  EXPECT_FALSE(events[1].contains("args"));
  EXPECT_NE(events[0]["pid"], events[1]["pid"]);
}

TEST(Timeline, StagesRanksAndTheMasterHaveNames) {
  std::vector<TimelineSpan> spans;
  for (int stage = -1; stage < 2; ++stage) spans.push_back({.name = "x", .stage = stage, .rank = 3});
  const json trace = json::parse(TimelineJson(spans));
  std::vector<std::string> processes, threads;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] != "M") continue;
    EXPECT_GE(event["pid"].get<int>(), 0);
    (event["name"] == "process_name" ? processes : threads).push_back(event["args"]["name"]);
  }
  EXPECT_EQ(processes, (std::vector<std::string>{"master", "stage 0", "stage 1"}));
  EXPECT_EQ(threads, (std::vector<std::string>{"engine", "rank 3", "rank 3"}));
}

TEST(Timeline, NamesAreEscaped) {
  const std::string name = "a \"quoted\" \\ back\nslash \x01 \u00e9";
  const json trace = json::parse(TimelineJson(std::vector<TimelineSpan>{{.name = name, .args = {{"\"", -1}}}}));
  EXPECT_EQ(trace["traceEvents"].back()["name"], name);
  EXPECT_EQ(trace["traceEvents"].back()["args"]["\""], -1);
}

TEST(Timeline, EventsOfTheMasterAreAsynchronousOnes) {
  const TimelineMoment moment{
      .edge = TimelineMoment::kBegin, .id = 7, .name = "request", .seconds = 2, .args = {{"prompt", 20}}};
  EXPECT_EQ(json::parse(TimelineEvent(moment, 1.5)),
            json::parse(R"({"ph": "b", "cat": "request", "id": 7, "name": "request", "pid": 0, "tid": 0, "ts": 500000.0,
                            "args": {"prompt": 20}})"));
}

TEST(Timeline, WithoutEventsTheFileIsStillValid) { EXPECT_TRUE(json::parse(TimelineJson({}))["traceEvents"].empty()); }

}  // namespace
}  // namespace pangea
