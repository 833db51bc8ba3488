// How a packed weight lies in memory; the same for every instruction set. N is padded to a multiple of 16 columns with
// zeros.
//
// f32, f16, bf16: super-panels of 64 columns (the last 16, 32, 48 or 64), each [k][columns]. So one sequential stream
//   feeds four independent chains.
// f8: super-panels of as many columns, each a run of 128 k (the last maybe fewer) behind another: [columns] scales,
//   f32, 256 times what they are in the file (half.h, F8AsF16), NaN where a number of theirs is NaN; then [k][columns].
// Quantised: panels of 16 columns, each a run of blocks (of QuantFormat::block k), each a run of cells of 32 k.
//   A two-level format's block begins with 16 f16 d, and 16 f16 m if it has minima.
//   A cell begins with lines of 64 bytes, 4 for each of 16 columns. 8 bits: line j has k 4j..4j+3. Fewer: line j of 4
//     has k 4j..4j+3 in the lower half of each byte and k 16+4j..16+4j+3 in the upper half, as GGUF's own bytes; then
//     come the fifth bits as one line (bit j: k 4j..4j+3), or the fifth and sixth as two (bits 2j, 2j+1 of the first:
//     k 4j..4j+3; of the second: k 16+4j..16+4j+3).
//   Behind the lines: for each run of the cell 16 scales, then 16 minima if there are any; f16, or int8 in two-level
//     formats.
//   So a cell of q8_0 has 544 bytes, of q4_0 288, of q4_1 320; a block of q4_k 2368, of q6_k 3360.
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
  // f16, bf16, f8: [n][k] instead (Queue::packs_rows), with rows of zeros up to a multiple of 16; of f8 then [n][runs
  // of 128 k] scales, as above.
  bool rows = false;
  int64_t n = 0, k = 0;
  LeafProgram program;
  int vectors = 0;
  int depth = 0;            // of the stack
  int64_t panel_bytes = 0;  // of a full panel
  int64_t bytes = 0;
  DeviceMemory data;
};

int PanelColumns(DType dtype);                        // 16 or 64
float PlainElement(DType dtype, const std::byte* p);  // f32, f16 or bf16 as f32

}  // namespace pangea
