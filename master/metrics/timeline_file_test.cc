#include "master/metrics/timeline_file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

using nlohmann::json;

std::string Path(const char* name) { return absl::StrCat(testing::TempDir(), "/timeline-", getpid(), "-", name); }

std::string Read(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TimelineSpan Span(int step, int rank) {
  return {.name = absl::StrCat("step ", step),
          .stage = 1,
          .rank = rank,
          .start_seconds = 100.0 + step,
          .duration_seconds = 0.5,
          .args = {{"rows", step}}};
}

int Spans(const json& events) {
  return std::count_if(events.begin(), events.end(), [](const json& event) { return event["ph"] == "X"; });
}

TEST(TimelineFile, EventsOfSeveralThreadsMakeOneArray) {
  const std::string path = Path("threads");
  {
    auto file = TimelineFile::Open(path, 64 << 20, 100);
    ASSERT_TRUE(file.ok()) << file.status();
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        (*file)->Name(1, t);
        for (int i = 0; i < 1000; ++i) (*file)->Add(std::vector{Span(2 * i, t), Span(2 * i + 1, t)});
        (*file)->Add(TimelineMoment{.id = 1, .name = "first token", .seconds = 100});
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  const json events = json::parse(Read(path));
  EXPECT_EQ(Spans(events), 8000);
  std::vector<double> last(4, -1);
  for (const json& event : events) {
    if (event["ph"] != "X") continue;
    EXPECT_EQ(event["ts"].get<double>(), event["args"]["rows"].get<int>() * 1e6);
    EXPECT_GT(event["ts"].get<double>(), std::exchange(last[event["tid"].get<int>()], event["ts"].get<double>()));
  }
  unlink(path.c_str());
}

TEST(TimelineFile, StopsAtItsSizeLimit) {
  const std::string path = Path("size");
  constexpr uint64_t kMost = 100'000;
  {
    auto file = TimelineFile::Open(path, kMost, 0);
    ASSERT_TRUE(file.ok()) << file.status();
    for (int i = 0; i < 10'000; ++i) (*file)->Add(std::vector{Span(i, 0), Span(i, 1)});
  }
  const std::string text = Read(path);
  EXPECT_LT(text.size(), kMost + 500);  // and the names
  EXPECT_GT(text.size(), kMost * 9 / 10);
  const json events = json::parse(text);
  EXPECT_EQ(Spans(events) % 2, 0);  // together or not at all
  unlink(path.c_str());
}

// The file of a process that was killed is a prefix of whole events.
TEST(TimelineFile, AKilledProcessLeavesAReadableFile) {
  const std::string path = Path("killed");
  const pid_t child = fork();
  if (child == 0) {
    auto file = TimelineFile::Open(path, 64 << 20, 100);
    for (int i = 0;; ++i) (*file)->Add(Span(i, 0));
  }
  while (Read(path).size() < 3'000'000) usleep(1000);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  std::string text = Read(path);
  EXPECT_TRUE(json::parse(text, nullptr, false).is_discarded());
  if (text.back() != '}') text.resize(text.rfind(",\n"));  // killed within a write
  EXPECT_GT(Spans(json::parse(text + "]")), 10'000);
  unlink(path.c_str());
}

TEST(TimelineFile, APlaceThatCannotBeWrittenIsRefused) {
  EXPECT_EQ(TimelineFile::Open("/nonexistent/x.json", 1 << 20, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pangea
