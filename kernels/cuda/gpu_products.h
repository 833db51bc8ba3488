// Products by cuBLASLt, which is loaded when it is first asked for. What is declared of it in gpu_products.cc is stable
// across its versions 12 and 13 (docs.nvidia.com/cuda/cublas).
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "kernels/cuda/device.h"

namespace pangea::cuda {

class GpuProducts {
 public:
  virtual ~GpuProducts() = default;
  // On the stream. The first product of a shape (n, k, type, bias, and m up to the next of a few steps) tries the
  // algorithms that the library names and keeps the fastest; that one waits for the GPU. What was chosen is kept in a
  // file, too, for the next agent on such a GPU. An empty text, or what failed.
  virtual std::string Multiply(const LibraryProduct& product, void* stream) = 0;
};
// Null, with a sentence in *why, where no such library is found. seconds: of the work that `run` puts on the stream, by
// the GPU's clock; run says whether it could be put there.
using TimeOnStream = std::function<double(const std::function<bool()>& run)>;
// gpu: its name and its driver's version, by which, and the library's, choices are told apart. They are kept below
// $XDG_CACHE_HOME or $HOME/.cache, in pangea/; without either, or where nothing can be written, nowhere.
std::unique_ptr<GpuProducts> LoadGpuProducts(const TimeOnStream& seconds, const std::string& gpu, std::string* why);

}  // namespace pangea::cuda
