#include "configs/log.h"

#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <mutex>

namespace pangea {
namespace {

std::atomic<int> g_level{static_cast<int>(LogLevel::kInfo)};
std::mutex g_mutex;
std::string& ProcessName() {
  static std::string* name = new std::string("pangea");  // never destroyed: threads may log while the process ends
  return *name;
}

}  // namespace

void SetLogLevel(std::string_view level) {
  constexpr std::string_view names[] = {"debug", "info", "warning", "error"};
  for (int i = 0; i < 4; ++i)
    if (level == names[i]) g_level = i;
}

void SetLogProcess(std::string name) {
  std::lock_guard lock(g_mutex);
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
  std::lock_guard lock(g_mutex);
  const std::string line = absl::StrFormat("%s.%03d %c %s] %s\n", when, now.tv_usec / 1000,
                                           "DIWE"[static_cast<int>(level)], ProcessName(), text);
  [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace pangea
