#include "kernels/batch.h"

#include <algorithm>
#include <bit>

#include "kernels/check.h"

namespace pangea {

BatchBuilder::BatchBuilder(const BatchShape& shape, Queue* queue) : shape_(shape), queue_(queue) {
  PANGEA_CHECK(std::is_sorted(shape_.kv_of_head.begin(), shape_.kv_of_head.end()));
  const int64_t items = MaxAttentionItems(shape_) * static_cast<int64_t>(shape_.windows.size());
  const int64_t numbers = 5 * shape_.rows + shape_.slots;
  of_step_ = Part<std::byte>(numbers * static_cast<int64_t>(sizeof(int32_t)) + items * kAttentionItemBytes, queue);
  last_ = Part<int32_t>(shape_.slots, queue);
  tables_ = Part<int32_t>(shape_.groups * shape_.slots * shape_.stride, queue);
  int64_t at = 0;
  for (View<int32_t>* view : {&ids_, &positions_, &slots_, &adapters_, &logit_rows_, &lengths_}) {
    *view = of_step_.At<int32_t>(at);
    at += (view == &lengths_ ? shape_.slots : shape_.rows) * static_cast<int64_t>(sizeof(int32_t));
  }
  items_ = of_step_.At<AttentionItem>(at);
  attention_.resize(shape_.windows.size());
}

int64_t BatchBuilder::bytes() const { return of_step_.device.bytes() + last_.device.bytes() + tables_.device.bytes(); }

void BatchBuilder::SetBlocks(const TablePlace& place, std::span<const int32_t> blocks) {
  const int64_t n = static_cast<int64_t>(blocks.size());
  PANGEA_CHECK(place.first + n <= shape_.stride);
  const int64_t at = (place.group * shape_.slots + place.slot) * shape_.stride + place.first;
  std::copy(blocks.begin(), blocks.end(), tables_.host + at);
  tables_.Upload(at, n, *queue_);
}

void BatchBuilder::SetLast(int slot, int32_t id) {
  last_.host[slot] = id;
  last_.Upload(slot, 1, *queue_);
}

void BatchBuilder::Begin() {
  batch_ = Batch();
  item_count_ = logits_ = 0;
  padded_ = false;
}

void BatchBuilder::Pad(int64_t rows) {
  while (batch_.rows < rows) {
    AddRow({.slot = -1});
    WantLogits();
  }
  padded_ = true;
}

void BatchBuilder::AddRow(const Row& row) {
  PANGEA_CHECK(batch_.rows < shape_.rows);
  const int64_t i = batch_.rows++;
  ids_.host[i] = row.id;
  positions_.host[i] = row.position;
  slots_.host[i] = row.slot;
  adapters_.host[i] = row.adapter;
  if (row.slot >= 0) lengths_.host[row.slot] = row.position + 1;
}

const Batch& BatchBuilder::Finish() {
  for (size_t i = 0; i < attention_.size(); ++i) MakeItems(shape_.windows[i], &attention_[i]);
  const int64_t used = reinterpret_cast<const std::byte*>(items_.host + item_count_) - of_step_.host;
  of_step_.Upload(0, used, *queue_);
  batch_.ids = ids_.device;
  batch_.positions = positions_.device;
  batch_.slots = slots_.device;
  batch_.adapters = adapters_.device;
  batch_.last = last_.device.data();
  batch_.lengths = lengths_.device;
  batch_.tables = tables_.device.data();
  batch_.slot_count = shape_.slots;
  batch_.stride = shape_.stride;
  batch_.attention = attention_;
  batch_.logit_rows = {logit_rows_.device, static_cast<size_t>(logits_)};
  return batch_;
}

// Tiles of so many queries: as many rows as the heads of one KV head leave room for.
void BatchBuilder::MakeItems(int window, AttentionWork* work) {
  const int64_t begin = item_count_;
  *work = AttentionWork{.window = window};
  const auto padded = [&](int64_t longest) {  // an eighth longer at most, but for short ones
    const int64_t step = std::max<int64_t>(1, std::bit_floor(static_cast<uint64_t>(longest)) / 8);
    return padded_ ? (longest + step - 1) / step * step : longest;
  };
  if (shape_.alone_first) {
    AddItems(Which::kAlone, work);
    work->alone = {.items = item_count_ - begin, .longest = padded(work->longest), .queries = work->queries};
    AddItems(Which::kOthers, work);
  } else {
    AddItems(Which::kAll, work);
  }
  work->longest = padded(work->longest);
  work->items = {items_.device + begin, static_cast<size_t>(item_count_ - begin)};
}

void BatchBuilder::AddItems(Which which, AttentionWork* work) {
  const int window = work->window;
  const auto add = [&](int64_t row, int64_t rows, int kv_head, int head, int heads) {
    if (which != Which::kAll && (rows == 1) != (which == Which::kAlone)) return;
    const int64_t low = positions_.host[row], high = positions_.host[row + rows - 1];
    const int64_t oldest = window > 0 ? std::max<int64_t>(0, low - window + 1) : 0;
    const int64_t first = oldest / kPartition, last = high / kPartition;
    items_.host[item_count_++] = {.row = static_cast<int32_t>(row),
                                  .rows = static_cast<int32_t>(rows),
                                  .kv_head = kv_head,
                                  .head = head,
                                  .heads = heads,
                                  .first = static_cast<int32_t>(first),
                                  .last = static_cast<int32_t>(last),
                                  .unit = static_cast<int32_t>(work->units)};
    work->units += last - first + 1;
    work->longest = std::max(work->longest, last - first + 1);
    work->queries = std::max(work->queries, rows * heads);
  };
  const int heads = static_cast<int>(shape_.kv_of_head.size());
  for (int head = 0, end; head < heads; head = end) {
    end = head + 1;
    while (end < heads && end - head < shape_.queries && shape_.kv_of_head[end] == shape_.kv_of_head[head]) ++end;
    const int64_t step = std::max(1, shape_.queries / (end - head));
    for (int64_t row = 0, stop; row < batch_.rows; row = stop) {
      stop = row + 1;
      while (stop < batch_.rows && slots_.host[stop] == slots_.host[row]) ++stop;
      if (slots_.host[row] < 0) {
        const bool here = padded_ && which != Which::kOthers;
        for (int64_t r = row; r < stop && here; ++r) items_.host[item_count_++] = {};  // without queries
        continue;
      }
      for (int64_t r = row; r < stop; r += step)
        add(r, std::min(step, stop - r), shape_.kv_of_head[head], head, end - head);
    }
  }
}

}  // namespace pangea
