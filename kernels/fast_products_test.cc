// Products whose sums may have any order (kernels.exact: false): weights of 16 bits, activations rounded to the same;
// of f8, activations rounded to bf16.
// Compared with sums in double of what was rounded; the bound follows from the size of the terms.
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/cuda/make_queue.h"
#include "kernels/kernels_test_util.h"

namespace pangea {
namespace {

// Choices among a library's algorithms are to be made here, not found in the user's folder.
const bool kChoosesAnew = setenv("XDG_CACHE_HOME", "/dev/null", 1) == 0;

struct Shape {
  int64_t m, n, k;
};

float Rounded(float f, DType dtype) { return dtype == DType::kF16 ? F16ToF32(F32ToF16(f)) : Bf16ToF32(F32ToBf16(f)); }

// y [m][n] of the queue; with a bias. gate: x is made by GatePack, of gates that let everything through. room: of the
// workspace.
std::vector<float> Multiplied(const StoredWeight& w, const std::vector<float>& x, const std::vector<float>& bias,
                              bool gate, Queue& queue, int64_t room = 1 << 20) {
  const int64_t m = static_cast<int64_t>(x.size()) / w.k, ldy = w.n + 3;
  const Weight packed = PackWhole(w, queue);
  const Buffer<float> in{std::span<const float>(x), queue}, add{std::span<const float>(bias), queue};
  const std::vector<float> unwritten(static_cast<size_t>(m * ldy), -777.0f), ones(x.size(), 1.0f);
  const Buffer<float> y{std::span<const float>(unwritten), queue}, u{std::span<const float>(ones), queue};
  const Buffer<float> gated(static_cast<int64_t>(x.size()), queue);
  const Buffer<std::byte> memory(PackedActivationBytes(m, w.k), queue), workspace(room, queue);
  queue.UseWorkspace(workspace.data(), workspace.bytes());
  PackedActivations a{.data = memory.data(), .capacity = memory.bytes()};
  if (gate) {
    GatePack({.act = Gate::kRelu,
              .g = in.data(),
              .ldg = w.k,
              .u = u.data(),
              .ldu = w.k,
              .m = m,
              .n = w.k,
              .y = gated.data(),
              .ldy = w.k},
             {.w = &packed, .out = &a}, queue);
  } else {
    PackActivations({in.data(), m, w.k}, packed, ActivationBits::k16, &a, queue);
  }
  MatMul(a, packed, {y.data(), ldy, add.data()}, queue);
  std::vector<float> all(unwritten.size()), values;
  queue.Download(all.data(), y.data(), y.bytes());
  queue.Finish();
  for (int64_t i = 0; i < m; ++i) {
    values.insert(values.end(), all.begin() + i * ldy, all.begin() + i * ldy + w.n);
    for (int64_t j = w.n; j < ldy; ++j) EXPECT_EQ(all[i * ldy + j], -777.0f);
  }
  return values;
}

// How many of y are farther from the exact sums than k roundings of sums of such terms can bring them, and `each` of
// every weight.
int64_t Outside(const StoredWeight& w, const std::vector<float>& x, const std::vector<float>& bias,
                const std::vector<float>& y, double each = 0) {
  int64_t outside = 0;
  for (size_t at = 0; at < y.size(); ++at) {
    const int64_t i = static_cast<int64_t>(at) / w.n, j = static_cast<int64_t>(at) % w.n;
    double sum = bias[j], size = std::fabs(bias[j]);
    for (int64_t e = 0; e < w.k; ++e) {
      const double term = w.value[j * w.k + e] * x[i * w.k + e];
      sum += term;
      size += std::fabs(term);
    }
    outside += std::fabs(y[at] - sum) <= size * (static_cast<double>(w.k + 2) * 0x1p-24 + each) ? 0 : 1;
  }
  return outside;
}

TEST(FastProducts, AreWithinTheRoundingsOfTheirSums) {
  using cuda::fibers::Order;
  std::vector<std::unique_ptr<Queue>> queues;
  for (const Order order : {Order::kForward, Order::kReverse, Order::kShuffled})
    queues.push_back(MakeCudaOnCpuQueue({.exact = false}, {.order = order, .seed = 3}));
  std::string why;
  if (auto gpu = MakeCudaQueue({.exact = false}, 0, &why).queue; gpu != nullptr) {
    std::printf("on a GPU, too\n");
    queues.push_back(std::move(gpu));
  }
  for (const auto& queue : queues) {
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      for (const int64_t m : {1, 2, 3, 4, 5, 8, 9, 20}) {
        for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 8}, {17, 40}, {50, 63}, {33, 520}, {4, 1}}) {
          const StoredWeight w = MakeWeight(dtype, n, k, 11, n == 17);
          std::vector<float> x = Normal(m * k, 3);
          const auto bias = Normal(n, 4);
          const auto y = Multiplied(w, x, bias, false, *queue);
          for (float& f : x) f = Rounded(f, dtype);
          EXPECT_EQ(Outside(w, x, bias, y), 0) << Info(dtype).name << ' ' << m << 'x' << n << 'x' << k;
        }
      }
    }
  }
}

// More rows than few: by the kernel of few rows where there is no room, else widened, some columns at a time.
TEST(FastProducts, OfF8AreWithinTheRoundingsOfTheirSums) {
  std::vector<std::unique_ptr<Queue>> queues;
  queues.push_back(MakeCudaOnCpuQueue({.exact = false}, {.order = cuda::fibers::Order::kShuffled}));
  std::string why;
  if (auto gpu = MakeCudaQueue({.exact = false}, 0, &why).queue; gpu != nullptr) queues.push_back(std::move(gpu));
  for (const auto& queue : queues) {
    for (const int64_t m : {1, 2, 3, 8, 9, 20}) {
      for (const auto& [n, k] :
           {std::pair<int64_t, int64_t>{1, 16}, {17, 48}, {50, 63}, {66, 272}, {20, 200}, {4, 1}}) {
        const StoredWeight w = MakeWeight(DType::kF8E4M3, n, k, 11);
        std::vector<float> x = Normal(m * k, 3);
        const auto bias = Normal(n, 4);
        for (const int64_t room : {int64_t{0}, 2 * 32 * k, int64_t{1} << 20}) {
          const auto y = Multiplied(w, x, bias, false, *queue, kCudaWorkspaceBytes + room);
          std::vector<float> rounded = x;
          for (float& f : rounded) f = Rounded(f, DType::kBF16);
          const bool widened = room > 0 && m > 8;
          EXPECT_EQ(Outside(w, rounded, bias, y, widened ? 0x1p-9 : 0), 0) << m << 'x' << n << 'x' << k << ' ' << room;
          if (k < 100 || widened) continue;
          EXPECT_GT(Outside(w, x, bias, y), m * n / 3) << "the bound sees unrounded activations";
        }
      }
    }
  }
}

TEST(FastProducts, GatesPackTheSameNumbers) {
  const auto queue = MakeCudaOnCpuQueue({.exact = false});
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF8E4M3}) {
    for (const int64_t m : {1, 12}) {
      const StoredWeight w = MakeWeight(dtype, 20, 72, 5);
      auto x = Normal(m * 72, 6);
      for (float& f : x) f = std::fabs(f);  // what Relu lets through
      const auto bias = Normal(20, 7);
      EXPECT_EQ(Differences(Multiplied(w, x, bias, true, *queue), Multiplied(w, x, bias, false, *queue)), 0);
    }
  }
}

// The bound sees what must not be: activations that were not rounded, and two weights that are swapped.
TEST(FastProducts, TheBoundSeesWrongProducts) {
  const auto queue = MakeCudaOnCpuQueue({.exact = false});
  for (const int64_t m : {1, 12}) {
    StoredWeight w = MakeWeight(DType::kBF16, 24, 96, 8);
    std::vector<float> x = Normal(m * 96, 9);
    const auto bias = Normal(24, 10);
    const auto y = Multiplied(w, x, bias, false, *queue);
    EXPECT_GT(Outside(w, x, bias, y), 12 * m) << "unrounded";
    for (float& f : x) f = Rounded(f, DType::kBF16);
    EXPECT_EQ(Outside(w, x, bias, y), 0);
    for (int64_t j = 0; j < w.n; ++j) std::swap(w.value[j * w.k + 17], w.value[j * w.k + 18]);
    EXPECT_GT(Outside(w, x, bias, y), 20 * m) << "swapped";
  }
}

}  // namespace
}  // namespace pangea
