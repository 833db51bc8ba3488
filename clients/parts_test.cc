// The parts of the clients that need no server: SSE, flags, statistics, text, conversations, prompts of the load
// generator.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <sstream>

#include "clients/chat.h"
#include "clients/commands.h"
#include "clients/fake_http_server.h"
#include "clients/flags.h"
#include "clients/load.h"
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

TEST(Flags, ParseAndHelp) {
  bool on = false;
  std::string text;
  std::vector<std::string> list;
  int64_t number = 7;
  std::optional<double> real;
  Flags flags("pangea x", "Does x.");
  flags.Switch("--on", "a switch", &on);
  flags.Text("--text", "WORD", "a text", &text);
  flags.List("--stop", "TEXT", "a list", &list);
  flags.Integer("--n", "a number", {1, 10}, &number);
  flags.Real("--t", "a real", {0, 2}, &real);
  const char* argv[] = {"x",   "a",  "--on", "--text=b=c", "--stop", "s",  "--stop=t",
                        "--n", "10", "--t",  "0.5",        "-",      "--", "--on"};
  const auto words = flags.Parse(14, argv);
  ASSERT_TRUE(words.ok()) << words.status();
  EXPECT_EQ(*words, (std::vector<std::string>{"a", "-", "--on"}));
  EXPECT_TRUE(on);
  EXPECT_EQ(text, "b=c");
  EXPECT_EQ(list, (std::vector<std::string>{"s", "t"}));
  EXPECT_EQ(number, 10);
  EXPECT_EQ(*real, 0.5);
  for (const char* name : {"--on", "--text WORD", "--stop TEXT", "--n N", "--t X", "--help", "1 to 10"}) {
    EXPECT_NE(flags.Help().find(name), std::string::npos) << name;
  }
  for (const std::vector<const char*>& bad : std::vector<std::vector<const char*>>{{"x", "--none"},
                                                                                   {"x", "--text"},
                                                                                   {"x", "--on=1"},
                                                                                   {"x", "--n", "11"},
                                                                                   {"x", "--n", "0"},
                                                                                   {"x", "--n", "5x"},
                                                                                   {"x", "--n", ""},
                                                                                   {"x", "--n", "9223372036854775808"},
                                                                                   {"x", "--t", "nan"},
                                                                                   {"x", "--t", "inf"},
                                                                                   {"x", "--t", "-0.1"}}) {
    EXPECT_FALSE(flags.Parse(static_cast<int>(bad.size()), bad.data()).ok()) << bad[1];
  }
  const char* help[] = {"x", "--help", "--none"};
  EXPECT_TRUE(flags.Parse(3, help).ok());
  EXPECT_TRUE(flags.help());
}

TEST(Text, Utf8AndTerminals) {
  EXPECT_TRUE(ValidUtf8("aé模😀"));
  for (const char* bad : {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe6\xa8", "\x80"})
    EXPECT_FALSE(ValidUtf8(bad));
  EXPECT_EQ(ForTerminal("é\t\n😀"), "é\t\n😀");
  EXPECT_EQ(ForTerminal("a\x1b[2Jb\r\x07\x7f\xc2\x9b\xff"), "a\uFFFD[2Jb\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
}

// A server that answers a chat with the number of messages it was sent and the last one's text.
void Echo(const FakeHttpServer::Request& request, Connection& connection) {
  const json body = json::parse(request.body);
  const std::string last = body["messages"].back()["content"];
  if (last == "fail") {
    connection.Write(FakeHttpServer::Json(400, R"({"error":{"message":"no \u001b[2J"}})"));
    return;
  }
  connection.Write(Connection::kEventStream);
  const std::string text = std::to_string(body["messages"].size()) + ":" + last;
  connection.Event(json({{"choices", {{{"delta", {{"content", text}}}}}}}).dump());
  if (last == "wait") connection.WaitForClose();
  connection.Event("[DONE]");
  connection.Chunk("");
}

struct ChatRun {
  int status = 0;
  std::string out, err;
  std::vector<Message> history;
};
ChatRun Talk(const std::string& lines, ChatOptions options) {
  FakeHttpServer server(Echo);
  Endpoint endpoint;
  endpoint.rest = server.url();
  const auto client = *Client::Create(endpoint);
  GenerateRequest request;
  request.model = "m";
  request.timeout_seconds = 60;
  Chat chat(client.get(), request, options);
  std::istringstream in(lines);
  std::ostringstream out, err;
  Canceller canceller;
  ChatRun run;
  run.status = chat.Run(in, out, err, &canceller);
  run.out = out.str(), run.err = err.str(), run.history = chat.history();
  EXPECT_FALSE(chat.answering());
  return run;
}

TEST(Chat, KeepsItsHistory) {
  const ChatRun run = Talk("hi\n\nyou\r\n", {.system = "s", .interactive = false, .terminal = false});
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(run.out, "2:hi\n4:you\n");
  EXPECT_EQ(run.err, "");
  ASSERT_EQ(run.history.size(), 5u);
  EXPECT_EQ(run.history[4].role, "assistant");
  EXPECT_EQ(run.history[4].content, "4:you");
}

TEST(Chat, AFailedTurnIsForgotten) {
  const ChatRun piped = Talk("hi\nfail\nyou\n", {.interactive = false, .terminal = false});
  EXPECT_EQ(piped.status, 1);
  EXPECT_EQ(piped.out, "1:hi\n");
  EXPECT_EQ(piped.err, "error: no \uFFFD[2J\n");
  const ChatRun typed = Talk("hi\nfail\nyou\n", {.interactive = true, .terminal = true});
  EXPECT_EQ(typed.status, 0);
  EXPECT_EQ(typed.out, "> 1:hi\n> > 3:you\n> \n");
}

TEST(Chat, CommandsAreForTerminals) {
  const ChatRun typed = Talk("a\n/reset\nb\n/help\n/exit\nc\n", {.interactive = true, .terminal = true});
  EXPECT_NE(typed.out.find("1:a"), std::string::npos);
  EXPECT_NE(typed.out.find("1:b"), std::string::npos);
  EXPECT_EQ(typed.out.find("c\n>"), std::string::npos);
  EXPECT_EQ(Talk("/reset\n", {.interactive = false, .terminal = false}).out, "1:/reset\n");
}

TEST(Chat, CancelKeepsWhatWasSaid) {
  FakeHttpServer server(Echo);
  Endpoint endpoint;
  endpoint.rest = server.url();
  const auto client = *Client::Create(endpoint);
  GenerateRequest request;
  request.model = "m";
  Canceller canceller;
  // An output that interrupts when the answer's first text arrives.
  struct Interrupting : std::stringbuf {
    Canceller* canceller = nullptr;
    std::streamsize xsputn(const char* s, std::streamsize n) override {
      if (std::string_view(s, static_cast<size_t>(n)).find("wait") != std::string_view::npos) canceller->Cancel();
      return std::stringbuf::xsputn(s, n);
    }
  } buffer;
  buffer.canceller = &canceller;
  std::ostream out(&buffer);
  std::ostringstream err;
  std::istringstream in("wait\nnext\n");
  Chat chat(client.get(), request, {.interactive = true, .terminal = false});
  EXPECT_EQ(chat.Run(in, out, err, &canceller), 0);
  EXPECT_NE(buffer.str().find("3:next"), std::string::npos) << buffer.str();
  EXPECT_EQ(chat.history()[1].content, "1:wait");
  EXPECT_EQ(err.str(), "");
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
  EXPECT_EQ(run(ChatMain, {"chat", "--rest", "https://x"}).first, 64);
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
