#include "kernels/weight.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/made_up.h"

namespace pangea {
namespace {

int64_t RoundUp(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Where element k of one output column lies: data + k * step; quantised: blocks one after another from data.
struct Column {
  const std::byte* data;
  int64_t step;
  WeightScales scales;  // of f8: `data` at this column's
};

std::vector<Column> Columns(std::span<const WeightRows> runs) {
  std::vector<Column> columns;
  for (const WeightRows& run : runs) {
    PANGEA_CHECK(run.dtype == runs[0].dtype && IsWeightType(run.dtype));
    PANGEA_CHECK(!run.transposed || !(IsQuantised(run.dtype) || run.dtype == DType::kF8E4M3));
    const int64_t element = Info(run.dtype).bytes;
    for (int64_t j = 0; j < run.n; ++j) {
      columns.push_back(run.transposed ? Column{run.data + j * element, run.pitch, {}}
                                       : Column{run.data + j * run.pitch, element, run.scales});
      WeightScales& scales = columns.back().scales;
      if (scales.data == nullptr) continue;
      scales.data += (scales.first + j) / scales.columns * scales.pitch * Info(scales.dtype).bytes;
    }
  }
  return columns;
}

// One panel: `columns` (at most `width`) of Element over k.
template <class Element>
void PackPlain(std::span<const Column> columns, int64_t width, int64_t k, std::byte* out) {
  constexpr int64_t kBlock = 64;  // k at a time, so that the scattered lines stay in the first cache
  for (int64_t k0 = 0; k0 < k; k0 += kBlock) {
    const int64_t k1 = std::min(k, k0 + kBlock);
    for (int64_t j = 0; j < static_cast<int64_t>(columns.size()); ++j) {
      const Column& c = columns[j];
      for (int64_t i = k0; i < k1; ++i) {
        std::memcpy(out + (i * width + j) * static_cast<int64_t>(sizeof(Element)), c.data + i * c.step,
                    sizeof(Element));
      }
    }
  }
}

// The scale of a run of a column's numbers, as it is packed.
float PackedScale(const Column& column, int64_t k0, int64_t run) {
  const WeightScales& scales = column.scales;
  PANGEA_CHECK(scales.data != nullptr);
  const int64_t at = k0 / kScaleRun * scales.step * Info(scales.dtype).bytes;
  const bool nan = std::any_of(column.data + k0, column.data + k0 + run,
                               [](std::byte q) { return (q & std::byte{0x7f}) == std::byte{0x7f}; });
  return nan ? std::numeric_limits<float>::quiet_NaN() : 256 * PlainElement(scales.dtype, scales.data + at);
}

void PackF8(std::span<const Column> columns, int64_t width, int64_t k, std::byte* out) {
  for (int64_t k0 = 0; k0 < k; k0 += kScaleRun) {
    const int64_t run = std::min<int64_t>(k - k0, kScaleRun);
    std::byte* const numbers = out + width * 4;
    for (int64_t j = 0; j < static_cast<int64_t>(columns.size()); ++j) {
      const float scale = PackedScale(columns[j], k0, run);
      std::memcpy(out + 4 * j, &scale, sizeof(scale));
      for (int64_t i = 0; i < run; ++i) numbers[i * width + j] = columns[j].data[k0 + i];
    }
    out = numbers + run * width;
  }
}

// 8 x 4 numbers of a column into the lines of a cell.
void PackLines(int bits, const uint8_t* q, std::byte* line) {
  uint32_t quads[8];
  std::memcpy(quads, q, sizeof(quads));
  const auto store = [&](int at, uint32_t four) { std::memcpy(line + 64 * at, &four, 4); };
  if (bits == 8) {
    for (int j = 0; j < 8; ++j) store(j, quads[j]);
    return;
  }
  for (int j = 0; j < 4; ++j) store(j, (quads[j] & 0x0f0f0f0fu) | (quads[4 + j] & 0x0f0f0f0fu) << 4);
  const int high = bits - 4;
  for (int plane = 0; plane < high; ++plane) {
    uint32_t four = 0;
    for (int j = 0; j < 8 / high; ++j) {
      four |= (quads[plane * 8 / high + j] >> 4 & 0x01010101u * ((1u << high) - 1)) << high * j;
    }
    store(4 + plane, four);
  }
}

// One column's block; out is that of its panel.
void PackBlock(const QuantFormat& format, const QuantBlock& block, int64_t column, std::byte* out) {
  // A scale or a minimum: the block's f16 or, behind a head that has them, the small integer.
  const auto put = [&](std::byte* to, uint16_t half, int8_t integer) {
    if (format.two_level) {
      std::memcpy(to + column, &integer, 1);
    } else {
      std::memcpy(to + 2 * column, &half, 2);
    }
  };
  if (format.two_level) {
    std::memcpy(out + 2 * column, &block.d, 2);
    if (format.minima) std::memcpy(out + 2 * (kPanel + column), &block.m, 2);
    out += format.head_bytes();
  }
  for (int cell = 0; cell < format.block / kQuantGroup; ++cell, out += format.cell_bytes()) {
    PackLines(format.bits, block.q + cell * kQuantGroup, out + 4 * column);
    std::byte* numbers = out + format.line_bytes();
    for (int run = 0; run < format.runs(); ++run, numbers += kPanel * format.number_bytes()) {
      put(numbers, block.d, block.scales[cell * format.runs() + run]);
    }
    if (format.minima) put(numbers, block.m, block.minima[cell]);
  }
}

void PackQuantised(const QuantFormat& format, std::span<const Column> columns, int64_t k, std::byte* out) {
  QuantBlock block;
  for (int64_t b = 0; b < k / format.block; ++b, out += format.packed_bytes()) {
    for (size_t j = 0; j < columns.size(); ++j) {
      format.take_apart(columns[j].data + b * format.bytes, &block);
      PackBlock(format, block, static_cast<int64_t>(j), out);
    }
  }
}

void PackPanel(DType dtype, std::span<const Column> columns, int64_t width, int64_t k, std::byte* out) {
  switch (dtype) {
    case DType::kF32:
      return PackPlain<uint32_t>(columns, width, k, out);
    case DType::kF16:
    case DType::kBF16:
      return PackPlain<uint16_t>(columns, width, k, out);
    case DType::kF8E4M3:
      return PackF8(columns, width, k, out);
    default:
      return PackQuantised(*FindFormat(dtype), columns, k, out);
  }
}

// Column p as a row of its own.
void PackRow(const Column& column, const Weight::Impl& w, int64_t p, std::byte* packed) {
  std::byte* const row = packed + p * w.panel_bytes;
  const int64_t element = Info(w.dtype).bytes;
  if (column.step == element)
    std::memcpy(row, column.data, static_cast<size_t>(element * w.k));  // it is stored as a row
  for (int64_t i = 0; i < w.k && column.step != element; ++i)
    std::memcpy(row + element * i, column.data + i * column.step, element);
  if (w.dtype != DType::kF8E4M3) return;
  const int64_t runs = (w.k + kScaleRun - 1) / kScaleRun;
  std::byte* const scales = packed + RoundUp(w.n, kPanel) * w.k + 4 * p * runs;
  for (int64_t run = 0; run < runs; ++run) {
    const int64_t k0 = run * kScaleRun;
    const float scale = PackedScale(column, k0, std::min<int64_t>(kScaleRun, w.k - k0));
    std::memcpy(scales + 4 * run, &scale, sizeof(scale));
  }
}

int MaxDepth(const LeafProgram& program) {
  int depth = 0, top = 0;
  for (size_t i = 0; i + 1 < program.cuts.size(); ++i) {
    depth = std::max(depth, ++top);
    top -= program.merges[i];
    PANGEA_CHECK(top >= 1);
  }
  return depth;
}

LeafProgram Normalised(const LeafProgram& program, int64_t k, DType dtype) {
  LeafProgram p = program;
  if (p.cuts.size() <= 1 && k > 0) p.cuts = {0, k};
  p.merges.resize(p.cuts.size() - 1, 0);
  PANGEA_CHECK(p.cuts.front() == 0 && p.cuts.back() == k);
  for (size_t i = 0; i + 1 < p.cuts.size(); ++i) {
    PANGEA_CHECK(p.cuts[i] < p.cuts[i + 1]);
    PANGEA_CHECK(p.cuts[i] % SplitUnit(dtype) == 0);
  }
  PANGEA_CHECK(k % Info(dtype).block == 0);
  return p;
}

}  // namespace

AlignedBytes AllocateAligned(int64_t bytes) {
  void* p = std::aligned_alloc(64, static_cast<size_t>(RoundUp(std::max<int64_t>(bytes, 1), 64)));
  PANGEA_CHECK(p != nullptr);
  return AlignedBytes(static_cast<std::byte*>(p));
}

int PanelColumns(DType dtype) { return IsQuantised(dtype) ? kPanel : kSuperPanel; }

Weight::Weight() = default;
Weight::~Weight() = default;
Weight::Weight(Weight&&) noexcept = default;
Weight& Weight::operator=(Weight&&) noexcept = default;

Weight Weight::Pack(std::span<const WeightRows> runs, int64_t k, const LeafProgram& program, Queue& queue) {
  PANGEA_CHECK(k >= 0);
  if (runs.empty()) return Weight();  // a rank that holds no column
  const DType dtype = runs[0].dtype;
  const std::vector<Column> columns = Columns(runs);
  Weight weight;
  weight.impl_ = std::make_unique<Impl>();
  Impl& w = *weight.impl_;
  w.dtype = dtype;
  w.n = static_cast<int64_t>(columns.size());
  w.k = k;
  w.program = Normalised(program, k, dtype);
  w.vectors = w.program.vectors();
  w.depth = MaxDepth(w.program);
  w.bytes = PackedBytes(dtype, w.n, k);
  w.rows = queue.packs_rows(dtype);
  const int64_t width = w.rows ? 1 : PanelColumns(dtype);
  w.panel_bytes = w.rows ? RowBytes(dtype, k) : PackedBytes(dtype, width, k);
  PANGEA_CHECK(!w.rows || w.vectors == 1);
  bool filled = false;
  if (std::byte* kept = queue.weight_store() != nullptr ? queue.weight_store()->Take(w.bytes, &filled) : nullptr) {
    w.data = DeviceMemory(kept, {[](std::byte*, int64_t, void*) {}, w.bytes});
  } else {
    w.data = queue.Allocate(w.bytes);
  }
  PANGEA_CHECK(w.data != nullptr);
  if (filled) return weight;
  if (queue.makes_weights_up()) {
    queue.MakeUp(w.data.get(), w.bytes, dtype);
    return weight;
  }
  const AlignedBytes image = queue.host_memory() ? AlignedBytes() : AllocateAligned(w.bytes);
  std::byte* const packed = queue.host_memory() ? w.data.get() : image.get();
  if (w.rows) std::memset(packed + w.n * w.panel_bytes, 0, static_cast<size_t>(w.bytes - w.n * w.panel_bytes));
  auto pack = [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end && w.rows; ++p) PackRow(columns[p], w, p, packed);
    for (int64_t p = begin; p < end && !w.rows; ++p) {
      const int64_t count = std::min(width, w.n - p * width);
      const int64_t padded = RoundUp(count, kPanel);
      std::byte* out = packed + p * w.panel_bytes;
      if (count < padded) std::memset(out, 0, static_cast<size_t>(PackedBytes(dtype, padded, k)));
      PackPanel(dtype, std::span(columns).subspan(p * width, count), padded, k, out);
    }
  };
  queue.OnHost((w.n + width - 1) / width, 4, std::ref(pack));
  queue.Upload(w.data.get(), packed, w.bytes);
  return weight;
}

Weight Weight::Pack(std::span<const WeightRows> runs, int64_t k, Queue& queue) {
  return Pack(runs, k, LeafProgram{}, queue);
}

void Queue::MakeUp(std::byte* to, int64_t bytes, DType dtype) {
  constexpr int64_t kPiece = 1 << 16;  // words
  const int64_t words = bytes / 4;
  std::vector<uint32_t> image(host_memory() ? 0 : kPiece);
  for (int64_t at = 0; at < words; at += kPiece) {
    const int64_t n = std::min(kPiece, words - at);
    uint32_t* const out = host_memory() ? reinterpret_cast<uint32_t*>(to) + at : image.data();
    OnHost(n, 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = MadeUpWord(static_cast<uint64_t>(at + i), dtype);
    });
    Upload(to + 4 * at, out, 4 * n);
  }
}

bool Weight::empty() const { return impl_ == nullptr || impl_->n == 0; }
int64_t Weight::n() const { return impl_ ? impl_->n : 0; }
int64_t Weight::k() const { return impl_ ? impl_->k : 0; }
int Weight::vectors() const { return impl_ ? impl_->vectors : 0; }
DType Weight::dtype() const { return impl_ ? impl_->dtype : DType::kF32; }
int64_t Weight::bytes() const { return impl_ ? impl_->bytes : 0; }

}  // namespace pangea
