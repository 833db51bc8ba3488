// The weights themselves, mapped read-only; agents only.
#pragma once
#include <memory>

#include "kernels/ops.h"
#include "pipeline/checkpoint/tensor_table.h"

namespace pangea {

// A matrix or vector as it lies in the file.
struct TensorView {
  DType dtype = DType::kF32;
  const std::byte* data = nullptr;  // element (0, 0) of the role (fused tensors: already at `first`)
  int64_t n = 0, k = 0;             // n output columns; k = 0: a vector of n
  int64_t pitch = 0;                // bytes from stored row to stored row
  bool transposed = false;
  WeightScales scales = {};  // of f8, of the whole tensor
  bool present() const { return data != nullptr; }
  // Output columns [n0, n1) over [k0, k1), as the kernels want them. k0 on a block border.
  WeightRows Run(int64_t n0, int64_t n1, int64_t k0) const;
};

class Weights {
 public:
  // Maps the files; REQUIRES CheckTensors found nothing.
  static absl::StatusOr<Weights> Map(const CheckpointHeader& header);
  ~Weights();
  Weights(Weights&&) noexcept;
  Weights& operator=(Weights&&) noexcept;
  TensorView Find(Role role, int layer = -1, int expert = -1) const;  // not present(): the model has none
  // Elements [begin, end) of a vector as f32 (any weight dtype); empty when absent.
  std::vector<float> Vector(Role role, int layer, int64_t begin, int64_t end) const;
  // Lets go of the mapped pages that have been touched (after packing).
  void Release() const;

 private:
  Weights();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pangea
