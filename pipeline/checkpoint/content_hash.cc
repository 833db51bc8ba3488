#include "pipeline/checkpoint/content_hash.h"

#include <algorithm>
#include <fstream>

#include "configs/cat.h"
#include "pipeline/checkpoint/hash.h"

namespace pangea {

absl::StatusOr<std::string> ContentHash(const CheckpointHeader& header) {
  constexpr uint64_t kPage = 4096;
  Sha256 hash;
  hash.Add(header.hash);
  std::vector<std::ifstream> files;
  for (const std::string& path : header.files) files.emplace_back(path, std::ios::binary);
  std::string page;
  for (const auto& [name, tensor] : header.tensors) {
    const uint64_t size = std::min<uint64_t>(kPage, tensor.bytes), last = tensor.bytes - size;
    for (const uint64_t at : {uint64_t{0}, last / 2, last}) {
      page.resize(size);
      std::ifstream& file = files[tensor.file];
      file.seekg(static_cast<std::streamoff>(tensor.offset + at));
      file.read(page.data(), static_cast<std::streamsize>(size));
      if (!file) return absl::DataLossError(Cat(header.files[tensor.file], ": cannot read tensor ", name));
      hash.Add(page);
    }
  }
  return hash.Hex();
}

}  // namespace pangea
