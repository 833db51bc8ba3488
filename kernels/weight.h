// How a packed weight lies in memory; the same for every instruction set. N is padded to a multiple of 16 columns with
// zeros.
//
// f32, f16, bf16: super-panels of 64 columns (the last 16, 32, 48 or 64), each [k][columns]. So one sequential stream
//   feeds four independent chains.
// Quantised: panels of 16 columns, each a run of cells of 32 k.
//   q8_0 cell, 544 bytes: 8 lines of 64 (line j: 16 columns x k 4j..4j+3, stored w + 128), then 16 f16 scales.
//   q4_0 cell, 288 bytes: 4 lines of 64 (line j: 16 columns x 4 bytes; low nibble k 4j..4j+3, high nibble k
//   16+4j..16+4j+3,
//     as GGUF's own bytes), then 16 f16 scales; w = q - 8.
//   q4_1 cell, 320 bytes: the same 4 lines, 16 f16 scales, 16 f16 minima.
#pragma once
#include <cstdlib>
#include <memory>

#include "kernels/ops.h"

namespace pangea {

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};
using AlignedBytes = std::unique_ptr<std::byte[], FreeDeleter>;
AlignedBytes AllocateAligned(int64_t bytes);  // to 64 bytes; aborts when memory is out

struct Weight::Impl {
  DType dtype = DType::kF32;
  int64_t n = 0, k = 0;
  LeafProgram program;
  int vectors = 0;
  int depth = 0;            // of the stack
  int64_t panel_bytes = 0;  // of a full panel
  int64_t bytes = 0;
  AlignedBytes data;
};

int PanelColumns(DType dtype);  // 16 or 64

}  // namespace pangea
