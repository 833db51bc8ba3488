#include "kernels/batch.h"

#include <algorithm>

#include "kernels/check.h"

namespace pangea {

BatchBuilder::BatchBuilder(const BatchShape& shape, Queue* queue) : shape_(shape), queue_(queue) {
  PANGEA_CHECK(std::is_sorted(shape_.kv_of_head.begin(), shape_.kv_of_head.end()));
  for (Array<int32_t>* array : {&ids_, &positions_, &slots_, &adapters_, &logit_rows_})
    array->Make(shape_.rows, *queue);
  for (Array<int32_t>* array : {&last_, &lengths_}) array->Make(shape_.slots, *queue);
  tables_.Make(shape_.groups * shape_.slots * shape_.stride, *queue);
  items_.Make(MaxAttentionItems(shape_) * static_cast<int64_t>(shape_.windows.size()), *queue);
  attention_.resize(shape_.windows.size());
}

int64_t BatchBuilder::bytes() const {
  int64_t sum = items_.device.bytes();
  for (const Array<int32_t>* array :
       {&ids_, &positions_, &slots_, &adapters_, &last_, &lengths_, &tables_, &logit_rows_})
    sum += array->device.bytes();
  return sum;
}

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
  for (Array<int32_t>* array : {&ids_, &positions_, &slots_, &adapters_}) array->Upload(0, batch_.rows, *queue_);
  lengths_.Upload(0, shape_.slots, *queue_);
  logit_rows_.Upload(0, logits_, *queue_);
  items_.Upload(0, item_count_, *queue_);
  batch_.ids = ids_.device.data();
  batch_.positions = positions_.device.data();
  batch_.slots = slots_.device.data();
  batch_.adapters = adapters_.device.data();
  batch_.last = last_.device.data();
  batch_.lengths = lengths_.device.data();
  batch_.tables = tables_.device.data();
  batch_.slot_count = shape_.slots;
  batch_.stride = shape_.stride;
  batch_.attention = attention_;
  batch_.logit_rows = {logit_rows_.device.data(), static_cast<size_t>(logits_)};
  return batch_;
}

// Tiles of kMaxQueries queries: as many rows as the heads of one KV head leave room for.
void BatchBuilder::MakeItems(int window, AttentionWork* work) {
  const int64_t begin = item_count_;
  *work = AttentionWork{.window = window};
  const auto add = [&](int64_t row, int64_t rows, int kv_head, int head, int heads) {
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
    while (end < heads && end - head < kMaxQueries && shape_.kv_of_head[end] == shape_.kv_of_head[head]) ++end;
    const int64_t step = std::max(1, kMaxQueries / (end - head));
    for (int64_t row = 0, stop; row < batch_.rows; row = stop) {
      stop = row + 1;
      while (stop < batch_.rows && slots_.host[stop] == slots_.host[row]) ++stop;
      if (slots_.host[row] < 0) continue;
      for (int64_t r = row; r < stop; r += step)
        add(r, std::min(step, stop - r), shape_.kv_of_head[head], head, end - head);
    }
  }
  work->items = {items_.device.data() + begin, static_cast<size_t>(item_count_ - begin)};
}

}  // namespace pangea
