// Front ends of KV writes and attention: the batch's items (rows and heads that share pages), or for few long ones
// their partitions, are spread over the pool. All memory is the caller's scratch.
#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/attention.h"
#include "kernels/check.h"
#include "kernels/on_cpu.h"

namespace pangea {
namespace {

// One attention call, and how its scratch is cut (AttentionScratchBytes).
struct Call {
  const KvLayer& kv;
  const Batch& batch;
  const AttentionArgs& args;
  const AttentionWork& work;
  const Backend& backend;
  int threads;
  int64_t stride = AttentionStride(kv.head_dim);
  int64_t tile = kMaxQueries * stride;  // floats

  float* own(int i) const { return args.scratch + (3 * ThreadPool::Index() + i) * tile; }  // i < 3: of this thread
  float* state(int64_t item) const { return args.scratch + (3 * threads + item) * tile; }  // item < 2 * threads
  float* partials() const { return args.scratch + 5 * threads * tile; }                    // kPartialsAThread * threads
};

AttentionTile MakeTile(const Call& call, const AttentionItem& item) {
  const Batch& batch = call.batch;
  const AttentionArgs& args = call.args;
  const int64_t d = call.kv.head_dim;
  AttentionTile tile;
  tile.kv = &call.kv;
  tile.table = batch.Table(call.kv.group, batch.slots[item.row]);
  tile.kv_head = item.kv_head;
  tile.window = call.work.window;
  tile.queries = 0;
  tile.packed = nullptr;
  for (int64_t row = item.row; row < item.row + item.rows; ++row) {
    for (int64_t head = item.head; head < item.head + item.heads; ++head) {
      tile.q[tile.queries] = args.q + row * args.ldq + head * d;
      tile.out[tile.queries] = args.out + row * args.ldo + head * d;
      tile.position[tile.queries] = batch.positions[row];
      ++tile.queries;
    }
  }
  return tile;
}

void ClearState(int queries, int64_t stride, float* state) {
  std::fill(state, state + queries * stride, 0.0f);
  for (int q = 0; q < queries; ++q) state[q * stride] = -std::numeric_limits<float>::infinity();
}

void RunItems(const Call& call, ThreadPool& pool) {
  const Backend& backend = call.backend;
  auto f = [&](int64_t begin, int64_t end) {
    float *state = call.own(0), *partial = call.own(1), *packed = call.own(2);
    for (int64_t i = begin; i < end; ++i) {
      const AttentionItem& item = call.work.items[i];
      AttentionTile tile = MakeTile(call, item);
      tile.packed = packed;
      backend.attention_prepare(tile, packed);
      ClearState(tile.queries, call.stride, state);
      for (int64_t p = item.first; p <= item.last; ++p) {
        backend.attention_partial(tile, p, partial);
        backend.attention_fold(tile, partial, state);
      }
      backend.attention_finish(tile, state);
    }
  };
  pool.For(static_cast<int64_t>(call.work.items.size()), 1, std::ref(f));
}

int64_t Partitions(const AttentionItem& item) { return item.last - item.first + 1; }

// The item whose partitions unit u is among.
int64_t ItemOf(const AttentionWork& work, int64_t u) {
  const auto after = std::upper_bound(work.items.begin(), work.items.end(), u,
                                      [](int64_t unit, const AttentionItem& item) { return unit < item.unit; });
  return after - work.items.begin() - 1;
}

// For few items with many partitions: as many partials at a time as the scratch holds, by all threads in any order;
// then one thread an item folds those that are there, from the left.
void RunPartitions(const Call& call, ThreadPool& pool) {
  const Backend& backend = call.backend;
  const AttentionWork& work = call.work;
  int64_t queries = 0;
  for (const AttentionItem& item : work.items) queries = std::max<int64_t>(queries, int64_t{item.rows} * item.heads);
  const int64_t size = queries * call.stride;  // of one partial
  const int64_t room = kPartialsAThread * call.threads * call.tile / size;
  for (int64_t from = 0; from < work.units; from += room) {
    const int64_t to = std::min(work.units, from + room);
    auto compute = [&](int64_t begin, int64_t end) {
      float* packed = call.own(2);
      AttentionTile tile;
      int64_t held = -1;
      for (int64_t u = from + begin; u < from + end; ++u) {
        const int64_t i =
            held >= 0 && u < work.items[held].unit + Partitions(work.items[held]) ? held : ItemOf(work, u);
        const AttentionItem& item = work.items[i];
        if (i != held) {
          held = i;
          tile = MakeTile(call, item);
          tile.packed = packed;
          backend.attention_prepare(tile, packed);
        }
        backend.attention_partial(tile, item.first + (u - item.unit), call.partials() + (u - from) * size);
      }
    };
    pool.For(to - from, 1, std::ref(compute));
    const int64_t first = ItemOf(work, from), last = ItemOf(work, to - 1);
    auto fold = [&](int64_t begin, int64_t end) {
      for (int64_t i = first + begin; i < first + end; ++i) {
        const AttentionItem& item = work.items[i];
        const AttentionTile tile = MakeTile(call, item);
        const int64_t units_end = item.unit + Partitions(item);
        if (item.unit >= from) ClearState(tile.queries, call.stride, call.state(i));
        for (int64_t u = std::max<int64_t>(item.unit, from); u < std::min(units_end, to); ++u)
          backend.attention_fold(tile, call.partials() + (u - from) * size, call.state(i));
        if (units_end <= to) backend.attention_finish(tile, call.state(i));
      }
    };
    pool.For(last - first + 1, 1, std::ref(fold));
  }
}

void CheckPages(const KvLayer& kv) {
  PANGEA_DCHECK(HasComputeFloatMode());
  PANGEA_CHECK(IsPageType(kv.dtype));
  PANGEA_CHECK(kv.block_tokens > 0 && kv.block_tokens % 16 == 0);
}

}  // namespace

void KvWrite(const KvLayer& kv, const Batch& batch, const KvWriteArgs& args, Queue& queue) {
  CheckPages(kv);
  CpuQueue& cpu = Cpu(queue);
  auto f = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (batch.slots[i] < 0) continue;
      PANGEA_DCHECK(batch.positions[i] < batch.lengths[batch.slots[i]]);
      const int32_t* table = batch.Table(kv.group, batch.slots[i]);
      for (int h = 0; h < kv.kv_heads; ++h) {
        const int64_t column = static_cast<int64_t>(h) * kv.head_dim;
        cpu.backend.kv_write(kv, h, table, batch.positions[i], args.k + i * args.ldk + column,
                             args.v + i * args.ldv + column);
      }
    }
  };
  cpu.pool.For(batch.rows, 16, std::ref(f));
}

void on_cpu::Attention(const KvLayer& kv, const Batch& batch, const AttentionArgs& args, Queue& queue) {
  CheckPages(kv);
  PANGEA_CHECK(kv.head_dim > 0 && args.work != nullptr && args.scratch != nullptr);
  CpuQueue& cpu = Cpu(queue);
  const Call call{kv, batch, args, *args.work, cpu.backend, cpu.pool.threads()};
  const int64_t items = static_cast<int64_t>(call.work.items.size());
  if (call.threads > 1 && items < 2 * call.threads && call.work.longest >= 2) {
    RunPartitions(call, cpu.pool);
  } else {
    RunItems(call, cpu.pool);
  }
}

void on_cpu::CopyBlock(const KvLayer& kv, int64_t from, int64_t to, Queue&) {
  for (int h = 0; h < kv.kv_heads; ++h) {
    std::byte* head = kv.base + h * kv.head_stride;
    std::memcpy(head + to * kv.block_stride, head + from * kv.block_stride, static_cast<size_t>(2 * kv.v_offset));
  }
}

}  // namespace pangea
