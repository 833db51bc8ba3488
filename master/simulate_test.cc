#include "master/simulate.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "pipeline/cost_model.h"

namespace pangea {
namespace {

namespace fs = std::filesystem;

std::string TraceError(const std::string& text) {
  const auto read = ParseTrace(text, "t.csv");
  return read.ok() ? "" : std::string(read.status().message());
}

TEST(Trace, ColumnsMayStandInAnyOrder) {
  const auto read = ParseTrace("# a comment\n output , arrival,prompt\n 3, 0.5 ,12\n\n1,2e1,7\r\n", "t.csv");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 2u);
  EXPECT_EQ((*read)[0].output, 3);
  EXPECT_EQ((*read)[0].arrival, 0.5);
  EXPECT_EQ((*read)[0].prompt, 12);
  EXPECT_EQ((*read)[1].arrival, 20);
  const auto full = ParseTrace("arrival,prompt,output,prefix,prefix_tokens,priority\n1,9,2,77,8,-3\n", "t.csv");
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_EQ((*full)[0].prefix, 77u);
  EXPECT_EQ((*full)[0].prefix_tokens, 8);
  EXPECT_EQ((*full)[0].priority, -3);
}

TEST(Trace, FaultsNameLineAndColumn) {
  const std::string head = "arrival,prompt,output\n";
  EXPECT_EQ(TraceError(""), "t.csv:1: no line names the columns");
  EXPECT_EQ(TraceError(head), "t.csv:2: no requests");
  EXPECT_EQ(TraceError("arrival,prompt\n0,1\n"), "t.csv:1: column output is missing");
  EXPECT_EQ(TraceError("arrival,prompt,output,promt\n").substr(0, 40), "t.csv:1: column \"promt\" is not known; th");
  EXPECT_EQ(TraceError("arrival,prompt,output,prompt\n"), "t.csv:1: column prompt is named twice");
  EXPECT_EQ(TraceError(head + "0,1,1\n0,1\n"), "t.csv:3: has 2 columns, the first line names 3");
  EXPECT_EQ(TraceError(head + "-1,1,1\n"), "t.csv:2: arrival: expected seconds from 0 to 1e9, not \"-1\"");
  EXPECT_EQ(TraceError(head + "nan,1,1\n"), "t.csv:2: arrival: expected seconds from 0 to 1e9, not \"nan\"");
  EXPECT_EQ(TraceError(head + "0,0,1\n"), "t.csv:2: prompt: expected a whole number from 1 to 16777216, not \"0\"");
  EXPECT_EQ(TraceError(head + "0,1,99999999999\n"),
            "t.csv:2: output: expected a whole number from 1 to 16777216, not \"99999999999\"");
  EXPECT_EQ(TraceError(head + "0,1.5,1\n0,1,x\n"),
            "t.csv:2: prompt: expected a whole number from 1 to 16777216, not \"1.5\"\n"
            "t.csv:3: output: expected a whole number from 1 to 16777216, not \"x\"");
  EXPECT_EQ(TraceError("arrival,prompt,output,prefix_tokens\n0,4,1,5\n"),
            "t.csv:2: prefix_tokens: is 5, more than the prompt of 4");
  std::string many = head;
  for (int i = 0; i < 1000; ++i) many += "x,1,1\n";
  const std::string error = TraceError(many);
  EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 9);
  EXPECT_FALSE(ReadTrace("/nowhere/at/all").ok());
  EXPECT_FALSE(ReadTrace("/tmp").ok());
}

TEST(Workload, IsOfItsSeedAndItsShape) {
  WorkloadShape shape{.requests = 4000, .rate = 50, .prompt = {10, 20}, .output = {5, 5}, .seed = 3};
  const auto a = DrawWorkload(shape), b = DrawWorkload(shape);
  shape.seed = 4;
  EXPECT_NE(DrawWorkload(shape)[7].arrival, a[7].arrival);
  int low = 100, high = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].arrival, b[i].arrival);
    EXPECT_EQ(a[i].prompt, b[i].prompt);
    EXPECT_EQ(a[i].output, 5);
    if (i > 0) {
      EXPECT_GE(a[i].arrival, a[i - 1].arrival);
    }
    low = std::min(low, a[i].prompt), high = std::max(high, a[i].prompt);
  }
  EXPECT_EQ(low, 10);
  EXPECT_EQ(high, 20);
  EXPECT_NEAR(a.back().arrival, 4000 / 50.0, 6);  // 80 s, of standard deviation 1.3
  for (const char* text : {"", "0", "-5", "9-3", "5-", "x", "1.5", "99999999"})
    EXPECT_FALSE(ParseTokenRange(text).ok()) << text;
}

absl::StatusOr<SimulateArgs> Args(std::vector<const char*> words) {
  SimulateArgs args;
  words.insert(words.begin(), "simulate");
  CommandLine line = SimulateCommandLine(&args);
  const absl::Status parsed = ParseSimulateArgs(line, static_cast<int>(words.size()), words.data(), &args);
  if (!parsed.ok()) return parsed;
  return args;
}

TEST(SimulateArgs, TakesItsOwnOptionsAndThoseOfCheck) {
  const auto args = Args({"--streams",  "8",        "m.yaml",   "--prompt=10-20", "--output",   "7",
                          "--requests", "9",        "--seed=5", "--ends",         "id",         "--outage",
                          "1:2",        "--outage", "3:0.5",    "--json",         "--timeline", "t.json",
                          "--pipeline", "4",        "--set",    "context=64"});
  ASSERT_TRUE(args.ok()) << args.status();
  EXPECT_EQ(args->serve.target, "m.yaml");
  EXPECT_EQ(args->serve.settings, (std::vector<std::string>{"parallel.pipeline=4", "context=64"}));
  EXPECT_EQ(args->streams, 8);
  EXPECT_EQ(args->shape.prompt.high, 20);
  EXPECT_EQ(args->shape.requests, 9);
  EXPECT_EQ(args->shape.seed, 5u);
  ASSERT_EQ(args->outages.size(), 2u);
  EXPECT_TRUE(args->outages[1].at == 3 && args->outages[1].seconds == 0.5);
  EXPECT_TRUE(args->json && !args->ends_known && args->timeline == "t.json");
  EXPECT_TRUE(Args({"--help"}).ok());
  for (const std::vector<const char*>& wrong :
       std::vector<std::vector<const char*>>{{"m"},
                                             {"m", "--rate", "1", "--streams", "1"},
                                             {"m", "--rate", "0"},
                                             {"m", "--rate", "x"},
                                             {"m", "--rate"},
                                             {"m", "--trace", "f", "--prompt", "3"},
                                             {"m", "--streams", "1", "--bogus", "1"},
                                             {"--streams", "1"},
                                             {"m", "--streams", "1", "--ends", "never"},
                                             {"m", "--streams", "1", "--outage", "5"},
                                             {"m", "--streams", "1", "--outage", "5:2", "--outage", "6:1"},
                                             {"m", "--streams", "1", "--prompt", "0"}}) {
    EXPECT_FALSE(Args(wrong).ok()) << wrong.back();
  }
}

// A folder with nothing but a config.json.
class SimulateTest : public ::testing::Test {
 protected:
  SimulateTest() {
    std::string pattern = ::testing::TempDir() + "/simulate.XXXXXX";
    folder_ = mkdtemp(pattern.data());
    std::ofstream(folder_ / "config.json")
        << R"({"model_type": "gpt_pangu", "vocab_size": 40000, "hidden_size": 2560, "num_layers": 32, "num_heads": 32,
               "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05, "max_position_embeddings": 1024,
               "torch_dtype": "float16", "tie_word_embeddings": true})";
  }
  ~SimulateTest() override { fs::remove_all(folder_); }
  PlannedDeployment Plan(std::vector<std::string> settings) {
    settings.push_back("cache.memory=1GiB");
    return PlanDeployment({.target = folder_.string(), .settings = std::move(settings)}, PlanFor::kSimulate);
  }
  fs::path folder_;
};

TEST_F(SimulateTest, AConfigAloneIsPlannedToTheByte) {
  const PlannedDeployment planned = Plan({"parallel.tensor=2"});
  ASSERT_EQ(planned.faults, std::vector<std::string>());
  double parameters = 0;
  for (const auto& [name, info] : planned.header.tensors) parameters += info.bytes / 2;
  EXPECT_EQ(parameters, 2'625'295'360);  // of the published PanGu-alpha 2.6B (reference: 32 layers, 2560 wide)
  // Serving needs what is not there.
  const PlannedDeployment served = PlanDeployment({.target = folder_.string(), .settings = {}});
  EXPECT_FALSE(served.faults.empty());
}

// The files of docs/pangu_200b.md, from the root of the sources, where tests run.
TEST(Study, Pangu200bIsPlannedOn16And64Devices) {
  for (const int devices : {16, 64}) {
    const std::string file = "docs/studies/pangu-alpha-200b/" + std::to_string(devices) + ".yaml";
    const PlannedDeployment planned = PlanDeployment({.target = file, .settings = {}}, PlanFor::kSimulate);
    ASSERT_EQ(planned.faults, std::vector<std::string>()) << file;
    double parameters = 0;
    for (const auto& [name, info] : planned.header.tensors) parameters += info.bytes / 2;
    EXPECT_EQ(parameters, 206'861'008'896);  // of the published shape
    ASSERT_EQ(planned.plan.agents.size(), static_cast<size_t>(devices));
    double matrices = 0;
    for (const RankPlan& agent : planned.plan.agents) matrices += agent.memory.weights();
    // Norms and biases are f32, the head is packed beside the tied embedding, whose tables every rank of stage 0 maps.
    EXPECT_GT(matrices / (2 * parameters), 1);
    EXPECT_LT(matrices / (2 * parameters), 1.02);
    SimulateArgs args;
    args.streams = 8;
    args.shape = {.requests = 16, .rate = 0, .prompt = {128, 128}, .output = {16, 16}, .seed = 1};
    EXPECT_EQ(RunSimulation(planned, args, DrawWorkload(args.shape), nullptr).finished, 16u);
  }
  const ServeArgs greedy = {.target = "docs/studies/pangu-alpha-200b/16.yaml", .settings = {"cache.memory=8GiB"}};
  const auto faults = PlanDeployment(greedy, PlanFor::kSimulate).faults;
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_NE(faults[0].find("16.yaml:11:11: simulate.memory: rank "), std::string::npos) << faults[0];
}

TEST_F(SimulateTest, MemoryThatIsMissingIsRefused) {
  EXPECT_EQ(Plan({"simulate.memory=8GB"}).faults, std::vector<std::string>());
  const auto faults = Plan({"simulate.memory=4GB"}).faults;
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_TRUE(faults[0].starts_with("--set simulate.memory=4GB: simulate.memory: rank 0 of stage 0 needs "))
      << faults[0];
}

TEST_F(SimulateTest, ReportsSayTheSameInBothForms) {
  const PlannedDeployment planned = Plan({"parallel.pipeline=2"});
  SimulateArgs args;
  args.streams = 4;
  args.shape = {.requests = 12, .rate = 0, .prompt = {100, 100}, .output = {20, 20}, .seed = 1};
  std::vector<TimelineSpan> spans;
  const SimulationReport report = RunSimulation(planned, args, DrawWorkload(args.shape), &spans);
  EXPECT_EQ(report.finished, 12u);
  EXPECT_GE(spans.size(), 2 * report.engine.steps);
  const auto json = nlohmann::json::parse(ReportJson(planned, report));
  EXPECT_EQ(json["generated_tokens"], 240);
  EXPECT_EQ(json["per_stage"].size(), 2u);
  EXPECT_EQ(json["per_device"][1]["bytes"], planned.plan.agents[1].memory.total());
  EXPECT_NEAR(json["generated_per_second"].get<double>() * json["seconds"].get<double>(), 240, 1e-6);
  const std::string text = ReportText(planned, report);
  for (const char* part : {"12 finished", "first token", "inter-token", "bubble", "KV cache", "a device"})
    EXPECT_NE(text.find(part), text.npos) << part << "\n" << text;
}

// Twice the speed everywhere is half the time: nothing in the model is left out of the speeds.
TEST_F(SimulateTest, TimeScalesWithAllSpeeds) {
  SimulateArgs args;
  args.streams = 4;
  args.shape = {.requests = 12, .rate = 0, .prompt = {100, 200}, .output = {20, 30}, .seed = 1};
  const auto seconds = [&](std::vector<std::string> speeds) {
    speeds.insert(speeds.end(), {"parallel.pipeline=2", "parallel.tensor=2"});
    return RunSimulation(Plan(speeds), args, DrawWorkload(args.shape), nullptr).seconds;
  };
  const double slow = seconds({});
  const double fast =
      seconds({"simulate.gflops=400", "simulate.memory_bandwidth=50GB", "simulate.layer_seconds=10us",
               "simulate.step_seconds=50us", "simulate.tensor_bandwidth=10GB", "simulate.tensor_latency=10us",
               "simulate.stage_bandwidth=10GB", "simulate.stage_latency=25us", "simulate.control_latency=50us"});
  EXPECT_NEAR(slow / fast, 2, 1e-6);
}

}  // namespace
}  // namespace pangea
