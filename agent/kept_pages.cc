#include "agent/kept_pages.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "configs/log.h"

namespace pangea {
namespace {

constexpr int64_t kHostPage = 4096;
// Its size stays what it is, so that nobody can take pages away that are mapped.
constexpr int kPageSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

using Mark = std::atomic<uint32_t>;
static_assert(Mark::is_always_lock_free);
std::atomic<Mark*> g_mark{nullptr};

constexpr int kErrors[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
struct sigaction g_before[std::size(kErrors)];

// The pages, and behind them a page of the host's with the mark.
int64_t MarkAt(int64_t bytes) { return (bytes + kHostPage - 1) / kHostPage * kHostPage; }
int64_t FileBytes(int64_t bytes) { return MarkAt(bytes) + kHostPage; }

absl::Status PagesErrno(const char* what) { return absl::ErrnoToStatus(errno, absl::StrCat("KV pages: ", what)); }

void OnError(int signal, siginfo_t* info, void*) {
  KeptPages::Distrust();
  for (size_t i = 0; i < std::size(kErrors); ++i) {
    if (kErrors[i] == signal) sigaction(signal, &g_before[i], nullptr);
  }
  if (info->si_code <= 0) raise(signal);  // sent by somebody, once this returns; a fault comes again by itself
}

}  // namespace

KeptPages::KeptPages(int fd, std::byte* base, void* mark, int64_t bytes, bool kept)
    : fd_(fd), base_(base), mark_(mark), bytes_(bytes), kept_(kept) {}

void KeptPages::Distrust() {
  if (Mark* mark = g_mark.load()) mark->store(1);
}

absl::StatusOr<std::unique_ptr<KeptPages>> KeptPages::Map(int fd, int64_t bytes, bool kept) {
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  void* mark = mmap(nullptr, kHostPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, MarkAt(bytes));
  if (base == MAP_FAILED || mark == MAP_FAILED) {
    const absl::Status status = PagesErrno("cannot map them");
    if (base != MAP_FAILED) munmap(base, bytes);
    if (mark != MAP_FAILED) munmap(mark, kHostPage);
    close(fd);
    return status;
  }
  g_mark = static_cast<Mark*>(mark);
  return std::unique_ptr<KeptPages>(new KeptPages(fd, static_cast<std::byte*>(base), mark, bytes, kept));
}

absl::StatusOr<std::unique_ptr<KeptPages>> KeptPages::Create(int64_t bytes) {
  const int fd = memfd_create("pangea-pages", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return PagesErrno("memfd_create");
  // The mark's page is there before it is needed.
  const bool made = ftruncate(fd, FileBytes(bytes)) == 0 && fallocate(fd, 0, MarkAt(bytes), kHostPage) == 0 &&
                    fcntl(fd, F_ADD_SEALS, kPageSeals) == 0;
  if (!made) {
    const absl::Status status = PagesErrno("cannot make the file");
    close(fd);
    return status;
  }
  return Map(fd, bytes, false);
}

absl::StatusOr<std::unique_ptr<KeptPages>> KeptPages::Open(const std::string& path, int64_t bytes) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return PagesErrno("cannot open what is kept of them");
  struct stat info{};
  uint32_t mark = 1;
  const int seals = fcntl(fd, F_GET_SEALS);  // -1: it is no memfd
  const bool whole = fstat(fd, &info) == 0 && info.st_size == FileBytes(bytes) && seals >= 0 &&
                     (seals & kPageSeals) == kPageSeals &&
                     pread(fd, &mark, sizeof(mark), MarkAt(bytes)) == sizeof(mark);
  if (!whole || mark != 0) {
    close(fd);
    return absl::FailedPreconditionError(
        whole ? absl::StrCat("KV pages: the process before this one has failed; they are not trusted")
              : absl::StrCat("KV pages: ", path, " is no file of ", bytes, " bytes of them"));
  }
  return Map(fd, bytes, true);
}

KeptPages::~KeptPages() {
  munmap(base_, bytes_);
  // The mark's address stays good, as a signal may come at any time; but what is mapped there would keep all of the
  // file's pages.
  mmap(mark_, kHostPage, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
  close(fd_);
}

void MarkPagesOnErrors() {
  struct sigaction action{};
  action.sa_sigaction = OnError;
  action.sa_flags = SA_SIGINFO;
  for (size_t i = 0; i < std::size(kErrors); ++i) sigaction(kErrors[i], &action, &g_before[i]);
}

std::unique_ptr<KeptPages> KeptOrNewPages(const std::string& path, int64_t bytes) {
  if (bytes <= 0) return nullptr;
  if (!path.empty()) {
    auto kept = KeptPages::Open(path, bytes);
    if (kept.ok()) return *std::move(kept);
    LogWarning("%s", kept.status().message());
  }
  auto made = KeptPages::Create(bytes);
  if (made.ok()) return *std::move(made);
  LogWarning("%s", made.status().message());
  return nullptr;
}

}  // namespace pangea
