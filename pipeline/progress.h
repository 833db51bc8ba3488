// Where a stage reports how far it is; read by the agent's control thread while the executor runs.
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "pipeline/activity.h"

namespace pangea {

struct Progress {
  std::atomic<uint64_t> step{0};   // last step entered
  std::atomic<int32_t> layer{-1};  // last layer entered
  std::atomic<uint64_t> rows{0};   // rows of steps that were begun since load
  std::atomic<uint64_t> multiply_adds{0};
  // Nanoseconds of computing that the layer which goes on may take, by the slowest of as many rows so far; 0: not
  // known.
  std::atomic<int64_t> layer_limit{0};
  const ActivityClock* clock = nullptr;  // null: layers are not timed

  // The executor thread's. rows_of_step: computed in each layer.
  void EnterStep(uint64_t number, int64_t rows_of_step) {
    step.store(number, std::memory_order_relaxed);
    bucket_ = std::min<int>(std::bit_width(static_cast<uint64_t>(rows_of_step)), kBuckets - 1);
    layer_limit.store(Slowest(), std::memory_order_relaxed);
    if (clock != nullptr) since_ = clock->busy();
  }
  // timed: what was done since the last one was a layer. On a device that computes later the host only says which layer
  // it is at; there all layers of a step are timed as one.
  void EnterLayer(int32_t number, bool timed) {
    if (timed) LeaveLayer();
    layer.store(number, std::memory_order_relaxed);
  }
  void LeaveLayer() {
    if (clock == nullptr) return;
    const int64_t now = clock->busy();
    slowest_[bucket_] = std::max(slowest_[bucket_], now - since_);
    since_ = now;
    layer_limit.store(slowest_[bucket_], std::memory_order_relaxed);
  }
  void BeginEpoch() {  // whose steps are numbered anew
    step.store(0, std::memory_order_relaxed);
    layer.store(-1, std::memory_order_relaxed);
  }

 private:
  static constexpr int kBuckets = 32;  // of steps, by the power of two of their rows
  // Of this bucket; else of the nearest that is known, for as many times the rows.
  int64_t Slowest() const {
    for (int d = 0; d < kBuckets; ++d) {
      if (bucket_ + d < kBuckets && slowest_[bucket_ + d] > 0) return slowest_[bucket_ + d];
      if (bucket_ - d >= 0 && slowest_[bucket_ - d] > 0) return slowest_[bucket_ - d] << d;
    }
    return 0;
  }
  std::array<int64_t, kBuckets> slowest_ = {};
  int64_t since_ = 0;
  int bucket_ = 0;
};

}  // namespace pangea
