// What a good body becomes: values, defaults, and what a request leaves open.
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "master/api/generation/checked_test_util.h"

namespace pangea {
namespace {

TEST_F(CheckedTest, FieldsOfAChatRequest) {
  const auto r = Chat(
      R"({"messages":[{"role":"developer","content":"d"},{"role":"user","name":"bob","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
    "temperature":0.5,"top_p":0.25,"top_k":7,"min_p":0.125,"seed":-2,"stop":"x","stop_token_ids":[9,5,9],"n":3,"logprobs":true,"top_logprobs":4,"logit_bias":{"9":-100,"3":1.5},
    "presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.5,"min_tokens":2,"max_completion_tokens":8,"return_token_ids":true,"skip_special_tokens":false,"priority":-3,
    "chat_template_kwargs":{"a":1,"b":[true,null,"x",0.5]}})");
  ASSERT_TRUE(r.ok()) << r.status();
  EXPECT_EQ(r->messages.json, R"([{"role":"system","content":"d"},{"role":"user","content":"a\nb","name":"bob"}])");
  EXPECT_EQ(r->messages.content_bytes, 4u);
  EXPECT_EQ(r->sampling->temperature, 0.5f);
  EXPECT_EQ(r->sampling->top_p, 0.25f);
  EXPECT_EQ(r->sampling->top_k, 7);
  EXPECT_EQ(r->sampling->min_p, 0.125f);
  EXPECT_EQ(r->sampling->seed, UINT64_MAX - 1);
  EXPECT_EQ(r->stops, std::vector<std::string>{"x"});
  EXPECT_EQ(r->stop_ids, (std::vector<int32_t>{5, 9, kFakeEnd}));
  EXPECT_EQ(r->sampling->end_ids, r->stop_ids);
  EXPECT_EQ(r->n, 3);
  EXPECT_EQ(r->sampling->top_logprobs, 4);
  EXPECT_EQ(r->sampling->logit_bias, (std::vector<std::pair<int32_t, float>>{{3, 1.5f}, {9, -100.f}}));
  EXPECT_EQ(r->sampling->min_tokens, 2);
  EXPECT_EQ(r->max_tokens, 8);
  EXPECT_TRUE(r->return_token_ids);
  EXPECT_FALSE(r->skip_special_tokens);
  EXPECT_EQ(r->priority, -3);
  EXPECT_EQ(r->options.kwargs, R"({"a":1,"b":[true,null,"x",0.5]})");
}

// Whatever order and whatever kinds of numbers a client sends: its own text goes to the template.
TEST_F(CheckedTest, TemplateArgumentsAreKeptAsTheyWereSent) {
  const auto kwargs = [&](const std::string& members) {
    const auto r = Run<v1::ChatCompletionRequest>(R"({"model":"fake","messages":[{"role":"user","content":"hi"}])" +
                                                  members + "}");
    return r.ok() ? r->options.kwargs : absl::StrCat("refused: ", r.status().message());
  };
  EXPECT_EQ(kwargs(R"(, "chat_template_kwargs": {"z": 1.0, "a": {"y": 1, "b": 1e2}, "big": 123456789012345678901} )"),
            R"({"z": 1.0, "a": {"y": 1, "b": 1e2}, "big": 123456789012345678901})");
  EXPECT_EQ(kwargs(R"(,"chat_template_kwargs":{"b":"}]\"\\","a":[{"x":"]"}]},"seed":1)"),
            R"({"b":"}]\"\\","a":[{"x":"]"}]})");
  EXPECT_EQ(kwargs(R"(,"chat_template_kwargs":{"a":1},"chat_template_kwargs":{"b":2})"), R"({"b":2})");
  EXPECT_EQ(kwargs(R"(,"chat\u005ftemplate_kwargs":{"b":2,"a":1})"), R"({"b":2,"a":1})");
  EXPECT_EQ(kwargs(""), "{}");
  EXPECT_EQ(kwargs(R"(,"chat_template_kwargs":null)"), "{}");
  EXPECT_EQ(kwargs(R"(,"chat_template_kwargs_json":"{\"b\": 1.0, \"a\": 2}")"), R"({"b": 1.0, "a": 2})");
  EXPECT_EQ(kwargs(R"(,"chat_template_kwargs":{},"chat_template_kwargs_json":"{}")"),
            "refused: 'chat_template_kwargs' is given twice");
  EXPECT_EQ(kwargs(R"(,"chat_template_kwargs_json":"[]")"), "refused: 'chat_template_kwargs_json' must be an object");
  EXPECT_TRUE(
      kwargs(R"(,"chat_template_kwargs_json":"{\"a\":}")").starts_with("refused: 'chat_template_kwargs_json':"));
}

// What is refused at the top of a request does not come in by the template's arguments either.
TEST_F(CheckedTest, TemplateArgumentsCanNotAskForWhatIsRefused) {
  for (const char* name : {"tools", "documents", "functions", "chat_template", "continue_final_message"}) {
    const auto r = Chat(absl::StrCat(R"({"chat_template_kwargs":{"x":1,")", name, R"(":[{"type":"function"}]}})"));
    const std::string path = absl::StrCat("chat_template_kwargs.", name);
    EXPECT_EQ(r.status().message(), absl::StrCat("'", path, "' is not supported"));
    EXPECT_EQ(Param(r), path);
    for (const char* nothing : {"null", "[]", "{}", "\"\"", "false"}) {
      EXPECT_TRUE(Chat(absl::StrCat(R"({"chat_template_kwargs":{")", name, "\":", nothing, "}}")).ok()) << nothing;
    }
  }
}

TEST_F(CheckedTest, TheGenerationPromptMayBeLeftOutByATemplateArgumentToo) {
  const auto prompted = [&](const std::string& members) {
    return Chat("{" + members + "}")->options.add_generation_prompt;
  };
  EXPECT_TRUE(prompted(""));
  EXPECT_FALSE(prompted(R"("add_generation_prompt":false)"));
  EXPECT_FALSE(prompted(R"("chat_template_kwargs":{"add_generation_prompt":false})"));
  EXPECT_FALSE(prompted(R"("chat_template_kwargs_json":"{\"add_generation_prompt\":false}")"));
  EXPECT_TRUE(prompted(R"("chat_template_kwargs":{"add_generation_prompt":null})"));
  EXPECT_TRUE(prompted(R"("add_generation_prompt":false,"chat_template_kwargs":{"add_generation_prompt":true})"));
}

// As in vLLM: either name of an earlier answer's reasoning stands for both.
TEST_F(CheckedTest, ReasoningOfMessages) {
  const auto messages = [&](const std::string& member) {
    const auto r = Chat(absl::StrCat(R"({"messages":[{"role":"assistant",)", member, R"(,"content":"c"}]})"));
    return r.ok() ? r->messages.json : std::string(r.status().message());
  };
  const std::string both = R"([{"role":"assistant","content":"c","reasoning":"r","reasoning_content":"r"}])";
  EXPECT_EQ(messages(R"("reasoning_content":"r")"), both);
  EXPECT_EQ(messages(R"("reasoning":"r")"), both);
  EXPECT_EQ(messages(R"("reasoning":"r","reasoning_content":"q")"),
            R"([{"role":"assistant","content":"c","reasoning":"r","reasoning_content":"q"}])");
  EXPECT_EQ(messages(R"("reasoning":null,"reasoning_content":null)"), R"([{"role":"assistant","content":"c"}])");
  EXPECT_EQ(messages(R"("thoughts":"r")"), R"([{"role":"assistant","content":"c"}])");
  EXPECT_EQ(IgnoredHeader(ignored), "thoughts");
  EXPECT_EQ(messages(R"("reasoning":1)"), "'messages[0].reasoning' must be a string, not an integer");
  EXPECT_EQ(messages(R"("reasoning_content":["r"])"), "'messages[0].reasoning_content' must be a string, not an array");
}

TEST_F(CheckedTest, Defaults) {
  const auto r = Chat("{}");
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->sampling->temperature, 1);
  EXPECT_EQ(r->sampling->top_logprobs, -1);
  EXPECT_EQ(r->max_tokens, std::nullopt);
  EXPECT_EQ(r->stop_ids, std::vector<int32_t>{kFakeEnd});
  EXPECT_NE(r->sampling->seed, Chat("{}")->sampling->seed);  // drawn
  EXPECT_TRUE(Chat(R"({"ignore_eos":true,"stop_token_ids":[4]})")->stop_ids == std::vector<int32_t>{4});
  EXPECT_TRUE(Chat(R"({"ignore_eos":true,"min_tokens":3})")->sampling->end_ids.empty());
  EXPECT_EQ(Chat(R"({"logprobs":true})")->sampling->top_logprobs, 0);
}

TEST_F(CheckedTest, TinyTemperaturesAreGreedy) {
  for (const char* t : {"0", "1e-40", "1e-320", "9e-6", "-0.0"})
    EXPECT_EQ(Chat(std::string(R"({"temperature":)") + t + "}")->sampling->temperature, 0) << t;
  EXPECT_GT(Chat(R"({"temperature":1e-4})")->sampling->temperature, 0);
}

TEST_F(CheckedTest, SeedsWrap) {
  EXPECT_EQ(Chat(R"({"seed":18446744073709551614})")->sampling->seed, UINT64_MAX - 1);
  EXPECT_EQ(Chat(R"({"seed":-9223372036854775808})")->sampling->seed, 1ull << 63);
  EXPECT_EQ(Chat(R"({"seed":9223372036854775808})")->sampling->seed, 1ull << 63);
  EXPECT_FALSE(Chat(R"({"seed":18446744073709551616})").ok());
}

TEST_F(CheckedTest, SeedMinusOneDrawsANewOne) {
  std::set<uint64_t> seeds;
  for (int i = 0; i < 20; ++i) seeds.insert(Chat(R"({"seed":-1})")->sampling->seed);
  EXPECT_EQ(seeds.size(), 20u);
  EXPECT_EQ(Chat(R"({"seed":-3})")->sampling->seed, Chat(R"({"seed":-3})")->sampling->seed);
}

TEST_F(CheckedTest, TopPZeroKeepsTheBestTokenAlone) {
  for (const char* body : {R"({"top_p":0})", R"({"top_p":0.0})", R"({"top_p":1e-320})"}) {
    const auto r = Chat(body);
    ASSERT_TRUE(r.ok()) << body << r.status();
    EXPECT_GT(r->sampling->top_p, 0) << body;
    EXPECT_LT(r->sampling->top_p, 1e-30) << body;
  }
}

TEST_F(CheckedTest, ManyStopStrings) {
  Json stops = Json::array();
  for (int i = 0; i < 256; ++i) stops.push_back("s" + std::to_string(i));
  EXPECT_TRUE(Chat(Json{{"stop", stops}}.dump()).ok());
  stops.push_back("one more");
  EXPECT_EQ(Param(Chat(Json{{"stop", stops}}.dump())), "stop");
}

TEST_F(CheckedTest, AStopStringThatIsASpecialTokenStopsAtItsId) {
  EXPECT_EQ(Chat(R"({"stop":["<s>"]})")->stop_ids, (std::vector<int32_t>{kFakeBos, kFakeEnd}));
  EXPECT_EQ(Chat(R"({"stop":"<|end|>","ignore_eos":true})")->stop_ids, std::vector<int32_t>{kFakeEnd});
  const auto r = Chat(R"({"stop":["<s>"],"min_tokens":3})");
  EXPECT_EQ(r->sampling->end_ids, r->stop_ids) << "and is not drawn before min_tokens";
  for (const char* stop : {"<s", "a<s>", "<s><s>", "a", "ab"})
    EXPECT_EQ(Chat(Json{{"stop", stop}}.dump())->stop_ids, std::vector<int32_t>{kFakeEnd}) << stop;
}

TEST_F(CheckedTest, ModelMayBeLeftOut) {
  EXPECT_EQ(Run<v1::ChatCompletionRequest>(R"({"messages":[{"role":"user","content":"hi"}]})")->model, "fake");
  EXPECT_EQ(Run<v1::CompletionRequest>(R"({"prompt":"hi"})")->model, "fake");
  EXPECT_EQ(Chat(R"({"model":"fake"})")->model, "fake");
  for (const char* body : {R"({"model":null})", R"({"model":""})"}) {
    EXPECT_EQ(Param(Chat(body)), "model") << body;
    EXPECT_EQ(Param(Completion(body)), "model") << body;
  }
  EXPECT_EQ(Chat(R"({"model":"also-fake"})")->model, "also-fake");
  EXPECT_EQ(std::string(Chat(R"({"model":"fke"})").status().message()),
            "the model 'fke' does not exist; this server serves 'fake', 'also-fake'; the nearest is 'fake'");
  // The time that the comparison takes grows with both names: one of megabytes must not be compared whole (that would
  // take longer than a test may).
  const std::string large(32 << 20, 'x');
  const std::vector<std::string> many(64, std::string(256, 'y'));
  EXPECT_EQ(ModelNotFound(large, many).code(), absl::StatusCode::kNotFound);
  server.context.names = {"fake"};
  EXPECT_EQ(std::string(Completion(R"({"model":"gpt-4o"})").status().message()),
            "the model 'gpt-4o' does not exist; this server serves 'fake'");
}

TEST_F(CheckedTest, DifferentCacheSaltsHaveDifferentDigests) {
  EXPECT_EQ(Chat("{}")->cache_salt, CacheSalt());
  EXPECT_EQ(Chat(R"({"cache_salt":null})")->cache_salt, CacheSalt());
  const auto salt = Chat(R"({"cache_salt":"alice"})")->cache_salt;
  EXPECT_NE(salt, CacheSalt());
  EXPECT_EQ(Completion(R"({"cache_salt":"alice"})")->cache_salt, salt);
  EXPECT_NE(Chat(R"({"cache_salt":"alicf"})")->cache_salt, salt);
  EXPECT_NE(Chat(R"({"cache_salt":"alice\u0000"})")->cache_salt, salt);
  EXPECT_TRUE(Chat(Json{{"cache_salt", std::string(1024, 'x')}}.dump()).ok());
  EXPECT_EQ(Param(Chat(Json{{"cache_salt", std::string(1025, 'x')}}.dump())), "cache_salt");
}

TEST_F(CheckedTest, ParametersNotGivenComeFromTheDefaults) {
  Deployment::Sampling set;
  server.context.sampling =
      MakeSamplingDefaults(set, {{"temperature", 0.6}, {"top_k", 20}, {"top_p", 0.95}, {"min_p", 0.25}}, kTestVocab);
  auto r = Chat("{}");
  EXPECT_EQ(r->sampling->temperature, 0.6f);
  EXPECT_EQ(r->sampling->top_k, 20);
  EXPECT_EQ(r->sampling->top_p, 0.95f);
  EXPECT_EQ(r->sampling->min_p, 0.25f);
  EXPECT_EQ(r->sampling->repetition_penalty, 1);
  r = Completion(R"({"temperature":0,"top_k":-1,"top_p":1,"min_p":0})");
  EXPECT_EQ(r->sampling->temperature, 0) << "what a request says counts";
  EXPECT_EQ(r->sampling->top_k, 0);
  EXPECT_EQ(r->sampling->top_p, 1);
  EXPECT_EQ(r->sampling->min_p, 0);
  EXPECT_EQ(Completion(R"({"temperature":null})")->sampling->temperature, 0.6f);
  set.temperature = 0.2;
  set.presence_penalty = -1;
  set.top_k = -1;
  server.context.sampling = MakeSamplingDefaults(set, {{"temperature", 0.6}, {"top_k", 20}}, kTestVocab);
  r = Chat("{}");
  EXPECT_EQ(r->sampling->temperature, 0.2f) << "the deployment file comes before the model";
  EXPECT_EQ(r->sampling->presence_penalty, -1);
  EXPECT_EQ(r->sampling->top_k, 0);
  set.defaults = "openai";
  server.context.sampling = MakeSamplingDefaults(set, {{"temperature", 0.6}, {"top_p", 0.5}}, kTestVocab);
  EXPECT_EQ(Chat("{}")->sampling->temperature, 0.2f);
  EXPECT_EQ(Chat("{}")->sampling->top_p, 1);
  // A model's file may name more candidates than this vocabulary has.
  EXPECT_EQ(MakeSamplingDefaults({}, {{"top_k", 1e6}}, kTestVocab).at("top_k").value, kTestVocab);
}

}  // namespace
}  // namespace pangea
