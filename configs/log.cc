#include "configs/log.h"

#include <poll.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

namespace pangea {
namespace {

constexpr size_t kLineBytes = 4000;  // less than a pipe takes at once

std::atomic<int> g_level{static_cast<int>(LogLevel::kInfo)};
std::mutex g_mutex;
std::string& ProcessName() {
  static std::string* name = new std::string("pangea");  // never destroyed: threads may log while the process ends
  return *name;
}

uint64_t g_lost = 0;  // lines that nobody took, under g_mutex

void Write(const std::string& line) {
  pollfd out{STDERR_FILENO, POLLOUT, 0};
  if (poll(&out, 1, 0) == 0) {
    ++g_lost;
    return;
  }
  [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
}

// Length of the UTF-8 character at text[at] and its code point; 0: there is none.
size_t CharacterAt(std::string_view text, size_t at, uint32_t* code) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  const size_t length = lead < 0x80 ? 1 : (lead >> 5) == 6 ? 2 : (lead >> 4) == 14 ? 3 : (lead >> 3) == 30 ? 4 : 0;
  if (length == 0 || at + length > text.size()) return 0;
  *code = length == 1 ? lead : lead & (0xFFu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
    *code = *code << 6 | (byte(at + i) & 0x3F);
  }
  constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
  return *code < kLeast[length - 1] || *code > 0x10FFFF || (*code >= 0xD800 && *code < 0xE000) ? 0 : length;
}

bool Harmless(uint32_t code) {
  const auto within = [&](uint32_t first, uint32_t last) { return code >= first && code <= last; };
  return !(within(0, 0x1F) || within(0x7F, 0x9F) || within(0x200E, 0x200F) || within(0x2028, 0x202E) ||
           within(0x2066, 0x2069));
}

}  // namespace

std::string Printable(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    uint32_t code = 0;
    const size_t length = CharacterAt(text, at, &code);
    const size_t bytes = std::max<size_t>(length, 1);
    if (length > 0 && Harmless(code)) {
      out += text.substr(at, bytes);
    } else {
      for (size_t i = at; i < at + bytes; ++i) out += absl::StrFormat("\\x%02x", static_cast<unsigned char>(text[i]));
    }
    at += bytes;
  }
  return out;
}

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
  const auto line = [&](char letter, const std::string& what) {
    return absl::StrFormat("%s.%03d %c %s] %s\n", when, now.tv_usec / 1000, letter, ProcessName(), what);
  };
  if (const uint64_t lost = std::exchange(g_lost, 0); lost > 0) {
    Write(line('W', absl::StrFormat("%d lines of the log were lost: nobody took them", lost)));
    if (g_lost > 0) g_lost = lost;  // still so
  }
  std::string shown = Printable(text.substr(0, kLineBytes));
  if (shown.size() > kLineBytes) shown.resize(kLineBytes);
  Write(line("DIWE"[static_cast<int>(level)], shown));
}

}  // namespace pangea
