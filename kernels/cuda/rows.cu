// Rows that are copied, added and normed.
#include "kernels/cuda/device_math.h"
#include "kernels/made_up.h"

namespace pangea::cuda {
namespace {

// Stored blocks of GGUF, one weight at a time (kernels/take_apart.cc says how they lie).
PANGEA_DEVICE int Byte(const std::byte* p, int64_t i) { return static_cast<int>(p[i]); }

// Eight scales and eight minima of 6 bits in the 12 bytes behind d and dmin; part 0..7.
PANGEA_DEVICE int KScale(const std::byte* p, int part) {
  return part < 4 ? Byte(p, part) & 63 : (Byte(p, part + 4) & 15) | Byte(p, part - 4) >> 6 << 4;
}
PANGEA_DEVICE int KMinimum(const std::byte* p, int part) {
  return part < 4 ? Byte(p, part + 4) & 63 : Byte(p, part + 4) >> 4 | Byte(p, part) >> 6 << 4;
}

PANGEA_DEVICE int Nibble(const std::byte* p, int i) { return i < 16 ? Byte(p, i) & 15 : Byte(p, i - 16) >> 4; }

// Weight i of a block: as DequantiseRow rounds it.
PANGEA_DEVICE float StoredWeight(DType dtype, const std::byte* p, int i) {
  const int part = i / 32, lane = i % 32;  // of 256
  switch (dtype) {
    case DType::kQ8_0:
      return static_cast<float>(static_cast<int8_t>(p[2 + i])) * LoadF16(p);
    case DType::kQ4_0:
      return static_cast<float>(Nibble(p + 2, i) - 8) * LoadF16(p);
    case DType::kQ4_1:
      return static_cast<float>(Nibble(p + 4, i)) * LoadF16(p) + LoadF16(p + 2);
    case DType::kQ5_0:
      return static_cast<float>((Nibble(p + 6, i) | (Byte(p, 2 + i / 8) >> i % 8 & 1) << 4) - 16) * LoadF16(p);
    case DType::kQ5_1:
      return static_cast<float>(Nibble(p + 8, i) | (Byte(p, 4 + i / 8) >> i % 8 & 1) << 4) * LoadF16(p) +
             LoadF16(p + 2);
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const bool five = dtype == DType::kQ5_K;
      int q = Byte(p, (five ? 48 : 16) + part / 2 * 32 + lane) >> part % 2 * 4 & 15;
      if (five) q |= (Byte(p, 16 + lane) >> part & 1) << 4;
      const float scale = LoadF16(p) * static_cast<float>(KScale(p + 4, part));
      return static_cast<float>(q) * scale + -LoadF16(p + 2) * static_cast<float>(KMinimum(p + 4, part));
    }
    default: {  // Q6_K
      const int half = i / 128, quarter = i % 128 / 32;
      const int low = Byte(p, 64 * half + quarter % 2 * 32 + lane) >> quarter / 2 * 4 & 15;
      const int high = Byte(p, 128 + 32 * half + lane) >> 2 * quarter & 3;
      const float scale = LoadF16(p + 208) * static_cast<float>(static_cast<int8_t>(p[192 + i / 16]));
      return static_cast<float>((low | high << 4) - 32) * scale;
    }
  }
}

PANGEA_DEVICE float TableElement(const EmbeddingArgs& a, const std::byte* row, int64_t i) {
  switch (a.dtype) {
    case DType::kF32:
      return LoadPlain<DType::kF32>(row, i);
    case DType::kF16:
      return LoadPlain<DType::kF16>(row, i);
    case DType::kBF16:
      return LoadPlain<DType::kBF16>(row, i);
    default: {
      const DTypeInfo info = Info(a.dtype);
      return StoredWeight(a.dtype, row + i / info.block * info.bytes, static_cast<int>(i % info.block));
    }
  }
}

// RMS or layer norm of a row of d elements that lies in shared memory, where `lanes` has room for 16 sums; every thread
// has passed a Sync since it was written. All threads call.
PANGEA_DEVICE void NormOfRow(const float* row, int64_t d, const NormPart& norm, int64_t i, float* lanes) {
  const int t = static_cast<int>(ThreadIndex().x), threads = static_cast<int>(BlockThreads());
  const bool layer = norm.kind == NormKind::kLayer;
  float mean = 0;
  if (t < 32) {
    if (layer) {
      float sum = 0;
      for (int64_t j = t; j < d && t < kLanes; j += kLanes) sum = sum + row[j];
      mean = Shuffle(LaneSumOf(sum), 0) / static_cast<float>(d);
    }
    float squares = 0;
    for (int64_t j = t; j < d && t < kLanes; j += kLanes) {
      const float x = layer ? row[j] - mean : row[j];
      squares = Fma(x, x, squares);
    }
    const float root = SquareRoot(Shuffle(LaneSumOf(squares), 0) / static_cast<float>(d) + norm.eps);
    if (t == 0) {
      lanes[0] = mean;
      lanes[1] = root;
    }
  }
  Sync();
  mean = lanes[0];
  const float root = lanes[1];
  float* const y = norm.y + i * d;
  for (int64_t j = t; j < d; j += threads) {
    const float normed = (layer ? row[j] - mean : row[j]) / root;
    y[j] = norm.b != nullptr ? Fma(normed, norm.w[j], norm.b[j]) : norm.w != nullptr ? normed * norm.w[j] : normed;
  }
}

}  // namespace

PANGEA_KERNEL(FillLastIds, FillLastIdsArgs, 256) {
  const int64_t i = int64_t{BlockIndex().x} * BlockThreads() + ThreadIndex().x;
  if (i < a.rows && a.ids[i] < 0) a.ids[i] = a.last[a.slots[i]];
}

PANGEA_KERNEL(ReadAll, ReadAllArgs, 256) {
  int sum = 0;
  const int64_t step = int64_t{GridBlocks()} * BlockThreads();
#pragma unroll 8
  for (int64_t i = int64_t{BlockIndex().x} * BlockThreads() + ThreadIndex().x; i < a.pieces; i += step) {
    const Int4 v = StreamInt4(a.from + i * 16);
    sum += v.x + v.y + v.z + v.w;
  }
  int* const sums = Shared<int>();
  sums[ThreadIndex().x] = sum;
  Sync();
  if (ThreadIndex().x != 0) return;
  for (unsigned i = 1; i < BlockThreads(); ++i) sum += sums[i];
  a.sums[BlockIndex().x] = sum;
}

PANGEA_KERNEL(MakeUp, MakeUpArgs, 256) {
  const int64_t step = int64_t{GridBlocks()} * BlockThreads();
  for (int64_t i = int64_t{BlockIndex().x} * BlockThreads() + ThreadIndex().x; i < a.words; i += step)
    a.to[i] = MadeUpWord(static_cast<uint64_t>(i), a.dtype);
}

PANGEA_KERNEL(GatherRows, GatherRowsArgs, 256) {
  const float* const from = a.x + a.rows[BlockIndex().x] * a.d;
  float* const to = a.out + BlockIndex().x * a.d;
  for (int64_t j = ThreadIndex().x; j < a.d; j += BlockThreads()) to[j] = from[j];
}

PANGEA_KERNEL(EmbeddingRows, EmbeddingArgs, 256) {
  const std::byte* const row = a.table + a.rows[BlockIndex().x] * a.pitch;
  float* const to = a.out + BlockIndex().x * a.width;
  for (int64_t j = ThreadIndex().x; j < a.width; j += BlockThreads()) to[j] = TableElement(a, row, j);
}

PANGEA_KERNEL(Add, AddArgs, 256) {
  const int64_t i = int64_t{BlockIndex().x} * BlockThreads() + ThreadIndex().x;
  if (i < a.n) a.y[i] = a.y[i] + a.x[i];
}

// A block a row.
PANGEA_KERNEL(AddBias, AddBiasArgs, 256) {
  float* const y = a.y + BlockIndex().x * a.ld;
  for (int64_t j = ThreadIndex().x; j < a.n; j += BlockThreads()) y[j] = y[j] + a.b[j];
}

// A block a KV head: its keys and values lie behind each other.
PANGEA_KERNEL(CopyBlock, CopyBlockArgs, 256) {
  std::byte* const head = a.pages.base + BlockIndex().x * a.pages.head_stride;
  const uint32_t* const from = reinterpret_cast<const uint32_t*>(head + a.from * a.pages.block_stride);
  uint32_t* const to = reinterpret_cast<uint32_t*>(head + a.to * a.pages.block_stride);
  for (int64_t j = ThreadIndex().x; j < a.pages.v_offset / 2; j += BlockThreads()) to[j] = from[j];
}

// A block a row. Shared: the row, then 16 floats.
PANGEA_KERNEL(RowNorm, RowNormArgs, 256) {
  float* const row = Shared<float>();
  const int64_t i = BlockIndex().x;
  for (int64_t j = ThreadIndex().x; j < a.d; j += BlockThreads()) row[j] = a.x[i * a.d + j];
  Sync();
  NormOfRow(row, a.d, a.norm, i, row + a.d);
}

// A block a row: what is left of the tree, bias, residual, and the norm that reads it next. Shared: as above.
PANGEA_KERNEL(ReduceAddNorm, ReduceNormArgs, 256) {
  float* const row = Shared<float>();
  const int64_t i = BlockIndex().x, vector = a.m * a.d;
  for (int64_t j = ThreadIndex().x; j < a.d; j += BlockThreads()) {
    float* const v = a.vectors + i * a.d + j;
    for (int step = 0; step < a.additions; ++step) {
      v[a.into[step] * vector] = v[a.into[step] * vector] + v[a.from[step] * vector];
    }
    const float sum = a.bias != nullptr ? v[0] + a.bias[j] : v[0];
    float* const x = a.x + i * a.d + j;
    *x = row[j] = *x + sum;
  }
  if (a.norm.y == nullptr) return;
  Sync();
  NormOfRow(row, a.d, a.norm, i, row + a.d);
}

}  // namespace pangea::cuda
