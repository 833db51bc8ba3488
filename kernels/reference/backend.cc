#include "kernels/reference/reference.h"

namespace pangea::reference {

const Backend kBackend = {
    .activation_row_bytes = ActivationRowBytes,
    .pack_activations = PackActivations,
    .product = Product,
    .product_scratch = [](DType, int64_t, int64_t) -> int64_t { return 0; },
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

}  // namespace pangea::reference
