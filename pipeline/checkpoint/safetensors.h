// Headers of safetensors files (https://github.com/huggingface/safetensors, "Format").
#pragma once
#include <string>

#include "pipeline/checkpoint/hash.h"
#include "pipeline/checkpoint/header.h"

namespace pangea {

// Reads `folder`: model.safetensors, or the shards that model.safetensors.index.json names. Fills files, file_bytes and
// tensors, and feeds headers and sizes to `hash`. Header size and depth, offsets, overlaps, shapes and shard names are
// checked.
absl::Status ReadSafetensorsFolder(const std::string& folder, CheckpointHeader* header, Sha256* hash);

// One file's header; tensors are added with this file index. Bytes: the file from its start (need not hold the
// weights), size: its size.
absl::Status ParseSafetensors(std::span<const std::byte> bytes, uint64_t size, int file, const std::string& name,
                              CheckpointHeader* header);

}  // namespace pangea
