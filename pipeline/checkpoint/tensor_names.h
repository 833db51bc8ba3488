// Names that checkpoints carry without meaning.
#pragma once
#include <string_view>

namespace pangea {

// Buffers that some exporters store beside the weights: attention masks (attn.bias, attn.masked_bias), RoPE frequencies
// and caches.
bool IsBuffer(std::string_view name);

}  // namespace pangea
