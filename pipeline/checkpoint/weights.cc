#include "pipeline/checkpoint/weights.h"

#include <cstring>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/checkpoint/f8_scales.h"
#include "pipeline/checkpoint/mapped_file.h"

namespace pangea {

WeightRows TensorView::Run(int64_t n0, int64_t n1, int64_t k0) const {
  WeightRows rows;
  rows.dtype = dtype;
  rows.data = transposed ? data + k0 * pitch + RowBytes(dtype, n0) : data + n0 * pitch + RowBytes(dtype, k0);
  rows.pitch = pitch;
  rows.n = n1 - n0;
  rows.transposed = transposed;
  rows.scales = scales;
  rows.scales.first = n0;
  if (scales.data != nullptr) rows.scales.data += k0 / kScaleRun * scales.step * Info(scales.dtype).bytes;
  return rows;
}

struct Weights::State {
  std::vector<MappedFile> files;
  std::map<std::tuple<Role, int, int>, TensorView> views;  // role, layer, expert
};

Weights::Weights() : state_(std::make_unique<State>()) {}
Weights::~Weights() = default;
Weights::Weights(Weights&&) noexcept = default;
Weights& Weights::operator=(Weights&&) noexcept = default;

absl::StatusOr<Weights> Weights::Map(const CheckpointHeader& header) {
  Weights weights;
  for (size_t i = 0; i < header.files.size(); ++i) {
    auto file = MappedFile::Open(header.files[i]);
    if (!file.ok()) return file.status();
    if (file->bytes().size() != header.file_bytes[i]) {
      return absl::FailedPreconditionError(absl::StrCat(header.files[i], ": has ", file->bytes().size(), " bytes, had ",
                                                        header.file_bytes[i], " when its header was read"));
    }
    weights.state_->files.push_back(*std::move(file));
  }
  for (const TensorRow& row : TensorTable(header)) {
    const auto it = header.tensors.find(row.name);
    if (it == header.tensors.end())
      return absl::InvalidArgumentError(absl::StrCat("tensor ", row.name, ": is missing"));
    const TensorInfo& info = it->second;
    TensorView view;
    view.dtype = info.dtype;
    view.n = row.n;
    view.k = row.k;
    view.transposed = row.transposed;
    view.pitch = RowBytes(info.dtype, row.k == 0 ? 1 : info.shape.back());
    const auto bytes = weights.state_->files[info.file].bytes();
    view.data =
        bytes.data() + info.offset + (row.transposed ? RowBytes(info.dtype, row.first) : row.first * view.pitch);
    if (info.dtype == DType::kF8E4M3) {
      const auto scales = header.tensors.find(ScalesName(header, row.name));
      const auto layout =
          scales == header.tensors.end() ? std::nullopt : LayoutOfScales(scales->second.shape, row.n, row.k);
      if (!layout)
        return absl::InvalidArgumentError(absl::StrCat("tensor ", row.name, "_scale: is missing or misshapen"));
      const auto file = weights.state_->files[scales->second.file].bytes();
      view.scales = {.data = file.data() + scales->second.offset,
                     .dtype = scales->second.dtype,
                     .columns = layout->columns,
                     .pitch = layout->pitch,
                     .step = layout->step};
    }
    weights.state_->views[{row.role, row.layer, row.expert}] = view;
  }
  return weights;
}

TensorView Weights::Find(Role role, int layer, int expert) const {
  const auto it = state_->views.find({role, layer, expert});
  return it == state_->views.end() ? TensorView{} : it->second;
}

std::vector<float> Weights::Vector(Role role, int layer, int64_t begin, int64_t end) const {
  const TensorView view = Find(role, layer);
  if (!view.present()) return {};
  // A vector is a table of rows one element wide, which the kernels widen as they do embeddings.
  std::vector<int32_t> rows(end - begin);
  for (int64_t i = begin; i < end; ++i) rows[i - begin] = static_cast<int32_t>(i);
  std::vector<float> values(rows.size());
  WeightRows table;
  table.dtype = view.dtype;
  table.data = view.data;
  table.pitch = view.pitch;
  table.n = view.n;
  if (!rows.empty()) ReadRows(table, 1, rows, values.data());
  return values;
}

void Weights::Release() const {
  for (const MappedFile& file : state_->files) file.Release();
}

}  // namespace pangea
