// Scales of weights of F8_E4M3, which checkpoints store beside them, in any of three shapes: one number for the tensor,
// one a row (output column), or one for each square of 128 x 128, the last ones smaller.
#pragma once
#include <string>
#include <vector>

#include "pipeline/checkpoint/header.h"

namespace pangea {

// "X.weight" has its scales in "X.weight_scale" or "X.weight_scale_inv" (the same: what its numbers are multiplied by).
// Empty: the checkpoint has neither.
std::string ScalesName(const CheckpointHeader& header, const std::string& weight);

// How the scales of a weight [n][k] lie in their tensor: that of output column j and k is element j / columns * pitch +
// k / kScaleRun * step.
struct ScalesLayout {
  int64_t columns = 1, pitch = 0, step = 0;
};
// nullopt: of none of the shapes.
std::optional<ScalesLayout> LayoutOfScales(const std::vector<int64_t>& shape, int64_t n, int64_t k);

// What is wrong with the scales of a weight [n][k]; empty: nothing.
std::string ScalesFault(const CheckpointHeader& header, const std::string& weight, int64_t n, int64_t k);

}  // namespace pangea
