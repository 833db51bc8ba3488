// Where a stage reports how far it is; read by the agent's control thread while the executor runs.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>

#include "pipeline/activity.h"

namespace pangea {

struct Progress {
  std::atomic<uint64_t> step{0};   // last step entered
  std::atomic<int32_t> layer{-1};  // last layer entered
  std::atomic<uint64_t> rows{0};   // rows computed since load
  std::atomic<uint64_t> multiply_adds{0};
  // Nanoseconds of computing that the layer which goes on may take, by the slowest row so far; 0: not known yet.
  std::atomic<int64_t> layer_limit{0};
  const ActivityClock* clock = nullptr;  // null: layers are not timed

  // The executor thread's. rows_of_step: computed in each layer.
  void EnterStep(uint64_t number, int64_t rows_of_step) {
    step.store(number, std::memory_order_relaxed);
    rows_ = std::max<int64_t>(rows_of_step, 1);
    layer_limit.store(slowest_row_ * rows_, std::memory_order_relaxed);
    if (clock != nullptr) since_ = clock->busy();
  }
  void EnterLayer(int32_t number) {
    LeaveLayer();
    layer.store(number, std::memory_order_relaxed);
  }
  void LeaveLayer() {
    if (clock == nullptr) return;
    const int64_t now = clock->busy();
    slowest_row_ = std::max(slowest_row_, (now - since_) / rows_);
    since_ = now;
    layer_limit.store(slowest_row_ * rows_, std::memory_order_relaxed);
  }

 private:
  int64_t rows_ = 1, since_ = 0, slowest_row_ = 0;
};

}  // namespace pangea
