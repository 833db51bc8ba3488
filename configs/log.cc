#include "configs/log.h"

#include <poll.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <utility>

#include "configs/mutex.h"
#include "configs/values.h"

namespace pangea {
namespace {

constexpr size_t kLineBytes = 4000;  // less than a pipe takes at once

std::atomic<int> g_level{static_cast<int>(LogLevel::kInfo)};
Mutex g_mutex;
std::string& ProcessName() {
  static std::string* name = new std::string("pangea");  // never destroyed: threads may log while the process ends
  return *name;
}

uint64_t g_lost ABSL_GUARDED_BY(g_mutex) = 0;  // lines that nobody took

void Write(const std::string& line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(g_mutex) {
  pollfd out{STDERR_FILENO, POLLOUT, 0};
  if (poll(&out, 1, 0) == 0) {
    ++g_lost;
    return;
  }
  [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

void SetLogLevel(std::string_view level) {
  constexpr std::string_view names[] = {"debug", "info", "warning", "error"};
  for (int i = 0; i < 4; ++i)
    if (level == names[i]) g_level = i;
}

void SetLogProcess(std::string name) {
  MutexLock lock(g_mutex);
  ProcessName() = std::move(name);
}

bool LogEnabled(LogLevel level) { return static_cast<int>(level) >= g_level.load(std::memory_order_relaxed); }

void LogLine(LogLevel level, std::string_view text) {
  timeval now;
  gettimeofday(&now, nullptr);
  tm parts;
  gmtime_r(&now.tv_sec, &parts);
  char when[32];
  strftime(when, sizeof(when), "%F %T", &parts);
  MutexLock lock(g_mutex);
  const auto line = [&](char letter, const std::string& what) {
    return absl::StrFormat("%s.%03d %c %s] %s\n", when, now.tv_usec / 1000, letter, ProcessName(), what);
  };
  if (const uint64_t lost = std::exchange(g_lost, 0); lost > 0) {
    Write(line('W', absl::StrFormat("%d lines of the log were lost: nobody took them", lost)));
    if (g_lost > 0) g_lost = lost;  // nobody takes this line either
  }
  std::string shown = Printable(text.substr(0, kLineBytes));
  if (shown.size() > kLineBytes) {
    size_t end = kLineBytes;
    while ((shown[end] & 0xC0) == 0x80) --end;  // no half of a character
    shown.resize(end);
  }
  Write(line("DIWE"[static_cast<int>(level)], shown));
}

}  // namespace pangea
