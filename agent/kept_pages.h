// An agent's KV pages in memory that outlives its process: an anonymous file, which the master holds open. The process
// that takes the place maps it, and finds what committed steps have written; what is half written belongs to steps that
// are void. It has no name, so nothing is left of it when master and agents have ended, however they ended.
//
// A process that fails may have written anything. It marks its pages, in a word behind them, and nobody opens them any
// more: when it reports a fault of its own, and in the handler of every signal by which the kernel or the C library
// says that it has erred. (How it is seen to end proves nothing: one that dumps core may be killed meanwhile.)
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace pangea {

class KeptPages {
 public:
  // Takes memory only for what is written; when there is none then, the process ends (SIGBUS).
  static absl::StatusOr<std::unique_ptr<KeptPages>> Create(int64_t bytes);
  // Those of a process before. path: of a descriptor that a living process holds (/proc/PID/fd/N). FailedPrecondition:
  // it is no such file of so many bytes, or marked.
  static absl::StatusOr<std::unique_ptr<KeptPages>> Open(const std::string& path, int64_t bytes);
  ~KeptPages();
  KeptPages(const KeptPages&) = delete;

  std::byte* base() const { return base_; }  // as long as this lives; at a page of the host's
  int64_t bytes() const { return bytes_; }
  int fd() const { return fd_; }
  bool kept() const { return kept_; }  // by Open

  // Marks those that this process has made or opened last. Any thread, any signal handler.
  static void Distrust();

 private:
  static absl::StatusOr<std::unique_ptr<KeptPages>> Map(int fd, int64_t bytes, bool kept);
  KeptPages(int fd, std::byte* base, void* mark, int64_t bytes, bool kept);
  const int fd_;
  std::byte* const base_;
  void* const mark_;
  const int64_t bytes_;
  const bool kept_;
};

// Has every signal that tells of an error of this process mark its pages, and then do what it did before.
void MarkPagesOnErrors();

// What the process before this one had, else new ones. Null: neither can be had, and own memory must do. Why is logged.
// path empty: there was none.
std::unique_ptr<KeptPages> KeptOrNewPages(const std::string& path, int64_t bytes);

}  // namespace pangea
