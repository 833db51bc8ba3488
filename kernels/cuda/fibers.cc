#include "kernels/cuda/fibers.h"

#include <sys/mman.h>

#include <algorithm>
#include <boost/context/fiber.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "kernels/check.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) static_cast<void>(0)
#endif

namespace pangea::cuda::fibers {
namespace {

namespace context = boost::context;
constexpr int kWarp = 32;

// A stack, and an end of it that nobody may touch.
class Stack {
 public:
  context::stack_context allocate() {
    void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    PANGEA_CHECK(memory != MAP_FAILED && mprotect(memory, kGuard, PROT_NONE) == 0);
    context::stack_context stack;
    stack.size = kBytes - kGuard;
    stack.sp = static_cast<std::byte*>(memory) + kBytes;
    return stack;
  }
  void deallocate(context::stack_context& stack) noexcept {
    std::byte* const memory = static_cast<std::byte*>(stack.sp) - kBytes;
    ASAN_UNPOISON_MEMORY_REGION(memory, kBytes);  // else whatever is mapped there next is taken for this stack
    munmap(memory, kBytes);
  }

 private:
  static constexpr size_t kGuard = 4096, kBytes = kGuard + (128 << 10);
};

struct Copy {
  void* to;
  const void* from;
};

// One thread of a block; it lives on and is each block's.
struct Fiber {
  Thread thread;
  context::fiber self;             // while another one runs
  std::vector<Copy> copies;        // begun and not waited for
  std::vector<size_t> group_ends;  // of those, in the order of CommitCopies
  // What it gives the others of its warp, by turns.
  alignas(16) std::byte given[2][kMostGiven] = {};
  int turn = 0;
};

class Runner;
constinit thread_local Runner* mine = nullptr;  // whose kernel runs

// Blocks of one thread of the host, one after another. The ready fibers are run by turns: each switches straight to
// the next one when it must wait.
class Runner {
 public:
  void Run(const Launch& launch, Order order, uint32_t seed) {
    mine = this;
    launch_ = &launch;
    order_ = order;
    random_.seed(seed);
    const int threads = static_cast<int>(launch.threads);
    while (static_cast<int>(fibers_.size()) < threads) fibers_.push_back(std::make_unique<Fiber>());
    waiting_warps_.assign((threads + kWarp - 1) / kWarp, 0);
    if (static_cast<int64_t>(shared_.size()) < launch.shared + 16) shared_.resize(launch.shared + 16);
    std::byte* const shared = shared_.data() + (16 - reinterpret_cast<uintptr_t>(shared_.data()) % 16) % 16;
    std::vector<int64_t> blocks(static_cast<size_t>(launch.grid[0]) * launch.grid[1] * launch.grid[2]);
    std::iota(blocks.begin(), blocks.end(), 0);
    if (!launch.in_order) Arrange(std::span(blocks));
    for (const int64_t i : blocks) {
      std::memset(shared, 0xff, static_cast<size_t>(launch.shared));
      const auto x = static_cast<unsigned>(i % launch.grid[0]), rest = static_cast<unsigned>(i / launch.grid[0]);
      RunBlock({x, rest % launch.grid[1], rest / launch.grid[1]}, shared);
    }
  }

  Fiber& current() { return *current_; }
  // After another device had its turn.
  void GoOn() {
    mine = this;
    if (current_ != nullptr) running = &current_->thread;
  }

  // The fiber that runs waits for the others of the block, or of its warp.
  void MeetBlock() { Meet(&waiting_block_, 0, static_cast<int>(launch_->threads)); }
  void MeetWarp() {
    const int warp = Number() / kWarp, first = warp * kWarp;
    Meet(&waiting_warps_[warp], first, std::min(kWarp, static_cast<int>(launch_->threads) - first));
  }
  // It lets the others of the block go on, and other devices.
  void Pause() {
    PANGEA_CHECK(launch_->meets);
    Trim();
    ready_.push_back(Number());
    Switch(current_, Next());
  }
  // Nobody gives its next but one value before all have taken this one: they meet in between.
  void Give(const void* data, size_t bytes) {
    PANGEA_CHECK(bytes <= kMostGiven);
    current_->turn = 1 - current_->turn;
    std::memcpy(current_->given[current_->turn], data, bytes);
    MeetWarp();
  }
  const std::byte* Given(int lane) {
    const int from = Number() / kWarp * kWarp + lane % kWarp;
    PANGEA_CHECK(from < static_cast<int>(launch_->threads));
    return fibers_[from]->given[current_->turn];
  }

 private:
  int Number() const { return static_cast<int>(current_->thread.thread.x); }

  template <class T>
  void Arrange(std::span<T> numbers) {  // that ascend
    if (order_ == Order::kReverse) std::reverse(numbers.begin(), numbers.end());
    if (order_ == Order::kShuffled) std::shuffle(numbers.begin(), numbers.end(), random_);
  }

  void RunBlock(const Index& block, std::byte* shared) {
    const int threads = static_cast<int>(launch_->threads);
    left_ = threads;
    waiting_block_ = 0;
    for (int i = 0; i < threads; ++i) {
      Fiber& fiber = *fibers_[i];
      fiber.thread = {{static_cast<unsigned>(i), 0, 0}, block, launch_->threads, launch_->grid[0], shared};
      fiber.copies.clear();
      fiber.group_ends.clear();
    }
    Release(0, threads);
    if (launch_->meets) {
      Switch(&main_, Next());
    } else {
      for (; next_ < ready_.size(); ++next_) {
        Take(fibers_[ready_[next_]].get());
        launch_->body(launch_->args);
      }
      left_ = 0;
    }
    ready_.clear();
    next_ = 0;
    if (left_ == 0) return;
    std::fprintf(stderr, "kernel %s: %d threads of block (%u, %u, %u) wait for others that never come\n", launch_->name,
                 left_, block.x, block.y, block.z);
    std::abort();
  }

  // The fiber whose turn it is; when none can go on, the one that called Run.
  Fiber* Next() { return next_ < ready_.size() ? fibers_[ready_[next_++]].get() : &main_; }

  void Switch(Fiber* from, Fiber* to) {
    if (from == to) return;
    if (to != &main_ && !to->self) {
      to->self = context::fiber(std::allocator_arg, Stack(), [this](context::fiber&& before) {
        came_from_->self = std::move(before);
        Live();
        return std::move(main_.self);
      });
    }
    came_from_ = from;
    Take(to);
    context::fiber before = std::move(to->self).resume();
    came_from_->self = std::move(before);  // whoever it was that switched back
  }

  // A fiber's: block after block.
  [[noreturn]] void Live() {
    while (true) {
      launch_->body(launch_->args);
      --left_;
      Switch(current_, Next());
    }
  }

  // Of `all` fibers from the `first` on, of which so many wait.
  void Meet(int* waiting, int first, int all) {
    if (!launch_->meets) {
      std::fprintf(stderr, "kernel %s meets at a barrier, though it is said not to\n", launch_->name);
      std::abort();
    }
    if (++*waiting == all) {
      *waiting = 0;
      Release(first, all);
    }
    Switch(current_, Next());
  }

  void Take(Fiber* fiber) {
    current_ = fiber;
    running = &fiber->thread;
  }

  void Trim() {
    if (next_ <= 4096) return;
    ready_.erase(ready_.begin(), ready_.begin() + static_cast<int64_t>(next_));
    next_ = 0;
  }

  void Release(int first, int n) {
    size_t at = ready_.size();
    if (order_ == Order::kReverse) {  // a warp that may go on does, before others begin
      const auto room = static_cast<int>(std::min<size_t>(n, next_));
      at = next_ -= room;
      ready_.insert(ready_.begin() + static_cast<int64_t>(at), n - room, 0);
    } else {
      Trim();
      at = ready_.size();
      ready_.resize(at + n);
    }
    const std::span<int> released(ready_.data() + at, n);
    std::iota(released.begin(), released.end(), first);
    Arrange(released);
  }

  const Launch* launch_ = nullptr;
  Order order_ = Order::kForward;
  std::mt19937 random_;
  std::vector<std::byte> shared_;
  Fiber main_;  // of the caller of Run
  std::vector<std::unique_ptr<Fiber>> fibers_;
  Fiber* current_ = nullptr;
  Fiber* came_from_ = nullptr;
  int waiting_block_ = 0;
  std::vector<int> waiting_warps_;
  std::vector<int> ready_;  // those from next_ on
  size_t next_ = 0;
  int left_ = 0;  // threads of the block that have not ended
};

// Several devices of one thread, of which one runs at a time.
class Together {
 public:
  Together(const std::vector<std::function<void()>>& devices, uint32_t seed)
      : random_(seed), fastest_(seed % devices.size()) {
    for (const auto& device : devices) {
      auto& one = devices_.emplace_back(std::make_unique<One>());
      one->self = context::fiber(std::allocator_arg, Stack(), [this, device](context::fiber&& before) {
        back_ = std::move(before);
        device();
        running_->done = true;
        return std::move(back_);
      });
    }
  }
  void Run() {
    for (size_t left = devices_.size(); left > 0;) {
      const bool any = random_() % 8 == 0 || devices_[fastest_]->done;
      running_ = devices_[any ? random_() % devices_.size() : fastest_].get();
      if (running_->done) continue;
      running_->self = std::move(running_->self).resume();
      if (running_->done) --left;
    }
    running_ = nullptr;
  }
  Runner& runner() { return running_->runner; }
  void LetOthers() {
    if (random_() % 2 == 0) return;
    back_ = std::move(back_).resume();
    runner().GoOn();
  }

 private:
  struct One {
    context::fiber self;  // while another one runs
    Runner runner;
    bool done = false;
  };
  std::mt19937 random_;
  const size_t fastest_;
  std::vector<std::unique_ptr<One>> devices_;
  One* running_ = nullptr;
  context::fiber back_;  // of Run
};
constinit thread_local Together* together = nullptr;

}  // namespace

constinit thread_local const Thread* running = nullptr;
void Sync() {
  if (together != nullptr) together->LetOthers();
  mine->MeetBlock();
}
void SyncWarp() { mine->MeetWarp(); }
void Give(const void* data, size_t bytes) { mine->Give(data, bytes); }
const std::byte* Given(int lane) { return mine->Given(lane); }
uint32_t Shuffle(uint32_t value, int lane) {
  Give(&value, sizeof(value));
  std::memcpy(&value, Given(lane), sizeof(value));
  return value;
}

void BeginCopy(void* to, const void* from) {
  PANGEA_CHECK(reinterpret_cast<uintptr_t>(to) % 16 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0);
  mine->current().copies.push_back({to, from});
}
void CommitCopies() {
  Fiber& fiber = mine->current();
  fiber.group_ends.push_back(fiber.copies.size());
}
void WaitCopies(int open) {
  Fiber& fiber = mine->current();
  if (static_cast<int>(fiber.group_ends.size()) <= open) return;
  const size_t groups = fiber.group_ends.size() - open, done = fiber.group_ends[groups - 1];
  for (size_t i = 0; i < done; ++i) std::memcpy(fiber.copies[i].to, fiber.copies[i].from, 16);
  fiber.copies.erase(fiber.copies.begin(), fiber.copies.begin() + static_cast<int64_t>(done));
  fiber.group_ends.erase(fiber.group_ends.begin(), fiber.group_ends.begin() + static_cast<int64_t>(groups));
  for (size_t& end : fiber.group_ends) end -= done;
}

void Pause() {
  if (together != nullptr) {
    together->LetOthers();
  } else {
    std::this_thread::yield();  // to the process whose device is waited for
  }
  mine->Pause();
}

void Rest() { together->LetOthers(); }

void Run(const Launch& launch, Order order, uint32_t seed) {
  thread_local Runner runner;
  (together != nullptr ? together->runner() : runner).Run(launch, order, seed);
}

void RunTogether(const std::vector<std::function<void()>>& devices, uint32_t seed) {
  Together all(devices, seed);
  together = &all;
  all.Run();
  together = nullptr;
}

}  // namespace pangea::cuda::fibers
