// Names that checkpoints carry without meaning.
#pragma once
#include <string_view>

namespace pangea {

// Buffers that some exporters store beside the weights: attention masks (attn.bias, attn.masked_bias), RoPE frequencies
// and caches.
bool IsBuffer(std::string_view name);

// GGUF tensors that text generation has no use for: RoPE tables of old converters, heads of other tasks (rewards,
// classes), draft layers for several tokens at once, scales of other quantisations, LoRA rests, eyes and ears.
bool IsGgufSurplus(std::string_view name);

}  // namespace pangea
