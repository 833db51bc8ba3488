#include "master/server.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/log.h"
#include "configs/mutex.h"
#include "configs/serve_args.h"
#include "configs/signals.h"
#include "configs/version.h"
#include "master/api/doors.h"
#include "master/check.h"
#include "master/engine_options.h"
#include "master/fleet/fleet.h"
#include "master/observe.h"
#include "master/schedule/engine.h"
#include "master/text/model_grammars.h"
#include "master/text/text.h"
#include "pipeline/checkpoint/content_hash.h"
#include "pipeline/parallel_plan.h"

namespace pangea {
namespace {

constexpr double kFailureSeconds = 1;  // for the error events to reach the clients of a fleet that failed

uint64_t Fnv(const std::string& text) {
  uint64_t h = 0xcbf29ce484222325ull;
  for (unsigned char c : text) h = (h ^ c) * 0x100000001b3ull;
  return h;
}

// FORMAT-PLAN-HASH: equal hashes promise equal bytes. The hash covers build, definition of the arithmetic, weights (by
// samples, checkpoint/content_hash.h), activation bits, ISA class, KV type, and the context where RoPE scaling depends
// on it; on CPU bytes do not depend on the plan, so the plan is told but not hashed.
std::string SystemFingerprint(const Deployment& deployment, const CheckpointHeader& header,
                              const std::string& content_hash, const ParallelPlan& plan, const std::string& isa) {
  std::string covered = absl::StrCat(kBuild, "|", kExactness, "|", content_hash, "|", deployment.kernels.activations,
                                     deployment.kernels.exact ? "|" : "|fast|", isa, "|", deployment.cache.type);
  if (!deployment.kernels.exact) absl::StrAppend(&covered, "|", plan.Hash());
  if (header.config.rope.scaling == RopeScaling::kDynamic)
    absl::StrAppend(&covered, "|", plan.context);  // it shapes the tables
  return absl::StrFormat("%s-%dx%d-%08x", Info(header.config.dtype).name, plan.stages, plan.ranks,
                         static_cast<uint32_t>(Fnv(covered) >> 32));
}

// Wakes the main thread, which waits for signals too.
class Wake {
 public:
  Wake() : fd_(eventfd(0, EFD_CLOEXEC)) {}
  ~Wake() { close(fd_); }
  void Set() const {
    const uint64_t one = 1;
    [[maybe_unused]] auto n = write(fd_, &one, sizeof(one));
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

constexpr int kMappedBytes = 256 << 10;

struct Server {
  Deployment deployment;
  CheckpointHeader header;
  ParallelPlan plan;
  KeyRing keys;
  std::unique_ptr<Text> text;
  std::unique_ptr<Grammars> grammars;
  std::string content_hash;
  std::unique_ptr<Observation> observation;
  ApiContext context;
  Wake wake;
  int signals = -1;
  Mutex mutex;
  absl::Status failure ABSL_GUARDED_BY(mutex);  // of the fleet
  Mutex looking;                                // at the fleet, for its health
  uint64_t fingerprint_epoch ABSL_GUARDED_BY(looking) = 0;
  Mutex delivering;
  bool doors_open ABSL_GUARDED_BY(delivering) = false;  // the engine's thread may outlive the doors
  std::unique_ptr<Doors> doors;
  std::unique_ptr<Fleet> fleet;
  std::unique_ptr<EngineThread> engine;

  absl::Status Open();
  absl::Status StartFleet();
  int Run();
  int Drain();
  int Fail(const absl::Status& why);
  void Close();
  bool Signalled(int timeout_ms);
  int TakeSignal();
  void Deliver(std::vector<Output> outputs) {
    MutexLock lock(delivering);
    observation->Deliver([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(delivering) {
      if (doors_open) doors->Deliver(std::move(outputs));
    });
  }
  void OnFailure(const absl::Status& why) {  // of agents or engine, from any thread
    {
      MutexLock lock(mutex);
      // To a client it is the same whatever befell them: try again elsewhere.
      if (failure.ok()) failure = absl::UnavailableError(why.message());
    }
    wake.Set();
  }
  // Whether it recovers. Two who tell so at once may come in any order: each looks for itself.
  void LookAtFleet() {
    MutexLock lock(looking);
    const bool recovers = !fleet->recovery().empty();
    Health from = recovers ? Health::kReady : Health::kRecovering;
    context.health.compare_exchange_strong(from, recovers ? Health::kRecovering : Health::kReady);
  }
  absl::Status Failure() {
    MutexLock lock(mutex);
    return failure;
  }
};

absl::Status Server::Open() {
  auto hash = ContentHash(header);
  if (!hash.ok()) return hash.status();
  content_hash = *std::move(hash);
  context.deployment = &deployment;
  context.model = &header.config;
  context.text = text.get();
  std::vector<int32_t> ends = text->end_ids();
  ends.insert(ends.end(), header.config.eos.begin(), header.config.eos.end());
  grammars = std::make_unique<ModelGrammars>(*text, std::move(ends), header.config.vocab);
  context.grammars = grammars.get();
  if (!keys.empty()) context.keys = &keys;
  context.names = {deployment.name};
  context.names.insert(context.names.end(), deployment.names.begin(), deployment.names.end());
  context.sampling = MakeSamplingDefaults(deployment.sampling, header.sampling, header.config.vocab);
  context.context = plan.context;
  context.created =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  auto watching = Observation::Open(deployment);
  if (!watching.ok()) return watching.status();
  observation = *std::move(watching);
  context.more_metrics = [this](MetricsPage& page) { observation->Write(page); };
  context.timeline = observation->timeline();
  auto opened = Doors::Open(&context);
  if (!opened.ok()) return opened.status();
  doors = *std::move(opened);
  MutexLock lock(delivering);
  doors_open = true;
  return absl::OkStatus();
}

// Doors first, since their requests call the engine; then the engine, then the agents.
void Server::Close() {
  {
    MutexLock lock(delivering);
    doors_open = false;
  }
  doors.reset();
  observation->Show(nullptr, nullptr);
  engine.reset();
  fleet.reset();
  close(signals);
}

absl::Status Server::StartFleet() {
  FleetOptions options;
  options.executable = std::filesystem::read_symlink("/proc/self/exe").string();
  options.on_result = [this](StepResult result) { engine->OnResult(std::move(result)); };
  options.on_epoch = [this](uint64_t epoch, const ParallelPlan& agents, uint64_t pages_since) {
    {
      MutexLock lock(looking);
      if (epoch > fingerprint_epoch)
        context.fingerprint.Set(SystemFingerprint(deployment, header, content_hash, agents, fleet->isa()));
      fingerprint_epoch = std::max(fingerprint_epoch, epoch);
    }
    engine->EpochChanged(epoch, MakeEngineLayout(agents), pages_since);
    LookAtFleet();
  };
  options.on_interrupted = [this](const absl::Status&) { LookAtFleet(); };
  options.on_failure = [this](const absl::Status& why) { OnFailure(why); };
  options.take_requests = [this](bool take) {
    LogInfo("%s", take ? "requests are taken again" : "no new requests are taken, as it was asked for");
    context.paused = !take;
    return absl::OkStatus();
  };
  options.requests = [this] {
    const EngineStats stats = context.health != Health::kLoading ? engine->stats() : EngineStats{};
    return FleetOptions::Requests{.taken = !context.paused, .running = stats.running, .waiting = stats.queued};
  };
  options.timeline = observation->timeline();
  auto started = Fleet::Start(deployment, header, plan, std::move(options));
  if (!started.ok()) return started.status();
  fleet = *std::move(started);
  EngineOptions engine_options = MakeEngineOptions(deployment, plan);
  observation->Watch(&engine_options);
  engine = std::make_unique<EngineThread>(
      engine_options, observation->Watch(fleet.get()),
      [this](std::vector<Output> outputs) { Deliver(std::move(outputs)); },
      [this](const absl::Status& why) { OnFailure(why); });
  context.engine = engine.get();
  context.recovery = [this] { return fleet->recovery(); };
  observation->Show(fleet.get(), engine.get());
  return absl::OkStatus();
}

bool Server::Signalled(int timeout_ms) {
  pollfd fds[2] = {{signals, POLLIN, 0}, {wake.fd(), POLLIN, 0}};
  while (poll(fds, 2, timeout_ms) < 0 && errno == EINTR) {
  }
  return (fds[0].revents & POLLIN) != 0;
}

int Server::Run() {
  // Loading takes long for a large model, so a signal must end it as well; the wait has a thread of its own.
  absl::Status ready;
  std::atomic<bool> waited{false};
  std::thread waiter([&] {
    ready = fleet->WaitReady();
    waited = true;
    wake.Set();
  });
  while (!waited && Failure().ok()) {
    if (Signalled(-1)) {
      LogInfo("stopped while loading");
      fleet->Stop();
      waiter.join();
      return 0;
    }
    uint64_t count;
    [[maybe_unused]] auto n = read(wake.fd(), &count, sizeof(count));
  }
  if (!waited) fleet->Stop();
  waiter.join();
  if (!Failure().ok()) return Fail(Failure());
  if (!ready.ok()) return Fail(ready);
  context.health = Health::kReady;
  LookAtFleet();
  std::printf("ready rest=%s grpc=%s\n", doors->rest_url().c_str(), doors->grpc_address().c_str());
  std::fflush(stdout);
  while (!Signalled(-1)) {
    if (const auto why = Failure(); !why.ok()) return Fail(why);
  }
  return Drain();
}

// Takes the signal that Signalled has seen.
int Server::TakeSignal() {
  signalfd_siginfo info{};
  [[maybe_unused]] auto n = read(signals, &info, sizeof(info));
  return static_cast<int>(info.ssi_signo);
}

// Readiness is false at once; running requests finish up to the deadline; a second signal means now.
int Server::Drain() {
  TakeSignal();
  LogInfo("draining %d open requests, at most %.0f s; once more to stop now", doors->open_requests(),
          deployment.drain_seconds);
  context.health = Health::kDraining;
  std::atomic<bool> drained{false};
  const auto why = absl::UnavailableError("the server is shutting down");
  std::thread drain([&] {
    doors->Drain(deployment.drain_seconds, why);
    drained = true;
    wake.Set();
  });
  while (!drained) {
    if (Signalled(-1)) {
      if (TakeSignal() == SIGHUP) continue;  // a closed terminal may send it twice, by the shell and by the kernel
      LogInfo("stopping now");
      engine->FailAll(why);
      doors->Hurry();
      break;
    }
    if (!Failure().ok()) {
      engine->FailAll(Failure());
      doors->Hurry();
      break;
    }
    uint64_t count;
    [[maybe_unused]] auto r = read(wake.fd(), &count, sizeof(count));
  }
  drain.join();
  engine->FailAll(why);
  fleet->Stop();
  return Failure().ok() ? 0 : 1;
}

// Every open request ends with the reason, then the process ends non-zero: never a live process that answers 503 for
// ever.
int Server::Fail(const absl::Status& why) {
  LogError("%s", why.ToString());
  context.failure = std::string(why.message());
  context.health = Health::kFailed;
  const auto told = absl::UnavailableError(why.message());
  if (engine) engine->FailAll(told);
  doors->Drain(kFailureSeconds, told);
  if (fleet) fleet->Stop();
  return 1;
}

}  // namespace

int ServeMain(int argc, char** argv) {
  ServeArgs args;
  CommandLine line = ServeCommandLine("serve", &args);
  if (const auto code = ServeExit(line, ParseTarget(line, argc, argv, &args), args)) return *code;
  PlannedDeployment planned = PlanDeployment(args);
  for (const std::string& fault : planned.faults) std::cerr << fault << "\n";
  if (!planned.faults.empty()) return kConfigExitCode;

  Server server;
  server.deployment = std::move(planned.deployment);
  server.header = std::move(planned.header);
  server.plan = std::move(planned.plan);
  server.keys = std::move(planned.keys);
  server.text = std::move(planned.text);
  server.signals = EndSignals();
  // Large bodies are mapped and given back: by default the allocator raises this threshold and keeps what was freed.
  mallopt(M_MMAP_THRESHOLD, kMappedBytes);
  // Small pieces freed by another thread than took them are merged when they are freed, and not all at once within a
  // step.
  mallopt(M_MXFAST, 0);
  SetLogLevel(server.deployment.log.level);
  SetLogProcess("master");
  for (const std::string& warning : planned.warnings) LogWarning("%s", warning);
  LogInfo("%s: %s", server.deployment.name, server.deployment.model);
  if (auto s = server.Open(); !s.ok()) {
    LogError("%s", s.message());
    return kConfigExitCode;
  }
  const auto started = server.StartFleet();
  int code = kConfigExitCode;  // StartFleet fails when control.listen or its token is no good: no agent runs yet
  if (started.ok())
    code = server.Run();
  else
    server.Fail(started);
  server.Close();
  return code;
}

}  // namespace pangea
