#include "kernels/cpu/kernels.h"

namespace pangea::PANGEA_ISA {

namespace {
void Product(const ProductArgs& args, const Block2D& block) {
  const bool plain = args.dtype == DType::kF32 || args.dtype == DType::kF16 || args.dtype == DType::kBF16;
  plain ? ProductPlain(args, block) : ProductQuantised(args, block);
}
}  // namespace

const Backend kBackend = {
    .activation_row_bytes = ActivationRowBytes,
    .pack_activations = PackActivations,
    .product = Product,
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

}  // namespace pangea::PANGEA_ISA
