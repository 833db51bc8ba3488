// The pages that a stage may touch in one step.
#pragma once
#include <functional>
#include <span>

#include "kernels/ops.h"

namespace pangea {

struct KvView {
  std::span<const KvLayer> layers;         // this stage's layers, in order
  std::span<const KvRow> rows;             // the step's rows; sequence = index into tables
  std::span<const int32_t* const> tables;  // [sequence] -> its block table (one cache group)
};

}  // namespace pangea
