// Activations made ready for a product, and the gate in front of one.
#include "kernels/cuda/device_math.h"

namespace pangea::cuda {
namespace {

PANGEA_DEVICE float ActOf(Gate act, float g) {
  switch (act) {
    case Gate::kSilu:
      return SiluText::Apply(F32(g)).v;
    case Gate::kGeluErf:
      return GeluErfText::Apply(F32(g)).v;
    case Gate::kGeluTanh:
      return GeluTanhText::Apply(F32(g)).v;
    case Gate::kGeluQuick:
      return GeluQuickText::Apply(F32(g)).v;
    default:
      return ReluText::Apply(F32(g)).v;
  }
}

}  // namespace

// A block a row.
PANGEA_KERNEL(PackPlain, PackPlainArgs, 256) {
  const float* const from = a.x + BlockIndex().x * a.pitch;
  float* const to = a.out + BlockIndex().x * a.out_pitch;
  for (int64_t j = ThreadIndex().x; j < a.k; j += BlockThreads()) to[j] = from[j];
}

// A block a row.
PANGEA_KERNEL(PackHalves, PackHalvesArgs, 256) {
  const float* const from = a.x + BlockIndex().x * a.pitch;
  uint16_t* const to = a.out + BlockIndex().x * a.out_pitch;
  for (int64_t j = ThreadIndex().x; j < a.k; j += BlockThreads()) to[j] = RoundToHalf(from[j], a.dtype);
}

// Grid: (row, groups of 32 in eights); a warp a group.
PANGEA_KERNEL(PackQuantised, PackQuantisedArgs, 256) {
  const int64_t row = BlockIndex().x;
  const int group = static_cast<int>(BlockIndex().y * 8 + ThreadIndex().x / 32);
  if (group >= a.out.groups) return;
  PackGroup(a.x[row * a.pitch + group * 32 + ThreadIndex().x % 32], a.out, row, group);
}

// Grid and warps as above, over the columns of y: their product with the gate, written and packed.
PANGEA_KERNEL(GatePack, GatePackArgs, 256) {
  const int64_t row = BlockIndex().x;
  const int group = static_cast<int>(BlockIndex().y * 8 + ThreadIndex().x / 32);
  const int64_t j = int64_t{group} * 32 + ThreadIndex().x % 32;
  if (int64_t{group} * 32 >= a.n) return;
  float y = 0;
  if (j < a.n) {
    y = ActOf(a.act, a.g[row * a.ldg + j]);
    if (a.u != nullptr) y = y * a.u[row * a.ldu + j];
    a.y[row * a.ldy + j] = y;
    if (a.halves != nullptr) a.halves[row * a.half_pitch + j] = RoundToHalf(y, a.half_type);
    if (a.plain != nullptr) a.plain[row * a.plain_pitch + j] = y;
  }
  if (a.out.data != nullptr) PackGroup(y, a.out, row, group);
}

}  // namespace pangea::cuda
