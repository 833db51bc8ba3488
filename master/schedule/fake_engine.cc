#include "master/schedule/fake_engine.h"

#include <chrono>

namespace pangea {

absl::Status FakeEngine::Submit(SequenceRequest request) {
  std::function<absl::Status(const SequenceRequest&)> answer;
  {
    std::lock_guard lock(mutex);
    answer = on_submit;
    submitted.push_back(request);
  }
  absl::Status status = answer ? answer(request) : absl::OkStatus();
  changed.notify_all();
  return status;
}

void FakeEngine::Cancel(uint64_t request) {
  std::lock_guard lock(mutex);
  cancelled.insert(request);
  changed.notify_all();
}

void FakeEngine::Finish(uint64_t request, int choice) {
  std::lock_guard lock(mutex);
  finished.push_back({request, choice});
}

void FakeEngine::SetMask(uint64_t request, int choice, int index, AllowedIds allowed) {
  std::lock_guard lock(mutex);
  masks.push_back({request, choice, index, std::move(allowed)});
  changed.notify_all();
}

FakeEngine::Masked FakeEngine::WaitMasked(size_t count) {
  std::unique_lock lock(mutex);
  changed.wait_for(lock, std::chrono::seconds(10), [&] { return masks.size() >= count; });
  return masks.size() >= count ? masks[count - 1] : Masked{0, -1, -1, {}};
}

EngineStats FakeEngine::stats() const {
  std::lock_guard lock(mutex);
  return published;
}

SequenceRequest FakeEngine::WaitSubmitted(size_t count) {
  std::unique_lock lock(mutex);
  changed.wait_for(lock, std::chrono::seconds(10), [&] { return submitted.size() >= count; });
  return submitted.size() >= count ? submitted[count - 1] : SequenceRequest();
}

bool FakeEngine::WaitCancelled(uint64_t request) {
  std::unique_lock lock(mutex);
  return changed.wait_for(lock, std::chrono::seconds(10), [&] { return cancelled.count(request) > 0; });
}

Output IdList(uint64_t request, int choice, const std::vector<int32_t>& ids, FinishReason finish) {
  Output output;
  output.request = request;
  output.choice = choice;
  output.finish = finish;
  for (const int32_t id : ids) {
    Sample sample;
    sample.id = id;
    sample.logprob = -0.25f;
    sample.top = {{'z', -0.125f}, {id, -0.25f}, {0xC3, -3.0f}};
    output.samples.push_back(std::move(sample));
  }
  return output;
}

Output Ids(uint64_t request, int choice, const std::string& bytes, FinishReason finish) {
  std::vector<int32_t> ids;
  for (const unsigned char c : bytes) ids.push_back(c);
  return IdList(request, choice, ids, finish);
}

}  // namespace pangea
