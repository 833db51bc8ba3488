#include "master/fleet/kept_file.h"

#include <fcntl.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace pangea {

void KeptFile::Drop() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

bool KeptFile::Take(pid_t pid, int fd, uint64_t bytes, const std::string& executable) {
  const int taken = open(absl::StrCat("/proc/", pid, "/fd/", fd).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (taken < 0) return false;
  Drop();
  fd_ = taken;
  bytes_ = bytes;
  made_by_ = executable;
  return true;
}

std::string KeptFile::PathFor(const std::string& executable) const {
  const bool same = fd_ >= 0 && !executable.empty() && executable == made_by_;
  return same ? absl::StrCat("/proc/", getpid(), "/fd/", fd_) : "";
}

}  // namespace pangea
