#include "agent/packed_weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "configs/log.h"

namespace pangea {
namespace {

constexpr int64_t kPage = 4096, kLine = 64, kSlack = 1 << 20;
constexpr int64_t kPopulatePiece = int64_t{1} << 30;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

int64_t RoundUp(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

absl::Status Errno(const char* what) { return absl::ErrnoToStatus(errno, absl::StrCat("packed weights: ", what)); }

}  // namespace

absl::StatusOr<std::unique_ptr<PackedWeights>> PackedWeights::Create(int64_t capacity) {
  const int64_t bytes = RoundUp(std::max<int64_t>(capacity, 1), kPage);
  const int fd = memfd_create("pangea-weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return Errno("memfd_create");
  void* base = MAP_FAILED;
  if (ftruncate(fd, bytes) == 0) base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) {
    const absl::Status status = Errno("cannot make the file");
    close(fd);
    return status;
  }
  return std::unique_ptr<PackedWeights>(new PackedWeights(fd, static_cast<std::byte*>(base), bytes, false));
}

absl::StatusOr<std::unique_ptr<PackedWeights>> PackedWeights::Open(const std::string& path, int64_t bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return Errno("cannot open what is kept of them");
  struct stat info{};
  const int64_t size = RoundUp(bytes, kPage);
  const int seals = fcntl(fd, F_GET_SEALS);  // -1: it is no memfd
  if (bytes <= 0 || fstat(fd, &info) != 0 || info.st_size != size || seals < 0 || (seals & kSeals) != kSeals) {
    close(fd);
    return absl::FailedPreconditionError(absl::StrCat("packed weights: ", path, " is not whole and sealed"));
  }
  void* base = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) {
    const absl::Status status = Errno("cannot map what is kept of them");
    close(fd);
    return status;
  }
  // In pieces, between which other threads of this process get their turn at the address space.
  for (int64_t at = 0; at < size; at += kPopulatePiece)
    madvise(static_cast<std::byte*>(base) + at, std::min(kPopulatePiece, size - at), MADV_POPULATE_READ);
  return std::unique_ptr<PackedWeights>(new PackedWeights(fd, static_cast<std::byte*>(base), size, true));
}

PackedWeights::~PackedWeights() {
  if (mapped_ > 0) munmap(base_, mapped_);
  close(fd_);
}

std::byte* PackedWeights::Take(int64_t bytes, bool* filled) {
  const int64_t end = used_ + RoundUp(bytes, kLine);
  if (end > mapped_) return nullptr;
  std::byte* taken = base_ + used_;
  used_ = end;
  *filled = filled_;
  return taken;
}

bool PackedWeights::Seal() {
  if (filled_ || used_ == 0) return false;
  const int64_t size = RoundUp(used_, kPage);
  if (mapped_ > size) munmap(base_ + size, mapped_ - size);
  mapped_ = size;
  // No mapping that could write may be left, and one of a descriptor that could counts as such.
  const int reader = open(absl::StrCat("/proc/self/fd/", fd_).c_str(), O_RDONLY | O_CLOEXEC);
  const bool sealed = reader >= 0 && ftruncate(fd_, size) == 0 &&
                      mmap(base_, size, PROT_READ, MAP_SHARED | MAP_FIXED, reader, 0) != MAP_FAILED &&
                      fcntl(fd_, F_ADD_SEALS, kSeals) == 0;
  const absl::Status why = sealed ? absl::OkStatus() : Errno("cannot seal them");
  if (reader >= 0) close(reader);
  if (sealed) return true;
  LogWarning("a successor will have to pack again: %s", why.message());
  return false;
}

std::unique_ptr<PackedWeights> KeptOrNewWeights(const std::string& path, int64_t bytes, int64_t planned) {
  if (!path.empty()) {
    auto kept = PackedWeights::Open(path, bytes);
    if (kept.ok()) return *std::move(kept);
    LogWarning("%s", kept.status().message());
  }
  auto made = PackedWeights::Create(planned + planned / kLine + kSlack);  // each begins at a line of its own
  if (made.ok()) return *std::move(made);
  LogWarning("%s", made.status().message());
  return nullptr;
}

}  // namespace pangea
