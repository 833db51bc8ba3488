// Speed of CUDA's words on a GPU beside what the GPU reads in a second, measured in the same run: the products of one
// layer of a model and its head, attention, and what lies between. Prints a table; --json FILE writes it, too.
// Usage: cuda_bench [--gpu N | --on-cpu] [--shape 8b|1b|tiny] [--rounds N] [--only SUBSTRING] [--json FILE]
// --on-cpu: the kernels on fibers, which shows that the program runs and nothing else.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_queue.h"
#include "kernels/cuda/make_queue.h"
#include "kernels/ops.h"
#include "nlohmann/json.hpp"

namespace pangea {
namespace {

struct ModelShape {
  const char* name;
  int64_t hidden, ffn, heads, kv_heads, head_dim, vocab;
};
constexpr ModelShape kShapes[] = {
    {"8b", 4096, 14336, 32, 8, 128, 128256}, {"1b", 2048, 8192, 32, 8, 64, 128256}, {"tiny", 64, 160, 4, 2, 16, 512}};

struct Options {
  int gpu = 0, rounds = 7;
  bool on_cpu = false;
  ModelShape shape = kShapes[0];
  std::string only, json;
};

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {}

  bool Open(bool exact, int fusion = kMaxFusion) {
    workspace_ = Buffer<std::byte>();  // before the queue that it is of
    const CudaOptions how{.exact = exact, .fusion = fusion};
    if (options_.on_cpu) {
      queue_ = MakeCudaOnCpuQueue(how, {.groups = true});
      name_ = "the CPU";
    } else {
      std::string why;
      GpuQueue gpu = MakeCudaQueue(how, options_.gpu, &why);
      if (gpu.queue == nullptr) return std::fprintf(stderr, "%s\n", why.c_str()), false;
      queue_ = std::move(gpu.queue);
      name_ = gpu.name;
    }
    exact_ = exact;
    workspace_ = Buffer<std::byte>(options_.on_cpu ? 1 << 20 : kCudaWorkspaceBytes + kCudaWidenedBytes, *queue_);
    queue_->set_makes_weights_up(true);
    queue_->UseWorkspace(workspace_.data(), workspace_.bytes());
    return true;
  }
  const std::string& name() const { return name_; }
  const nlohmann::json& rows() const { return rows_; }

  // Bytes a second that a kernel reads which does nothing else.
  void ReadBandwidth() {
    const int64_t bytes = options_.on_cpu ? 1 << 16 : int64_t{2} << 30;
    const unsigned blocks = options_.on_cpu ? 4 : 132 * 16;
    const Buffer<std::byte> memory(bytes, *queue_);
    const Buffer<int32_t> sums(blocks, *queue_);
    bandwidth_ = static_cast<double>(bytes) / Median([&] {
                   cuda::Cuda(*queue_).Launch(cuda::Kernel::kReadAll, {blocks}, 1024,
                                              cuda::ReadAllArgs{memory.data(), bytes / 16, sums.data()});
                 });
    std::printf("read bandwidth %.3f TB/s\n%-44s %10s %9s %8s %9s\n", bandwidth_ * 1e-12, "", "us", "GB/s", "of read",
                "TFLOP/s");
    rows_.push_back({{"case", "read"}, {"bytes_per_second", bandwidth_}});
  }

  void Product(const char* what, DType dtype, int64_t n, int64_t k, std::initializer_list<int64_t> rows) {
    std::string name = std::string(what) + " " + std::string(Info(dtype).name) + (exact_ ? " exact" : " fast");
    if (name.find(options_.only) == name.npos) return;
    const std::vector<std::byte> nothing(static_cast<size_t>(RowBytes(dtype, k)));  // weights are made on the device
    const WeightRows run{dtype, nothing.data(), 0, n, false};
    const Weight weight = Weight::Pack(std::span(&run, 1), k, *queue_);
    for (const int64_t m : rows) {
      const Buffer<float> x(std::span<const float>(std::vector<float>(static_cast<size_t>(m * k), 0.5f)), *queue_);
      const Buffer<float> y(m * n, *queue_);
      const Buffer<std::byte> memory(PackedActivationBytes(m, k), *queue_);
      PackedActivations packed{.data = memory.data(), .capacity = memory.bytes()};
      PackActivations({x.data(), m, k}, weight, ActivationBits::k16, &packed, *queue_);
      const double seconds = Median([&] { MatMul(packed, weight, {y.data(), n}, *queue_); });
      Row(name + " " + std::to_string(m), seconds, static_cast<double>(weight.bytes()), 2.0 * m * n * k);
    }
  }

  // The last rows of each sequence's context: one, as in decoding, or a prompt's.
  struct Load {
    int batch, context, rows = 1;
  };
  void Attention(const Load& load, const std::string& how = "") {
    const ModelShape& s = options_.shape;
    const auto [batch, context, rows] = load;
    const std::string name = "attention f16 " + std::to_string(batch) + " x " + std::to_string(context) +
                             (rows > 1 ? ", rows " + std::to_string(rows) : "") + how;
    if (name.find(options_.only) == name.npos) return;
    const int block = 16, blocks = (context + block - 1) / block;
    const int64_t extent = KvExtentBytes(DType::kF16, block, static_cast<int>(s.head_dim));
    const Buffer<std::byte> pages(2 * extent * s.kv_heads * blocks * batch, *queue_);
    queue_->MakeUp(pages.data(), pages.bytes(), DType::kF16);
    const KvLayer kv{pages.data(),
                     2 * extent,
                     2 * extent * s.kv_heads,
                     extent,
                     static_cast<int>(s.kv_heads),
                     static_cast<int>(s.head_dim),
                     block,
                     DType::kF16};
    BatchShape shape{.rows = int64_t{batch} * rows,
                     .slots = batch,
                     .stride = blocks,
                     .block_tokens = block,
                     .queries = exact_ ? kMaxQueries : kCudaMaxQueries,
                     .alone_first = true,
                     .windows = {0}};
    for (int64_t h = 0; h < s.heads; ++h) shape.kv_of_head.push_back(static_cast<int32_t>(h * s.kv_heads / s.heads));
    BatchBuilder builder(shape, queue_.get());
    builder.Begin();
    for (int i = 0; i < batch; ++i) {
      std::vector<int32_t> table(blocks);
      for (int b = 0; b < blocks; ++b) table[b] = b * batch + i;
      builder.SetBlocks({.slot = i}, table);
      for (int row = context - rows; row < context; ++row) builder.AddRow({.slot = i, .position = row});
    }
    const Batch& made = builder.Finish();
    const int64_t numbers = shape.rows * s.heads * s.head_dim;
    const Buffer<float> q(numbers, *queue_), out(numbers, *queue_);
    queue_->MakeUp(reinterpret_cast<std::byte*>(q.data()), q.bytes(), DType::kF32);
    const Buffer<std::byte> scratch(CudaAttentionScratchBytes(s.head_dim), *queue_);
    const double seconds = Median([&] {
      pangea::Attention(kv, made,
                        {.q = q.data(),
                         .ldq = s.heads * s.head_dim,
                         .work = &made.attention[0],
                         .out = out.data(),
                         .ldo = s.heads * s.head_dim,
                         .scratch = reinterpret_cast<float*>(scratch.data())},
                        *queue_);
    });
    Row(name, seconds, static_cast<double>(4 * s.kv_heads * s.head_dim) * batch * context,
        4.0 * s.heads * s.head_dim * batch * rows * (context - (rows - 1) / 2.0));
  }

  void Between(int64_t m) {
    const ModelShape& s = options_.shape;
    const std::string name = "sum, residual and norm " + std::to_string(m);
    if (name.find(options_.only) == name.npos) return;
    const Buffer<float> v(m * s.hidden, *queue_), x(m * s.hidden, *queue_), y(m * s.hidden, *queue_);
    const Buffer<float> w(std::span<const float>(std::vector<float>(s.hidden, 1.0f)), *queue_);
    const double seconds = Median([&] {
      ReduceAddNorm({.vectors = v.data(),
                     .x = x.data(),
                     .m = m,
                     .d = s.hidden,
                     .norm = {.w = w.data(), .eps = 1e-5f, .y = y.data()}},
                    *queue_);
    });
    Row(name, seconds, 16.0 * m * s.hidden, 0);
  }

 private:
  // Median of rounds of so many calls that a round takes 5 ms; the host waits once a round.
  double Median(const std::function<void()>& f) {
    using Clock = std::chrono::steady_clock;
    const auto timed = [&](int calls) {
      const auto begin = Clock::now();
      for (int i = 0; i < calls; ++i) f();
      queue_->Finish();
      return std::chrono::duration<double>(Clock::now() - begin).count() / calls;
    };
    timed(1);
    const int calls = options_.on_cpu ? 1 : std::clamp(static_cast<int>(0.005 / timed(1)), 1, 200);
    std::vector<double> rounds;
    for (int i = 0; i < options_.rounds; ++i) rounds.push_back(timed(calls));
    std::nth_element(rounds.begin(), rounds.begin() + rounds.size() / 2, rounds.end());
    return rounds[rounds.size() / 2];
  }

  void Row(const std::string& name, double seconds, double bytes, double flops) {
    std::printf("%-44s %10.2f %9.1f %7.1f%% %9.2f\n", name.c_str(), seconds * 1e6, bytes / seconds * 1e-9,
                100 * bytes / seconds / bandwidth_, flops / seconds * 1e-12);
    std::fflush(stdout);
    rows_.push_back({{"case", name},
                     {"seconds", seconds},
                     {"bytes", bytes},
                     {"of_read_bandwidth", bytes / seconds / bandwidth_},
                     {"flops_per_second", flops / seconds}});
  }

  const Options options_;
  std::unique_ptr<Queue> queue_;
  Buffer<std::byte> workspace_;
  std::string name_;
  bool exact_ = true;
  double bandwidth_ = 1;
  nlohmann::json rows_ = nlohmann::json::array();
};

nlohmann::json RunAll(const Options& options, bool exact) {
  Bench bench(options);
  if (!bench.Open(exact)) return nullptr;
  const ModelShape& s = options.shape;
  std::printf("%s, shape %s, kernels.exact: %s\n", bench.name().c_str(), s.name, exact ? "true" : "false");
  bench.ReadBandwidth();
  const auto types = exact ? std::vector<DType>{DType::kBF16, DType::kF8E4M3, DType::kQ8_0, DType::kQ4_K}
                           : std::vector<DType>{DType::kBF16, DType::kF8E4M3};
  for (const DType dtype : types) {
    if (s.hidden % Info(dtype).block != 0 || s.ffn % Info(dtype).block != 0) continue;
    const auto rows = {int64_t{1}, int64_t{8}, int64_t{64}, int64_t{512}};
    bench.Product("qkv", dtype, (s.heads + 2 * s.kv_heads) * s.head_dim, s.hidden, rows);
    bench.Product("out", dtype, s.hidden, s.heads * s.head_dim, rows);
    bench.Product("gate and up", dtype, 2 * s.ffn, s.hidden, rows);
    bench.Product("down", dtype, s.hidden, s.ffn, rows);
    bench.Product("head", dtype, s.vocab, s.hidden, {1, 32});
  }
  if (exact) {
    const int few = options.on_cpu ? 300 : 8192;
    bench.Attention({1, few});
    bench.Attention({options.on_cpu ? 3 : 64, options.on_cpu ? 40 : 1024});
    bench.Attention({options.on_cpu ? 2 : 32, options.on_cpu ? 200 : 4096});
    for (const int64_t m : {1, 64}) bench.Between(m);
  } else {
    // Prompts by tensor cores: of Hopper, where it is one, and of all.
    const int prompt = options.on_cpu ? 130 : 8192;
    bench.Attention({1, prompt, prompt});
    if (!bench.Open(exact, kMaxFusion - 1)) return nullptr;
    bench.Attention({1, prompt, prompt}, " by warps");
  }
  return {{"device", bench.name()}, {"shape", s.name}, {"exact", exact}, {"rows", bench.rows()}};
}

int Main(int argc, char** argv) {
  Options options;
  const auto usage = [] {
    std::fprintf(stderr,
                 "usage: cuda_bench [--gpu N | --on-cpu] [--shape 8b|1b|tiny] [--rounds N] [--only SUBSTRING] "
                 "[--json FILE]\n");
    return 64;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--on-cpu") {
      options.on_cpu = true;
      continue;
    }
    if (i + 1 >= argc) return usage();
    const std::string value = argv[++i];
    const auto shape =
        std::find_if(std::begin(kShapes), std::end(kShapes), [&](const auto& s) { return value == s.name; });
    if (word == "--gpu")
      options.gpu = std::atoi(value.c_str());
    else if (word == "--rounds")
      options.rounds = std::max(1, std::atoi(value.c_str()));
    else if (word == "--only")
      options.only = value;
    else if (word == "--json")
      options.json = value;
    else if (word == "--shape" && shape != std::end(kShapes))
      options.shape = *shape;
    else
      return usage();
  }
  SetComputeFloatMode();
  bool failed = false;
  nlohmann::json all = nlohmann::json::array();
  for (const bool exact : {true, false}) {
    nlohmann::json part = RunAll(options, exact);
    failed = failed || part.is_null();
    if (!part.is_null()) all.push_back(std::move(part));
  }
  if (!options.json.empty()) std::ofstream(options.json) << all.dump(1) << '\n';
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace pangea

int main(int argc, char** argv) { return pangea::Main(argc, argv); }
