#include "master/metrics/timeline_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "configs/log.h"
#include "configs/mutex.h"

namespace pangea {
namespace {

constexpr std::chrono::milliseconds kWritePeriod(200);
constexpr size_t kWriteBytes = 1 << 20;  // that many wait: they are written at once

}  // namespace

struct TimelineFile::State {
  std::string path;
  int fd = -1;
  uint64_t most = 0;
  double zero = 0;
  Mutex mutex;
  CondVar changed;
  std::string waiting ABSL_GUARDED_BY(mutex);    // whole events, each after a comma
  uint64_t recorded ABSL_GUARDED_BY(mutex) = 0;  // bytes
  bool closed ABSL_GUARDED_BY(mutex) = false, ending ABSL_GUARDED_BY(mutex) = false;
  std::thread writer;

  // Together or not at all: a step is never half in the file.
  void Add(const std::string& events) {
    MutexLock lock(mutex);
    if (closed) return;
    if (recorded + events.size() > most) {
      closed = true;
      LogWarning("the timeline %s has %.1f MiB and ends here (timeline.bytes)", path, recorded / 1048576.0);
      return;
    }
    recorded += events.size();
    waiting += events;
    if (waiting.size() >= kWriteBytes) changed.notify_one();
  }

  bool Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = write(fd, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        LogWarning("the timeline %s cannot be written any more: %s", path, std::strerror(errno));
        return false;
      }
      bytes.remove_prefix(n);
    }
    return true;
  }

  void Loop() {
    MutexLock lock(mutex);
    for (bool last = false, good = true; !last;) {
      changed.wait_for(lock, kWritePeriod, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
        return ending || waiting.size() >= kWriteBytes;
      });
      last = ending;
      std::string bytes;
      bytes.swap(waiting);
      lock.unlock();
      if (last) bytes += "\n]\n";
      good = good && Write(bytes);
      lock.lock();
      closed = closed || !good;
    }
  }
};

TimelineFile::TimelineFile(std::unique_ptr<State> state) : state_(std::move(state)) {}

absl::StatusOr<std::unique_ptr<TimelineFile>> TimelineFile::Open(const std::string& path, uint64_t most_bytes,
                                                                 double zero) {
  auto state = std::make_unique<State>();
  state->path = path;
  state->fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (state->fd < 0) {
    return absl::InvalidArgumentError(absl::StrCat("timeline.file: cannot write ", path, ": ", std::strerror(errno)));
  }
  state->most = most_bytes;
  state->zero = zero;
  if (!state->Write("[\n" + TimelineNames(-1, 0))) {
    close(state->fd);
    return absl::UnavailableError(absl::StrCat("timeline.file: cannot write ", path));
  }
  state->writer = std::thread([s = state.get()] { s->Loop(); });
  return std::unique_ptr<TimelineFile>(new TimelineFile(std::move(state)));
}

TimelineFile::~TimelineFile() {
  {
    MutexLock lock(state_->mutex);
    state_->ending = true;
  }
  state_->changed.notify_one();
  state_->writer.join();
  close(state_->fd);
}

void TimelineFile::Name(int stage, int rank) { state_->Add(",\n" + TimelineNames(stage, rank)); }

void TimelineFile::Add(std::span<const TimelineSpan> spans) {
  std::string events;
  for (const TimelineSpan& span : spans) absl::StrAppend(&events, ",\n", TimelineEvent(span, state_->zero));
  state_->Add(events);
}

void TimelineFile::Add(const TimelineMoment& moment) { state_->Add(",\n" + TimelineEvent(moment, state_->zero)); }

}  // namespace pangea
