// The sampler of an agent alone in its stage whose device draws ids itself (kernels/sampling.h): rows are described to
// it, and what it drew is read once its queue has been waited for. The bytes of Sampler.
#pragma once
#include <span>
#include <vector>

#include "agent/sampler.h"
#include "kernels/buffer.h"
#include "kernels/sampling.h"

namespace pangea {

class DeviceSampler {
 public:
  // memory: SamplingBytes of the shape, of the device.
  DeviceSampler(const SamplingShape& shape, std::byte* memory, Queue* queue);

  // The slot's ids are counted from here on, where a penalty needs them.
  void Begin(int slot, const SamplingState& state);

  struct Row {
    LogitRow logits;
    int slot = 0;
  };
  // What some rows came to; written by the device, so it stays where it is until the queue has been waited for.
  struct Drawn {
    std::vector<SampledRow> rows;
    std::vector<TopLogit> tops;  // [rows][most]
    size_t most = 0;
    RowResult Result(size_t row) const;
  };
  struct On {                       // the device's
    const float* logits = nullptr;  // [rows][vocab], kept
    float* edited = nullptr;        // [rows][vocab], for it to work in
    int32_t* last = nullptr;        // [slots]
  };
  // rows: at most as many as the shape says.
  void Draw(const On& on, std::span<const Row> rows, Drawn* drawn);
  // The same in steps: the device is told of as many of the rows as there is room for their edits, and of rows that are
  // none up to `padded`; then SampleIds(*args) draws them; then what it drew is fetched, as from row `begin` on. How
  // many rows it was told of.
  size_t Tell(const On& on, std::span<const Row> rows, size_t padded, SampleArgs* args);
  void Fetch(const SampleArgs& args, size_t rows, size_t begin, Drawn* drawn);
  static void MakeRoom(std::span<const Row> rows, Drawn* drawn);

 private:
  void AddEdits(const LogitRow& row);
  void Add(const Row& row, size_t first_edit);

  SampleMemory memory_;
  Queue* queue_;
  std::vector<SampleRow> told_;
  std::vector<LogitEdit> edits_;
  std::vector<uint64_t> mask_;
};

}  // namespace pangea
