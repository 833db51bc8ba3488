#include "master/fleet/fleet_watch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

namespace wire = agent::v1;
using nlohmann::json;

ParallelPlan Plan(int stages, int ranks) {
  ParallelPlan plan;
  plan.stages = stages;
  plan.ranks = ranks;
  for (int s = 0; s < stages; ++s) {
    for (int r = 0; r < ranks; ++r) plan.agents.push_back({.stage = s, .rank = r});
  }
  return plan;
}

wire::Activity Spent(int64_t now, int64_t wait, int64_t busy, int64_t communication, int64_t bubble) {
  wire::Activity activity;
  activity.set_now(now);
  activity.set_since_begin(wait + busy + communication + bubble);
  for (const int64_t spent : {wait, busy, communication, bubble}) activity.add_spent(spent);
  return activity;
}

std::string Page(const FleetWatch& watch) {
  MetricsPage page(std::nullopt);
  watch.Write(page);
  return page.Take();
}

testing::AssertionResult Has(const FleetWatch& watch, const std::string& line) {
  const std::string page = Page(watch);
  if (page.find("\n" + line + "\n") != page.npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << line << " is not in\n" << page;
}

TEST(FleetWatch, TheLatestOfEveryAgentIsShown) {
  FleetWatch watch(Plan(2, 2), nullptr);
  EXPECT_TRUE(Has(watch, R"(pangea_stage_busy_seconds_total{stage="1",rank="1"} 0)"));
  watch.OnActivity(3, Spent(9, 1'000'000'000, 2'000'000'000, 500'000'000, 250'000'000), 0);
  // What left the agent earlier and arrives later.
  watch.OnActivity(3, Spent(8, 1'000'000'000, 1'900'000'000, 500'000'000, 250'000'000), 0);
  wire::ProgressReport report;
  *report.mutable_activity() = Spent(9, 0, 7'000'000'000, 0, 0);
  report.set_cpu_seconds(1.5);
  report.set_resident_bytes(4096);
  watch.OnProgress(0, report, 0);
  EXPECT_TRUE(Has(watch, R"(pangea_stage_wait_seconds_total{stage="1",rank="1"} 1)"));
  EXPECT_TRUE(Has(watch, R"(pangea_stage_busy_seconds_total{stage="1",rank="1"} 2)"));
  EXPECT_TRUE(Has(watch, R"(pangea_stage_communication_seconds_total{stage="1",rank="1"} 0.5)"));
  EXPECT_TRUE(Has(watch, R"(pangea_stage_bubble_seconds_total{stage="1",rank="1"} 0.25)"));
  EXPECT_TRUE(Has(watch, R"(pangea_agent_uptime_seconds{stage="1",rank="1"} 3.75)"));
  EXPECT_TRUE(Has(watch, R"(pangea_stage_busy_seconds_total{stage="0",rank="0"} 7)"));
  EXPECT_TRUE(Has(watch, R"(pangea_agent_cpu_seconds_total{stage="0",rank="0"} 1.5)"));
  EXPECT_TRUE(Has(watch, R"(pangea_agent_resident_bytes{stage="0",rank="0"} 4096)"));
  EXPECT_TRUE(Has(watch, R"(pangea_stage_busy_seconds_total{stage="0",rank="1"} 0)"));
}

TEST(FleetWatch, AnAgentThatJoinsAnewBeginsAtNothing) {
  FleetWatch watch(Plan(1, 1), nullptr);
  watch.OnActivity(0, Spent(9, 0, 2'000'000'000, 0, 0), 0);
  watch.OnJoin(0, true);
  watch.OnActivity(0, Spent(10, 0, 1'000'000'000, 0, 0), 0);
  EXPECT_TRUE(Has(watch, R"(pangea_stage_busy_seconds_total{stage="0",rank="0"} 1)"));
}

TEST(FleetWatch, AReportWithAnotherNumberOfActivitiesIsDropped) {
  FleetWatch watch(Plan(1, 1), nullptr);
  wire::Activity activity;
  activity.set_since_begin(5);
  activity.add_spent(5);
  watch.OnActivity(0, activity, 0);
  EXPECT_TRUE(Has(watch, R"(pangea_agent_uptime_seconds{stage="0",rank="0"} 0)"));
}

class TraceTest : public testing::Test {
 protected:
  ~TraceTest() override { unlink(path_.c_str()); }

  std::vector<json> Spans() {
    file_.reset();
    std::ifstream file(path_);
    std::vector<json> spans;
    for (const json& event : json::parse(file)) {
      if (event["ph"] == "X") spans.push_back(event);
    }
    return spans;
  }
  static wire::StepTrace Step(int64_t begin) {
    wire::StepTrace trace;
    trace.set_number(41);
    trace.set_rows(3);
    trace.set_begin(begin);
    for (const auto& [time, activity] : {std::pair{1001, 1}, {1002, 2}, {1003, 1}, {1004, 3}}) {
      trace.add_stretches(static_cast<uint64_t>(time) << 2 | activity);
    }
    return trace;
  }

  const std::string path_ = absl::StrCat(testing::TempDir(), "/fleet-watch-", getpid());
  std::unique_ptr<TimelineFile> file_ = *TimelineFile::Open(path_, 1 << 20, /*zero=*/1000);
};

TEST_F(TraceTest, AStepOfTheTimelineContainsItsActivities) {
  FleetWatch watch(Plan(2, 2), file_.get());
  watch.OnJoin(2, true);
  watch.OnTrace(2, Step(1'000'000'005'000), 1001);
  const auto spans = Spans();
  ASSERT_EQ(spans.size(), 5u);
  EXPECT_EQ(spans[0]["name"], "step 41");
  EXPECT_EQ(spans[0]["args"], json({{"step", 41}, {"rows", 3}}));
  EXPECT_NEAR(spans[0]["ts"].get<double>(), 5.0, 1e-9);
  EXPECT_NEAR(spans[0]["dur"].get<double>(), 4.01, 1e-9);
  double at = 5;
  const char* names[] = {"compute", "communication", "compute", "bubble"};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(spans[i + 1]["name"], names[i]);
    EXPECT_NEAR(spans[i + 1]["ts"].get<double>(), at, 1e-9);
    at += spans[i + 1]["dur"].get<double>();
  }
  EXPECT_NEAR(at, 9.01, 1e-9);
  for (const json& span : spans) {
    EXPECT_EQ(span["pid"], 2);  // stage 1
    EXPECT_EQ(span["tid"], 0);
  }
}

// A remote agent's clock is brought to the master's by the message that was under way for the shortest time.
TEST_F(TraceTest, TimesOfARemoteAgentAreMovedToTheMastersClock) {
  FleetWatch watch(Plan(1, 1), file_.get());
  watch.OnJoin(0, false);
  constexpr int64_t kAhead = 77'000'000'000;  // nanoseconds of the agent's clock at second 0 of ours
  for (const double underway : {0.004, 0.001, 0.006}) {
    watch.OnActivity(0, Spent(kAhead + 1'000'500'000'000, 0, 1, 0, 0), 1000.5 + underway);
  }
  watch.OnTrace(0, Step(kAhead + 1'000'600'000'000), 1000.7);
  const auto spans = Spans();
  ASSERT_EQ(spans.size(), 5u);
  const double shown = spans[0]["ts"].get<double>();  // microseconds
  EXPECT_GE(shown, 600'000 + 1000);
  EXPECT_LE(shown, 600'000 + 1000 + 100);  // it crept up for one report since
}

TEST_F(TraceTest, AStepBeforeAnyReportIsNotAfterItsArrival) {
  FleetWatch watch(Plan(1, 1), file_.get());
  watch.OnJoin(0, false);
  watch.OnTrace(0, Step(5), 1000.001);
  EXPECT_NEAR(Spans()[0]["ts"].get<double>(), 1000 - 4.01, 1e-2);
}

}  // namespace
}  // namespace pangea
