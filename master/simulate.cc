#include "master/simulate.h"

#include <charconv>
#include <fstream>
#include <functional>
#include <iostream>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/cat.h"
#include "master/engine_options.h"
#include "pipeline/cost_model.h"

namespace pangea {
namespace {

constexpr int kDataExitCode = 65, kOutputExitCode = 73;  // EX_DATAERR, EX_CANTCREAT
constexpr int kMostMadeRequests = 10'000'000;

constexpr char kHelp[] =
    "Usage: pangea simulate TARGET (--trace FILE | --rate R | --streams N) [options]\n\n"
    "Runs the real engine over agents that do no arithmetic, in virtual time: what the deployment would do under a "
    "load,\n"
    "predicted from its plan and from the speeds in its `simulate` section. Starts nothing and needs no weights.\n\n"
    "TARGET   a deployment file (.yaml, .yml), a model folder (a config.json will do) or a .gguf file\n\n"
    "The load:\n"
    "  --trace FILE           CSV; its first line names the columns: arrival (seconds), prompt, output (tokens), and, "
    "if\n"
    "                         wanted, prefix (a number), prefix_tokens, priority\n"
    "  --rate R               arrivals a second, as a Poisson process\n"
    "  --streams N            clients that each send their next request when one ends\n"
    "  --requests N           how many are drawn (default 200)\n"
    "  --prompt N or A-B      tokens of a prompt (default 512)\n"
    "  --output N or A-B      tokens of an answer (default 128)\n"
    "  --seed S               of arrivals and lengths (default 1)\n"
    "  --ends length|id       whether answers end by max_tokens, which the engine knows, or by an end id, which costs "
    "a\n"
    "                         row that ran ahead (default length)\n"
    "  --outage AT:SECONDS    the agents lose all they know, AT seconds on, and are back so much later; may be "
    "repeated\n"
    "What is shown:\n"
    "  --json                 one line of JSON instead of tables\n"
    "  --timeline FILE        also what every stage does when, in the Chrome trace format (open it in Perfetto)\n"
    "Of the deployment:\n"
    "  --pipeline N, --tensor N, --device KIND, --set KEY.PATH=VALUE   as for `pangea check`, whose --help-all "
    "lists all keys\n"
    "  --help                 this text\n\n"
    "Exit status: 0, 64 for a wrong command line, 65 for a wrong trace, 73 when the timeline cannot be written, 78 for "
    "a\n"
    "deployment that is refused.\n";

template <typename T>
absl::Status ReadNumber(const std::string& text, T low, T high, T* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  if (error == std::errc() && end == text.data() + text.size() && *value >= low && *value <= high)
    return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("expected a number from ", low, " to ", high));
}

absl::Status ReadRange(const std::string& text, TokenRange* range) {
  auto parsed = ParseTokenRange(text);
  if (parsed.ok()) *range = *parsed;
  return parsed.status();
}

// They come in order: each begins after the one before has ended.
absl::Status ReadOutage(const std::string& text, std::vector<Outage>* outages) {
  const size_t colon = text.find(':');
  if (colon == text.npos) return absl::InvalidArgumentError("expected AT:SECONDS");
  Outage outage;
  const double earliest = outages->empty() ? 0 : outages->back().at + outages->back().seconds;
  if (absl::Status s = ReadNumber(text.substr(0, colon), earliest, 1e9, &outage.at); !s.ok()) return s;
  if (absl::Status s = ReadNumber(text.substr(colon + 1), 0.0, 1e9, &outage.seconds); !s.ok()) return s;
  outages->push_back(outage);
  return absl::OkStatus();
}

struct ValueOption {
  std::string_view name;
  std::function<absl::Status(const std::string&)> set;
};

std::vector<ValueOption> ValueOptions(SimulateArgs* args) {
  const auto text = [](std::string* field) {
    return [field](const std::string& value) {
      *field = value;
      return value.empty() ? absl::InvalidArgumentError("expected a file") : absl::OkStatus();
    };
  };
  WorkloadShape* shape = &args->shape;
  return {
      {"--trace", text(&args->trace)},
      {"--timeline", text(&args->timeline)},
      {"--rate", [=](const std::string& v) { return ReadNumber(v, 1e-6, 1e6, &shape->rate); }},
      {"--streams", [=](const std::string& v) { return ReadNumber(v, 1, 1000000, &args->streams); }},
      {"--requests", [=](const std::string& v) { return ReadNumber(v, 1, kMostMadeRequests, &shape->requests); }},
      {"--prompt", [=](const std::string& v) { return ReadRange(v, &shape->prompt); }},
      {"--output", [=](const std::string& v) { return ReadRange(v, &shape->output); }},
      {"--seed", [=](const std::string& v) { return ReadNumber<uint64_t>(v, 0, ~uint64_t{0}, &shape->seed); }},
      {"--outage", [=](const std::string& v) { return ReadOutage(v, &args->outages); }},
      {"--ends",
       [=](const std::string& v) {
         args->ends_known = v == "length";
         return args->ends_known || v == "id" ? absl::OkStatus() : absl::InvalidArgumentError("expected length or id");
       }},
  };
}

}  // namespace

absl::StatusOr<SimulateArgs> ParseSimulateArgs(int argc, const char* const* argv) {
  SimulateArgs args;
  const std::vector<ValueOption> options = ValueOptions(&args);
  std::vector<const char*> others = {argv[0]};  // what check takes too
  bool shaped = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const size_t equals = word.find('=');
    const ValueOption* option = nullptr;
    for (const ValueOption& o : options) {
      if (word.substr(0, equals) == o.name) option = &o;
    }
    if (word == "--json") {
      args.json = true;
    } else if (option == nullptr) {
      others.push_back(argv[i]);
    } else {
      if (equals == word.npos && i + 1 == argc)
        return absl::InvalidArgumentError(Cat(word, " needs a value; see --help"));
      const std::string value(equals == word.npos ? argv[++i] : word.substr(equals + 1));
      if (absl::Status s = option->set(value); !s.ok())
        return absl::InvalidArgumentError(Cat(option->name, " ", value, ": ", s.message()));
      shaped |= option->name == "--requests" || option->name == "--prompt" || option->name == "--output";
    }
  }
  auto serve = ParseServeArgs(static_cast<int>(others.size()), others.data());
  if (!serve.ok()) return serve.status();
  args.serve = *std::move(serve);
  args.help = args.serve.help;
  if (args.help) return args;
  const int loads = !args.trace.empty() + (args.shape.rate > 0) + (args.streams > 0);
  if (loads != 1 && !(loads == 2 && args.shape.rate == 0))
    return absl::InvalidArgumentError(
        "one of --trace, --rate and --streams is expected (--streams may replay a --trace)");
  if (shaped && !args.trace.empty())
    return absl::InvalidArgumentError("--requests, --prompt and --output do not go with --trace, which has its own");
  return args;
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
  const auto args = ParseSimulateArgs(argc, argv);
  if (!args.ok()) return std::cerr << "pangea simulate: " << args.status().message() << "\n", kUsageExitCode;
  if (args->help) return std::cout << kHelp, 0;
  PlannedDeployment planned = PlanDeployment(args->serve, PlanFor::kSimulate);
  for (const std::string& warning : planned.warnings) std::cerr << "warning: " << warning << "\n";
  for (const std::string& fault : planned.faults) std::cerr << fault << "\n";
  if (!planned.faults.empty()) return kConfigExitCode;
  planned.plan.predicted_tokens_per_second = 0;  // that of a CPU; the simulation says more

  auto requests = args->trace.empty() ? DrawWorkload(args->shape) : ReadTrace(args->trace);
  if (!requests.ok()) return std::cerr << requests.status().message() << "\n", kDataExitCode;
  std::vector<TimelineSpan> spans;
  const SimulationReport report = RunSimulation(planned, *args, *requests, args->timeline.empty() ? nullptr : &spans);
  std::cout << (args->json ? ReportJson(planned, report) : ReportText(planned, report)) << std::flush;
  if (args->timeline.empty()) return 0;
  std::ofstream file(args->timeline, std::ios::binary);
  file << TimelineJson(spans) << std::flush;
  if (!file) return std::cerr << args->timeline << ": cannot be written\n", kOutputExitCode;
  return 0;
}

}  // namespace pangea
