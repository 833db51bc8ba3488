#include "master/api/generation/guides.h"

namespace pangea {

Guides::Guides(std::unique_ptr<Guide> start, Shape shape, RequestPort* engine, TextPool* pool, Failed failed)
    : shape_(shape),
      engine_(engine),
      pool_(pool),
      failed_(std::move(failed)),
      start_(std::move(start)),
      choices_(shape.prompts * shape.n) {}

absl::Status Guides::Begin(uint64_t request) {
  absl::StatusOr<AllowedIds> mask;
  {
    MutexLock lock(mutex_);
    mask = start_->Mask();
  }
  if (!mask.ok()) return mask.status();
  for (int choice = 0; choice < shape_.n; ++choice) engine_->SetMask(request, choice, 0, *mask);
  return absl::OkStatus();
}

void Guides::Drew(const Output& output) {
  if (!output.error.ok()) return;
  std::vector<int32_t> ids;
  for (const Sample& sample : output.samples) ids.push_back(sample.id);
  const bool ended = output.finish != FinishReason::kNone;
  if (ids.empty() && !ended) return;
  pool_->Push(
      [self = shared_from_this(), ids = std::move(ids), request = output.request, number = output.choice, ended] {
        Choice& choice = self->choices_[(request - self->shape_.first_id) * self->shape_.n + number];
        const absl::Status s = ended ? absl::OkStatus() : self->Take(choice, ids, request, number);
        if (ended || !s.ok()) choice.guide = nullptr;
        if (!s.ok()) self->failed_(request, number, s);
      });
}

absl::Status Guides::Take(Choice& choice, const std::vector<int32_t>& ids, uint64_t request, int number) {
  if (choice.guide == nullptr) {
    MutexLock lock(mutex_);
    choice.guide = start_->Copy();
  }
  for (const int32_t id : ids) {
    if (auto s = choice.guide->Take(id); !s.ok()) return s;
  }
  auto mask = choice.guide->Mask();
  if (!mask.ok()) return mask.status();
  choice.taken += static_cast<int>(ids.size());
  engine_->SetMask(request, number, choice.taken, *std::move(mask));
  return absl::OkStatus();
}

}  // namespace pangea
