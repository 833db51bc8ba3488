// The log: one line a fact on standard error, "2026-11-24 12:00:00.123 I master] text". Thread safe; a line is one
// write. Nobody waits for a reader that takes no more lines: they are lost then, and counted.
#pragma once
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"

namespace pangea {

enum class LogLevel : int { kDebug, kInfo, kWarning, kError };

inline constexpr char kLogLevels[] = "debug, info, warning, error";
// One of kLogLevels; anything else leaves the level as it is. Default info.
void SetLogLevel(std::string_view level);
// What this process calls itself in its lines: "master", "agent 3 (stage 1, rank 1)".
void SetLogProcess(std::string name);
bool LogEnabled(LogLevel level);
// Written as Printable (values.h) shows it.
void LogLine(LogLevel level, std::string_view text);

template <typename... Args>
void Log(LogLevel level, const absl::FormatSpec<Args...>& format, const Args&... args) {
  if (LogEnabled(level)) LogLine(level, absl::StrFormat(format, args...));
}
template <typename... Args>
void LogDebug(const absl::FormatSpec<Args...>& format, const Args&... args) {
  Log(LogLevel::kDebug, format, args...);
}
template <typename... Args>
void LogInfo(const absl::FormatSpec<Args...>& format, const Args&... args) {
  Log(LogLevel::kInfo, format, args...);
}
template <typename... Args>
void LogWarning(const absl::FormatSpec<Args...>& format, const Args&... args) {
  Log(LogLevel::kWarning, format, args...);
}
template <typename... Args>
void LogError(const absl::FormatSpec<Args...>& format, const Args&... args) {
  Log(LogLevel::kError, format, args...);
}

}  // namespace pangea
