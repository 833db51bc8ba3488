#include "pipeline/checkpoint/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

absl::Status Error(const std::string& path, int error) {
  const std::string text = absl::StrCat(path, ": ", std::strerror(error));
  return error == ENOENT || error == ENOTDIR ? absl::NotFoundError(text) : absl::FailedPreconditionError(text);
}

// Opens a plain file; anything else (a folder, a pipe that would block) is refused.
absl::StatusOr<std::pair<int, uint64_t>> OpenPlain(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Error(path, errno);
  struct stat info;
  if (fstat(fd, &info) != 0) {
    const absl::Status status = Error(path, errno);
    close(fd);
    return status;
  }
  if (!S_ISREG(info.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a plain file"));
  }
  return std::pair<int, uint64_t>(fd, static_cast<uint64_t>(info.st_size));
}

}  // namespace

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  const auto opened = OpenPlain(path);
  if (!opened.ok()) return opened.status();
  const auto [fd, size] = *opened;
  if (size == 0) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, ": the file is empty"));
  }
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  close(fd);
  if (data == MAP_FAILED) return Error(path, error);
  MappedFile file;
  file.data_ = static_cast<const std::byte*>(data);
  file.size_ = size;
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::Release() const {
  // Only advice: a failure costs memory, not correctness.
  if (data_ != nullptr) (void)madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, uint64_t limit) {
  const auto opened = OpenPlain(path);
  if (!opened.ok()) return opened.status();
  const auto [fd, size] = *opened;
  if (size > limit) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", size, " bytes, at most ", limit, " are read"));
  }
  std::string text(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t got = read(fd, text.data() + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      const absl::Status status = got < 0
                                      ? Error(path, errno)
                                      : absl::FailedPreconditionError(absl::StrCat(path, ": shrank while it was read"));
      close(fd);
      return status;
    }
    done += static_cast<size_t>(got);
  }
  close(fd);
  return text;
}

}  // namespace pangea
