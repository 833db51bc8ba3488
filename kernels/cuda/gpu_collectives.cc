#include "kernels/cuda/gpu_collectives.h"

#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstring>
#include <thread>
#include <utility>

#include "configs/mutex.h"

namespace pangea::cuda {
namespace {

using NcclResult = int;
using Communicator = void*;
struct UniqueId {
  char bytes[128];
};
// ncclConfig_t as 2.19 had it: later versions take a shorter one, and fill in what it lacks.
struct CommunicatorConfig {
  size_t size = sizeof(CommunicatorConfig);
  unsigned magic = 0xcafebeef, version = 21900;
  int blocking = 0;
  int cluster_size = INT_MIN, least_ctas = INT_MIN, most_ctas = INT_MIN;
  const char* net = nullptr;
  int split_share = INT_MIN;
};
static_assert(sizeof(CommunicatorConfig) == 48);

constexpr int kLeastVersion = 22304;
constexpr NcclResult kDone = 0, kUnderWay = 7;
constexpr int kBytes = 1;  // ncclUint8
constexpr std::chrono::microseconds kLook(50);

#define PANGEA_NCCL(X)                                                                           \
  X(unique_id, "ncclGetUniqueId", (UniqueId*))                                                   \
  X(connect, "ncclCommInitRankConfig", (Communicator*, int, UniqueId, int, CommunicatorConfig*)) \
  X(state, "ncclCommGetAsyncError", (Communicator, NcclResult*))                                 \
  X(abort, "ncclCommAbort", (Communicator))                                                      \
  X(group_begin, "ncclGroupStart", ())                                                           \
  X(group_end, "ncclGroupEnd", ())                                                               \
  X(send, "ncclSend", (const void*, size_t, int, int, Communicator, void*))                      \
  X(receive, "ncclRecv", (void*, size_t, int, int, Communicator, void*))

class Nccl final : public GpuCollectives {
 public:
  explicit Nccl(const std::function<void()>& use) : use_(use) {}
  ~Nccl() override {
    Disconnect();
    if (library_ != nullptr) dlclose(library_);
  }

  std::string Load() {
    library_ = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library_ == nullptr)
      return "no NCCL: libnccl.so.2 was looked for where the system looks for libraries (parallel.transport: gloo "
             "needs none)";
    const char* missing = nullptr;
#define PANGEA_LOAD(member, name, arguments)                                 \
  member = reinterpret_cast<NcclResult(*) arguments>(dlsym(library_, name)); \
  if (member == nullptr) missing = name;
    PANGEA_NCCL(PANGEA_LOAD)
#undef PANGEA_LOAD
    text = reinterpret_cast<const char* (*)(NcclResult)>(dlsym(library_, "ncclGetErrorString"));
    const auto version_of = reinterpret_cast<NcclResult (*)(int*)>(dlsym(library_, "ncclGetVersion"));
    if (text == nullptr || version_of == nullptr) missing = "ncclGetVersion";
    int version = 0;
    if (missing == nullptr && (version_of(&version) != kDone || version < kLeastVersion))
      return "this NCCL is too old: 2.23.4 or newer is needed, it is " + std::to_string(version);
    return missing != nullptr ? std::string("this NCCL is too old: it has no ") + missing : "";
  }

  std::string NewId(std::string* why) override {
    UniqueId id{};
    if (const NcclResult r = unique_id(&id); r != kDone) {
      *why = std::string("ncclGetUniqueId: ") + text(r);
      return "";
    }
    return {id.bytes, sizeof(id.bytes)};
  }

  std::string Connect(const Connection& c) override {
    UniqueId id{};
    if (c.id.size() != sizeof(id.bytes)) return "this is no NCCL id";
    std::memcpy(id.bytes, c.id.data(), sizeof(id.bytes));
    CommunicatorConfig config;
    {
      MutexLock lock(mutex_);
      if (!why_.empty()) return why_;  // it has been aborted
      const NcclResult r = connect(&communicator_, c.agents, id, c.agent, &config);
      if (r != kDone && r != kUnderWay) Die(std::string("ncclCommInitRankConfig: ") + text(r));
    }
    Settle("forming its communicator", std::chrono::nanoseconds(c.limit));
    limit_ = std::chrono::nanoseconds(c.limit);
    return error();
  }

  void Transfer(std::span<const PeerTransfer> transfers, void* stream) override {
    {
      MutexLock lock(mutex_);
      if (communicator_ == nullptr || !why_.empty()) return;
      NcclResult r = group_begin();
      for (const PeerTransfer& t : transfers) {
        const auto bytes = static_cast<size_t>(t.bytes);
        if (bytes == 0) continue;
        const NcclResult put = t.send != nullptr ? send(t.send, bytes, kBytes, t.agent, communicator_, stream)
                                                 : receive(t.receive, bytes, kBytes, t.agent, communicator_, stream);
        if (put != kDone && put != kUnderWay && r == kDone) r = put;
      }
      const NcclResult ended = group_end();
      if (r == kDone) r = ended;
      if (r != kDone && r != kUnderWay) Die(std::string("a transfer: ") + text(r));
    }
    Settle("a transfer", limit_);
  }

  void Abort() override {
    MutexLock lock(mutex_);
    Die("it was aborted");
  }

  std::string error() override {
    MutexLock lock(mutex_);
    if (communicator_ != nullptr && why_.empty()) {
      NcclResult now = kDone;
      if (const NcclResult r = state(communicator_, &now); r != kDone) now = r;
      if (now != kDone && now != kUnderWay) Die(text(now));
    }
    return why_;
  }

  void Disconnect() override {
    std::thread aborting;
    {
      MutexLock lock(mutex_);
      Let();  // of an epoch that is over
      aborting.swap(aborting_);
    }
    if (aborting.joinable()) aborting.join();
    MutexLock lock(mutex_);
    why_.clear();
  }

 private:
  // Calls return before they are done: until this one is, or has failed.
  void Settle(const char* what, std::chrono::nanoseconds limit) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (true) {
      {
        MutexLock lock(mutex_);
        if (communicator_ == nullptr || !why_.empty()) return;
        NcclResult now = kDone;
        if (const NcclResult r = state(communicator_, &now); r != kDone) now = r;
        if (now == kDone) return;
        if (now != kUnderWay) return Die(std::string(what) + ": " + text(now));
        if (std::chrono::steady_clock::now() > end) return Die(std::string(what) + " took too long");
      }
      std::this_thread::sleep_for(kLook);
    }
  }
  void Die(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (why_.empty()) why_ = why;
    Let();
  }
  // Nobody may be within a call of NCCL on this communicator meanwhile: all are made with the mutex held. It may take
  // until the GPU is past its last transfer, for which the caller need not wait.
  void Let() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (communicator_ == nullptr) return;
    aborting_ = std::thread([this, communicator = std::exchange(communicator_, nullptr)] {
      use_();
      abort(communicator);
    });
  }

#define PANGEA_MEMBER(member, name, arguments) NcclResult(*member) arguments = nullptr;
  PANGEA_NCCL(PANGEA_MEMBER)
#undef PANGEA_MEMBER
  const char* (*text)(NcclResult) = nullptr;

  const std::function<void()> use_;
  void* library_ = nullptr;
  Mutex mutex_;
  std::thread aborting_ ABSL_GUARDED_BY(mutex_);  // the communicator before
  Communicator communicator_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::string why_ ABSL_GUARDED_BY(mutex_);  // it is dead
  std::chrono::nanoseconds limit_{0};
};

}  // namespace

std::unique_ptr<GpuCollectives> LoadGpuCollectives(const std::function<void()>& use, std::string* why) {
  auto nccl = std::make_unique<Nccl>(use);
  *why = nccl->Load();
  if (!why->empty()) return nullptr;
  return nccl;
}

}  // namespace pangea::cuda
