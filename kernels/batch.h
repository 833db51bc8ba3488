// One step as the ops see it: flat arrays in the device's memory, made once, read by every layer. A sequence has a slot
// for as long as the agent knows it; its block table stays where the slot is.
//
// A row whose slot is negative is no row: ids and positions are 0, nothing is read from or written to pages for it, and
// what it holds in the activations, before and after, does not matter to any other row. So a step may be padded.
//
// Worked example: blocks of 16 tokens; slot 0 reads 3 ids at position 16, slot 2 decodes at 33; one row of padding:
//   ids       [p16 p17 p18 -1  0]     -1: the last sample of the row's slot
//   positions [ 16  17  18 33  0]
//   slots     [  0   0   0  2 -1]
//   tables    [group][slot][stride]: position p of slot s lies in block Table(group, s)[p / 16]
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention_item.h"
#include "kernels/buffer.h"
#include "kernels/types.h"

namespace pangea {

// The attention of all layers with one window.
struct AttentionWork {
  int window = 0;  // 0: all; else a query at p sees p-window+1 .. p
  std::span<const AttentionItem> items;
  int64_t units = 0;    // partitions of all items
  int64_t longest = 0;  // partitions of the longest item
  int64_t queries = 0;  // of the largest item
  // Of the items of one row, which are the first ones; where BatchShape asks for it.
  struct {
    int64_t items = 0, longest = 0, queries = 0;
  } alone;
};

struct Batch {
  int64_t rows = 0;                    // M, those that are none included
  int32_t* ids = nullptr;              // [rows]; FillLastIds replaces the negative ones
  const int32_t* positions = nullptr;  // [rows]
  const int32_t* slots = nullptr;      // [rows]; the rows of one slot are adjacent and ascending
  const int32_t* adapters = nullptr;   // [rows] whose adapter a product adds; 0: none, the only one today
  const int32_t* last = nullptr;       // [slots] the id sampled last
  const int32_t* lengths = nullptr;    // [slots] positions whose keys and values are there after this step's writes
  const int32_t* tables = nullptr;     // [groups][slots][stride]
  int64_t slot_count = 0, stride = 0;
  const int32_t* Table(int group, int slot) const { return tables + (group * slot_count + slot) * stride; }
  std::span<const AttentionWork> attention;  // one a window of BatchShape, in its order
  std::span<const int32_t> logit_rows;       // rows whose logits are wanted, ascending
};

// Makes the batches of one agent, and keeps its slots. Executor thread only.
class BatchBuilder {
 public:
  BatchBuilder(const BatchShape& shape, Queue* queue);

  // Between steps. Blocks first, first + 1, ... of the slot's table in a group. REQUIRES that they fit into its stride.
  struct TablePlace {
    int group = 0, slot = 0;
    int64_t first = 0;
  };
  void SetBlocks(const TablePlace& place, std::span<const int32_t> blocks);
  void SetLast(int slot, int32_t id);
  int32_t last(int slot) const { return last_.host[slot]; }
  // The device itself writes what the slot's last id will be; the host knows only that there is one.
  void LastIsDrawn(int slot) { last_.host[slot] = 0; }
  int32_t* device_last() const { return last_.device.data(); }
  int64_t bytes() const;  // of the device's memory that it holds: BatchBytes

  // A step: Begin, then its rows in order, then Finish.
  struct Row {
    int slot = -1;  // -1: no row
    int32_t position = 0;
    int32_t id = 0;  // negative: the slot's last sample
    int32_t adapter = 0;
  };
  void Begin();
  void AddRow(const Row& row);
  // Up to so many rows by rows that are none, and attention as for any step of as many rows that is not much longer: so
  // that steps look alike (Queue::Repeat). The logits of each row are then wanted. Before Finish.
  void Pad(int64_t rows);
  void WantLogits() { logit_rows_.host[logits_++] = static_cast<int32_t>(batch_.rows) - 1; }  // of the row added last
  // Good until the next Begin; the builder must not move.
  const Batch& Finish();

 private:
  // Memory of the device and its image, which are one where the host can reach the device's memory.
  template <class T>
  struct View {
    T* device = nullptr;
    T* host = nullptr;
  };
  template <class T>
  struct Part {
    Part() = default;
    Part(int64_t n, Queue* queue) : device(n, *queue) {
      if (!queue->host_memory()) image.resize(n);
      host = queue->host_memory() ? device.data() : image.data();
    }
    void Upload(int64_t first, int64_t n, Queue& queue) {
      queue.Upload(device.data() + first, host + first, n * static_cast<int64_t>(sizeof(T)));
    }
    template <class U>
    View<U> At(int64_t byte) const {
      return {reinterpret_cast<U*>(device.data() + byte), reinterpret_cast<U*>(host + byte)};
    }
    Buffer<T> device;
    std::vector<T> image;
    T* host = nullptr;
  };

  void MakeItems(int window, AttentionWork* work);
  enum class Which { kAll, kAlone, kOthers };
  void AddItems(Which which, AttentionWork* work);

  const BatchShape shape_;
  Queue* queue_;
  Part<std::byte> of_step_;  // what each step has anew: one upload
  View<int32_t> ids_, positions_, slots_, adapters_, logit_rows_, lengths_;
  View<AttentionItem> items_;
  Part<int32_t> last_, tables_;
  int64_t item_count_ = 0, logits_ = 0;
  bool padded_ = false;
  std::vector<AttentionWork> attention_;
  Batch batch_;
};

}  // namespace pangea
