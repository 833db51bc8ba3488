#include "agent/group/shm_region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

constexpr uint64_t kMagic = 0x70616e6765613031;  // "pangea01"
constexpr size_t kPage = 4096;
constexpr size_t kLargestRing = size_t{1} << 30;  // counts are modulo 2^31 and must tell full from empty

size_t RoundUp(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

absl::Status Errno(const std::string& what) {
  return absl::ErrnoToStatus(errno, absl::StrCat("shared memory: ", what));
}

}  // namespace

ShmRegion::Layout ShmRegion::MakeLayout(const GroupSpec& spec) {
  const size_t agents = static_cast<size_t>(spec.stages) * spec.ranks;
  const size_t channels = agents * spec.stages;
  Layout layout{};
  layout.slot_bytes = RoundUp(std::max<size_t>(spec.slot_bytes, 1), kPage);
  layout.ring_bytes = std::bit_ceil(std::clamp(spec.channel_bytes, kPage, kLargestRing));
  layout.sequences = kPage;
  layout.channels = RoundUp(layout.sequences + agents * sizeof(Sequence), kPage);
  layout.slots = RoundUp(layout.channels + channels * sizeof(Channel), kPage);
  layout.rings = layout.slots + agents * 2 * layout.slot_bytes;
  layout.bytes = layout.rings + channels * layout.ring_bytes;
  return layout;
}

ShmRegion::ShmRegion(const GroupSpec& spec, int fd, std::byte* base)
    : stages_(spec.stages), ranks_(spec.ranks), layout_(MakeLayout(spec)), fd_(fd), base_(base) {}

ShmRegion::~ShmRegion() {
  munmap(base_, layout_.bytes);
  CloseFile();
}

void ShmRegion::CloseFile() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

absl::StatusOr<std::shared_ptr<ShmRegion>> ShmRegion::Map(const GroupSpec& spec, int fd) {
  const size_t bytes = MakeLayout(spec).bytes;
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) {
    const absl::Status status = Errno(absl::StrCat("cannot map ", bytes, " bytes"));
    close(fd);
    return status;
  }
  return std::shared_ptr<ShmRegion>(new ShmRegion(spec, fd, static_cast<std::byte*>(base)));
}

absl::StatusOr<std::shared_ptr<ShmRegion>> ShmRegion::Create(const GroupSpec& spec) {
  const Layout layout = MakeLayout(spec);
  const int fd = memfd_create("pangea-group", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return Errno("memfd_create");
  // Sealed at its size: no peer can shrink it under another one's feet (SIGBUS).
  if (ftruncate(fd, layout.bytes) != 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    const absl::Status status = Errno(absl::StrCat("cannot make ", layout.bytes, " bytes"));
    close(fd);
    return status;
  }
  uint64_t nonce = 0;
  if (getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce)) {
    const absl::Status status = Errno("getrandom");
    close(fd);
    return status;
  }
  auto region = Map(spec, fd);
  if (!region.ok()) return region;
  ShmRegion& made = **region;
  for (int agent = 0; agent < spec.stages * spec.ranks; ++agent) new (&made.sequence(agent)) Sequence;
  for (int i = 0; i < spec.stages * spec.stages * spec.ranks; ++i) new (&made.channels()[i]) Channel;
  Header* header = new (made.base_) Header;
  header->nonce = nonce;
  header->epoch = spec.epoch;
  header->bytes = layout.bytes;
  header->aborted_by.store(0);
  header->magic = kMagic;
  return region;
}

std::string ShmRegion::address() const { return absl::StrCat(getpid(), " ", fd_, " ", header()->nonce); }

absl::StatusOr<std::shared_ptr<ShmRegion>> ShmRegion::Open(const GroupSpec& spec, const std::string& address) {
  int pid = 0, remote_fd = -1;
  unsigned long long nonce = 0;
  if (std::sscanf(address.c_str(), "%d %d %llu", &pid, &remote_fd, &nonce) != 3) {
    return absl::InvalidArgumentError("shared memory: malformed address");
  }
  const std::string path = absl::StrCat("/proc/", pid, "/fd/", remote_fd);
  // What the path leads to is trusted only once its size and header are right: a number may name another namespace's
  // process.
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0)
    return Errno(absl::StrCat("cannot open ", path, " of the agent that made it (same host and user needed)"));
  struct stat info{};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size != static_cast<off_t>(MakeLayout(spec).bytes)) {
    close(fd);
    return absl::FailedPreconditionError(absl::StrCat("shared memory: ", path, " is not this deployment's"));
  }
  auto region = Map(spec, fd);
  if (!region.ok()) return region;
  const Header* header = (*region)->header();
  if (header->magic != kMagic || header->nonce != nonce || header->epoch != spec.epoch) {
    return absl::FailedPreconditionError(absl::StrCat("shared memory: ", path, " is of another group or epoch"));
  }
  (*region)->CloseFile();
  return region;
}

void ShmRegion::Abort(int agent) {
  int32_t nobody = 0;
  header()->aborted_by.compare_exchange_strong(nobody, agent + 1, std::memory_order_acq_rel);
  for (int i = 0; i < stages_ * ranks_; ++i) sequence(i).published.Abort();
  for (int i = 0; i < stages_ * stages_ * ranks_; ++i) {
    channels()[i].written.Abort();
    channels()[i].read.Abort();
  }
}

}  // namespace pangea
