#include "agent/bench_cluster.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <latch>

#include "absl/strings/str_cat.h"
#include "agent/device_executor.h"
#include "agent/group/exchange_place.h"
#include "agent/group/thread_group.h"
#include "configs/device.h"
#include "kernels/check.h"
#include "kernels/cuda/make_queue.h"
#include "kernels/ops.h"
#include "kernels/threads.h"
#include "pipeline/capacity.h"

namespace pangea {
namespace {

SequenceSampling Greedy() {
  Sampling greedy;
  greedy.temperature = 0;
  return {.params = std::make_shared<Sampling>(greedy)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<BenchCluster>> BenchCluster::Make(const Deployment& deployment,
                                                                 const CheckpointHeader& header,
                                                                 const ParallelPlan& plan, bool makes_up) {
  auto cluster = std::unique_ptr<BenchCluster>(new BenchCluster(plan, makes_up));
  const auto isa = IsaFromName(deployment.kernels.isa);
  cluster->groups_ = MakeThreadGroups(plan.stages, plan.ranks, absl::Seconds(600));
  for (int i = 0; i < static_cast<int>(plan.agents.size()); ++i) {
    cluster->agents_.push_back(std::make_unique<Agent>());
    Agent& agent = *cluster->agents_.back();
    agent.assignment.deployment = deployment;
    agent.assignment.header = header;
    agent.assignment.plan = plan;
    agent.assignment.agent = i;
    agent.assignment.isa = isa.value_or(BestIsa());
    if (agent.assignment.isa > BestIsa())
      return absl::FailedPreconditionError(absl::StrCat("this CPU lacks ISA class ", deployment.kernels.isa));
    if (auto s = MakeExecutor(agent.assignment, agent.kept, &agent.queue, &agent.executor, makes_up); !s.ok()) return s;
    if (auto s = agent.executor->Load(); !s.ok()) return s;
    agent.worker = std::make_unique<Worker>();
  }
  std::vector<ExchangePlace*> places;
  for (const auto& agent : cluster->agents_)
    if (agent->executor->exchange_place() != nullptr) places.push_back(agent->executor->exchange_place());
  if (!places.empty()) {
    if (auto s = ExchangePlace::JoinHere(places, &cluster->groups_); !s.ok()) return s;
  }
  return cluster;
}

BenchCluster::~BenchCluster() {
  for (const auto& agent : agents_) {
    if (agent->worker == nullptr) continue;
    while (!agent->worker->Stop(std::chrono::seconds(1))) {
    }
  }
}

absl::Status BenchCluster::Number(Step* step) {
  step->epoch = 1;
  step->number = ++number_;
  step->ended = std::exchange(ended_, {});
  return Validate(*step, agents_[0]->assignment.limits());
}

absl::StatusOr<double> BenchCluster::Run(Step step) {
  if (auto s = Number(&step); !s.ok()) return s;
  std::vector<absl::Status> statuses(agents_.size());
  std::latch done(static_cast<std::ptrdiff_t>(agents_.size()));
  const auto begin = std::chrono::steady_clock::now();
  for (size_t i = 0; i < agents_.size(); ++i) {
    agents_[i]->worker->Post([&, i] {
      SetComputeFloatMode();
      const auto result = agents_[i]->executor->Run(step, *groups_[i]);
      statuses[i] = result.status();
      if (result.ok() && *result) {
        for (const SequenceResult& sequence : (*result)->sequences)
          if (!sequence.status.ok()) statuses[i] = sequence.status;
      }
      if (!statuses[i].ok()) Fail(statuses[i]);
      done.count_down();
    });
  }
  done.wait();
  if (auto s = failure(); !s.ok()) return s;
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The sequence's next rows, with the blocks that they need.
StepSequence BenchCluster::Rows(Sequence* sequence, int rows) {
  StepSequence s{.id = sequence->id, .start = sequence->position};
  s.blocks.resize(plan_.cache_groups().size());
  sequence->position += rows;
  for (; sequence->blocks * plan_.block_tokens < sequence->position; ++sequence->blocks) {
    for (auto& group : s.blocks) group.push_back(next_block_);
    ++next_block_;
  }
  if (s.blocks[0].empty()) s.blocks.clear();
  return s;
}

absl::Status BenchCluster::HasRoom(int tokens) const {
  const int needed = (tokens + plan_.block_tokens - 1) / plan_.block_tokens;
  if (next_block_ + needed <= plan_.kv_blocks && tokens <= plan_.context) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("a context of ", tokens, " tokens more does not fit: cache.memory holds ",
                   int64_t{plan_.kv_blocks} * plan_.block_tokens, ", a sequence ", plan_.context));
}

absl::Status BenchCluster::Read(Sequence* sequence, int tokens, double* seconds) {
  const Assignment& any = agents_[0]->assignment;
  if (auto s = HasRoom(tokens); !s.ok()) return s;
  for (int at = 0; at < tokens;) {
    const int rows = std::min(tokens - at, any.deployment.schedule.max_batch_tokens);
    StepSequence s = Rows(sequence, rows);
    for (int i = 0; i < rows; ++i)
      s.ids.push_back(static_cast<int32_t>((sequence->id * 7919 + static_cast<uint64_t>(at + i) * 104729) %
                                           static_cast<uint64_t>(any.header.config.vocab)));
    s.whole_tables = at == 0;
    if (at == 0) s.sampling = Greedy();
    at += rows;
    if (at == tokens) s.logits = LogitRows::kLast;
    const auto took = Run({.sequences = {s}});
    if (!took.ok()) return took.status();
    *seconds += *took;
  }
  return absl::OkStatus();
}

absl::Status BenchCluster::Fill(int sequences, int context) {
  double ignored = 0;
  for (int i = 0; i < sequences; ++i) {
    sequences_.push_back({.id = ++next_id_, .position = 0, .blocks = 0});
    if (!makes_up_) {
      if (auto s = Read(&sequences_.back(), context, &ignored); !s.ok()) return s;
      continue;
    }
    if (auto s = HasRoom(context); !s.ok()) return s;
    StepSequence last = Rows(&sequences_.back(), context);
    last.start = context - 1;
    last.ids = {1};
    last.logits = LogitRows::kLast;
    last.whole_tables = true;
    last.sampling = Greedy();
    if (auto s = Run({.sequences = {last}}).status(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// The first failure of an agent is all agents'.
void BenchCluster::Fail(const absl::Status& why) {
  {
    MutexLock lock(mutex_);
    if (!failure_.ok()) return;
    failure_ = why;
  }
  for (const auto& group : groups_) group->Abort(why);
}

absl::Status BenchCluster::failure() const {
  MutexLock lock(mutex_);
  return failure_;
}

absl::Status BenchCluster::Decode(int count, std::vector<double>* seconds) {
  std::vector<Step> steps(count);
  for (Step& step : steps) {
    for (Sequence& sequence : sequences_) {
      step.sequences.push_back(Rows(&sequence, 1));  // its id: the last sample
      step.sequences.back().logits = LogitRows::kLast;
    }
  }
  if (next_block_ > plan_.kv_blocks) return absl::ResourceExhaustedError("the cache is full; raise cache.memory");
  const size_t answers = static_cast<size_t>(plan_.stages - 1) * plan_.ranks;
  if (!agents_[answers]->executor->overlaps()) {
    for (Step& step : steps) {
      const auto took = Run(std::move(step));
      if (!took.ok()) return took.status();
      seconds->push_back(*took);
    }
    return absl::OkStatus();
  }
  for (Step& step : steps)
    if (auto s = Number(&step); !s.ok()) return s;
  std::latch done(static_cast<std::ptrdiff_t>(agents_.size()));
  for (size_t i = 0; i < agents_.size(); ++i) {
    agents_[i]->worker->Post([&, i] {
      SetComputeFloatMode();
      if (auto s = RunAhead(i, steps, i == answers ? seconds : nullptr); !s.ok()) Fail(s);
      done.count_down();
    });
  }
  done.wait();
  return failure();
}

// One agent's part: each step is begun before the one before it has ended. seconds: from end to end, of the one that
// answers.
absl::Status BenchCluster::RunAhead(size_t agent, const std::vector<Step>& steps, std::vector<double>* seconds) {
  Executor& executor = *agents_[agent]->executor;
  auto before = std::chrono::steady_clock::now();
  for (size_t i = 0; i <= steps.size(); ++i) {
    if (i < steps.size()) {
      if (auto s = executor.Begin(steps[i], *groups_[agent]); !s.ok()) return s;
      if (i == 0) continue;
    }
    const auto result = executor.End();
    if (!result.ok()) return result.status();
    if (seconds == nullptr) continue;
    const auto now = std::chrono::steady_clock::now();
    seconds->push_back(std::chrono::duration<double>(now - before).count());
    before = now;
    for (const SequenceResult& sequence : (*result)->sequences)
      if (!sequence.status.ok()) return sequence.status;
  }
  return absl::OkStatus();
}

absl::StatusOr<double> BenchCluster::Prefill(int tokens) {
  Sequence sequence{.id = ++next_id_, .position = 0, .blocks = 0};
  const int before = next_block_;
  double seconds = 0;
  if (auto s = Read(&sequence, tokens, &seconds); !s.ok()) return s;
  next_block_ = before;
  ended_.push_back(sequence.id);
  return seconds;
}

absl::Status BenchCluster::Forget() {
  for (const Sequence& sequence : sequences_) ended_.push_back(sequence.id);
  sequences_.clear();
  next_block_ = 0;
  return Run({}).status();
}

double BenchCluster::multiply_adds() const {
  double sum = 0;
  for (const auto& agent : agents_) sum += static_cast<double>(agent->executor->progress().multiply_adds.load());
  return sum;
}

Queue::Times BenchCluster::device_times() const {
  Queue::Times sum;
  for (const auto& agent : agents_) {
    const Queue::Times own = agent->executor->device_times();
    sum.busy += own.busy;
    sum.idle += own.idle;
  }
  return sum;
}

int64_t BenchCluster::kernels() const {
  int64_t sum = 0;
  for (const auto& agent : agents_)
    if (agent->queue != nullptr) sum += CudaLaunches(*agent->queue);
  return sum;
}

double BenchCluster::ReadBandwidth() {
  int threads = 0;
  double of_devices = 0;
  for (const auto& agent : agents_) {
    const AgentConfig& config = agent->assignment.deployment.agent(agent->assignment.agent);
    if (FindDevice(config.device)->kind == DeviceKind::kCuda) {
      of_devices += CudaReadBandwidth(*agent->queue);
    } else {
      threads += std::max(config.threads, 1);
    }
  }
  if (threads == 0) return of_devices;
  const auto queue = MakeCpuQueue(threads, BestIsa());
  // By an op that does little but read: four times what a large cache holds.
  const std::vector<float> memory(128 << 20, 1.0f);
  constexpr size_t kPiece = 1 << 14;
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    std::atomic<bool> finite{true};
    queue->OnHost(static_cast<int64_t>(memory.size() / kPiece), 64, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i)
        if (!AllFinite(std::span(memory).subspan(i * kPiece, kPiece), queue->host_isa())) finite = false;
    });
    PANGEA_CHECK(finite);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, static_cast<double>(memory.size() * sizeof(float)) / seconds);
  }
  return of_devices + best;
}

double BenchCluster::MatrixRate() {
  int threads = 0;
  double of_devices = 0;
  for (const auto& agent : agents_) {
    const AgentConfig& config = agent->assignment.deployment.agent(agent->assignment.agent);
    const DeviceKind kind = FindDevice(config.device)->kind;
    if (kind == DeviceKind::kCuda) of_devices += CudaMatrixRate(*agent->queue);
    if (kind == DeviceKind::kCpu) threads += std::max(config.threads, 1);
  }
  if (threads == 0) return of_devices;
  const Assignment& any = agents_[0]->assignment;
  const TensorIndex index(any.header);
  const DType dtype = index.dtype(Role::kDown, 0);
  constexpr int64_t kWide = 1024, kRows = 256;  // in the caches of a core or two
  const auto queue = MakeCpuQueue(threads, any.isa);
  queue->set_makes_weights_up(true);
  const std::vector<std::byte> nothing(static_cast<size_t>(kWide * RowBytes(dtype, kWide)));
  const WeightRows run{.dtype = dtype, .data = nothing.data(), .pitch = RowBytes(dtype, kWide), .n = kWide};
  const Weight weight = Weight::Pack(std::span(&run, 1), kWide, *queue);
  const std::vector<float> x(kRows * kWide, 0.5f);
  std::vector<float> y(kRows * kWide);
  const Buffer<std::byte> memory(PackedActivationBytes(kRows, kWide), *queue);
  PackedActivations packed{.data = memory.data(), .capacity = memory.bytes()};
  const ActivationBits bits = any.deployment.kernels.activations == 8 ? ActivationBits::k8 : ActivationBits::k16;
  PackActivations({x.data(), kRows, kWide}, weight, bits, &packed, *queue);
  double best = 0;
  for (int round = 0; round < 30; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    MatMul(packed, weight, {y.data(), kWide, nullptr}, *queue);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, 2.0 * kRows * kWide * kWide / seconds);
  }
  return of_devices + best;
}

}  // namespace pangea
