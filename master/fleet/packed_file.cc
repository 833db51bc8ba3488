#include "master/fleet/packed_file.h"

#include <fcntl.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace pangea {

PackedFile::~PackedFile() {
  if (fd_ >= 0) close(fd_);
}

bool PackedFile::Take(pid_t pid, int fd, uint64_t bytes, const std::string& packer) {
  const int taken = open(absl::StrCat("/proc/", pid, "/fd/", fd).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (taken < 0) return false;
  if (fd_ >= 0) close(fd_);
  fd_ = taken;
  bytes_ = bytes;
  packer_ = packer;
  return true;
}

std::string PackedFile::PathFor(const std::string& executable) const {
  const bool same = fd_ >= 0 && !executable.empty() && executable == packer_;
  return same ? absl::StrCat("/proc/", getpid(), "/fd/", fd_) : "";
}

}  // namespace pangea
