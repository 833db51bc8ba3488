#include "kernels/cpu/kernels.h"

namespace pangea::PANGEA_ISA {

namespace {

template <void (*quantised)(const ProductArgs&, const Block2D&)>
void Product(const ProductArgs& args, const Block2D& block) {
  switch (args.dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kF8E4M3:
      return ProductPlain(args, block);
    default:
      return quantised(args, block);
  }
}

int64_t NoScratch(DType, int64_t, int64_t) { return 0; }

constexpr Backend WithProduct(void (*product)(const ProductArgs&, const Block2D&),
                              int64_t (*scratch)(DType, int64_t, int64_t)) {
  return {
      .activation_row_bytes = ActivationRowBytes,
      .pack_activations = PackActivations,
      .product = product,
      .product_scratch = scratch,
      .rms_norm = RmsNorm,
      .layer_norm = LayerNorm,
      .add_rows = AddRows,
      .sum = Sum,
      .rope = Rope,
      .scale = Scale,
      .gate = GateUp,
      .kv_write = KvWrite,
      .attention_prepare = AttentionPrepare,
      .attention_partial = AttentionPartial,
      .attention_fold = AttentionFold,
      .attention_finish = AttentionFinish,
      .lse_chunks = LseChunks,
      .lse_fold = LseFold,
      .exp = ExpOne,
      .log = LogOne,
      .gumbel_argmax = GumbelArgmax,
      .argmax = Argmax,
      .all_finite = AllFinite,
  };
}

}  // namespace

const Backend kBackend = WithProduct(Product<ProductQuantised>, NoScratch);
#ifdef PANGEA_ISA_TILES
const Backend kBackendWithTiles = WithProduct(Product<ProductOnTiles>, TileScratch);
#endif

}  // namespace pangea::PANGEA_ISA
