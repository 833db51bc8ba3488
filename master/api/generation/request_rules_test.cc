// What the parameters of a request mean for its answer.
#include <malloc.h>

#include "absl/strings/str_cat.h"
#include "master/api/generation/generation_test_util.h"
#include "master/api/http/rest.h"
#include "master/api/openai/api_error.h"

namespace pangea {
namespace {

class RequestRulesTest : public GenerationTest {
 protected:
  // The text that a completion with these stop strings gives when these ids are generated one by one.
  Json Answer(const Json& change, const std::vector<int32_t>& ids) {
    auto g = Completion(change);
    EXPECT_TRUE(g) << status;
    for (size_t i = 0; i < ids.size() && g; ++i)
      g->OnOutput(IdList(10, 0, {ids[i]}, i + 1 == ids.size() ? FinishReason::kLength : FinishReason::kNone));
    return g ? Collect(*g) : Json();
  }
  static std::vector<int32_t> Bytes(const std::string& text) { return {text.begin(), text.end()}; }
};

TEST_F(RequestRulesTest, StopStringsAreNotLookedForBeforeMinTokens) {
  struct Case {
    int min_tokens;
    const char* text;  // what follows is generated too
    int tokens;
  };
  // "ab,cd,ef": commas are tokens 3 and 6.
  for (const Case& c : {Case{0, "ab", 3}, {2, "ab", 3}, {3, "ab,cd", 6}, {5, "ab,cd", 6}, {6, "ab,cd,ef", 8}}) {
    const Json answer = Answer({{"stop", ","}, {"min_tokens", c.min_tokens}, {"max_tokens", 8}}, Bytes("ab,cd,ef"));
    EXPECT_EQ(answer["choices"][0]["text"], c.text) << c.min_tokens;
    EXPECT_EQ(answer["usage"]["completion_tokens"], c.tokens) << c.min_tokens;
    EXPECT_EQ(answer["choices"][0]["finish_reason"], c.tokens == 8 ? "length" : "stop") << c.min_tokens;
  }
}

// As vLLM has it: a match counts when it ends behind the floor, wherever it began.
TEST_F(RequestRulesTest, AStopStringThatBeginsBeforeMinTokensMayEndAfterThem) {
  const auto text = [&](int min_tokens, const std::string& all) {
    return Answer({{"stop", {"STOP"}}, {"min_tokens", min_tokens}, {"max_tokens", 30}},
                  Bytes(all))["choices"][0]["text"];
  };
  EXPECT_EQ(text(3, "xSTOPy"), "x");  // ends with token 5
  EXPECT_EQ(text(4, "xSTOPy"), "x");
  EXPECT_EQ(text(5, "xSTOPy"), "xSTOPy");
  EXPECT_EQ(text(5, "xSTOPySTOPz"), "xSTOPy");
  EXPECT_EQ(text(6, "xSTOSTOPz"), "xSTO");
  EXPECT_EQ(text(30, "xSTOP"), "xSTOP");
}

TEST_F(RequestRulesTest, MinTokensHoldsBackStopStringsOfAChatToo) {
  auto g = Chat({{"stop", ","}, {"min_tokens", 4}, {"max_tokens", 20}});
  ASSERT_TRUE(g) << status;
  g->OnOutput(Ids(10, 0, "a,b,c,d"));
  EXPECT_EQ(CollectChat(*g)["choices"][0]["message"]["content"], "a,b,c");
  EXPECT_EQ(server.engine.finished, (std::vector<FakeEngine::Finished>{{10, 0}}));
}

TEST_F(RequestRulesTest, AStopStringThatIsASpecialTokenEndsTheTextBeforeIt) {
  for (const bool skip : {true, false}) {
    auto g = Completion({{"stop", {"<s>"}}, {"skip_special_tokens", skip}});
    ASSERT_TRUE(g) << status;
    const std::vector<int32_t> stops = g->Sequences()[0].stop_ids;
    EXPECT_TRUE(std::count(stops.begin(), stops.end(), kFakeBos));
    g->OnOutput(IdList(10, 0, {'a', 'b', kFakeBos}, FinishReason::kStop));
    const Json answer = Collect(*g);
    EXPECT_EQ(answer["choices"][0]["text"], "ab");
    EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
    EXPECT_EQ(answer["usage"]["completion_tokens"], 3);
  }
}

// The tables of a matcher are some ten megabytes here: one for each choice would let a small request take gigabytes.
TEST_F(RequestRulesTest, ChoicesShareTheTablesOfTheirStopStrings) {
  std::vector<std::string> stops;
  for (int i = 0; i < 256; ++i) stops.push_back(absl::StrCat(i, std::string(1000, 'x')));
  const auto used = [] {
    const struct mallinfo2 heap = mallinfo2();
    return static_cast<int64_t>(heap.uordblks + heap.hblkhd);
  };
  const int64_t before = used();
  auto g = Completion({{"prompt", {"a", "b", "c", "d"}}, {"n", 16}, {"stop", stops}});
  ASSERT_TRUE(g) << status;
  EXPECT_LT(used() - before, 100 << 20);
  // What one choice has seen of a stop string is its own.
  g->OnOutput(Ids(10, 0, "7" + std::string(900, 'x')));
  g->OnOutput(Ids(10, 1, std::string(200, 'x')));
  g->OnOutput(Ids(10, 0, std::string(200, 'x')));
  EXPECT_EQ(server.engine.finished, (std::vector<FakeEngine::Finished>{{10, 0}}));
}

TEST_F(RequestRulesTest, OffsetsOfAnEchoIndexTheReturnedText) {
  const auto offsets = [&](const Json& change, const std::vector<int32_t>& ids) {
    Json all = {{"echo", true}, {"logprobs", 0}, {"max_tokens", 1}};
    all.update(change);
    auto g = Completion(all);
    EXPECT_TRUE(g) << status;
    Output output = Ids(10, 0, "z", FinishReason::kLength);
    output.prompt.resize(ids.size() - 1);
    for (size_t i = 1; i < ids.size(); ++i) output.prompt[i - 1].id = ids[i];
    g->OnOutput(std::move(output));
    return Collect(*g)["choices"][0]["logprobs"]["text_offset"];
  };
  EXPECT_EQ(offsets({{"prompt", "<|end|>ab"}}, {kFakeBos, kFakeEnd, 'a', 'b'}), Json({0, 0, 7, 8, 9}));
  EXPECT_EQ(offsets({{"prompt", "ab"}, {"skip_special_tokens", false}}, {kFakeBos, 'a', 'b'}), Json({0, 0, 1, 2}));
  EXPECT_EQ(offsets({{"prompt", "a<s>b"}, {"add_special_tokens", false}}, {'a', kFakeBos, 'b'}), Json({0, 1, 4, 5}));
  // Of ids, the text is theirs.
  EXPECT_EQ(offsets({{"prompt", {kFakeBos, 'a'}}, {"skip_special_tokens", false}}, {kFakeBos, 'a'}), Json({0, 3, 4}));
  EXPECT_EQ(offsets({{"prompt", {kFakeBos, 'a'}}}, {kFakeBos, 'a'}), Json({0, 0, 1}));
}

TEST_F(RequestRulesTest, OneRequestTakesOnePlaceInTheQueue) {
  auto g = Completion({{"prompt", {"a", "b", "c"}}, {"n", 2}, {"cache_salt", "x"}});
  ASSERT_TRUE(g) << status;
  const auto sequences = g->Sequences();
  EXPECT_FALSE(sequences[0].follows);
  EXPECT_TRUE(sequences[1].follows);
  EXPECT_TRUE(sequences[2].follows);
  for (const auto& sequence : sequences) EXPECT_EQ(sequence.cache_salt, g->request().cache_salt);
}

TEST_F(RequestRulesTest, AnOverflowIsToldInTheWordsThatClientsKnow) {
  const std::string begins = "This model's maximum context length is 128 tokens. However, you requested ";
  const auto told = [&] {
    EXPECT_EQ(ToErrorAnswer(status).code, "context_length_exceeded") << status;
    const std::string message(status.message());
    EXPECT_TRUE(message.starts_with(begins)) << status;
    EXPECT_NE(message.find("context_length_exceeded"), std::string::npos) << status;
    return message.substr(std::min(begins.size(), message.size()));
  };
  const Json ids(std::vector<int>(120, 'a'));
  EXPECT_FALSE(Completion({{"prompt", ids}, {"max_tokens", 9}}));
  EXPECT_EQ(told(),
            "129 tokens (120 in the prompt, 9 in the completion). Please reduce the length of the prompt or "
            "completion. (context_length_exceeded)");
  EXPECT_FALSE(Completion({{"prompt", std::vector<int>(128, 'a')}}));
  EXPECT_TRUE(told().starts_with("at least 129 tokens (128 in the prompt, 1 in the completion). "));
  EXPECT_FALSE(Completion({{"prompt", std::vector<int>(200, 'a')}}));
  EXPECT_TRUE(told().starts_with("200 tokens (200 in the prompt). "));
  EXPECT_FALSE(Completion({{"max_tokens", 129}}));
  EXPECT_TRUE(told().starts_with("at least 129 tokens (129 in the completion). "));
  EXPECT_FALSE(Completion({{"prompt", std::string(1 << 20, 'a')}}));
  EXPECT_TRUE(told().starts_with("a prompt of 1048576 bytes, more than 128 tokens can stand for. "));
  const auto said = [](int n) { return Json{{"messages", {{{"role", "user"}, {"content", std::string(n, 'x')}}}}}; };
  EXPECT_FALSE(Chat(said(192)));  // and 8 of the template
  EXPECT_EQ(told(),
            "at least 201 tokens (200 in the messages, 1 in the completion). Please reduce the length of the "
            "messages or completion. (context_length_exceeded)");
  Json chat = said(92);
  chat["max_completion_tokens"] = 29;
  EXPECT_FALSE(Chat(chat));
  EXPECT_TRUE(told().starts_with("129 tokens (100 in the messages, 29 in the completion). "));
  EXPECT_EQ(ToErrorAnswer(status).param, "max_completion_tokens");
  server.deployment.limits.max_prompt_tokens = 5;
  EXPECT_FALSE(Completion({{"prompt", std::vector<int>(6, 'a')}}));
  EXPECT_TRUE(
      told().starts_with("at least 7 tokens (6 in the prompt, 1 in the completion), and this server takes at "
                         "most 5 in the prompt (limits.max_prompt_tokens). "));
}

TEST_F(RequestRulesTest, DefaultOfMaxTokens) {
  const auto tokens = [](const std::unique_ptr<Generation>& g) { return g->Sequences()[0].max_tokens; };
  server.context.sampling = MakeSamplingDefaults({}, {{"max_tokens", 40}}, kTestVocab);
  EXPECT_EQ(tokens(Chat({})), 40);
  EXPECT_EQ(tokens(Chat({{"max_tokens", 50}})), 50);
  EXPECT_EQ(tokens(Completion({})), 16) << "what a model's files say is meant for chats";
  Deployment::Sampling set;
  set.max_tokens = 30;
  server.context.sampling = MakeSamplingDefaults(set, {{"max_tokens", 40}}, kTestVocab);
  EXPECT_EQ(tokens(Chat({})), 30);
  EXPECT_EQ(tokens(Completion({})), 30);
  EXPECT_EQ(tokens(Completion({{"prompt", std::vector<int>(120, 'a')}})), 8) << "never more than fit";
}

// All of the stream's events, as text.
std::string Stream(std::unique_ptr<Generation> g) {
  RestAnswer answer(std::move(g));
  std::string events;
  answer.Take(1 << 20, &events);
  return events;
}

std::vector<Json> Events(const std::string& stream) {
  std::vector<Json> events;
  for (size_t at = 0; (at = stream.find("data: {", at)) != std::string::npos; ++at)
    events.push_back(Json::parse(stream.substr(at + 6, stream.find("\n\n", at) - at - 6)));
  return events;
}

TEST_F(RequestRulesTest, UsageInEveryChunk) {
  for (const bool last : {false, true}) {
    auto g = Chat({{"stream", true}, {"stream_options", {{"continuous_usage_stats", true}, {"include_usage", last}}}});
    ASSERT_TRUE(g) << status;
    g->OnOutput(Ids(10, 0, "ab"));
    RestAnswer answer(std::move(g));
    std::string stream;
    answer.Take(1 << 20, &stream);
    const auto early = Events(stream);
    ASSERT_EQ(early.size(), 2u);
    EXPECT_EQ(early[1]["usage"]["completion_tokens"], 2);
    EXPECT_EQ(early[1]["usage"]["prompt_tokens"], 10);
    EXPECT_EQ(early[1]["usage"]["total_tokens"], 12);
  }
  auto g = Completion({{"stream", true}, {"n", 2}, {"stream_options", {{"continuous_usage_stats", true}}}});
  g->OnOutput(Ids(10, 0, "abc", FinishReason::kLength));
  g->OnOutput(Ids(10, 1, "d", FinishReason::kLength));
  const auto events = Events(Stream(std::move(g)));
  int64_t before = 0;
  for (const Json& event : events) {
    ASSERT_TRUE(event.contains("usage")) << event;
    EXPECT_GE(event["usage"]["completion_tokens"], before);
    before = event["usage"]["completion_tokens"];
  }
  EXPECT_EQ(before, 4);
  auto plain = Chat({{"stream", true}});
  plain->OnOutput(Ids(10, 0, "ab", FinishReason::kLength));
  for (const Json& event : Events(Stream(std::move(plain)))) EXPECT_FALSE(event.contains("usage"));
}

// Python's str.splitlines, with which clients cut streams, takes more for a line's end than \n.
TEST_F(RequestRulesTest, NoEventHasALineEndInIt) {
  const std::string text =
      "a\xC2\x85"
      "b\xE2\x80\xA8"
      "c\xE2\x80\xA9"
      "d\v\f\x1c\x1d\x1e\r\n\xE2\x82\xAC\xC2\xA0";
  for (const Json& logprobs : {Json(), Json(1)}) {  // with them, events are made in another way
    auto g = Completion({{"stream", true}, {"logprobs", logprobs}});
    g->OnOutput(Ids(10, 0, text, FinishReason::kLength));
    const std::string stream = Stream(std::move(g));
    std::string joined;
    for (const Json& event : Events(stream)) joined += event["choices"][0]["text"].get<std::string>();
    EXPECT_EQ(joined, text);
    for (const char* end : {"\xC2\x85", "\xE2\x80\xA8", "\xE2\x80\xA9", "\v", "\f", "\x1c", "\x1d", "\x1e", "\r"})
      EXPECT_EQ(stream.find(end), std::string::npos);
    EXPECT_NE(stream.find("\xE2\x82\xAC\xC2\xA0"), std::string::npos) << "other characters stay as they are";
  }
  std::string spliced;
  AppendJsonText(text, &spliced);
  EXPECT_EQ(Json::parse('"' + spliced + '"'), text);
  EXPECT_EQ(spliced.find("\xE2\x80"), std::string::npos);
  EXPECT_EQ(ErrorJson(ToErrorAnswer(absl::InternalError("a\xE2\x80\xA8"))).find("\xE2\x80"), std::string::npos);
}

TEST_F(RequestRulesTest, TheAnswerNamesTheModelAsItWasAskedFor) {
  for (const char* name : {"fake", "also-fake"}) {
    auto g = Completion({{"model", name}});
    g->OnOutput(Ids(10, 0, "x", FinishReason::kLength));
    EXPECT_EQ(Collect(*g)["model"], name);
  }
}

double SumOf(const Histogram& histogram) { return histogram.values().sum; }

TEST_F(RequestRulesTest, QueuePrefillAndDecodeTimesAreMeasured) {
  using std::chrono::milliseconds;
  auto g = Completion({{"n", 2}, {"max_tokens", 9}});
  const auto born = g->born();
  const auto output = [&](int choice, const std::string& text, int at, FinishReason finish) {
    Output made = Ids(10, choice, text, finish);
    made.started = std::chrono::duration<double>((born + milliseconds(100)).time_since_epoch()).count();
    if (at == 300) made.cached_tokens = 2;
    g->OnOutput(std::move(made), born + milliseconds(at));
  };
  output(0, "a", 300, FinishReason::kNone);
  output(1, "x", 350, FinishReason::kNone);
  output(0, "bcde", 700, FinishReason::kLength);
  const ApiMetrics& metrics = server.context.metrics;
  EXPECT_NEAR(SumOf(metrics.queue_time), 0.1, 1e-6);
  EXPECT_NEAR(SumOf(metrics.prefill_time), 0.2, 1e-6);
  EXPECT_NEAR(SumOf(metrics.decode_time), 0.4, 1e-6);
  EXPECT_NEAR(SumOf(metrics.inference_time), 0.6, 1e-6);
  EXPECT_NEAR(SumOf(metrics.token_time), 0.1, 1e-6);
  EXPECT_EQ(metrics.cached_tokens.value(), 2u);
  EXPECT_EQ(SumOf(metrics.asked_n), 0) << "a choice still runs";
  output(1, "y", 800, FinishReason::kStop);
  EXPECT_EQ(SumOf(metrics.asked_n), 2);
  EXPECT_EQ(SumOf(metrics.asked_max_tokens), 9);
  EXPECT_EQ(SumOf(metrics.longest_choice), 5);
  EXPECT_NEAR(SumOf(metrics.inference_time), 1.3, 1e-6);
}

TEST_F(RequestRulesTest, ModelCardHasTheFieldsOfVllm) {
  server.deployment.model = "models/fake";
  server.context.sampling = MakeSamplingDefaults({}, {{"top_k", 20}}, kTestVocab);
  const Json list = Json::parse(GetReply(FindRoute("/v1/models"), server.context).body);
  ASSERT_EQ(list["data"].size(), 2u);
  EXPECT_EQ(list["data"][1]["id"], "also-fake");
  const Json card = Json::parse(GetReply(FindRoute("/v1/models/fake"), server.context).body);
  EXPECT_EQ(card, list["data"][0]);
  EXPECT_EQ(card["root"], "models/fake");
  EXPECT_TRUE(card["parent"].is_null());
  EXPECT_EQ(card["max_model_len"], kTestContext);
  EXPECT_EQ(card["permission"][0]["object"], "model_permission");
  EXPECT_EQ(card["permission"][0]["allow_sampling"], true);
  EXPECT_EQ(card["permission"][0]["allow_fine_tuning"], false);
  EXPECT_EQ(card["sampling"]["top_k"], Json::parse(R"({"value":20.0,"from":"model"})"));
  EXPECT_EQ(card["sampling"]["temperature"], Json::parse(R"({"value":1.0,"from":"openai"})"));
  const HttpReply missing = GetReply(FindRoute("/v1/models/fak"), server.context);
  EXPECT_EQ(missing.status, 404);
  EXPECT_NE(missing.body.find("'fake', 'also-fake'"), std::string::npos) << missing.body;
}

}  // namespace
}  // namespace pangea
