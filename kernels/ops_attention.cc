// Front ends of KV writes and attention: rows and heads grouped into tiles that share pages, tiles (and, for few long
// ones, their partitions) spread over the pool.
#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/attention.h"
#include "kernels/check.h"
#include "kernels/cpu_queue.h"
#include "kernels/weight.h"

namespace pangea {
namespace {

// Queries [row0, row0+rows) x heads of one KV head, of one sequence.
struct Item {
  int64_t row0;
  int rows;
  int kv_head;
  int head0, heads;     // in the head list of the KV head
  int64_t first, last;  // partitions with an unmasked position
};

struct Work {
  const KvLayer* kv;
  const AttentionArgs* args;
  std::vector<int> heads;  // grouped by KV head
  std::vector<Item> items;
};

void AddItems(int64_t row0, int64_t rows, int kv_head, int head0, int heads, Work* work) {
  const AttentionArgs& args = *work->args;
  const int64_t step = std::max(1, kMaxQueries / heads);
  for (int64_t r = 0; r < rows; r += step) {
    const int count = static_cast<int>(std::min(step, rows - r));
    const int64_t low = args.rows[row0 + r].position;
    const int64_t high = args.rows[row0 + r + count - 1].position;
    const int64_t oldest = args.window > 0 ? std::max<int64_t>(0, low - args.window + 1) : 0;
    work->items.push_back({row0 + r, count, kv_head, head0, heads, oldest / kPartition, high / kPartition});
  }
}

Work MakeWork(const KvLayer& kv, const AttentionArgs& args) {
  Work work{&kv, &args, {}, {}};
  const int64_t m = static_cast<int64_t>(args.rows.size());
  for (int g = 0; g < kv.kv_heads; ++g) {
    const int begin = static_cast<int>(work.heads.size());
    for (int h = 0; h < args.heads; ++h) {
      if (args.kv_of_head[h] == g) work.heads.push_back(h);
    }
    const int count = static_cast<int>(work.heads.size()) - begin;
    for (int64_t row = 0; row < m;) {
      int64_t end = row + 1;
      while (end < m && args.rows[end].sequence == args.rows[row].sequence) ++end;
      for (int h = 0; h < count; h += kMaxQueries)
        AddItems(row, end - row, g, begin + h, std::min(count - h, kMaxQueries), &work);
      row = end;
    }
  }
  PANGEA_CHECK(static_cast<int>(work.heads.size()) == args.heads);
  return work;
}

AttentionTile MakeTile(const Work& work, const Item& item) {
  const AttentionArgs& args = *work.args;
  const int64_t d = work.kv->head_dim;
  AttentionTile tile;
  tile.kv = work.kv;
  tile.table = args.tables[args.rows[item.row0].sequence];
  tile.kv_head = item.kv_head;
  tile.window = args.window;
  tile.queries = 0;
  for (int r = 0; r < item.rows; ++r) {
    for (int h = 0; h < item.heads; ++h) {
      const int64_t row = item.row0 + r;
      const int64_t head = work.heads[item.head0 + h];
      tile.q[tile.queries] = args.q + row * args.ldq + head * d;
      tile.out[tile.queries] = args.out + row * args.ldo + head * d;
      tile.position[tile.queries] = args.rows[row].position;
      ++tile.queries;
    }
  }
  return tile;
}

void ClearState(int queries, int64_t stride, float* state) {
  std::fill(state, state + queries * stride, 0.0f);
  for (int q = 0; q < queries; ++q) state[q * stride] = -std::numeric_limits<float>::infinity();
}

AlignedBytes Floats(int64_t n) { return AllocateAligned(n * static_cast<int64_t>(sizeof(float))); }

void RunTiles(const Work& work, CpuQueue& cpu) {
  const Backend& backend = cpu.backend;
  const int64_t stride = AttentionStride(work.kv->head_dim);
  auto f = [&](int64_t begin, int64_t end) {
    const AlignedBytes scratch = Floats(kMaxQueries * (2 * stride + stride));
    float* state = reinterpret_cast<float*>(scratch.get());
    float* partial = state + kMaxQueries * stride;
    float* packed = partial + kMaxQueries * stride;
    for (int64_t i = begin; i < end; ++i) {
      AttentionTile tile = MakeTile(work, work.items[i]);
      tile.packed = packed;
      backend.attention_prepare(tile, packed);
      ClearState(tile.queries, stride, state);
      for (int64_t p = work.items[i].first; p <= work.items[i].last; ++p) {
        backend.attention_partial(tile, p, partial);
        backend.attention_fold(tile, partial, state);
      }
      backend.attention_finish(tile, state);
    }
  };
  cpu.pool.For(static_cast<int64_t>(work.items.size()), 1, std::ref(f));
}

// For few items with many partitions: partials in any order into memory, then one thread folds an item. Bounded memory:
// chunks.
void RunPartitions(const Work& work, CpuQueue& cpu) {
  const Backend& backend = cpu.backend;
  const int64_t stride = AttentionStride(work.kv->head_dim);
  struct Unit {
    int item;
    int64_t partition;
  };
  std::vector<Unit> units;
  std::vector<int64_t> first_unit;
  for (size_t i = 0; i < work.items.size(); ++i) {
    first_unit.push_back(static_cast<int64_t>(units.size()));
    for (int64_t p = work.items[i].first; p <= work.items[i].last; ++p) units.push_back({static_cast<int>(i), p});
  }
  int queries = 0;
  for (const Item& item : work.items) queries = std::max(queries, item.rows * item.heads);
  const int64_t size = queries * stride;  // of one partial
  const AlignedBytes memory = Floats(static_cast<int64_t>(units.size()) * size);
  float* partials = reinterpret_cast<float*>(memory.get());
  auto compute = [&](int64_t begin, int64_t end) {
    const AlignedBytes scratch = Floats(kMaxQueries * stride);
    float* packed = reinterpret_cast<float*>(scratch.get());
    AttentionTile tile;
    int held = -1;
    for (int64_t u = begin; u < end; ++u) {
      if (units[u].item != held) {
        held = units[u].item;
        tile = MakeTile(work, work.items[held]);
        tile.packed = packed;
        backend.attention_prepare(tile, packed);
      }
      backend.attention_partial(tile, units[u].partition, partials + u * size);
    }
  };
  cpu.pool.For(static_cast<int64_t>(units.size()), 1, std::ref(compute));
  auto fold = [&](int64_t begin, int64_t end) {
    const AlignedBytes scratch = Floats(kMaxQueries * stride);
    float* state = reinterpret_cast<float*>(scratch.get());
    for (int64_t i = begin; i < end; ++i) {
      AttentionTile tile = MakeTile(work, work.items[i]);
      tile.packed = nullptr;
      ClearState(tile.queries, stride, state);
      const int64_t count = work.items[i].last - work.items[i].first + 1;
      for (int64_t p = 0; p < count; ++p) {
        backend.attention_fold(tile, partials + (first_unit[i] + p) * size, state);
      }
      backend.attention_finish(tile, state);
    }
  };
  cpu.pool.For(static_cast<int64_t>(work.items.size()), 1, std::ref(fold));
}

}  // namespace

void KvWrite(const KvLayer& kv, const KvWriteArgs& args, Queue& queue) {
  PANGEA_DCHECK(HasComputeFloatMode());
  PANGEA_CHECK(kv.dtype == DType::kF16 || kv.dtype == DType::kBF16 || kv.dtype == DType::kI8);
  PANGEA_CHECK(kv.block_tokens > 0 && kv.block_tokens % 16 == 0);
  CpuQueue& cpu = Cpu(queue);
  auto f = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const KvRow& row = args.rows[i];
      for (int h = 0; h < kv.kv_heads; ++h) {
        const int64_t column = static_cast<int64_t>(h) * kv.head_dim;
        cpu.backend.kv_write(kv, h, args.tables[row.sequence], row.position, args.k + i * args.ldk + column,
                             args.v + i * args.ldv + column);
      }
    }
  };
  cpu.pool.For(static_cast<int64_t>(args.rows.size()), 16, std::ref(f));
}

void Attention(const KvLayer& kv, const AttentionArgs& args, Queue& queue) {
  PANGEA_DCHECK(HasComputeFloatMode());
  PANGEA_CHECK(kv.dtype == DType::kF16 || kv.dtype == DType::kBF16 || kv.dtype == DType::kI8);
  PANGEA_CHECK(kv.block_tokens > 0 && kv.block_tokens % 16 == 0 && kv.head_dim > 0 && args.window >= 0);
  if (args.rows.empty() || args.heads == 0) return;
  const Work work = MakeWork(kv, args);
  int64_t longest = 0;
  for (const Item& item : work.items) longest = std::max(longest, item.last - item.first + 1);
  const int64_t items = static_cast<int64_t>(work.items.size());
  CpuQueue& cpu = Cpu(queue);
  if (cpu.pool.threads() > 1 && items < 2 * cpu.pool.threads() && longest >= 2) {
    RunPartitions(work, cpu);
  } else {
    RunTiles(work, cpu);
  }
}

}  // namespace pangea
