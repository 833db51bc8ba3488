#include "pipeline/checkpoint/f8_scales.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace pangea {

std::string ScalesName(const CheckpointHeader& header, const std::string& weight) {
  for (const char* ending : {"_scale", "_scale_inv"}) {
    if (header.tensors.contains(weight + ending) || header.odd_types.contains(weight + ending)) return weight + ending;
  }
  return "";
}

std::optional<ScalesLayout> LayoutOfScales(const std::vector<int64_t>& shape, int64_t n, int64_t k) {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;  // of a tensor that lies in the file
  if (shape.size() > 2) return std::nullopt;
  if (count == 1) return ScalesLayout{};
  const bool one_a_row = shape.size() == 1 || shape[1] == 1;
  if (one_a_row && shape[0] == n) return ScalesLayout{.pitch = 1};
  const auto squares = [](int64_t of) { return (of + kScaleRun - 1) / kScaleRun; };
  if (shape != std::vector{squares(n), squares(k)}) return std::nullopt;
  return ScalesLayout{.columns = kScaleRun, .pitch = squares(k), .step = 1};
}

std::string ScalesFault(const CheckpointHeader& header, const std::string& weight, int64_t n, int64_t k) {
  const std::string name = ScalesName(header, weight);
  if (name.empty()) return absl::StrCat("tensor ", weight, "_scale: is missing: weights of F8_E4M3 need their scales");
  if (const auto odd = header.odd_types.find(name); odd != header.odd_types.end())
    return absl::StrCat("tensor ", name, ": dtype ", odd->second,
                        " is not supported; supported for scales: F32, F16, BF16");
  const TensorInfo& info = header.tensors.at(name);
  if (info.dtype != DType::kF32 && info.dtype != DType::kF16 && info.dtype != DType::kBF16)
    return absl::StrCat("tensor ", name, ": type ", std::string(Info(info.dtype).name),
                        " is not supported here; supported: ", WeightTypeNames(/*quantised=*/false));
  if (LayoutOfScales(info.shape, n, k).has_value()) return "";
  return absl::StrCat("tensor ", name, ": shape is [", absl::StrJoin(info.shape, ", "), "]; a weight of [", n, ", ", k,
                      "] has one scale, one a row, or one for each ", kScaleRun, " x ", kScaleRun);
}

}  // namespace pangea
