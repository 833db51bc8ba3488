#include "master/schedule/simulation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace pangea {
namespace {

constexpr double kStage = 0.010, kControl = 0.001, kHop = 0.003;

// Every step costs every stage 10 ms, whatever is in it.
SimulationOptions Equal(int stages) {
  SimulationOptions options;
  options.engine.groups[0].blocks = 1000;
  options.engine.context = 1000;
  options.engine.stages = stages;
  options.engine.queue = 100000;
  options.engine.prefix_cache = false;
  options.costs.control_latency = kControl;
  options.costs.stage_latency = stages > 1 ? kHop : 0;
  options.costs.of_step = [stages](const Step&) { return std::vector<StageSeconds>(stages, {.compute = kStage}); };
  return options;
}

std::vector<SimulatedRequest> Alike(int count, int prompt, int output, double gap = 0) {
  std::vector<SimulatedRequest> requests;
  for (int i = 0; i < count; ++i) requests.push_back({.arrival = i * gap, .prompt = prompt, .output = output});
  return requests;
}

double BubbleShare(const SimulationReport& report, int stage) {
  const StageUse& use = report.stages[stage];
  EXPECT_NEAR(use.compute + use.communication + use.bubble, report.loaded_seconds, 1e-6);
  return use.bubble / report.loaded_seconds;
}

TEST(Simulation, OneStreamOnOneStageByHand) {
  const SimulationReport report = Simulate(Equal(1), Alike(1, 20, 11));
  EXPECT_EQ(report.finished, 1u);
  EXPECT_EQ(report.generated_tokens, 11u);
  EXPECT_EQ(report.prompt_tokens, 20u);
  EXPECT_NEAR(report.first_token.p50, kControl + kStage + kControl, 1e-9);
  // It runs ahead: the stage goes from step to step without waiting for the master.
  EXPECT_NEAR(report.inter_token.p50, kStage, 1e-9);
  EXPECT_NEAR(report.end_to_end.p50, 2 * kControl + 11 * kStage, 1e-9);
  EXPECT_NEAR(report.stages[0].bubble, 2 * kControl, 1e-9);
}

TEST(Simulation, WithoutRunAheadTheStageWaitsForTheMaster) {
  SimulationOptions options = Equal(1);
  options.engine.run_ahead = false;
  const SimulationReport report = Simulate(options, Alike(1, 20, 11));
  EXPECT_NEAR(report.inter_token.p50, kStage + 2 * kControl, 1e-9);
  EXPECT_NEAR(report.stages[0].bubble, 11 * 2 * kControl, 1e-9);
}

TEST(Simulation, OneStreamLeavesAllStagesButOneIdle) {
  const SimulationReport report = Simulate(Equal(4), Alike(1, 20, 101));
  // The state goes through three hops; the id straight to the first stage, or by way of the master.
  EXPECT_GT(report.inter_token.p50, 4 * kStage + 3 * kHop);
  EXPECT_LE(report.inter_token.p50, 4 * kStage + 3 * kHop + std::max(kHop, 2 * kControl) + 1e-9);
  for (int stage = 0; stage < 4; ++stage) EXPECT_GT(BubbleShare(report, stage), 0.74);
}

TEST(Simulation, AsManyStreamsAsStagesKeepThemBusy) {
  SimulationOptions options = Equal(4);
  options.costs.stage_latency = 0.0001;
  options.streams = 16;
  const SimulationReport report = Simulate(options, Alike(64, 4, 200));
  EXPECT_EQ(report.finished, 64u);
  for (int stage = 0; stage < 4; ++stage) EXPECT_LT(BubbleShare(report, stage), 0.1);
}

TEST(Simulation, ASlowStageSetsThePace) {
  SimulationOptions options = Equal(3);
  options.streams = 12;
  options.costs.of_step = [](const Step&) {
    return std::vector<StageSeconds>{
        {.compute = kStage}, {.compute = 2 * kStage, .gather = kStage}, {.compute = kStage}};
  };
  const SimulationReport report = Simulate(options, Alike(48, 4, 100));
  EXPECT_LT(BubbleShare(report, 1), 0.1);
  EXPECT_NEAR(BubbleShare(report, 0), 2.0 / 3, 0.05);
  EXPECT_NEAR(report.stages[1].communication * 2, report.stages[1].compute, 1e-6);
}

TEST(Simulation, TheQueueRefusesAndExpires) {
  SimulationOptions options = Equal(1);
  options.engine.max_sequences = 1;
  options.engine.queue = 2;
  options.engine.queue_seconds = 0.5;
  const SimulationReport report =
      Simulate(options, Alike(5, 4, 100));  // one runs for a second, two wait, two are refused
  EXPECT_EQ(report.requests, 5u);
  EXPECT_EQ(report.refused, 2u);
  EXPECT_EQ(report.expired, 2u);
  EXPECT_EQ(report.finished, 1u);
}

TEST(Simulation, SharedPrefixesAreFoundAndAFullCachePreempts) {
  SimulationOptions options = Equal(1);
  options.engine.prefix_cache = true;
  std::vector<SimulatedRequest> requests = Alike(10, 100, 5, 1.0);
  for (auto& request : requests) request.prefix = 7, request.prefix_tokens = 96;
  EXPECT_EQ(Simulate(options, requests).engine.prefix_hits, 9u * 96);
  for (size_t i = 0; i < requests.size(); ++i) requests[i].prefix = i;  // the same lengths, each its own
  EXPECT_EQ(Simulate(options, requests).engine.prefix_hits, 0u);

  options.engine.groups[0].blocks = 16;
  options.engine.context = 256;
  const SimulationReport tight = Simulate(options, Alike(8, 20, 200));
  EXPECT_GT(tight.engine.preemptions, 0u);
  EXPECT_EQ(tight.finished, 8u);
  EXPECT_EQ(tight.generated_tokens, 8u * 200);
  EXPECT_GT(tight.kv_peak, 0.9);
}

TEST(Simulation, ASequenceThatEndsByAnEndIdCostsOneRowMore) {
  SimulationOptions options = Equal(1);
  const SimulationReport known = Simulate(options, Alike(3, 10, 20, 5));
  options.ends_known = false;
  const SimulationReport drawn = Simulate(options, Alike(3, 10, 20, 5));
  EXPECT_EQ(drawn.generated_tokens, known.generated_tokens);
  EXPECT_GT(drawn.engine.rows, known.engine.rows);
  EXPECT_NEAR(drawn.end_to_end.p50, known.end_to_end.p50, 1e-9);
}

// Independent of VirtualPipeline's bookkeeping: what the trace shows must be possible.
TEST(Simulation, ATimelineInWhichNoStageDoesTwoThingsAtOnce) {
  SimulationOptions options = Equal(3);
  std::vector<TimelineSpan> spans;
  options.timeline = &spans;
  options.streams = 5;
  options.costs.of_step = [](const Step& step) {
    const double work = 0.001 * step.rows();
    return std::vector<StageSeconds>{{work, 0.001, 0.0005}, {2 * work, 0, 0.0005}, {work, 0, 0}};
  };
  const SimulationReport report = Simulate(options, Alike(20, 30, 20));
  std::map<std::string, double> reached;  // step -> end on the stage before
  std::vector<double> busy_until(3, 0), worked(3, 0);
  std::map<int, std::vector<TimelineSpan>> by_stage;
  for (const TimelineSpan& span : spans) {
    if (span.name != "hand over") by_stage[span.stage].push_back(span);
  }
  for (const auto& [stage, own] : by_stage) {
    EXPECT_EQ(own.size(), report.engine.steps);
    for (const TimelineSpan& span : own) {
      EXPECT_GE(span.start_seconds, busy_until[stage] - 1e-9);
      if (stage > 0) {
        EXPECT_GE(span.start_seconds, reached[span.name] + kHop - 1e-9);
      }
      reached[span.name] = busy_until[stage] = span.start_seconds + span.duration_seconds;
      worked[stage] += span.duration_seconds;
    }
    EXPECT_NEAR(worked[stage], report.stages[stage].compute + report.stages[stage].communication, 1e-6);
  }
}

// A masked stream waits for the master between two ids, as one does without run-ahead; its neighbours do not.
TEST(Simulation, MaskedRequestsGoByTheMasterForEveryId) {
  SimulationOptions options = Equal(1);
  std::vector<SimulatedRequest> requests = Alike(1, 20, 11);
  requests[0].masked = true;
  const SimulationReport report = Simulate(options, requests);
  EXPECT_EQ(report.generated_tokens, 11u);
  EXPECT_NEAR(report.inter_token.p50, kStage + 2 * kControl, 1e-9);

  options = Equal(3);
  options.engine.groups[0] = {.blocks = 40, .swap_blocks = 20};
  options.engine.context = 300;
  requests = Alike(30, 40, 50, 0.05);
  for (size_t i = 0; i < requests.size(); ++i) requests[i].masked = i % 2 == 0;
  options.outages = {{.at = 0.5, .seconds = 0.25}, {.at = 2, .seconds = 0}};
  const SimulationReport crowd = Simulate(options, requests);
  EXPECT_EQ(crowd.finished, 30u);
  EXPECT_EQ(crowd.generated_tokens, 30u * 50);
  EXPECT_GT(crowd.engine.preemptions, 0u);
}

// A window's blocks are given back, so that a group of it has room where one without would not.
TEST(Simulation, TwoCacheGroupsOfDifferentWindows) {
  SimulationOptions options = Equal(2);
  options.engine.prefix_cache = true;
  options.streams = 8;
  std::vector<SimulatedRequest> requests = Alike(40, 100, 200);
  for (size_t i = 0; i < requests.size(); ++i) requests[i].prefix = i % 3, requests[i].prefix_tokens = 50;
  const auto run = [&](int blocks, int window, int swap) {
    options.engine.groups = {{.blocks = 400, .swap_blocks = swap},
                             {.blocks = blocks, .swap_blocks = swap, .window = window}};
    SimulationReport report = Simulate(options, requests);
    EXPECT_EQ(report.finished, 40u);
    EXPECT_EQ(report.generated_tokens, 40u * 200);
    return report;
  };
  const SimulationReport roomy = run(400, 0, 0);
  EXPECT_EQ(roomy.engine.preemptions, 0u);
  EXPECT_EQ(run(90, 32, 0).engine.preemptions, 0u) << "8 streams x (7 blocks of a prompt, then 3)";
  for (const int swap : {0, 40}) {
    const SimulationReport tight = run(90, 256, swap);
    EXPECT_GT(tight.engine.preemptions, 0u);
    EXPECT_EQ(tight.engine.swapped > 0, swap > 0);
  }
  options.outages = {{.at = 0.5, .seconds = 0}, {.at = 2, .seconds = 1}};
  EXPECT_GT(run(90, 40, 40).engine.preemptions, 0u) << "whoever ran in an outage";
}

// Agents that are lost three times, once for a while: all requests give what they give without that, only later.
TEST(Simulation, OutagesCostTimeAndNothingElse) {
  for (const bool ends_known : {true, false}) {
    SimulationOptions options = Equal(3);
    options.engine.prefix_cache = true;
    options.engine.groups[0].blocks = 60;
    options.engine.groups[0].swap_blocks = 20;
    options.engine.context = 300;
    options.ends_known = ends_known;
    std::vector<SimulatedRequest> requests = Alike(30, 40, 50, 0.05);
    for (size_t i = 0; i < requests.size(); ++i) requests[i].prefix = i % 3, requests[i].prefix_tokens = 20;
    const SimulationReport calm = Simulate(options, requests);
    options.outages = {{.at = 0.5, .seconds = 0}, {.at = 0.7, .seconds = 2}, {.at = 3.5, .seconds = 0.25}};
    const SimulationReport rough = Simulate(options, requests);
    EXPECT_EQ(rough.finished, 30u);
    EXPECT_EQ(rough.generated_tokens, calm.generated_tokens);
    EXPECT_EQ(rough.prompt_tokens, calm.prompt_tokens);
    EXPECT_GT(rough.seconds, calm.seconds + 2);
    EXPECT_GT(rough.engine.rows, calm.engine.rows) << "what was lost is computed again";
    EXPECT_GT(rough.engine.preemptions, calm.engine.preemptions);
  }
}

TEST(Simulation, TheSameRequestsGiveTheSameReport) {
  SimulationOptions options = Equal(2);
  options.engine.groups[0].blocks = 20;
  options.engine.context = 300;
  const auto requests = Alike(40, 33, 70, 0.03);
  const SimulationReport a = Simulate(options, requests), b = Simulate(options, requests);
  EXPECT_EQ(a.seconds, b.seconds);
  EXPECT_EQ(a.engine.rows, b.engine.rows);
  EXPECT_EQ(a.inter_token.mean, b.inter_token.mean);
}

}  // namespace
}  // namespace pangea
