// Memory of a queue's device that the ops read and write: owned, typed, aligned to 64 bytes, of one size for life. The
// host may look into it only where Queue::host_memory() says so; else it goes through Upload and Download.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/check.h"
#include "kernels/queue.h"

namespace pangea {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  // Ends the process when the device has no such memory.
  Buffer(int64_t size, Queue& queue)
      : memory_(size > 0 ? queue.Allocate(size * static_cast<int64_t>(sizeof(T))) : DeviceMemory()), size_(size) {
    PANGEA_CHECK(size == 0 || memory_ != nullptr);
  }
  Buffer(std::span<const T> values, Queue& queue) : Buffer(static_cast<int64_t>(values.size()), queue) {
    if (size_ > 0) queue.Upload(memory_.get(), values.data(), bytes());
  }
  T* data() const { return reinterpret_cast<T*>(memory_.get()); }
  int64_t size() const { return size_; }
  int64_t bytes() const { return size_ * static_cast<int64_t>(sizeof(T)); }
  bool empty() const { return size_ == 0; }

 private:
  DeviceMemory memory_;
  int64_t size_ = 0;
};

}  // namespace pangea
