#include "master/api/generation/text_pool.h"

namespace pangea {

TextPool::TextPool(int threads, size_t queue) : limit_(queue) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Loop(); });
}

TextPool::~TextPool() { Stop(); }

bool TextPool::Push(std::function<void()> work) {
  {
    MutexLock lock(mutex_);
    if (stopped_ || queue_.size() >= limit_) return false;
    queue_.push_back(std::move(work));
  }
  ready_.notify_one();
  return true;
}

void TextPool::Stop() {
  std::deque<std::function<void()>> dropped;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    dropped.swap(queue_);
  }
  ready_.notify_all();
  for (auto& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void TextPool::Loop() {
  while (true) {
    std::function<void()> work;
    {
      MutexLock lock(mutex_);
      ready_.wait(lock, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopped_ || !queue_.empty(); });
      if (stopped_) return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work();
  }
}

}  // namespace pangea
