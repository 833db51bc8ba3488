#include "master/simulate.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iostream>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "master/engine_options.h"
#include "pipeline/cost_model.h"

namespace pangea {
namespace {

constexpr int kDataExitCode = 65, kOutputExitCode = 73;  // EX_DATAERR, EX_CANTCREAT
constexpr int kMostMadeRequests = 10'000'000;

constexpr char kIntro[] =
    R"(Runs the real engine over agents that do no arithmetic, in virtual time: what
the deployment would do under a load, predicted from its plan and from the
speeds in its `simulate` section. Starts nothing and needs no weights. Exit
status: 0, 64 for a wrong command line, 65 for a wrong trace, 73 when the
timeline cannot be written, 78 for a deployment that is refused.)";

absl::Status ReadRange(const std::string& text, TokenRange* range) {
  auto parsed = ParseTokenRange(text);
  if (parsed.ok()) *range = *parsed;
  return parsed.status();
}

// They come in order: each begins after the one before has ended.
absl::Status ReadOutage(const std::string& text, std::vector<Outage>* outages) {
  const double earliest = outages->empty() ? 0 : outages->back().at + outages->back().seconds;
  const size_t colon = std::min(text.find(':'), text.size());
  Outage outage;
  const auto number = [](std::string_view digits, double low, double* value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *value);
    return error == std::errc() && end == digits.data() + digits.size() && *value >= low && *value <= 1e9;
  };
  const std::string_view all = text;
  if (colon == text.size() || !number(all.substr(0, colon), earliest, &outage.at) ||
      !number(all.substr(colon + 1), 0, &outage.seconds))
    return absl::InvalidArgumentError(
        absl::StrCat("expected AT:SECONDS, two numbers up to 1e9, the first from ", earliest));
  outages->push_back(outage);
  return absl::OkStatus();
}

}  // namespace

CommandLine SimulateCommandLine(SimulateArgs* args) {
  WorkloadShape* shape = &args->shape;
  CommandLine line("simulate", "TARGET (--trace FILE | --rate R | --streams N) [options]", kIntro);
  line.Word("TARGET", "a deployment file (.yaml, .yml), a model folder (a config.json will do) or a .gguf file");
  line.Heading("The load:");
  line.Text("--trace", "FILE",
            "CSV; its first line names the columns: arrival (seconds), prompt, output (tokens), and, if wanted, prefix "
            "(a number), prefix_tokens, priority",
            &args->trace);
  line.Number("--rate", "arrivals a second, as a Poisson process", {1e-6, 1e6}, &shape->rate);
  line.Number("--streams", "clients that each send their next request when one ends", {1, 1000000}, &args->streams);
  line.Number("--requests", "how many are drawn (default 200)", {1, kMostMadeRequests}, &shape->requests);
  line.Value("--prompt", "N or A-B", "tokens of a prompt (default 512)",
             [=](const std::string& v) { return ReadRange(v, &shape->prompt); });
  line.Value("--output", "N or A-B", "tokens of an answer (default 128)",
             [=](const std::string& v) { return ReadRange(v, &shape->output); });
  line.Number("--seed", "of arrivals and lengths (default 1)", {0, 18446744073709551615.0}, &shape->seed);
  line.Value("--ends", "length|id",
             "whether answers end by max_tokens, which the engine knows, or by an end id, which costs a row that ran "
             "ahead (default length)",
             [=](const std::string& v) {
               args->ends_known = v == "length";
               return args->ends_known || v == "id" ? absl::OkStatus()
                                                    : absl::InvalidArgumentError("expected length or id");
             });
  line.Value(
      "--outage", "AT:SECONDS",
      "the agents lose all they know, AT seconds on, and are back so much later; may be repeated",
      [=](const std::string& v) { return ReadOutage(v, &args->outages); }, /*repeats=*/true);
  line.Heading("What is shown:");
  line.Switch("--json", "one line of JSON instead of tables", &args->json);
  line.Text("--timeline", "FILE", "also what every stage does when, in the Chrome trace format (open it in Perfetto)",
            &args->timeline);
  line.Heading("Of the deployment (`pangea check --help-all` lists all keys):");
  AddLayoutOptions(line, &args->serve);
  return line;
}

absl::Status ParseSimulateArgs(CommandLine& line, int argc, const char* const* argv, SimulateArgs* args) {
  if (const absl::Status s = ParseTarget(line, argc, argv, &args->serve); !s.ok() || line.help()) return s;
  const WorkloadShape& shape = args->shape;
  const int loads = !args->trace.empty() + (shape.rate > 0) + (args->streams > 0);
  if (loads != 1 && !(loads == 2 && shape.rate == 0))
    return absl::InvalidArgumentError(
        "one of --trace, --rate and --streams is expected (--streams may replay a --trace)");
  if (!args->trace.empty() && (line.given("--requests") || line.given("--prompt") || line.given("--output")))
    return absl::InvalidArgumentError("--requests, --prompt and --output do not go with --trace, which has its own");
  return absl::OkStatus();
}

SimulationReport RunSimulation(const PlannedDeployment& planned, const SimulateArgs& args,
                               const std::vector<SimulatedRequest>& requests, std::vector<TimelineSpan>* timeline) {
  const CostModel model(TensorIndex(planned.header), planned.deployment, planned.plan);
  SimulationOptions options;
  options.engine = MakeEngineOptions(planned.deployment, planned.plan);
  options.streams = args.streams;
  options.ends_known = args.ends_known;
  options.timeline = timeline;
  options.outages = args.outages;
  options.costs.control_latency = planned.deployment.simulate.control_latency;
  options.costs.stage_latency = planned.deployment.simulate.stage_latency;
  options.costs.of_step = [&](const Step& step) {
    std::vector<StageSeconds> seconds;
    for (const StageCost& cost : model.Stages(step))
      seconds.push_back(
          {.compute = cost.compute(), .gather = cost.gather, .hand_over = cost.hand_over, .copies = cost.copies});
    return seconds;
  };
  return Simulate(options, requests);
}

int SimulateMain(int argc, char** argv) {
  SimulateArgs args;
  CommandLine line = SimulateCommandLine(&args);
  if (const auto code = line.Exit(ParseSimulateArgs(line, argc, argv, &args))) return *code;
  PlannedDeployment planned = PlanDeployment(args.serve, PlanFor::kSimulate);
  for (const std::string& warning : planned.warnings) std::cerr << "warning: " << warning << "\n";
  for (const std::string& fault : planned.faults) std::cerr << fault << "\n";
  if (!planned.faults.empty()) return kConfigExitCode;
  planned.plan.predicted_tokens_per_second = 0;  // that of a CPU; the simulation says more

  auto requests = args.trace.empty() ? DrawWorkload(args.shape) : ReadTrace(args.trace);
  if (!requests.ok()) return std::cerr << requests.status().message() << "\n", kDataExitCode;
  std::vector<TimelineSpan> spans;
  const SimulationReport report = RunSimulation(planned, args, *requests, args.timeline.empty() ? nullptr : &spans);
  std::cout << (args.json ? ReportJson(planned, report) : ReportText(planned, report)) << std::flush;
  if (args.timeline.empty()) return 0;
  std::ofstream file(args.timeline, std::ios::binary);
  file << TimelineJson(spans) << std::flush;
  if (!file) return std::cerr << args.timeline << ": cannot be written\n", kOutputExitCode;
  return 0;
}

}  // namespace pangea
