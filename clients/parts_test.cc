// The parts of the clients that need no server: SSE, flags, statistics, text, prompts of the load generator.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <future>
#include <random>

#include "clients/commands.h"
#include "clients/fake_http_server.h"
#include "clients/interrupt.h"
#include "clients/load.h"
#include "clients/sampling_flags.h"
#include "clients/sse.h"
#include "clients/statistics.h"
#include "clients/text.h"
#include "nlohmann/json.hpp"

namespace pangea::clients {
namespace {

using nlohmann::json;
using Connection = FakeHttpServer::Connection;

TEST(Sse, EverySplitGivesTheSameEvents) {
  const std::string stream =
      "\xEF\xBB\xBF"
      "data: one\n\n: ping\n\ndata:two\r\ndata:  2\r\n\r\nevent: x\nid: 7\ndata\n\ndata: three\rdata: 3\r\rretry: "
      "1\n\ndatax: no\n\ndata: unfinished";
  const std::vector<std::string> expected = {"one", "two\n 2", "", "three\n3"};
  for (size_t i = 0; i <= stream.size(); ++i) {
    for (size_t j = i; j <= stream.size(); j += 7) {
      SseParser parser;
      std::vector<std::string> events;
      for (const std::string& part : {stream.substr(0, i), stream.substr(i, j - i), stream.substr(j)})
        ASSERT_TRUE(parser.Push(part, events).ok());
      ASSERT_EQ(events, expected) << i << " " << j;
    }
  }
}

TEST(Sse, AnEventIsBounded) {
  SseParser parser(100);
  std::vector<std::string> events;
  EXPECT_TRUE(parser.Push("data: " + std::string(90, 'x') + "\n\ndata: ", events).ok());
  EXPECT_FALSE(parser.Push(std::string(200, 'x'), events).ok());
  SseParser lines(100);
  absl::Status status;
  for (int i = 0; i < 100 && status.ok(); ++i) status = lines.Push("data: xx\n", events);
  EXPECT_FALSE(status.ok());
}

TEST(Statistics, PercentilesAgainstSorting) {
  std::mt19937_64 random(3);
  for (int n : {1, 2, 3, 10, 99, 100, 101, 5000}) {
    LatencyHistogram histogram;
    std::vector<double> samples;
    double sum = 0;
    for (int i = 0; i < n; ++i) {
      samples.push_back(std::exp(-12 + 20 * static_cast<double>(random() >> 11) * 0x1p-53));  // 6 us to 50 min
      histogram.Add(samples.back());
      sum += samples.back();
    }
    std::sort(samples.begin(), samples.end());
    for (double p : {0.1, 1.0, 50.0, 90.0, 99.0, 99.9, 100.0}) {
      const double exact = samples[static_cast<size_t>(std::max(1.0, std::ceil(p / 100 * n))) - 1];
      EXPECT_NEAR(histogram.Percentile(p) / exact, 1, 0.0026) << n << " " << p;
    }
    EXPECT_EQ(histogram.max(), samples.back());
    EXPECT_EQ(histogram.min(), samples.front());
    EXPECT_NEAR(histogram.mean(), sum / n, sum * 1e-12);
    EXPECT_EQ(histogram.count(), n);
  }
}

TEST(Statistics, Extremes) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.Percentile(50), 0);
  EXPECT_EQ(histogram.mean(), 0);
  histogram.Add(0);
  histogram.Add(1e9);
  EXPECT_GE(histogram.Percentile(1), 0);
  EXPECT_LE(histogram.Percentile(100), 1e9);
  histogram.Add(-1);
  EXPECT_EQ(histogram.min(), -1);
}

TEST(Text, Utf8AndTerminals) {
  EXPECT_TRUE(ValidUtf8("aé模😀"));
  for (const char* bad : {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe6\xa8", "\x80"})
    EXPECT_FALSE(ValidUtf8(bad));
  EXPECT_EQ(ForTerminal("é\t\n😀"), "é\t\n😀");
  EXPECT_EQ(ForTerminal("a\x1b[2Jb\r\x07\x7f\xc2\x9b\xff"), "a\uFFFD[2Jb\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
}

// What a terminal shows after "go back N, erase to the end of the line": enough to read what WordWrap prints.
std::string Shown(const std::string& printed) {
  std::string out;
  for (size_t i = 0; i < printed.size(); ++i) {
    if (printed[i] != '\x1b') {
      out += printed[i];
      continue;
    }
    const size_t d = printed.find('D', i);
    out.resize(out.size() - std::stoul(printed.substr(i + 2, d - i - 2)));
    EXPECT_EQ(printed.substr(d, 4), "D\x1b[K");
    i = d + 3;
  }
  return out;
}

TEST(Text, WordsAreWrappedWhereverThePiecesAreCut) {
  const struct {
    int columns;
    const char *text, *shown;
  } kCases[] = {
      {12, "aaa bbb ccc ddd", "aaa bbb ccc\nddd"},
      {12, "aaa bbb cccc ddd", "aaa bbb \ncccc ddd"},
      {12, "aaa bbbb cc dd", "aaa bbbb cc\ndd"},
      {12, "short\nlines stay\n", "short\nlines stay\n"},
      {12, "a 0123456789ABCDEF b", "a \n0123456789ABCDEF b"},  // longer than a line: the terminal breaks it
      {12, "日本語日本語x", "日本語日本\n語x"},                // ten columns, and the last of twelve stays free
      {12, "ab cdef日本語", "ab cdef日本\n語"},
      {12, "e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301",
       "e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301"},  // eleven columns
      {0, "aaa bbb ccc ddd eee fff", "aaa bbb ccc ddd eee fff"},
  };
  for (const auto& c : kCases) {
    const std::string text = c.text;
    EXPECT_EQ(Shown(WordWrap(c.columns).Push(text)), c.shown);
    WordWrap wrap(c.columns);
    std::string printed;
    for (size_t i = 0; i < text.size();) {  // one character at a time
      size_t n = 1;
      while (i + n < text.size() && (text[i + n] & 0xC0) == 0x80) ++n;
      printed += wrap.Push(text.substr(i, n));
      i += n;
    }
    EXPECT_EQ(Shown(printed), c.shown);
  }
}

TEST(Interrupt, WhatIsIgnoredStaysIgnored) {
  signal(SIGUSR1, SIG_IGN);  // as nohup does with SIGHUP
  std::mutex mutex;
  std::vector<std::pair<int, bool>> seen;
  std::promise<void> got;
  {
    InterruptWatcher watcher(
        [&](int signal, bool from_terminal) {
          std::lock_guard lock(mutex);
          seen.emplace_back(signal, from_terminal);
          if (signal == SIGUSR2) got.set_value();
        },
        {SIGUSR1, SIGUSR2});
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR2);
    got.get_future().wait();
  }
  EXPECT_EQ(seen, (std::vector<std::pair<int, bool>>{{SIGUSR2, false}}));
  signal(SIGUSR1, SIG_DFL);
}

TEST(Text, TheNearestName) {
  const std::vector<std::string> names = {"/help", "/reset", "/retry", "/save", "/set"};
  EXPECT_EQ(Nearest("/sve", names), "/save");
  EXPECT_EQ(Nearest("/rest", names), "/reset");
  EXPECT_EQ(Nearest("/hlep", names), "/help");
  EXPECT_EQ(Nearest("/frobnicate", names), "");
  EXPECT_EQ(Nearest("", names), "");
}

TEST(Settings, AreFlagsByTheirNamesInTheApi) {
  SamplingOptions sampling;
  EXPECT_EQ(Settings(sampling), "");
  EXPECT_TRUE(ChangeSetting("temperature", "0.5", &sampling).ok());
  EXPECT_TRUE(ChangeSetting("max_tokens", "7", &sampling).ok());
  EXPECT_TRUE(ChangeSetting("seed", "-1", &sampling).ok());
  EXPECT_TRUE(ChangeSetting("stop", "a b", &sampling).ok());
  EXPECT_TRUE(ChangeSetting("stop", "c", &sampling).ok());
  EXPECT_EQ(sampling.temperature, 0.5);
  EXPECT_EQ(sampling.stop, std::vector<std::string>{"c"});
  EXPECT_EQ(Settings(sampling), "max_tokens = 7\ntemperature = 0.5\nseed = -1\nstop = c\n");
  EXPECT_TRUE(ChangeSetting("temperature", "default", &sampling).ok());
  EXPECT_FALSE(sampling.temperature.has_value());
  EXPECT_EQ(ChangeSetting("top_p", "2", &sampling).message(), "top_p: expected a number from 0 to 1, not \"2\"");
  EXPECT_EQ(ChangeSetting("nope", "1", &sampling).code(), absl::StatusCode::kNotFound);
  for (const std::string& name : SettingNames()) EXPECT_TRUE(ChangeSetting(name, "1", &sampling).ok()) << name;
}

LoadOptions Load(const FakeHttpServer& server) {
  LoadOptions options;
  options.endpoint.url = *ParseHttpUrl(server.url());
  options.model = "m";
  options.timeout_seconds = 60;
  return options;
}

TEST(Load, CountsAndNeverExceedsItsConcurrency) {
  std::atomic<int> open{0}, most{0}, calls{0};
  FakeHttpServer server([&](const FakeHttpServer::Request& request, Connection& c) {
    const int now = ++open;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    if (++calls % 10 == 0) {
      --open;
      c.Write(FakeHttpServer::Json(429, R"({"error":{"message":"full"}})"));
      return;
    }
    c.Write(Connection::kEventStream);
    for (const char* text : {"", "a", "b", "c"})
      c.Event(json({{"choices", {{{"delta", {{"content", text}}}}}}}).dump());
    if (json::parse(request.body).contains("stream_options"))
      c.Event(R"({"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":4}})");
    --open;
    c.Event("[DONE]");
    c.Chunk("");
  });
  LoadOptions options = Load(server);
  options.requests = 40;
  options.concurrency = 3;
  const LoadReport report = RunLoad(options, nullptr, nullptr);
  EXPECT_EQ(report.succeeded, 36);
  EXPECT_EQ(report.failed, 4);
  EXPECT_EQ(report.errors, (std::map<std::string, int64_t>{{"RESOURCE_EXHAUSTED: full", 4}}));
  EXPECT_LE(most, 3);
  EXPECT_EQ(report.prompt_tokens, 36 * 11);
  EXPECT_EQ(report.completion_tokens, 36 * 4);
  EXPECT_EQ(report.first_token.count(), 36);
  EXPECT_EQ(report.inter_token.count(), 36 * 2);
  EXPECT_EQ(report.end_to_end.count(), 36);
  EXPECT_LE(report.first_token.Percentile(50), report.end_to_end.max());
  const json parsed = json::parse(ReportJson(options, report));
  EXPECT_EQ(parsed["succeeded"], 36);
  EXPECT_TRUE(parsed["time_to_first_token_seconds"].contains("p99"));
  EXPECT_NE(ReportText(report).find("36 succeeded, 4 failed"), std::string::npos);
}

TEST(Load, PoissonArrivalsWaitForAPlace) {
  FakeHttpServer server([](const FakeHttpServer::Request&, Connection& c) {
    c.Write(Connection::kEventStream);
    c.Event(R"({"choices":[{"text":"a"}]})");
    c.Event("[DONE]");
    c.Chunk("");
  });
  LoadOptions options = Load(server);
  options.chat = false;
  options.requests = 50;
  options.concurrency = 1;
  options.rate = 100000;
  const LoadReport report = RunLoad(options, nullptr, nullptr);
  EXPECT_EQ(report.succeeded, 50);
  EXPECT_GT(report.delayed, 0);
  EXPECT_EQ(report.completion_tokens, 50) << "without usage, texts are counted";
}

TEST(Load, InterruptReportsWhatIsDone) {
  std::atomic<int> calls{0};
  Canceller canceller;
  FakeHttpServer server([&](const FakeHttpServer::Request&, Connection& c) {
    c.Write(Connection::kEventStream);
    if (++calls == 6) canceller.Cancel();
    if (calls >= 6) return c.WaitForClose();
    c.Event("[DONE]");
    c.Chunk("");
  });
  LoadOptions options = Load(server);
  options.requests = 1000000;
  options.concurrency = 2;
  const LoadReport report = RunLoad(options, nullptr, &canceller);
  EXPECT_TRUE(report.cancelled);
  EXPECT_GE(report.succeeded, 4);
  EXPECT_LE(report.succeeded, 5);
  EXPECT_EQ(report.failed, 0);
}

TEST(Load, PromptsDependOnSeedAndIndexAlone) {
  LoadOptions options;
  options.prompt_words = 20;
  const std::string first = MakeLoadRequest(options, 1).messages[0].content;
  EXPECT_EQ(first, MakeLoadRequest(options, 1).messages[0].content);
  EXPECT_NE(first, MakeLoadRequest(options, 2).messages[0].content);
  EXPECT_EQ(std::count(first.begin(), first.end(), ' '), 19);
  options.seed = 1;
  EXPECT_NE(first, MakeLoadRequest(options, 1).messages[0].content);
  options.chat = false;
  options.prompt_tokens = 5000;
  const auto ids = MakeLoadRequest(options, 0).prompt_ids;
  EXPECT_EQ(ids.size(), 5000u);
  EXPECT_EQ(*std::min_element(ids.begin(), ids.end()), options.first_id);
  EXPECT_EQ(*std::max_element(ids.begin(), ids.end()), options.last_id);
}

TEST(Load, ArrivalsArePoisson) {
  std::mt19937_64 random(5);
  double sum = 0, squares = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    const double gap = NextArrival(random, 4);
    ASSERT_GE(gap, 0);
    sum += gap, squares += gap * gap;
  }
  const double mean = sum / kCount, variance = squares / kCount - mean * mean;
  EXPECT_NEAR(mean, 0.25, 0.005);  // an exponential distribution: deviation = mean
  EXPECT_NEAR(variance, 0.0625, 0.0025);
}

TEST(Commands, HelpAndWrongLines) {
  auto run = [](int (*main)(int, char**), std::vector<std::string> words) {
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int status = main(static_cast<int>(argv.size()), argv.data());
    const std::string err = testing::internal::GetCapturedStderr();
    return std::pair(status, testing::internal::GetCapturedStdout() + err);
  };
  EXPECT_EQ(run(ChatMain, {"chat", "--help"}).first, 0);
  EXPECT_EQ(run(GenerateMain, {"generate", "--help"}).first, 0);
  EXPECT_EQ(run(BenchMain, {"bench", "--help"}).first, 0);
  const auto [status, help] = run(BenchMain, {"bench", "serve", "--help"});
  EXPECT_EQ(status, 0);
  for (const char* flag : {"--url", "--concurrency", "--requests", "--rate", "--prompt-words", "--prompt-tokens",
                           "--max-tokens", "--seed", "--json"}) {
    EXPECT_NE(help.find(flag), std::string::npos) << flag;
  }
  EXPECT_EQ(run(ChatMain, {"chat", "word"}).first, 64);
  EXPECT_EQ(run(ChatMain, {"chat", "--rest", "ftp://x"}).first, 64);
  EXPECT_EQ(run(ChatMain, {"chat", "--grpc", "http://x:1"}).first, 64);
  EXPECT_EQ(run(ChatMain, {"chat", "--grpc", "x:1", "--ca-file", "f"}).first, 64);
  EXPECT_EQ(run(GenerateMain, {"generate", "--chat", "--raw", "x"}).first, 64);
  EXPECT_EQ(run(GenerateMain, {"generate", "a", "b"}).first, 64);
  EXPECT_EQ(run(GenerateMain, {"generate", "--system", "s", "a"}).first, 64);
  EXPECT_EQ(run(BenchMain, {"bench"}).first, 64);
  EXPECT_EQ(run(BenchMain, {"bench", "serve", "--prompt-tokens", "5"}).first, 64);
  EXPECT_EQ(run(BenchMain, {"bench", "serve", "--api", "x"}).first, 64);
}

TEST(Commands, GenerateAndBenchAgainstAServer) {
  FakeHttpServer server([](const FakeHttpServer::Request& request, Connection& c) {
    if (request.head.starts_with("GET")) {
      c.Write(FakeHttpServer::Json(200, R"({"data":[{"id":"m"}]})"));
    } else if (json::parse(request.body).contains("stream")) {
      c.Write(Connection::kEventStream);
      c.Event(R"({"choices":[{"text":"out","delta":{"content":"out"}}]})");
      c.Event("[DONE]");
      c.Chunk("");
    } else {
      c.Write(FakeHttpServer::Json(200, R"({"model":"m","choices":[{"text":"out","finish_reason":"stop"}]})"));
    }
  });
  auto run = [&](int (*main)(int, char**), std::vector<std::string> words) {
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    testing::internal::CaptureStdout();
    const int status = main(static_cast<int>(argv.size()), argv.data());
    const std::string out = testing::internal::GetCapturedStdout();
    EXPECT_EQ(status, 0) << out;
    return out;
  };
  EXPECT_EQ(run(GenerateMain, {"generate", "--rest", server.url(), "p"}), "out\n");
  EXPECT_EQ(run(GenerateMain, {"generate", "--rest", server.url(), "--no-stream", "p"}), "out\n");
  EXPECT_EQ(json::parse(run(GenerateMain, {"generate", "--rest", server.url(), "--json", "p"}))["finish_reason"],
            "stop");
  EXPECT_EQ(
      json::parse(run(BenchMain, {"bench", "serve", "--url", server.url(), "--requests", "4", "--json"}))["succeeded"],
      4);
}

}  // namespace
}  // namespace pangea::clients
