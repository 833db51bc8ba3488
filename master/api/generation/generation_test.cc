#include "master/api/generation/generation.h"

#include <gtest/gtest.h>

#include <numeric>

#include "master/api/generation/generation_test_util.h"
#include "master/api/openai/api_error.h"
#include "nlohmann/json.hpp"

namespace pangea {
namespace {

std::vector<Sample> PromptSamples(const Output& output) { return {output.samples.begin(), output.samples.end()}; }

TEST_F(GenerationTest, FieldsOfTheEnginesRequest) {
  auto g = Completion({{"prompt", {"ab", "c"}},
                       {"n", 2},
                       {"seed", 5},
                       {"max_tokens", 7},
                       {"repetition_penalty", 1.5},
                       {"stop_token_ids", {3}},
                       {"priority", 4}});
  ASSERT_TRUE(g) << status;
  const auto s = g->Sequences();
  ASSERT_EQ(s.size(), 2u);
  EXPECT_EQ(s[0].prompt, (std::vector<int32_t>{kFakeBos, 'a', 'b'}));
  EXPECT_EQ(s[1].prompt, (std::vector<int32_t>{kFakeBos, 'c'}));
  EXPECT_EQ(s[1].request, 11u);
  EXPECT_EQ(s[1].n, 2);
  EXPECT_EQ(s[1].max_tokens, 7);
  EXPECT_EQ(s[1].sampling->seed, 5u);
  EXPECT_EQ(s[1].stop_ids, (std::vector<int32_t>{3, kFakeEnd}));
  EXPECT_EQ(s[1].priority, 4);
  EXPECT_FALSE(s[1].prompt_logprobs);
}

TEST_F(GenerationTest, ContextLimits) {
  const auto ids = [](int n) { return Json(std::vector<int>(n, 'a')); };
  EXPECT_EQ(Completion({{"prompt", ids(100)}})->Sequences()[0].max_tokens, 16);
  EXPECT_EQ(Completion({{"prompt", ids(kTestContext - 3)}})->Sequences()[0].max_tokens, 3);
  EXPECT_TRUE(Completion({{"prompt", ids(kTestContext - 3)}, {"max_tokens", 3}}));
  EXPECT_FALSE(Completion({{"prompt", ids(kTestContext - 3)}, {"max_tokens", 4}}));
  EXPECT_EQ(ToErrorAnswer(status).code, "context_length_exceeded");
  EXPECT_EQ(ToErrorAnswer(status).param, "max_tokens");
  EXPECT_FALSE(Completion({{"prompt", ids(kTestContext)}}));
  EXPECT_EQ(ToErrorAnswer(status).code, "context_length_exceeded");
  EXPECT_EQ(ToErrorAnswer(status).param, "prompt");
  EXPECT_TRUE(Completion({{"prompt", ids(kTestContext)}, {"max_tokens", 0}, {"echo", true}}));
  EXPECT_EQ(Chat({})->Sequences()[0].max_tokens, kTestContext - 10);  // <s> "user:hi\n" ">"
  EXPECT_FALSE(Chat({{"messages", {{{"role", "user"}, {"content", std::string(200, 'x')}}}}}));
  EXPECT_EQ(ToErrorAnswer(status).param, "messages");
  EXPECT_FALSE(Completion({{"prompt", std::string(10 << 20, 'a')}}));
  EXPECT_EQ(ToErrorAnswer(status).code, "context_length_exceeded");
  EXPECT_FALSE(Chat({{"chat_template_kwargs", {{"refuse", 1}}}}));
  EXPECT_EQ(std::string(status.message()), "the template refused: roles must alternate");
  EXPECT_EQ(ToErrorAnswer(status).param, "messages");
  server.deployment.limits.max_prompt_tokens = 5;
  server.deployment.limits.max_tokens = 6;
  EXPECT_FALSE(Completion({{"prompt", ids(6)}}));
  EXPECT_EQ(Completion({{"prompt", ids(5)}})->Sequences()[0].max_tokens, 6);
  EXPECT_FALSE(Completion({{"max_tokens", 7}}));
  EXPECT_EQ(ToErrorAnswer(status).param, "max_tokens");
}

TEST_F(GenerationTest, ChatStream) {
  auto g = Chat({{"max_tokens", 5}, {"stream", true}});
  ASSERT_TRUE(g);
  EXPECT_FALSE(g->Next());
  g->OnOutput(Ids(10, 0, "he"));
  auto piece = g->Next();
  ASSERT_TRUE(piece && piece->first);
  EXPECT_EQ(ChatChunk(*g, *piece).choices(0).delta().role(), "assistant");
  piece = g->Next();
  ASSERT_TRUE(piece);
  EXPECT_EQ(piece->text, "he");
  EXPECT_FALSE(g->Next());
  g->OnOutput(IdList(10, 0, {'y', kFakeEnd}, FinishReason::kStop));
  piece = g->Next();
  ASSERT_TRUE(piece);
  EXPECT_EQ(piece->text, "y");
  EXPECT_FALSE(g->done());
  piece = g->Next();
  ASSERT_TRUE(piece);
  EXPECT_EQ(piece->finish, "stop");
  EXPECT_TRUE(g->done());
  EXPECT_FALSE(g->Next());
  EXPECT_EQ(g->completion_tokens(), 4);  // the end token counts
  EXPECT_TRUE(server.engine.cancelled.empty());
}

uint64_t Finished(const ApiMetrics& metrics, const std::string& reason) {
  for (const MetricValue& value : metrics.finished.values()) {
    if (value.labels[0].second == reason) return value.value;
  }
  return 0;
}

uint64_t CountOf(const Histogram& histogram) {
  const auto counts = histogram.values().counts;
  return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

TEST_F(GenerationTest, MetricsOfARequest) {
  using std::chrono::milliseconds;
  auto g = Completion({{"prompt", "ab"}, {"n", 2}, {"max_tokens", 9}});
  ASSERT_TRUE(g);
  const auto born = g->born();
  const ApiMetrics& metrics = server.context.metrics;
  EXPECT_EQ(metrics.prompt_tokens.value(), 0u);
  g->OnOutput(Ids(10, 0, "x"), born + milliseconds(10));
  g->OnOutput(Ids(10, 1, "y"), born + milliseconds(30));
  EXPECT_EQ(metrics.prompt_tokens.value(), 3u);  // once for both
  EXPECT_EQ(CountOf(metrics.first_token), 2u);
  EXPECT_NEAR(metrics.first_token.values().sum, 0.040, 1e-9);
  EXPECT_EQ(CountOf(metrics.inter_token), 0u);
  g->OnOutput(Ids(10, 0, "uvw"), born + milliseconds(16));  // three at once share the time
  EXPECT_EQ(CountOf(metrics.inter_token), 3u);
  EXPECT_NEAR(metrics.inter_token.values().sum, 0.006, 1e-9);
  EXPECT_EQ(Finished(metrics, "length"), 0u);
  g->OnOutput(Ids(10, 0, "z", FinishReason::kLength), born + milliseconds(50));
  EXPECT_EQ(Finished(metrics, "length"), 1u);
  EXPECT_NEAR(metrics.request.values().sum, 0.050, 1e-9);
  EXPECT_EQ(metrics.generated_tokens.value(), 6u);
  EXPECT_EQ(metrics.generated_size.values().sum, 5);
  g.reset();  // its other choice was still running
  EXPECT_EQ(Finished(metrics, "abort"), 1u);
  EXPECT_EQ(Finished(metrics, "length"), 1u);
  EXPECT_EQ(CountOf(metrics.request), 1u);
}

TEST_F(GenerationTest, TokensBehindAStopStringAreNotCounted) {
  auto g = Completion({{"stop", {"STOP"}}, {"max_tokens", 50}});
  g->OnOutput(Ids(10, 0, "a STO"));
  EXPECT_EQ(server.context.metrics.generated_tokens.value(), 5u);
  g->OnOutput(Ids(10, 0, "P and more"));
  g->OnOutput(Ids(10, 0, "still more", FinishReason::kLength));
  EXPECT_EQ(server.context.metrics.generated_tokens.value(), 6u);
  EXPECT_EQ(server.context.metrics.generated_tokens.value(), g->completion_tokens());
  EXPECT_EQ(Finished(server.context.metrics, "stop"), 1u);
  EXPECT_EQ(Finished(server.context.metrics, "length"), 0u);
}

TEST_F(GenerationTest, AFailureCountsItsChoicesAndTheLimitThatItCameFrom) {
  auto g = Completion({{"n", 3}});
  g->OnOutput(Ids(10, 1, "x", FinishReason::kLength));
  g->Fail(OverLimit("request_seconds", absl::DeadlineExceededError("late")));
  g->Fail(absl::InternalError("later still"));
  g.reset();
  EXPECT_EQ(Finished(server.context.metrics, "error"), 2u);
  EXPECT_EQ(Finished(server.context.metrics, "length"), 1u);
  EXPECT_EQ(Finished(server.context.metrics, "abort"), 0u);
  for (const MetricValue& value : server.context.metrics.rejected.values()) {
    EXPECT_EQ(value.value, value.labels[0].second == "request_seconds" ? 1 : 0);
  }
  auto refused = Completion({});
  refused->Refuse();
  refused.reset();
  EXPECT_EQ(Finished(server.context.metrics, "abort"), 0u);
}

TEST_F(GenerationTest, PiecesNeverSplitACharacter) {
  auto g = Completion({});
  const std::string text = "\xF0\x9F\x98\x80!";
  std::string got;
  for (size_t i = 0; i < text.size(); ++i) {
    g->OnOutput(Ids(10, 0, text.substr(i, 1), i + 1 == text.size() ? FinishReason::kLength : FinishReason::kNone));
    while (auto piece = g->Next()) got += piece->text.empty() ? "" : piece->text + "|";
  }
  EXPECT_EQ(got, "\xF0\x9F\x98\x80|!|");
  auto broken = Completion({});
  broken->OnOutput(Ids(10, 0, "a\xF0\x9F", FinishReason::kLength));
  EXPECT_EQ(Collect(*broken)["choices"][0]["text"], "a\uFFFD");
}

// Every way to cut the ids into outputs gives the same answer: text, usage and log-probabilities end at the token that
// completes the stop string, and the engine hears where.
TEST_F(GenerationTest, StopStringsOverEverySplit) {
  const std::string text = "one STtwo STOP three";
  Json first;
  for (unsigned cuts = 0; cuts < (1u << 10); ++cuts) {
    auto g = Completion({{"stop", {"STOP", "zzz"}}, {"logprobs", 1}, {"max_tokens", 30}});
    size_t begin = 0;
    for (size_t i = 1; i <= text.size(); ++i) {
      const bool cut = i == text.size() || (i > 5 && i <= 15 && (cuts >> (i - 6) & 1));
      if (!cut) continue;
      g->OnOutput(
          Ids(10, 0, text.substr(begin, i - begin), i == text.size() ? FinishReason::kLength : FinishReason::kNone));
      begin = i;
    }
    Json answer = Collect(*g);
    answer.erase("id");
    answer.erase("created");
    if (cuts == 0) first = answer;
    ASSERT_EQ(answer, first) << cuts;
    if (cuts & 1 << 8) {  // the match was complete before the engine had said that all is over
      const std::vector<FakeEngine::Finished> want = {{10, 0}};
      ASSERT_EQ(server.engine.finished, want) << cuts;
    }
    server.engine.finished.clear();
  }
  EXPECT_EQ(first["choices"][0]["text"], "one STtwo ");
  EXPECT_EQ(first["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(first["usage"]["completion_tokens"], 14);
  EXPECT_EQ(first["choices"][0]["logprobs"]["tokens"].size(), 14u);
}

TEST_F(GenerationTest, StopStringInsideOneToken) {
  auto g = Chat({{"stop", "sto"}, {"logprobs", true}});
  g->OnOutput(IdList(10, 0, {'a', 260, 'b'}));
  const Json answer = CollectChat(*g);
  EXPECT_EQ(answer["choices"][0]["message"]["content"], "a ");
  EXPECT_EQ(answer["choices"][0]["logprobs"]["content"].size(), 2u);
  EXPECT_EQ(server.engine.finished, (std::vector<FakeEngine::Finished>{{10, 0}}));
  g->OnOutput(Ids(10, 0, "late", FinishReason::kLength));
  EXPECT_FALSE(g->Next());
  EXPECT_EQ(g->completion_tokens(), 2);
}

TEST_F(GenerationTest, TextHeldBackForAStopStringIsSentAtTheEnd) {
  auto g = Completion({{"stop", "STOP"}});
  g->OnOutput(Ids(10, 0, "a STO", FinishReason::kLength));
  const Json answer = Collect(*g);
  EXPECT_EQ(answer["choices"][0]["text"], "a STO");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
}

TEST_F(GenerationTest, StopTokenIdsAndIgnoredEnds) {
  auto g = Completion({{"stop_token_ids", {'x'}}, {"return_token_ids", true}});
  g->OnOutput(Ids(10, 0, "abx", FinishReason::kStop));
  Json answer = Collect(*g);
  EXPECT_EQ(answer["choices"][0]["text"], "ab");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(answer["choices"][0]["token_ids"], (std::vector<int>{'a', 'b', 'x'}));
  EXPECT_EQ(answer["choices"][0]["prompt_token_ids"], (std::vector<int>{kFakeBos, 'h', 'i'}));
  auto ignoring = Completion({{"ignore_eos", true}, {"skip_special_tokens", false}});
  ignoring->OnOutput(IdList(10, 0, {'a', kFakeEnd, 'b'}, FinishReason::kLength));
  EXPECT_EQ(Collect(*ignoring)["choices"][0]["text"], "a<|end|>b");
}

TEST_F(GenerationTest, ManyPromptsAndChoices) {
  auto g = Completion({{"prompt", {"p", "q"}}, {"n", 2}});
  g->OnOutput(Ids(11, 1, "d", FinishReason::kLength));
  g->OnOutput(Ids(10, 1, "bb", FinishReason::kLength));
  g->OnOutput(Ids(10, 0, "a", FinishReason::kLength));
  Output last = Ids(11, 0, "c", FinishReason::kLength);
  last.cached_tokens = 2;
  g->OnOutput(std::move(last));
  const Json answer = Collect(*g);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(answer["choices"][i]["index"], i);
  EXPECT_EQ(answer["choices"][0]["text"], "a");
  EXPECT_EQ(answer["choices"][1]["text"], "bb");
  EXPECT_EQ(answer["choices"][2]["text"], "c");
  EXPECT_EQ(answer["choices"][3]["text"], "d");
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 4);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 5);
  EXPECT_EQ(answer["usage"]["total_tokens"], 9);
  EXPECT_EQ(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
}

TEST_F(GenerationTest, EchoWithLogprobs) {
  auto g = Completion({{"prompt", "h\xC3\xA9!"},
                       {"echo", true},
                       {"logprobs", 2},
                       {"n", 2},
                       {"max_tokens", 2},
                       {"return_token_ids", true}});
  ASSERT_TRUE(g) << status;
  EXPECT_TRUE(g->Sequences()[0].prompt_logprobs);
  // Choice 1's ids come before the prompt's log-probabilities are whole: nothing may open.
  g->OnOutput(Ids(10, 1, "xy", FinishReason::kLength));
  EXPECT_FALSE(g->Next());
  Output prompt = Ids(10, 0, "");
  prompt.prompt = PromptSamples(IdList(10, 0, {'h', 0xC3}));
  g->OnOutput(std::move(prompt));
  EXPECT_FALSE(g->Next());
  Output rest = Ids(10, 0, "uv", FinishReason::kLength);
  rest.prompt = PromptSamples(IdList(10, 0, {0xA9, '!'}));
  g->OnOutput(std::move(rest));
  const Json answer = Collect(*g);
  for (int i = 0; i < 2; ++i) {
    const Json& choice = answer["choices"][i];
    EXPECT_EQ(choice["text"], i == 0 ? "h\xC3\xA9!uv" : "h\xC3\xA9!xy");
    const Json& logprobs = choice["logprobs"];
    EXPECT_EQ(logprobs["tokens"], Json::parse(i == 0 ? R"(["<s>","h","bytes:\\xc3","bytes:\\xa9","!","u","v"])"
                                                     : R"(["<s>","h","bytes:\\xc3","bytes:\\xa9","!","x","y"])"));
    EXPECT_EQ(logprobs["token_logprobs"], Json::parse("[null,-0.25,-0.25,-0.25,-0.25,-0.25,-0.25]"));
    EXPECT_EQ(logprobs["text_offset"], Json::parse("[0,0,1,1,2,3,4]"));
    EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
    EXPECT_EQ(logprobs["top_logprobs"][1], Json::parse(R"({"z":-0.125,"h":-0.25})"));
    EXPECT_EQ(choice["token_ids"].size(), 2u);  // generated ids only, also with echo
  }
}

TEST_F(GenerationTest, EchoOfIdsAndOfNothingElse) {
  auto g = Completion({{"prompt", {kFakeBos, 'h', 0xC3}}, {"echo", true}});
  g->OnOutput(Ids(10, 0, "\xA9z", FinishReason::kLength));
  EXPECT_EQ(Collect(*g)["choices"][0]["text"], "h\xC3\xA9z");  // the character that prompt and answer share
  auto none = Completion({{"prompt", "abc"}, {"echo", true}, {"max_tokens", 0}, {"logprobs", 0}});
  ASSERT_TRUE(none) << status;
  EXPECT_EQ(none->Sequences()[0].max_tokens, 0);
  Output output = Ids(10, 0, "", FinishReason::kLength);
  output.prompt = PromptSamples(IdList(10, 0, {'a', 'b', 'c'}));
  none->OnOutput(std::move(output));
  const Json answer = Collect(*none);
  EXPECT_EQ(answer["choices"][0]["text"], "abc");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(answer["choices"][0]["logprobs"]["tokens"].size(), 4u);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 0);
}

TEST_F(GenerationTest, ChatLogprobs) {
  auto g = Chat({{"logprobs", true}, {"top_logprobs", 3}});
  Output output = IdList(10, 0, {259, 0xC3}, FinishReason::kLength);
  output.samples[1].logprob = -HUGE_VALF;
  g->OnOutput(std::move(output));
  const Json content = CollectChat(*g)["choices"][0]["logprobs"]["content"];
  EXPECT_EQ(content[0]["token"], "\xC3\xA9");
  EXPECT_EQ(content[0]["bytes"], Json::parse("[195,169]"));
  EXPECT_EQ(content[0]["top_logprobs"].size(), 3u);
  EXPECT_EQ(content[1]["token"], "\uFFFD");
  EXPECT_EQ(content[1]["bytes"], Json::parse("[195]"));
  EXPECT_EQ(content[1]["logprob"], -9999.0);
}

TEST_F(GenerationTest, ErrorsEndTheWholeRequest) {
  auto g = Completion({{"prompt", {"p", "q"}}});
  g->OnOutput(Ids(10, 0, "a"));
  Output bad;
  bad.request = 11;
  bad.error = absl::InternalError("not a number in the logits");
  g->OnOutput(std::move(bad));
  EXPECT_EQ(g->error().message(), "not a number in the logits");
  EXPECT_FALSE(g->Next());
  EXPECT_TRUE(g->started());
  EXPECT_EQ(server.engine.cancelled, (std::set<uint64_t>{10, 11}));
}

TEST_F(GenerationTest, DestroyingAGenerationCancelsItsRequests) {
  auto g = Completion({{"prompt", {"p", "q"}}});
  g->OnOutput(Ids(10, 0, "a", FinishReason::kLength));
  g.reset();
  EXPECT_EQ(server.engine.cancelled, (std::set<uint64_t>{11}));
}

// However far behind the reader is, a piece is bounded, and nothing is lost.
TEST_F(GenerationTest, PiecesAreBounded) {
  for (const Json& stop : {Json(), Json("zz")}) {
    auto g = Completion({{"logprobs", 1}, {"stop", stop}});
    g->OnOutput(Ids(10, 0, std::string(1000, 'x'), FinishReason::kLength));
    std::string text;
    size_t tokens = 0, largest = 0;
    while (auto piece = g->Next()) {
      text += piece->text;
      tokens += piece->tokens.size();
      largest = std::max(largest, piece->tokens.size());
    }
    EXPECT_TRUE(g->done());
    EXPECT_EQ(text, std::string(1000, 'x'));
    EXPECT_EQ(tokens, 1000u);
    EXPECT_EQ(largest, 256u);
  }
  // Ids without text do not hold up those behind them.
  auto g = Completion({{"ignore_eos", true}});
  std::vector<int32_t> ids(600, kFakeEnd);
  ids.push_back('a');
  g->OnOutput(IdList(10, 0, ids, FinishReason::kLength));
  EXPECT_EQ(Collect(*g)["choices"][0]["text"], "a");
}

// Streamed chunks put together are the unary answer, whatever was pulled when.
TEST_F(GenerationTest, TextIsTheSameHoweverOftenThePiecesAreRead) {
  Json first;
  for (int every = 1; every < 8; ++every) {
    auto g = Completion({{"n", 2}, {"logprobs", 1}, {"stop", "!"}});
    CompletionCollector collector(*g);
    const std::string text = "h\xC3\xA9llo\xF0\x9F\x98\x80 w!";
    for (size_t i = 0; i < text.size(); ++i) {
      for (int c = 0; c < 2; ++c) g->OnOutput(Ids(10, c, text.substr(i, 1)));
      if (i % every == 0) {
        while (auto piece = g->Next()) collector.Add(CompletionChunk(*g, *piece));
      }
    }
    while (auto piece = g->Next()) collector.Add(CompletionChunk(*g, *piece));
    EXPECT_TRUE(g->done());
    Json answer = Json::parse(ToOpenAi(collector.Take(*g), {}, false));
    answer.erase("id");
    answer.erase("created");
    if (every == 1) first = answer;
    EXPECT_EQ(answer, first);
  }
  EXPECT_EQ(first["choices"][1]["text"], "h\xC3\xA9llo\xF0\x9F\x98\x80 w");
}

}  // namespace
}  // namespace pangea
