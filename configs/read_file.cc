#include "configs/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "configs/cat.h"
#include "configs/values.h"

namespace pangea {
namespace {

absl::Status Error(const std::string& path, int error) {
  const std::string text = Cat(Printable(path), ": ", std::strerror(error));
  return error == ENOENT || error == ENOTDIR ? absl::NotFoundError(text) : absl::FailedPreconditionError(text);
}

}  // namespace

absl::StatusOr<std::pair<int, uint64_t>> OpenPlainFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Error(path, errno);
  struct stat info;
  absl::Status status;
  if (fstat(fd, &info) != 0) {
    status = Error(path, errno);
  } else if (!S_ISREG(info.st_mode)) {
    status = absl::InvalidArgumentError(Cat(Printable(path), ": not a plain file"));
  }
  if (status.ok()) return std::pair<int, uint64_t>(fd, static_cast<uint64_t>(info.st_size));
  close(fd);
  return status;
}

absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit) {
  const auto opened = OpenPlainFile(path);
  if (!opened.ok()) return opened.status();
  const auto [fd, size] = *opened;
  if (size > limit) {
    close(fd);
    return absl::InvalidArgumentError(Cat(Printable(path), ": larger than ", limit, " bytes"));
  }
  std::string text(size + 1, '\0');  // room to see that it ends there
  size_t done = 0;
  ssize_t got = 0;
  do {
    got = read(fd, text.data() + done, text.size() - done);
    if (got > 0) done += static_cast<size_t>(got);
  } while (done <= size && (got > 0 || (got < 0 && errno == EINTR)));
  const int error = errno;
  close(fd);
  if (got < 0) return Error(path, error);
  if (done != size) return absl::FailedPreconditionError(Cat(Printable(path), ": changed while it was read"));
  text.resize(size);
  return text;
}

}  // namespace pangea
