// Which of a library's algorithms was the fastest for a product, kept from process to process in a file: a line that
// says of which GPU, driver and library, then a line a product.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <string>

namespace pangea::cuda {

// m (the largest of its step), n, k, x_pitch, ldy, type, bias or not, alignment of y (that of w and x is one for all of
// a stage).
using ProductKey = std::array<int64_t, 8>;
struct Algorithm {  // cublasLtMatmulAlgo_t: the library's own
  uint64_t data[8] = {};
};

class ChosenAlgorithms {
 public:
  // What was kept of this `machine`, if anything; a file of another, or that cannot be read, is as none, and is written
  // anew. Several processes may do so at a time: each writes a whole file, with what it finds there.
  void Open(const std::string& machine);
  const Algorithm* Find(const ProductKey& key) const;
  void Add(const ProductKey& key, const Algorithm& algorithm);

 private:
  void Read();

  std::string machine_, path_;  // path_ empty: nothing is kept
  std::map<ProductKey, Algorithm> chosen_;
};

}  // namespace pangea::cuda
