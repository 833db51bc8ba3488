// Every word of the layer (device_ops.h) on every device: the bits of the scalar reference, from memory that the host
// does not touch. On CUDA's kernels in every order of their threads (kernels/cuda/fibers.h).
#include <gtest/gtest.h>

#include <numeric>

#include "kernels/cuda/make_queue.h"
#include "kernels/kernels_test_util.h"
#include "kernels/toy_device.h"

namespace pangea {
namespace {

struct Target {
  std::string name;
  std::unique_ptr<Queue> (*make)();
  Queue* (*kept)() = nullptr;  // instead: one queue for all tests
};

std::unique_ptr<Queue> OnFibers(cuda::fibers::Order order) {
  return MakeCudaOnCpuQueue({}, {.order = order, .seed = 7});
}

// A GPU through its driver: the real one where there is one, and a fake whose kernels are fibers'.
std::unique_ptr<Queue> OnGpu(const std::string& library) {
  std::string why;
  return MakeCudaQueue({}, 0, &why, library).queue;
}
const char kFakeDriver[] = PANGEA_BINARY_DIR "/fake_cuda/libcuda.so.1";

Queue* RealGpu() {  // opened once: that takes longer than a test
  static const std::unique_ptr<Queue> gpu = OnGpu("");
  return gpu.get();
}

std::vector<Target> Targets() {
  using cuda::fibers::Order;
  std::vector<Target> targets = {
      {"toy", [] { return MakeToyQueue(BestIsa()); }},
      {"cuda_on_cpu_unfused", [] { return MakeCudaOnCpuQueue({.fusion = 0}); }},
      {"cuda_on_cpu_reversed", [] { return OnFibers(Order::kReverse); }},
      {"cuda_on_cpu_shuffled", [] { return OnFibers(Order::kShuffled); }},
  };
  if (RealGpu() != nullptr) targets.push_back({"cuda", nullptr, RealGpu});
  // Its threads run in order, the third one.
  if (OnGpu(kFakeDriver) != nullptr) targets.push_back({"cuda_with_a_fake_driver", [] { return OnGpu(kFakeDriver); }});
  if (BestIsa() >= Isa::kAvx2) targets.push_back({"avx2", [] { return MakeCpuQueue(1, Isa::kAvx2); }});
  if (BestIsa() >= Isa::kAvx512) targets.push_back({"avx512", [] { return MakeCpuQueue(3, Isa::kAvx512); }});
  return targets;
}

void PrintTo(const Target& target, std::ostream* out) { *out << target.name; }

class Words : public testing::TestWithParam<Target> {
 protected:
  // f(queue) -> values, which must be those of the reference.
  template <class F>
  void ExpectTheBits(F f) {
    SetComputeFloatMode();
    const auto reference = MakeCpuQueue(1, Isa::kReference, false, 0);
    const std::vector<float> want = f(*reference);
    const auto queue = GetParam().make != nullptr ? GetParam().make() : nullptr;
    const std::vector<float> got = f(queue != nullptr ? *queue : *GetParam().kept());
    EXPECT_EQ(Differences(want, got), 0);
    if (Differences(want, got) == 0) return;
    size_t at = 0;
    while (SameBits(want[at], got[at])) ++at;
    std::printf("first at %zu of %zu: %a, not %a\n", at, want.size(), got[at], want[at]);
  }
};
INSTANTIATE_TEST_SUITE_P(, Words, testing::ValuesIn(Targets()), [](const auto& info) { return info.param.name; });

template <class T>
Buffer<T> On(Queue& queue, const std::vector<T>& values) {
  return Buffer<T>(std::span<const T>(values), queue);
}
Buffer<float> Room(Queue& queue, int64_t n) { return On(queue, std::vector<float>(static_cast<size_t>(n), -777.0f)); }
template <class T>
std::vector<T> Read(Queue& queue, const Buffer<T>& buffer) {
  std::vector<T> values(static_cast<size_t>(buffer.size()));
  queue.Download(values.data(), buffer.data(), buffer.bytes());
  queue.Finish();
  return values;
}
void Append(std::vector<float>* to, const std::vector<float>& more) { to->insert(to->end(), more.begin(), more.end()); }

std::vector<DType> WeightTypes() {
  std::vector<DType> types = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3};
  for (const QuantFormat& format : kQuantFormats) types.push_back(format.dtype);
  return types;
}

// Zeros, subnormals, huge numbers, infinities and NaN among normal numbers; some groups of 32 with none but one kind.
std::vector<float> Extremes(int64_t n, uint32_t seed) {
  const float list[] = {0.0f, -0.0f, 1e-40f, 0x1p-97f, 0x1.8p-96f, 3e38f, -3e38f, 1.0f, -1.5f, INFINITY, NAN};
  std::mt19937 generator(seed);
  std::vector<float> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t kinds[] = {2, 4, 5, 9, 10, 11};
    v[i] = list[generator() % kinds[i / 32 % 6]];
  }
  return v;
}

struct Product1 {
  int64_t n, k, m;
  LeafProgram program;
};

std::vector<float> Multiplied(const Product1& p, DType dtype, ActivationBits bits, const std::vector<float>& x,
                              Queue& queue) {
  const Weight w = PackWhole(MakeWeight(dtype, p.n, p.k, 11), queue, p.program);
  const Buffer<float> in = On(queue, x);
  const bool one = w.vectors() == 1;
  const Buffer<float> bias = On(queue, Normal(p.n, 5)), y = Room(queue, w.vectors() * p.m * (p.n + 3));
  const Buffer<std::byte> memory(PackedActivationBytes(p.m, p.k), queue);
  PackedActivations packed{.data = memory.data(), .capacity = memory.bytes()};
  PackActivations({in.data(), p.m, static_cast<int64_t>(x.size()) / p.m}, w, bits, &packed, queue);
  MatMul(packed, w, {y.data(), p.n + 3, one ? bias.data() : nullptr}, queue);
  return Read(queue, y);
}

TEST_P(Words, Products) {
  for (const DType dtype : WeightTypes()) {
    // More than two rounds of what a kernel takes in at a time.
    const int64_t block = Info(dtype).block, k = (544 + block - 1) / block * block;
    for (const int64_t m : {1, 3, 9, 67}) {
      for (const int64_t n : {1, 50, 131}) {
        if (m > 3 && n > 100) continue;
        SCOPED_TRACE(std::string(Info(dtype).name) + " m " + std::to_string(m) + " n " + std::to_string(n));
        const auto x = Normal(m * (k + 7), 3);
        for (const ActivationBits bits : {ActivationBits::k16, ActivationBits::k8})
          ExpectTheBits([&](Queue& queue) { return Multiplied({n, k, m, {}}, dtype, bits, x, queue); });
      }
    }
  }
}

TEST_P(Words, WeightsThatAreMadeUp) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_K, DType::kI8}) {
    SCOPED_TRACE(std::string(Info(dtype).name));
    ExpectTheBits([&](Queue& queue) {
      const Buffer<float> memory(3001, queue);
      queue.MakeUp(reinterpret_cast<std::byte*>(memory.data()), memory.bytes(), dtype);
      const auto made = Read(queue, memory);
      for (const float f : made) {
        EXPECT_TRUE(dtype != DType::kF32 || (std::abs(f) >= 0x1p-7f && std::abs(f) < 0x1p-5f)) << f;
        EXPECT_TRUE(std::isfinite(f)) << f;  // of quantised types no byte is large
      }
      return made;
    });
  }
}

TEST_P(Words, ProductsOfOddK) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3}) {
    for (const int64_t k : {1, 2, 63, 65, 130}) {
      const auto x = Normal(5 * k, 3);
      ExpectTheBits([&](Queue& queue) { return Multiplied({37, k, 5, {}}, dtype, ActivationBits::k16, x, queue); });
    }
  }
}

TEST_P(Words, SplitProducts) {
  for (const DType dtype : WeightTypes()) {
    const int64_t unit = SplitUnit(dtype), k = unit * 7;
    // Leaves of 1, 2, 1, 3 units: two subtrees, one subtree, none merged.
    for (const std::vector<int>& merges : {std::vector<int>{0, 1, 0, 1}, {0, 0, 1, 2}, {0, 0, 0, 0}}) {
      const LeafProgram program{.cuts = {0, unit, 3 * unit, 4 * unit, k}, .merges = merges};
      for (const int64_t m : {1, 6}) {
        SCOPED_TRACE(std::string(Info(dtype).name) + " m " + std::to_string(m));
        const auto x = Normal(m * k, 4);
        ExpectTheBits(
            [&](Queue& queue) { return Multiplied({40, k, m, program}, dtype, ActivationBits::k16, x, queue); });
      }
    }
  }
}

TEST_P(Words, ProductsOfExtremes) {
  for (const DType dtype : WeightTypes()) {
    const int64_t block = Info(dtype).block, k = (192 + block - 1) / block * block;
    const auto x = Extremes(12 * k, 6);
    for (const ActivationBits bits : {ActivationBits::k16, ActivationBits::k8}) {
      SCOPED_TRACE(Info(dtype).name);
      ExpectTheBits([&](Queue& queue) { return Multiplied({20, k, 12, {}}, dtype, bits, x, queue); });
    }
  }
}

TEST_P(Words, GatePack) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kQ8_0, DType::kQ4_1, DType::kQ6_K}) {
    for (const Gate act : {Gate::kSilu, Gate::kGeluErf, Gate::kGeluTanh, Gate::kGeluQuick, Gate::kRelu}) {
      for (const bool gated : {true, false}) {
        const int64_t m = 5, f = dtype == DType::kF32 ? 70 : 256, n = 33;
        ExpectTheBits([&](Queue& queue) {
          const Weight down = PackWhole(MakeWeight(dtype, n, f, 2), queue);
          auto values = Normal(m * 2 * f, 3, 3.0f);
          values[5] = -200, values[6] = 200, values[7] = 1e-39f, values[8] = -0.0f;
          const Buffer<float> up = On(queue, values), y = Room(queue, m * f), out = Room(queue, m * n);
          const Buffer<std::byte> memory(PackedActivationBytes(m, f), queue);
          PackedActivations packed{.data = memory.data(), .capacity = memory.bytes()};
          GatePack({.act = act,
                    .g = up.data(),
                    .ldg = 2 * f,
                    .u = gated ? up.data() + f : nullptr,
                    .ldu = 2 * f,
                    .m = m,
                    .n = f,
                    .y = y.data(),
                    .ldy = f},
                   {.w = &down, .out = &packed}, queue);
          MatMul(packed, down, {out.data(), n}, queue);
          auto all = Read(queue, y);
          Append(&all, Read(queue, out));
          return all;
        });
      }
    }
  }
}

TEST_P(Words, Norms) {
  for (const int64_t d : {1, 16, 20, 300}) {
    for (const NormKind kind : {NormKind::kRms, NormKind::kLayer}) {
      for (const bool plain : {false, true}) {
        if (plain && kind == NormKind::kLayer) continue;  // it needs its weights
        ExpectTheBits([&](Queue& queue) {
          const Buffer<float> x = On(queue, Normal(7 * d, 1, 5.0f)), w = On(queue, Normal(d, 2)),
                              b = On(queue, Normal(d, 3)), y = Room(queue, 7 * d);
          NormArgs args{.x = x.data(), .eps = 1e-5f, .m = 7, .d = d, .y = y.data()};
          if (!plain) args.w = w.data(), args.b = kind == NormKind::kLayer ? b.data() : nullptr;
          Norm(kind, args, queue);
          args.y = const_cast<float*>(args.x);  // in place
          Norm(kind, args, queue);
          auto all = Read(queue, y);
          Append(&all, Read(queue, x));
          return all;
        });
      }
    }
  }
}

TEST_P(Words, ReduceAddNorm) {
  const std::vector<std::pair<int, int>> additions = {{0, 1}, {2, 3}, {0, 2}};
  for (const NormKind kind : {NormKind::kRms, NormKind::kLayer}) {
    for (const int what : {0, 1, 2, 3}) {
      ExpectTheBits([&](Queue& queue) {
        const int64_t m = 9, d = 83;
        const Buffer<float> vectors = On(queue, Normal(4 * m * d, 1)), x = On(queue, Normal(m * d, 2)),
                            bias = On(queue, Normal(d, 3)), w = On(queue, Normal(d, 4)), b = On(queue, Normal(d, 5)),
                            y = Room(queue, m * d);
        ReduceAddNorm({.vectors = vectors.data(),
                       .additions = what < 3 ? std::span(additions) : std::span(additions).first(0),
                       .bias = what > 0 ? bias.data() : nullptr,
                       .x = x.data(),
                       .m = m,
                       .d = d,
                       .kind = kind,
                       .norm = {.w = w.data(), .b = b.data(), .eps = 1e-6f, .y = what < 2 ? nullptr : y.data()}},
                      queue);
        auto all = Read(queue, x);
        Append(&all, Read(queue, y));
        return all;
      });
    }
  }
}

TEST_P(Words, EmbeddingAndRows) {
  for (const DType dtype : WeightTypes()) {
    if (dtype == DType::kF8E4M3) continue;  // no table is of it
    SCOPED_TRACE(Info(dtype).name);
    ExpectTheBits([&](Queue& queue) {
      const int64_t n = 40, width = 512, m = 6;
      const StoredWeight stored = MakeWeight(dtype, n, width, 8);
      // As a table lies in a file: aligned to its elements.
      const std::vector<std::byte> aligned(stored.memory.begin() + 1, stored.memory.end());
      Buffer<std::byte> memory;
      WeightRows rows = stored.Rows(0, n);
      rows.data = aligned.data();
      const WeightRows table = PlaceTable(rows, &memory, queue);
      const Buffer<int32_t> ids = On<int32_t>(queue, {3, 39, 0, 3, 17, 21}), again = On<int32_t>(queue, {5, 0});
      const Buffer<float> x = Room(queue, m * width), more = On(queue, Normal(m * width, 9)),
                          some = Room(queue, 2 * width);
      EmbeddingRows(table, width, {ids.data(), 6}, x.data(), queue);
      Add(x.data(), more.data(), m * width, queue);
      GatherRows(x.data(), width, {again.data(), 2}, some.data(), queue);
      auto all = Read(queue, x);
      Append(&all, Read(queue, some));
      return all;
    });
  }
}

// A cache of several sequences, their blocks shuffled, in memory that begins as NaN; and a batch of their rows.
struct CacheShape {
  DType dtype = DType::kF16;
  int heads = 4, kv_heads = 2, head_dim = 32, block_tokens = 16, window = 0;
  int rot = 0;
  RopePairs pairs = RopePairs::kHalves;
  bool norms = false;
};

class Pages {
 public:
  // written: every position has keys and values already.
  Pages(const CacheShape& shape, int slots, int tokens, int64_t rows, Queue& queue, bool written = false)
      : shape_(shape), tokens_(tokens), queue_(queue) {
    const int64_t extent = KvExtentBytes(shape.dtype, shape.block_tokens, shape.head_dim);
    const int64_t blocks = (tokens + shape.block_tokens - 1) / shape.block_tokens;
    std::vector<std::byte> bytes(static_cast<size_t>(2 * extent * shape.kv_heads * blocks * slots), std::byte{0xff});
    std::mt19937 random(9);
    for (size_t i = 0; i + 1 < bytes.size() && written; i += 2)  // f16
      PutHalf(bytes.data() + i, F32ToF16(static_cast<float>(random() % 2001) / 1000 - 1));
    memory_ = On(queue, bytes);
    kv = {memory_.data(), 2 * extent,     2 * extent * shape.kv_heads, extent,
          shape.kv_heads, shape.head_dim, shape.block_tokens,          shape.dtype};
    BatchShape batch{
        .rows = rows, .slots = slots, .stride = blocks, .block_tokens = shape.block_tokens, .windows = {shape.window}};
    for (int h = 0; h < shape.heads; ++h) batch.kv_of_head.push_back(h * shape.kv_heads / shape.heads);
    builder = std::make_unique<BatchBuilder>(batch, &queue);
    std::vector<int32_t> order(static_cast<size_t>(blocks * slots));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(1));
    for (int s = 0; s < slots; ++s) {  // some, and then the others, as when a sequence grows
      const std::span<const int32_t> own = std::span(order).subspan(s * blocks, blocks);
      builder->SetBlocks({.slot = s}, own.first(1));
      builder->SetBlocks({.slot = s, .first = 1}, own.subspan(1));
    }
  }

  // One step: queries, keys and values of the rows are made of `seed`, written, attended to; what it computed.
  std::vector<float> Step(std::span<const BatchBuilder::Row> rows, uint32_t seed) {
    const int64_t m = static_cast<int64_t>(rows.size()), d = shape_.head_dim, q = shape_.heads * d,
                  ld = q + 2 * shape_.kv_heads * d;
    builder->Begin();
    for (const BatchBuilder::Row& row : rows) builder->AddRow(row);
    const Batch& batch = builder->Finish();
    const Buffer<float> qkv = On(queue_, Normal(m * ld, seed)), out = On(queue_, std::vector<float>(m * q, 0.0f)),
                        qn = On(queue_, Normal(d, 31)), kn = On(queue_, Normal(d, 32)),
                        cos = On(queue_, Normal(tokens_ * d, 33)), sin = On(queue_, Normal(tokens_ * d, 34));
    FinishQkv(kv, batch,
              {.q = qkv.data(),
               .ldq = ld,
               .heads = shape_.heads,
               .k = qkv.data() + q,
               .v = qkv.data() + q + shape_.kv_heads * d,
               .ld = ld,
               .q_norm = shape_.norms ? qn.data() : nullptr,
               .k_norm = shape_.norms ? kn.data() : nullptr,
               .eps = 1e-5f,
               .rot = shape_.rot,
               .pairs = shape_.pairs,
               .cos = cos.data(),
               .sin = sin.data(),
               .scale = 0.25f},
              queue_);
    const Buffer<float> scratch(CudaAttentionScratchBytes(d) / 4, queue_);
    Attention(kv, batch,
              {.q = qkv.data(),
               .ldq = ld,
               .work = &batch.attention[0],
               .out = out.data(),
               .ldo = q,
               .scratch = scratch.data()},
              queue_);
    auto all = Read(queue_, qkv);
    for (int64_t i = 0; i < m; ++i) {
      if (rows[i].slot < 0) std::fill_n(all.begin() + i * ld, ld, 0.0f);  // no row: anything
    }
    auto values = Read(queue_, out);
    for (int64_t i = 0; i < m; ++i) {
      if (rows[i].slot < 0) std::fill_n(values.begin() + i * q, q, 0.0f);
    }
    Append(&all, values);
    return all;
  }
  std::vector<float> Content() {
    std::vector<float> all;
    for (const std::byte b : Read(queue_, memory_)) all.push_back(static_cast<float>(b));
    return all;
  }
  KvLayer kv;
  std::unique_ptr<BatchBuilder> builder;

 private:
  const CacheShape shape_;
  const int tokens_;
  Queue& queue_;
  Buffer<std::byte> memory_;
};

std::vector<BatchBuilder::Row> RowsOf(int slot, int first, int count) {
  std::vector<BatchBuilder::Row> rows;
  for (int i = 0; i < count; ++i) rows.push_back({.slot = slot, .position = first + i});
  return rows;
}

std::vector<CacheShape> CacheShapes() {
  return {{},
          {.dtype = DType::kBF16, .heads = 3, .kv_heads = 3, .head_dim = 16, .block_tokens = 48, .rot = 16},
          {.dtype = DType::kI8, .heads = 8, .kv_heads = 2, .head_dim = 48, .rot = 20, .norms = true},
          {.heads = 9,
           .kv_heads = 1,
           .head_dim = 40,
           .block_tokens = 32,
           .window = 21,
           .rot = 40,
           .pairs = RopePairs::kAdjacent},
          {.dtype = DType::kI8, .heads = 2, .kv_heads = 1, .head_dim = 20, .window = 150},
          {.dtype = DType::kF8E4M3, .heads = 4, .kv_heads = 2, .head_dim = 24, .rot = 24, .norms = true},
          {.heads = 2, .kv_heads = 1, .head_dim = 160, .rot = 160}};
}

TEST_P(Words, PagesAndAttention) {
  for (const CacheShape& shape : CacheShapes()) {
    SCOPED_TRACE(std::string(Info(shape.dtype).name) + " head " + std::to_string(shape.head_dim));
    ExpectTheBits([&](Queue& queue) {
      Pages pages(shape, 3, 320, 160, queue);
      auto rows = RowsOf(0, 0, 40);
      rows.push_back({});  // no row
      const auto more = RowsOf(2, 0, 17);
      rows.insert(rows.end(), more.begin(), more.end());
      auto all = pages.Step(rows, 1);
      for (int first = 40; first < 300; first += 130) Append(&all, pages.Step(RowsOf(0, first, 130), first));
      // Decoding rows of all, one of them far along: partitions apart.
      Append(&all, pages.Step(
                       std::vector<BatchBuilder::Row>{
                           {.slot = 0, .position = 300}, {.slot = 1, .position = 0}, {}, {.slot = 2, .position = 17}},
                       5));
      Append(&all, pages.Content());
      return all;
    });
  }
}

// More partitions than the scratch has room for at a time: so many queries that each gets few.
TEST_P(Words, AttentionInRounds) {
  ExpectTheBits([&](Queue& queue) {
    Pages pages({.heads = 1024, .kv_heads = 1, .head_dim = 16}, 2, 17 * kPartition + 5, 2, queue, true);
    return pages.Step(
        std::vector<BatchBuilder::Row>{{.slot = 0, .position = 17 * kPartition + 2}, {.slot = 1, .position = 1}}, 5);
  });
}

// So many queries that nothing is computed apart: each block folds its partitions as it goes.
TEST_P(Words, AttentionOfManyQueries) {
  ExpectTheBits([&](Queue& queue) {
    Pages pages({.heads = 64, .kv_heads = 2, .head_dim = 8, .window = 200}, 1, 3 * kPartition, 33, queue, true);
    return pages.Step(RowsOf(0, 2 * kPartition - 20, 33), 5);
  });
}

TEST_P(Words, CopiesBlocks) {
  for (const CacheShape& shape : CacheShapes()) {
    ExpectTheBits([&](Queue& queue) {
      Pages pages(shape, 1, 3 * shape.block_tokens, 100 + 3 * shape.block_tokens, queue);
      pages.Step(RowsOf(0, 0, 3 * shape.block_tokens), 3);
      CopyBlock(pages.kv, 2, 0, queue);
      return pages.Content();
    });
  }
}

TEST_P(Words, LastIds) {
  const auto queue = GetParam().make != nullptr ? GetParam().make() : nullptr;
  Queue& on = queue != nullptr ? *queue : *GetParam().kept();
  BatchBuilder builder({.rows = 5, .slots = 3, .stride = 1, .kv_of_head = {0}, .windows = {0}}, &on);
  builder.SetLast(0, 70);
  builder.SetLast(2, 72);
  builder.Begin();
  for (const auto& [slot, id] : {std::pair{0, -1}, {1, 8}, {2, -1}, {-1, 0}, {0, 9}})
    builder.AddRow({.slot = slot, .id = id});
  const Batch& batch = builder.Finish();
  FillLastIds(batch, on);
  std::vector<int32_t> ids(5);
  on.Download(ids.data(), batch.ids, 5 * sizeof(int32_t));
  on.Finish();
  EXPECT_EQ(ids, (std::vector<int32_t>{70, 8, 72, 0, 9}));
}

}  // namespace
}  // namespace pangea
