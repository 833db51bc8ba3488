#include "kernels/toy_device.h"

#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/check.h"
#include "kernels/on_cpu.h"
#include "kernels/weight.h"

namespace pangea {
namespace {

// An address of the toy is a real one with these bits set, which no processor takes for an address.
constexpr uintptr_t kForeign = uintptr_t{0x7A5} << 52;

template <class T>
T* Foreign(T* real) {
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(real) | kForeign);
}
// Refuses what is not the toy's: an op was given memory of the host.
template <class T>
T* Real(T* foreign) {
  if (foreign == nullptr) return nullptr;
  const uintptr_t bits = reinterpret_cast<uintptr_t>(foreign);
  PANGEA_CHECK((bits & kForeign) == kForeign);
  return reinterpret_cast<T*>(bits & ~kForeign);
}
template <class T>
std::span<T> Real(std::span<T> foreign) {
  return {Real(foreign.data()), foreign.size()};
}

class ToyQueue final : public Queue {
 public:
  explicit ToyQueue(Isa isa);
  ~ToyQueue() override {
    Put(nullptr);  // the end
    worker_.join();
  }

  void Put(std::function<void()> work) {
    std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
    changed_.notify_all();
  }
  void Finish() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return work_.empty(); });
  }
  void OnHost(int64_t n, int64_t, const std::function<void(int64_t, int64_t)>& f) override {
    Finish();
    if (n > 0) f(0, n);
  }
  DeviceMemory Allocate(int64_t bytes) override {
    std::byte* real = AllocateAligned(bytes).release();
    std::memset(real, 0xff, static_cast<size_t>(bytes));  // NaN in every type
    held += bytes;
    return DeviceMemory(Foreign(real), {[](std::byte* p, int64_t, void*) { std::free(Real(p)); }, bytes});
  }
  bool host_memory() const override { return false; }
  void Upload(void* to, const void* from, int64_t bytes) override {
    if (bytes == 0) return;
    const auto* begin = static_cast<const std::byte*>(from);
    Put([to = Real(static_cast<std::byte*>(to)), copy = std::vector<std::byte>(begin, begin + bytes)] {
      std::memcpy(to, copy.data(), copy.size());
    });
  }
  void Download(void* to, const void* from, int64_t bytes) override {
    if (bytes == 0) return;
    Put([to, from = Real(static_cast<const std::byte*>(from)), bytes] {
      std::memcpy(to, from, static_cast<size_t>(bytes));
    });
  }
  Queue& cpu() { return *cpu_; }
  int64_t held = 0;  // allocated so far

 private:
  void Work() {
    SetComputeFloatMode();
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return !work_.empty(); });
      if (work_.front() == nullptr) return;
      const auto work = work_.front();
      lock.unlock();
      work();
      lock.lock();
      work_.pop_front();  // only now: Finish waits for what runs, too
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  const std::unique_ptr<Queue> cpu_;  // that the worker computes on
  std::thread worker_;                // last: it uses all of the above
};

ToyQueue& Toy(Queue& queue) { return static_cast<ToyQueue&>(queue); }

// ---- the words: arguments are taken by value, addresses become real ones, and the CPU's word runs in its turn

WeightRows Real(WeightRows rows) {
  rows.data = Real(rows.data);
  return rows;
}
KvLayer Real(KvLayer kv) {
  kv.base = Real(kv.base);
  return kv;
}
Batch Real(Batch batch) {
  batch.ids = Real(batch.ids);
  for (const int32_t** array :
       {&batch.positions, &batch.slots, &batch.adapters, &batch.last, &batch.lengths, &batch.tables})
    *array = Real(*array);
  batch.logit_rows = Real(batch.logit_rows);
  batch.attention = {};  // a word is given the work that it is to do
  return batch;
}
NormArgs Real(NormArgs args) {
  args.x = Real(args.x), args.w = Real(args.w), args.b = Real(args.b), args.y = Real(args.y);
  return args;
}
PackedActivations Real(PackedActivations packed) {
  packed.data = Real(packed.data);
  return packed;
}
GateArgs Real(GateArgs args) {
  args.g = Real(args.g), args.u = Real(args.u), args.y = Real(args.y);
  return args;
}

// A weight with its data at the real address, for as long as one product runs.
class RealWeight {
 public:
  explicit RealWeight(const Weight& weight)
      : impl_(const_cast<Weight::Impl*>(&weight.impl())), foreign_(impl_->data.get()) {
    Move(Real(foreign_));
  }
  ~RealWeight() { Move(foreign_); }

 private:
  void Move(std::byte* to) {
    const FreeDeviceMemory free = impl_->data.get_deleter();
    impl_->data.release();
    impl_->data = DeviceMemory(to, free);
  }
  Weight::Impl* const impl_;
  std::byte* const foreign_;
};

}  // namespace

namespace on_toy {

// What PackActivations leaves in *out is known at once, though the rows are packed later.
PackedActivations Announce(const Rows& x, const Weight& w, ActivationBits bits, PackedActivations* out, ToyQueue& toy) {
  PackInto(x, w, bits, out, Cpu(toy.cpu()));
  return Real(*out);
}

void PackActivations(const Rows& x, const Weight& w, ActivationBits bits, PackedActivations* out, Queue& queue) {
  ToyQueue& toy = Toy(queue);
  PackedActivations packed = Announce(x, w, bits, out, toy);
  toy.Put([&toy, &w, bits, packed, x = Rows{Real(x.data), x.m, x.pitch}]() mutable {
    on_cpu::PackActivations(x, w, bits, &packed, toy.cpu());
  });
}

void MatMul(const PackedActivations& a, const Weight& w, const BiasedOut& out, Queue& queue) {
  ToyQueue& toy = Toy(queue);
  toy.Put([&toy, &w, a = Real(a), out = BiasedOut{Real(out.y), out.ldy, Real(out.bias)}] {
    if (w.empty()) return;
    const RealWeight weight(w);
    on_cpu::MatMul(a, w, out, toy.cpu());
  });
}

void EmbeddingRows(const WeightRows& table, int64_t width, std::span<const int32_t> rows, float* out, Queue& queue) {
  ToyQueue& toy = Toy(queue);
  toy.Put([&toy, table = Real(table), width, rows = Real(rows), out = Real(out)] {
    on_cpu::EmbeddingRows(table, width, rows, out, toy.cpu());
  });
}

void FillLastIds(const Batch& batch, Queue& queue) {
  Toy(queue).Put([&queue, batch = Real(batch)] { on_cpu::FillLastIds(batch, Toy(queue).cpu()); });
}

void GatherRows(const float* x, int64_t d, std::span<const int32_t> rows, float* out, Queue& queue) {
  Toy(queue).Put([&queue, x = Real(x), d, rows = Real(rows), out = Real(out)] {
    on_cpu::GatherRows(x, d, rows, out, Toy(queue).cpu());
  });
}

void Norm(NormKind kind, const NormArgs& args, Queue& queue) {
  Toy(queue).Put([&queue, kind, args = Real(args)] { on_cpu::Norm(kind, args, Toy(queue).cpu()); });
}

void Add(float* y, const float* x, int64_t n, Queue& queue) {
  Toy(queue).Put([&queue, y = Real(y), x = Real(x), n] { on_cpu::Add(y, x, n, Toy(queue).cpu()); });
}

void GatePack(const GateArgs& args, const PackTo& pack, Queue& queue) {
  ToyQueue& toy = Toy(queue);
  PackedActivations packed;
  if (pack.w != nullptr) packed = Announce({args.y, args.m, args.ldy}, *pack.w, pack.bits, pack.out, toy);
  toy.Put([&toy, args = Real(args), w = pack.w, bits = pack.bits, packed]() mutable {
    on_cpu::GatePack(args, {.w = w, .bits = bits, .out = &packed}, toy.cpu());
  });
}

void ReduceAddNorm(const ReduceArgs& args, Queue& queue) {
  std::vector<std::pair<int, int>> additions(args.additions.begin(), args.additions.end());
  ReduceArgs real = args;
  real.vectors = Real(args.vectors), real.bias = Real(args.bias), real.x = Real(args.x), real.norm = Real(args.norm);
  Toy(queue).Put([&queue, real, additions]() mutable {
    real.additions = additions;
    on_cpu::ReduceAddNorm(real, Toy(queue).cpu());
  });
}

void FinishQkv(const KvLayer& kv, const Batch& batch, const FinishQkvArgs& args, Queue& queue) {
  FinishQkvArgs real = args;
  real.q = Real(args.q), real.k = Real(args.k), real.v = Real(args.v);
  real.q_norm = Real(args.q_norm), real.k_norm = Real(args.k_norm), real.cos = Real(args.cos),
  real.sin = Real(args.sin);
  Toy(queue).Put(
      [&queue, kv = Real(kv), batch = Real(batch), real] { on_cpu::FinishQkv(kv, batch, real, Toy(queue).cpu()); });
}

void Attention(const KvLayer& kv, const Batch& batch, const AttentionArgs& args, Queue& queue) {
  AttentionWork work = *args.work;
  work.items = Real(work.items);
  AttentionArgs real = args;
  real.q = Real(args.q), real.out = Real(args.out), real.scratch = Real(args.scratch);
  Toy(queue).Put([&queue, kv = Real(kv), batch = Real(batch), real, work]() mutable {
    real.work = &work;
    on_cpu::Attention(kv, batch, real, Toy(queue).cpu());
  });
}

void CopyBlock(const KvLayer& kv, int64_t from, int64_t to, Queue& queue) {
  Toy(queue).Put([&queue, kv = Real(kv), from, to] { on_cpu::CopyBlock(kv, from, to, Toy(queue).cpu()); });
}

constexpr DeviceOps kOps = PANGEA_WORDS_OF(on_toy);

}  // namespace on_toy

namespace {
ToyQueue::ToyQueue(Isa isa) : Queue(on_toy::kOps, isa), cpu_(MakeCpuQueue(1, isa)), worker_([this] { Work(); }) {}
}  // namespace

int64_t ToyBytes(const Queue& queue) { return static_cast<const ToyQueue&>(queue).held; }

std::unique_ptr<Queue> MakeToyQueue(Isa isa) { return std::make_unique<ToyQueue>(isa); }

}  // namespace pangea
