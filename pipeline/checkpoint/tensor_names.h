// Names that checkpoints carry without meaning.
#pragma once
#include <string_view>

namespace pangea {

// Buffers that some exporters store beside the weights: attention masks (attn.bias, attn.masked_bias), RoPE frequencies
// and caches.
bool IsBuffer(std::string_view name);

// GGUF tensors that text generation has no use for: RoPE tables of old converters, heads of other tasks (rewards,
// classes), draft layers that predict several tokens at once, ranges of activations for integer arithmetic, what is
// left of a LoRA adapter, the vision and audio parts of a larger model.
bool IsGgufSurplus(std::string_view name);

}  // namespace pangea
