// Speed of the kernels beside the limits of the machine as it is this minute: read bandwidth and vpdpbusd rate are
// probed in the same run, between the measurements. Usage: kernels_bench [--threads N] [--isa NAME] [--only SUBSTRING]
// [--rounds N]
#include <immintrin.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/isa.h"
#include "kernels/ops.h"

namespace pangea {
namespace {

struct Options {
  int threads = 1;
  int rounds = 9;
  std::string only;
  Isa isa = BestIsa();
};

bool cpu_time = false;  // with one thread the thread's own time, which does not count what others took from it

double Now() {
  timespec t;
  clock_gettime(cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Median seconds a call; every round repeats f for at least 20 ms.
double Median(int rounds, const std::function<void()>& f) {
  f();
  double once = Now();
  f();
  once = std::max(1e-9, Now() - once);
  const int repeats = std::max(1, static_cast<int>(0.02 / once));
  std::vector<double> times;
  for (int r = 0; r < rounds; ++r) {
    const double start = Now();
    for (int i = 0; i < repeats; ++i) f();
    times.push_back((Now() - start) / repeats);
  }
  std::nth_element(times.begin(), times.begin() + rounds / 2, times.end());
  return times[static_cast<size_t>(rounds / 2)];
}

__attribute__((target("avx2"))) int64_t ReadAll(const std::byte* p, int64_t bytes) {
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  for (int64_t i = 0; i + 128 <= bytes; i += 128) {
    const __m256i* q = reinterpret_cast<const __m256i*>(p + i);
    a = _mm256_xor_si256(a, _mm256_loadu_si256(q));
    b = _mm256_xor_si256(b, _mm256_loadu_si256(q + 1));
    c = _mm256_xor_si256(c, _mm256_loadu_si256(q + 2));
    d = _mm256_xor_si256(d, _mm256_loadu_si256(q + 3));
  }
  return _mm256_extract_epi64(_mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d)), 0);
}

__attribute__((target("avx512f,avx512vnni"))) int VnniLoop(int n) {
  __m512i acc[12];
  for (__m512i& a : acc) a = _mm512_setzero_si512();
  __m512i x = _mm512_set1_epi32(n), y = _mm512_set1_epi32(n + 1);
  for (int i = 0; i < n; ++i) {
#pragma GCC unroll 12
    for (__m512i& a : acc) a = _mm512_dpbusd_epi32(a, x, y);
    __asm__ volatile("" : "+v"(x), "+v"(y));
  }
  for (int i = 1; i < 12; ++i) acc[0] = _mm512_add_epi32(acc[0], acc[i]);
  int out[16];
  _mm512_storeu_si512(out, acc[0]);
  return out[0];
}

volatile int64_t sink;

void Probe(Queue& queue, int threads, int rounds) {
  const int64_t bytes = 192 << 20, chunk = 1 << 20;
  static std::vector<std::byte> memory(static_cast<size_t>(bytes), std::byte{1});
  const double read = Median(rounds, [&] {
    queue.OnHost(bytes / chunk, 1,
                 [&](int64_t b, int64_t e) { sink = ReadAll(memory.data() + b * chunk, (e - b) * chunk); });
  });
  double vnni = 0;
  if (BestIsa() >= Isa::kAvx512) {
    const int n = 20000, pieces = 8 * threads;
    vnni = pieces * n * 12 * 128.0 / Median(rounds, [&] {
             queue.OnHost(pieces, 1, [&](int64_t b, int64_t e) {
               for (; b < e; ++b) sink = VnniLoop(n);
             });
           });
  }
  std::printf("probe: read %.1f GB/s, vpdpbusd %.0f Gop/s (16-bit activations: half)\n", bytes / read * 1e-9,
              vnni * 1e-9);
}

std::vector<float> Random(int64_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(n));
  for (float& f : v) f = normal(generator);
  return v;
}

Weight RandomWeight(DType dtype, int64_t n, int64_t k, const LeafProgram& program, Queue& queue) {
  std::vector<std::byte> data(static_cast<size_t>(n * RowBytes(dtype, k)));
  std::mt19937 generator(1);
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = static_cast<std::byte>(generator() & 0x3f);  // finite in every type
  WeightRows rows{dtype, data.data(), RowBytes(dtype, k), n, false};
  const float scale = 0.01f;
  if (dtype == DType::kF8E4M3) rows.scales.data = reinterpret_cast<const std::byte*>(&scale);
  return Weight::Pack(std::span(&rows, 1), k, program, queue);
}

LeafProgram Tree16(int64_t k) {  // 16 leaves, halving
  LeafProgram program;
  for (int i = 1; i <= 16; ++i) program.cuts.push_back(k * i / 16);
  for (int i = 0; i < 16; ++i) program.merges.push_back(__builtin_ctz(static_cast<unsigned>(i + 1)));
  return program;
}

// copies: so many weights taken in turn; enough of them lie beyond every cache.
void Product(const Options& o, Queue& queue, DType dtype, ActivationBits bits, int64_t m, int64_t n, int64_t k,
             bool tree, int64_t working_set) {
  char name[128];
  std::snprintf(name, sizeof(name), "%-4s a%-2d M=%-3d %5dx%-5d%s%s", std::string(Info(dtype).name).c_str(),
                bits == ActivationBits::k16 ? 16 : 8, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k),
                tree ? " tree" : "     ", working_set > 0 ? " dram" : "");
  if (std::string(name).find(o.only) == std::string::npos) return;
  const LeafProgram program = tree ? Tree16(k) : LeafProgram{};
  const int64_t each = PackedBytes(dtype, n, k);
  const int64_t copies = std::max<int64_t>(1, working_set / each);
  std::vector<Weight> weights;
  for (int64_t i = 0; i < copies; ++i) weights.push_back(RandomWeight(dtype, n, k, program, queue));
  const std::vector<float> x = Random(m * k, 2);
  std::vector<float> y(static_cast<size_t>(m * n));
  const Buffer<std::byte> memory(PackedActivationBytes(m, k), queue);
  PackedActivations a{.data = memory.data(), .capacity = memory.bytes()};
  PackActivations({x.data(), m, k}, weights[0], bits, &a, queue);
  const double pack = Median(o.rounds, [&] { PackActivations({x.data(), m, k}, weights[0], bits, &a, queue); });
  const double t = Median(o.rounds,
                          [&] {
                            for (const Weight& w : weights) MatMul(a, w, {y.data(), n}, queue);
                          }) /
                   static_cast<double>(copies);
  std::printf("%s  %8.1f us  %6.1f GB/s  %7.1f Gop/s   pack %6.2f us\n", name, t * 1e6, each / t * 1e-9,
              2.0 * m * n * k / t * 1e-9, pack * 1e6);
}

void AttentionBench(const Options& o, Queue& queue, DType dtype, int context, int rows) {
  char name[128];
  std::snprintf(name, sizeof(name), "attention %s context %d rows %d", std::string(Info(dtype).name).c_str(), context,
                rows);
  if (std::string(name).find(o.only) == std::string::npos) return;
  const int heads = 9, kv_heads = 3, d = 64, block = 16;
  const int64_t extent = KvExtentBytes(dtype, block, d), blocks = (context + block - 1) / block;
  std::vector<std::byte> memory(static_cast<size_t>(2 * extent * kv_heads * blocks));
  const KvLayer kv{memory.data(), 2 * extent, 2 * extent * kv_heads, extent, kv_heads, d, block, dtype};
  BatchShape shape{.rows = context, .slots = 1, .stride = blocks, .block_tokens = block, .windows = {0}};
  for (int h = 0; h < heads; ++h) shape.kv_of_head.push_back(h / 3);
  BatchBuilder builder(shape, &queue);
  std::vector<int32_t> table(static_cast<size_t>(blocks));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
  builder.SetBlocks({}, table);
  const auto batch_from = [&](int first) -> const Batch& {
    builder.Begin();
    for (int t = first; t < context; ++t) builder.AddRow({.slot = 0, .position = t});
    return builder.Finish();
  };
  const std::vector<float> k = Random(static_cast<int64_t>(context) * kv_heads * d, 3),
                           q = Random(static_cast<int64_t>(rows) * heads * d, 4);
  const Batch& all = batch_from(0);
  const double write =
      Median(o.rounds, [&] { KvWrite(kv, all, {k.data(), kv_heads * d, k.data(), kv_heads * d}, queue); });
  const Batch& batch = batch_from(context - rows);
  const Buffer<std::byte> scratch(AttentionScratchBytes(o.threads, d), queue);
  std::vector<float> out(q.size());
  const AttentionArgs args{.q = q.data(),
                           .ldq = heads * d,
                           .work = &batch.attention[0],
                           .out = out.data(),
                           .ldo = heads * d,
                           .scratch = reinterpret_cast<float*>(scratch.data())};
  const double t = Median(o.rounds, [&] { Attention(kv, batch, args, queue); });
  double pairs = 0;
  for (int p = context - rows; p < context; ++p) pairs += p + 1;
  std::printf("%-40s %8.1f us  %7.1f GFLOP/s   KV write %.3f us a token\n", name, t * 1e6,
              4 * pairs * heads * d / t * 1e-9, write / context * 1e6);
}

void RowOps(const Options& o, Queue& queue, int64_t m) {
  if (std::string("rows").find(o.only) == std::string::npos) return;
  const int64_t d = 576, f = 1536;
  std::vector<float> x = Random(m * d, 5), y(x.size()), g = Random(m * f, 6), u = g, h(g.size());
  const std::vector<float> w = Random(d, 7), cos = Random(512 * 32, 8), sin = Random(512 * 32, 9);
  std::vector<int32_t> positions(static_cast<size_t>(m), 100);
  const double rms = Median(
      o.rounds, [&] { RmsNorm({.x = x.data(), .w = w.data(), .eps = 1e-5f, .m = m, .d = d, .y = y.data()}, queue); });
  const double silu =
      Median(o.rounds, [&] { GateUp({Gate::kSilu, g.data(), f, u.data(), f, m, f, h.data(), f}, queue); });
  const double rope = Median(o.rounds, [&] {
    Rope({x.data(), positions.data(), m, d, 9, 64, 64, RopePairs::kAdjacent, cos.data(), sin.data()}, queue);
  });
  std::printf("rows M=%-3d  rms norm of 576 %7.2f us   silu*up of 1536 %7.2f us   rope of 9x64 %7.2f us\n",
              static_cast<int>(m), rms * 1e6, silu * 1e6, rope * 1e6);
}

void Logits(const Options& o) {
  if (std::string("logits").find(o.only) == std::string::npos) return;
  const int64_t n = 49152;
  const std::vector<float> x = Random(n, 10);
  std::vector<float> pairs(2 * n / 256);
  const double gumbel = Median(o.rounds, [&] { sink = GumbelArgmax(x, 0, {1, 2, 3}, o.isa).index; });
  const double argmax = Median(o.rounds, [&] { sink = Argmax(x, o.isa).index; });
  const double lse = Median(o.rounds, [&] { LseChunks(x.data(), n, pairs.data(), o.isa); });
  std::printf("logits 49152: gumbel argmax %.1f us, argmax %.1f us, log-sum-exp chunks %.1f us\n", gumbel * 1e6,
              argmax * 1e6, lse * 1e6);
}

struct Matrix {
  int64_t n, k;
  int64_t beyond;  // bytes that no cache holds
};

void Products(const Options& o, Queue& queue, DType dtype, const Matrix& matrix) {
  const auto [n, k, beyond] = matrix;
  const bool tree = n / 16 % SplitUnit(dtype) == 0;  // of 16 leaves, over the longer side
  Probe(queue, o.threads, o.rounds);
  Product(o, queue, dtype, ActivationBits::k16, 1, n, k, false, 0);
  Product(o, queue, dtype, ActivationBits::k16, 1, k, n, false, 0);
  if (tree) Product(o, queue, dtype, ActivationBits::k16, 1, k, n, true, 0);
  Product(o, queue, dtype, ActivationBits::k16, 1, n, k, false, beyond);
  for (const int64_t m : {2, 4, 8, 32, 512}) {
    Product(o, queue, dtype, ActivationBits::k16, m, n, k, false, 0);
    if (tree) Product(o, queue, dtype, ActivationBits::k16, m, k, n, true, 0);
  }
  if (IsQuantised(dtype)) Product(o, queue, dtype, ActivationBits::k8, 512, n, k, false, 0);
}

void Run(const Options& o) {
  const std::unique_ptr<Queue> made = MakeCpuQueue(o.threads, o.isa, true);
  Queue& queue = *made;
  cpu_time = o.threads == 1;
  std::printf("class %s, %d threads\n", std::string(IsaName(o.isa)).c_str(), o.threads);
  const int64_t beyond = 160 << 20;
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32, DType::kF8E4M3})
    Products(o, queue, dtype, {1536, 576, beyond});
  for (const QuantFormat& format : kQuantFormats) {
    // SmolLM2's shapes where blocks of 256 do not forbid it; those of a model of a billion weights for all.
    if (format.block <= kQuantGroup) Products(o, queue, format.dtype, {1536, 576, beyond});
    Products(o, queue, format.dtype, {2048, 2048, beyond});
    for (const auto& [n, k] : {std::pair{8192, 2048}, {2048, 8192}})  // its feed-forward
      Product(o, queue, format.dtype, ActivationBits::k16, 512, n, k, k > n, 0);
  }
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kI8, DType::kF8E4M3}) {
    AttentionBench(o, queue, dtype, 256, 1);
    AttentionBench(o, queue, dtype, 4096, 1);
    AttentionBench(o, queue, dtype, 512, 512);
  }
  RowOps(o, queue, 1);
  RowOps(o, queue, 512);
  Logits(o);
}

}  // namespace
}  // namespace pangea

int main(int argc, char** argv) {
  pangea::Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i], value = argv[i + 1];
    if (key == "--threads") options.threads = std::max(1, std::atoi(value.c_str()));
    if (key == "--rounds") options.rounds = std::max(1, std::atoi(value.c_str()));
    if (key == "--only") options.only = value;
    if (key == "--isa") {
      const std::optional<pangea::Isa> isa = pangea::IsaFromName(value);
      if (!isa || *isa > pangea::BestIsa()) {
        std::fprintf(stderr, "unknown or missing instruction set class: %s\n", value.c_str());
        return 2;
      }
      options.isa = *isa;
    }
  }
  pangea::Run(options);
  return 0;
}
