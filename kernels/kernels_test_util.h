// Shared by the tests of this room: random data, weights of every dtype with their exact values in double, the classes
// to run.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/half.h"
#include "kernels/isa.h"
#include "kernels/ops.h"
#include "kernels/threads.h"

namespace pangea {

// The class that TestQueue computes with, for the length of a block; the best one where there is none of these.
class ScopedIsa {
 public:
  explicit ScopedIsa(Isa isa) : before_(current()) { current() = isa; }
  ~ScopedIsa() { current() = before_; }
  static Isa& current() {
    static Isa isa = BestIsa();
    return isa;
  }

 private:
  Isa before_;
};

// A queue of the class that is chosen where it is used.
class TestQueue {
 public:
  explicit TestQueue(int threads) : threads_(threads) { SetComputeFloatMode(); }
  operator Queue&() {
    auto& queue = queues_[ScopedIsa::current()];
    if (queue == nullptr) queue = MakeCpuQueue(threads_, ScopedIsa::current());
    return *queue;
  }

 private:
  int threads_;
  std::map<Isa, std::unique_ptr<Queue>> queues_;
};

// Skips (with a message) where the CPU lacks the class that a parametrised test asks for.
#define SKIP_WITHOUT(isa) \
  if ((isa) > BestIsa()) GTEST_SKIP() << "this CPU lacks " << IsaName(isa)

inline std::string IsaTestName(const testing::TestParamInfo<Isa>& info) { return std::string(IsaName(info.param)); }

inline std::vector<float> Normal(int64_t n, uint32_t seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& f : v) f = normal(generator);
  return v;
}

// A tensor [n][k] (or [k][n] when transposed) as it would lie in a file, at an odd address.
struct StoredWeight {
  DType dtype;
  int64_t n, k;
  bool transposed;
  int64_t pitch;
  std::vector<std::byte> memory;  // one byte of padding first
  std::vector<double> value;      // [n][k], exact
  std::vector<float> scale = {};  // of f8, by `scales`
  WeightScales scales = {};

  std::byte* data() { return memory.data() + 1; }
  WeightRows Rows(int64_t first, int64_t count, int64_t k0 = 0) const {
    const int64_t block = Info(dtype).block, bytes = Info(dtype).bytes;
    const std::byte* at = memory.data() + 1;
    at += transposed ? k0 * pitch + first * bytes : first * pitch + k0 / block * bytes;
    WeightRows rows{dtype, at, pitch, count, transposed};
    if (dtype != DType::kF8E4M3) return rows;
    rows.scales = scales;
    rows.scales.first = first;
    rows.scales.data = reinterpret_cast<const std::byte*>(scale.data() + k0 / kScaleRun * scales.step);
    return rows;
  }
};

inline void PutHalf(std::byte* p, uint16_t h) { std::memcpy(p, &h, 2); }

// Where the f16 numbers of a stored block lie, in bytes; -1: it has none. From ggml-common.h, as is Value below.
struct HalfPlaces {
  int d, m;
};
inline HalfPlaces HalvesOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {0, 2};
    case DType::kQ6_K:
      return {208, -1};
    default:
      return {0, -1};
  }
}

// Weight i of a stored block, exact: written down from the definition once more, apart from the code under test.
inline double ValueOf(DType dtype, const std::byte* block, int i) {
  const auto byte = [&](int at) { return std::to_integer<int>(block[at]); };
  const auto half = [&](int at) {
    uint16_t h;
    std::memcpy(&h, block + at, 2);
    return static_cast<double>(F16ToF32(h));
  };
  // Number i of 32 that begin at `at`, and its fifth bit in a word at `bits`.
  const auto nibble = [&](int at) { return i < 16 ? byte(at + i) % 16 : byte(at + i - 16) / 16; };
  const auto fifth = [&](int bits) { return byte(bits + i / 8) >> i % 8 & 1; };
  const int part = i / 32, lane = i % 32;  // of a block of 256
  const auto k_nibble = [&](int at) { return byte(at + part / 2 * 32 + lane) >> part % 2 * 4 & 15; };
  const auto k_scale = [&] { return part < 4 ? byte(4 + part) % 64 : byte(8 + part) % 16 + byte(part) / 64 * 16; };
  const auto k_minimum = [&] {
    return part < 4 ? byte(8 + part) % 64 : byte(8 + part) / 16 + byte(4 + part) / 64 * 16;
  };
  switch (dtype) {
    case DType::kQ8_0:
      return half(0) * static_cast<int8_t>(byte(2 + i));
    case DType::kQ4_0:
      return half(0) * (nibble(2) - 8);
    case DType::kQ4_1:
      return half(0) * nibble(4) + half(2);
    case DType::kQ5_0:
      return half(0) * (nibble(6) + 16 * fifth(2) - 16);
    case DType::kQ5_1:
      return half(0) * (nibble(8) + 16 * fifth(4)) + half(2);
    case DType::kQ4_K:
      return half(0) * k_scale() * k_nibble(16) - half(2) * k_minimum();
    case DType::kQ5_K:
      return half(0) * k_scale() * (k_nibble(48) + 16 * (byte(16 + lane) >> part & 1)) - half(2) * k_minimum();
    case DType::kQ6_K: {
      const int which = i / 128, quarter = i % 128 / 32;
      const int low = byte(64 * which + quarter % 2 * 32 + lane) >> quarter / 2 * 4 & 15;
      const int high = byte(128 + 32 * which + lane) >> 2 * quarter & 3;
      return half(208) * static_cast<int8_t>(byte(192 + i / 16)) * (low + 16 * high - 32);
    }
    default:
      return std::numeric_limits<double>::quiet_NaN();
  }
}

// E4M3 as OCP defines it (8-bit Floating Point Specification, section 5.2), written down once more.
inline float NumberOfF8(int q) {
  const int exponent = q >> 3 & 15, mantissa = q & 7;
  float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                             : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  if (exponent == 15 && mantissa == 7) size = std::numeric_limits<float>::quiet_NaN();
  return (q & 0x80) != 0 ? -size : size;
}

// Random numbers of every size, and scales of one of three kinds: one for all, one a column, one for each square.
inline void MakeF8(StoredWeight* w, std::mt19937& generator) {
  std::normal_distribution<float> normal;
  const int64_t runs = (w->k + kScaleRun - 1) / kScaleRun, kind = w->n % 3;
  if (kind == 1) w->scales.pitch = 1;
  if (kind == 2) w->scales = {.columns = 20, .pitch = runs, .step = 1};
  w->scale.resize(static_cast<size_t>(w->n * runs));
  for (float& scale : w->scale) scale = 0.05f * normal(generator);
  for (int64_t j = 0; j < w->n; ++j) {
    for (int64_t i = 0; i < w->k; ++i) {
      int q = static_cast<int>(generator() % 256);
      if ((q & 0x7f) == 0x7f) q ^= 1;
      w->data()[j * w->pitch + i] = static_cast<std::byte>(q);
      const int64_t at = j / w->scales.columns * w->scales.pitch + i / kScaleRun * w->scales.step;
      w->value[j * w->k + i] = NumberOfF8(q) * w->scale[at];
    }
  }
}

inline StoredWeight MakeWeight(DType dtype, int64_t n, int64_t k, uint32_t seed, bool transposed = false) {
  StoredWeight w{dtype, n, k, transposed, transposed ? n * Info(dtype).bytes : RowBytes(dtype, k), {}, {}};
  w.memory.resize(static_cast<size_t>(1 + w.pitch * (transposed ? k : n)));
  w.value.resize(static_cast<size_t>(n * k));
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  if (dtype == DType::kF8E4M3) {
    MakeF8(&w, generator);
    return w;
  }
  const auto [name, block, bytes] = Info(dtype);
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t i = 0; i < k && !IsQuantised(dtype); ++i) {
      std::byte* p = w.data() + (transposed ? i * w.pitch + j * bytes : j * w.pitch + i * bytes);
      float f = normal(generator);
      if (dtype == DType::kF16) f = F16ToF32(F32ToF16(f));
      if (dtype == DType::kBF16) f = Bf16ToF32(F32ToBf16(f));
      if (dtype == DType::kF32) std::memcpy(p, &f, 4);
      if (dtype == DType::kF16) PutHalf(p, F32ToF16(f));
      if (dtype == DType::kBF16) PutHalf(p, F32ToBf16(f));
      w.value[j * k + i] = f;
    }
    for (int64_t b = 0; b < k / block && IsQuantised(dtype); ++b) {
      std::byte* p = w.data() + j * w.pitch + b * bytes;
      for (int i = 0; i < bytes; ++i) p[i] = static_cast<std::byte>(generator());
      const HalfPlaces places = HalvesOf(dtype);
      const float size =
          block == kMaxBlock ? 0.001f : 0.01f;  // the large blocks multiply it by a small integer besides
      PutHalf(p + places.d, F32ToF16(size * normal(generator)));
      if (places.m >= 0) PutHalf(p + places.m, F32ToF16(5 * size * normal(generator)));
      for (int i = 0; i < block; ++i) w.value[j * k + b * block + i] = ValueOf(dtype, p, i);
    }
  }
  return w;
}

inline Weight PackWhole(const StoredWeight& w, Queue& queue, const LeafProgram& program = {}) {
  const WeightRows rows = w.Rows(0, w.n);
  return Weight::Pack(std::span(&rows, 1), w.k, program, queue);
}

struct OwnedActivations : PackedActivations {
  OwnedActivations(int64_t m, int64_t k) : memory(static_cast<size_t>(PackedActivationBytes(m, k) + 63)) {
    data = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    capacity = PackedActivationBytes(m, k);
  }
  std::vector<std::byte> memory;
};

inline std::vector<float> Product(const std::vector<float>& x, int64_t m, const Weight& w, Queue& queue,
                                  ActivationBits bits = ActivationBits::k16) {
  OwnedActivations a(m, w.k());
  PackActivations({x.data(), m, static_cast<int64_t>(x.size()) / m}, w, bits, &a, queue);
  std::vector<float> y(static_cast<size_t>(w.vectors() * m * w.n()), -777.0f);
  MatMul(a, w, {y.data(), w.n()}, queue);
  return y;
}

inline bool SameBits(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || __builtin_bit_cast(uint32_t, a) == __builtin_bit_cast(uint32_t, b);
}

// How many differ, any NaN being equal to any other.
inline int64_t Differences(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return -1;
  int64_t count = 0;
  for (size_t i = 0; i < a.size(); ++i) count += SameBits(a[i], b[i]) ? 0 : 1;
  return count;
}

}  // namespace pangea
