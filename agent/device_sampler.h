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

 private:
  void AddEdits(const LogitRow& row);
  void Tell(const Row& row, size_t first_edit);
  void DrawTold(const On& on, size_t begin, Drawn* drawn);

  SampleMemory memory_;
  Queue* queue_;
  std::vector<SampleRow> told_;
  std::vector<LogitEdit> edits_;
  std::vector<uint64_t> mask_;
};

}  // namespace pangea
