// Where a stage reports how far it is; read by the agent's control thread while the executor runs.
#pragma once
#include <atomic>
#include <cstdint>

namespace pangea {

struct Progress {
  std::atomic<uint64_t> step{0};   // last step entered
  std::atomic<int32_t> layer{-1};  // last layer entered
  std::atomic<uint64_t> rows{0};   // rows computed since load
  std::atomic<uint64_t> multiply_adds{0};
};

}  // namespace pangea
