// Bodies through parser and checks: what is refused, naming what, and what a good one becomes.
#include "master/api/checked.h"

#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "master/api/api_error.h"
#include "master/api/fakes.h"
#include "master/api/openai_request.h"
#include "nlohmann/json.hpp"

namespace pangea {
namespace {

using Json = nlohmann::json;

class CheckedTest : public testing::Test {
 protected:
  template <class M>
  absl::StatusOr<CheckedRequest> Run(const std::string& body) {
    M message;
    ignored.clear();
    if (auto s = ParseOpenAi(body, {64}, &message, &ignored); !s.ok()) return s;
    return Check(message, server.context);
  }
  // `change` over a good body; the text of change is JSON.
  absl::StatusOr<CheckedRequest> Chat(const std::string& change) {
    Json body = {{"model", "fake"}, {"messages", {{{"role", "user"}, {"content", "hi"}}}}};
    body.update(Json::parse(change));
    return Run<v1::ChatCompletionRequest>(body.dump());
  }
  absl::StatusOr<CheckedRequest> Completion(const std::string& change) {
    Json body = {{"model", "fake"}, {"prompt", "hi"}};
    body.update(Json::parse(change));
    return Run<v1::CompletionRequest>(body.dump());
  }
  static std::string Param(const absl::StatusOr<CheckedRequest>& result) {
    return ToErrorAnswer(result.status()).param;
  }

  FakeServer server;
  std::vector<std::string> ignored;
};

struct Bad {
  const char* body;
  const char* param;
};

const Bad kBadChats[] = {
    {R"({"n":1000000})", "n"},
    {R"({"n":0})", "n"},
    {R"({"n":-1})", "n"},
    {R"({"n":0.5})", "n"},
    {R"({"n":true})", "n"},
    {R"({"n":"1"})", "n"},
    {R"({"n":[]})", "n"},
    {R"({"max_tokens":-1})", "max_tokens"},
    {R"({"max_tokens":0})", "max_tokens"},
    {R"({"max_tokens":2147483648})", "max_tokens"},
    {R"({"max_tokens":9223372036854775808})", "max_tokens"},
    {R"({"max_tokens":1e308})", "max_tokens"},
    {R"({"max_tokens":"9"})", "max_tokens"},
    {R"({"max_tokens":129})", "max_tokens"},
    {R"({"max_completion_tokens":0})", "max_completion_tokens"},
    {R"({"max_tokens":3,"max_completion_tokens":4})", "max_tokens"},
    {R"({"temperature":-1})", "temperature"},
    {R"({"temperature":1e9})", "temperature"},
    {R"({"temperature":"hot"})", "temperature"},
    {R"({"temperature":true})", "temperature"},
    {R"({"temperature":2.01})", "temperature"},
    {R"({"top_k":-2})", "top_k"},
    {R"({"top_k":1099511627776})", "top_k"},
    {R"({"top_k":301})", "top_k"},
    {R"({"top_k":1.5})", "top_k"},
    {R"({"top_p":0})", "top_p"},
    {R"({"top_p":2})", "top_p"},
    {R"({"top_p":-1})", "top_p"},
    {R"({"min_p":2})", "min_p"},
    {R"({"min_p":-0.1})", "min_p"},
    {R"({"repetition_penalty":0})", "repetition_penalty"},
    {R"({"repetition_penalty":-1})", "repetition_penalty"},
    {R"({"repetition_penalty":1e-300})", "repetition_penalty"},
    {R"({"repetition_penalty":1e300})", "repetition_penalty"},
    {R"({"presence_penalty":1e6})", "presence_penalty"},
    {R"({"presence_penalty":-2.1})", "presence_penalty"},
    {R"({"frequency_penalty":-1e6})", "frequency_penalty"},
    {R"({"logprobs":true,"top_logprobs":1000000})", "top_logprobs"},
    {R"({"logprobs":true,"top_logprobs":21})", "top_logprobs"},
    {R"({"logprobs":true,"top_logprobs":-1})", "top_logprobs"},
    {R"({"top_logprobs":3})", "top_logprobs"},
    {R"({"logprobs":false,"top_logprobs":3})", "top_logprobs"},
    {R"({"logprobs":1})", "logprobs"},
    {R"({"seed":"a"})", "seed"},
    {R"({"seed":1.5})", "seed"},
    {R"({"seed":true})", "seed"},
    {R"({"seed":1e30})", "seed"},
    {R"({"stop":""})", "stop"},
    {R"({"stop":[""]})", "stop"},
    {R"({"stop":5})", "stop"},
    {R"({"stop":{}})", "stop"},
    {R"({"stop":["a",1]})", "stop"},
    {R"({"stop":["a",null]})", "stop"},
    {R"({"stop":["a","b","c","d","e"]})", "stop"},
    {R"({"stop_token_ids":[-1]})", "stop_token_ids"},
    {R"({"stop_token_ids":[300]})", "stop_token_ids"},
    {R"({"stop_token_ids":[2147483648]})", "stop_token_ids"},
    {R"({"stop_token_ids":[0.5]})", "stop_token_ids[0]"},
    {R"({"stop_token_ids":"x"})", "stop_token_ids"},
    {R"({"stop_token_ids":[true]})", "stop_token_ids[0]"},
    {R"({"logit_bias":{"300":-100}})", "logit_bias"},
    {R"({"logit_bias":{"-1":1}})", "logit_bias"},
    {R"({"logit_bias":{"x":1}})", "logit_bias"},
    {R"({"logit_bias":{"":1}})", "logit_bias"},
    {R"({"logit_bias":{"5":1e300}})", "logit_bias"},
    {R"({"logit_bias":{"5":101}})", "logit_bias"},
    {R"({"logit_bias":{"5":"x"}})", "logit_bias.5"},
    {R"({"logit_bias":"x"})", "logit_bias"},
    {R"({"logit_bias":{"7":1,"07":2}})", "logit_bias"},
    {R"({"logit_bias":[]})", "logit_bias"},
    {R"({"messages":[]})", "messages"},
    {R"({"messages":null})", "messages"},
    {R"({"messages":"x"})", "messages"},
    {R"({"messages":[[]]})", "messages[0]"},
    {R"({"messages":{}})", "messages"},
    {R"({"messages":[null]})", "messages[0]"},
    {R"({"messages":[{}]})", "messages[0].role"},
    {R"({"messages":[{"role":"user"}]})", "messages[0].content"},
    {R"({"messages":[{"role":"wizard","content":"x"}]})", "messages[0].role"},
    {R"({"messages":[{"role":"tool","content":"x"}]})", "messages[0].role"},
    {R"({"messages":[{"role":5,"content":"x"}]})", "messages[0].role"},
    {R"({"messages":[{"role":"user","content":5}]})", "messages[0].content"},
    {R"({"messages":[{"role":"user","content":null}]})", "messages[0].content"},
    {R"({"messages":[{"role":"user","content":[]}]})", "messages[0].content"},
    {R"({"messages":[{"role":"user","content":["x"]}]})", "messages[0].content[0]"},
    {R"({"messages":[{"role":"user","content":[5]}]})", "messages[0].content[0]"},
    {R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://169.254.169.254/"}}]}]})",
     "messages[0].content[0].type"},
    {R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})", "messages[0].content[0].text"},
    {R"({"messages":[{"role":"user","content":[{}]}]})", "messages[0].content[0].type"},
    {R"({"messages":[{"role":"assistant","content":"x","tool_calls":[{"id":"a"}]}]})", "messages[0].tool_calls"},
    {R"({"stream":"x"})", "stream"},
    {R"({"stream":1})", "stream"},
    {R"({"stream_options":5})", "stream_options"},
    {R"({"stream_options":{"include_usage":1}})", "stream_options.include_usage"},
    {R"({"stream":false,"stream_options":{"include_usage":true}})", "stream_options"},
    {R"({"model":null})", "model"},
    {R"({"model":5})", "model"},
    {R"({"model":""})", "model"},
    {R"({"min_tokens":-1})", "min_tokens"},
    {R"({"min_tokens":5,"max_tokens":4})", "min_tokens"},
    {R"({"priority":1e12})", "priority"},
    {R"({"response_format":{"type":"xml"}})", "response_format"},
    {R"({"response_format":{"type":"json_schema"}})", "response_format"},
    {R"({"response_format":{"type":"json_object"}})", "response_format"},
    {R"({"tools":[{"type":"function"}]})", "tools"},
    {R"({"tool_choice":"required"})", "tool_choice"},
    {R"({"tool_choice":{"type":"function"}})", "tool_choice"},
    {R"({"functions":[{}]})", "functions"},
    {R"({"modalities":["text","audio"]})", "modalities"},
    {R"({"audio":{"voice":"x"}})", "audio"},
    {R"({"prediction":{"type":"content"}})", "prediction"},
    {R"({"guided_json":{}, "guided_regex":"a"})", "guided_regex"},
    {R"({"guided_choice":["a"]})", "guided_choice"},
    {R"({"grammar":"root ::= x"})", "grammar"},
    {R"({"json_schema":true})", "json_schema"},
    {R"({"structured_outputs":{"regex":"x"}})", "structured_outputs"},
    {R"({"chat_template":"{{x}}"})", "chat_template"},
    {R"({"chat_template":5})", "chat_template"},
    {R"({"chat_template_kwargs":[]})", "chat_template_kwargs"},
};

TEST_F(CheckedTest, ChatRefuses) {
  for (const Bad& bad : kBadChats) {
    const auto result = Chat(bad.body);
    EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << bad.body << ": " << result.status();
    EXPECT_EQ(Param(result), bad.param) << bad.body;
    EXPECT_FALSE(result.status().message().empty());
  }
}

TEST_F(CheckedTest, CompletionRefuses) {
  const char* const prompts[] = {R"("")",      "[]",           "[[]]",    R"([""])",   "null",         "5",
                                 "{}",         "[-1]",         "[300]",   "[0.5]",     "[2147483648]", R"(["a",5])",
                                 R"([5,"a"])", R"(["a",[1]])", "[[1],5]", "[[\"a\"]]", "[null]",       "true",
                                 "[true]",     "[{}]",         "[[1],[]]"};
  for (const char* prompt : prompts) {
    const auto result = Completion(std::string(R"({"prompt":)") + prompt + "}");
    EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << prompt << ": " << result.status();
    EXPECT_EQ(Param(result), "prompt") << prompt;
  }
  const Bad cases[] = {
      {R"({"logprobs":1000000000})", "logprobs"},
      {R"({"logprobs":21})", "logprobs"},
      {R"({"logprobs":-1})", "logprobs"},
      {R"({"logprobs":true})", "logprobs"},
      {R"({"best_of":1000000000})", "best_of"},
      {R"({"best_of":1,"n":2})", "best_of"},
      {R"({"best_of":3,"n":2})", "best_of"},
      {R"({"max_tokens":0})", "max_tokens"},
      {R"({"echo":1})", "echo"},
      {R"({"suffix":"x"})", "suffix"},
      {R"({"prompt_embeds":"gASV"})", "prompt_embeds"},
      {R"({"use_beam_search":true})", "use_beam_search"},
  };
  for (const Bad& bad : cases) {
    const auto result = Completion(bad.body);
    EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << bad.body << ": " << result.status();
    EXPECT_EQ(Param(result), bad.param) << bad.body;
  }
  std::string many = R"({"prompt":["x")";
  for (int i = 0; i < 64; ++i) many += R"(,"x")";
  EXPECT_EQ(Param(Completion(many + "]}")), "prompt");
  std::string longest = R"({"prompt":[1)";
  for (int i = 0; i < kFakeContext; ++i) longest += ",1";
  EXPECT_EQ(ToErrorAnswer(Completion(longest + "]}").status()).code, "context_length_exceeded");
}

TEST_F(CheckedTest, UnknownModelIsNotFound) {
  for (const std::string& name : {std::string("nope"), std::string("../../etc/passwd"), std::string(1 << 20, 'x')}) {
    const auto result = Chat(Json{{"model", name}}.dump());
    EXPECT_TRUE(absl::IsNotFound(result.status())) << result.status();
    const ErrorAnswer error = ToErrorAnswer(result.status());
    EXPECT_EQ(error.http, 404);
    EXPECT_EQ(error.code, "model_not_found");
    EXPECT_LT(error.message.size(), 200u);
  }
}

TEST_F(CheckedTest, AcceptsWhatAsksForNothing) {
  for (
      const char* body :
      {R"({"temperature":null,"max_tokens":null,"n":null,"stop":null,"logit_bias":null,"seed":null,"stream":null,"top_p":null,"stop_token_ids":null})",
       R"({"stop":[],"logit_bias":{},"tools":[],"tool_choice":"none"})",
       R"({"tool_choice":null,"response_format":{"type":"text"},"modalities":["text"],"audio":null,"functions":[],"function_call":"none"})",
       R"({"guided_json":null,"guided_regex":"","grammar":"","json_schema":null})",
       R"({"n":1.0,"max_tokens":5.0,"top_k":-1,"temperature":-0.0})", R"({"top_logprobs":0})",
       R"({"chat_template":""})", R"({"stream":true,"stream_options":{"include_usage":true}})"}) {
    EXPECT_TRUE(Chat(body).ok()) << body << Chat(body).status();
  }
  EXPECT_TRUE(
      Completion(
          R"({"suffix":null,"best_of":1,"use_beam_search":false,"length_penalty":1.0,"include_stop_str_in_output":false})")
          .ok());
}

TEST_F(CheckedTest, IgnoredNamesAreListed) {
  ASSERT_TRUE(
      Chat(R"({"user":"u","metadata":{"a":1},"store":true,"x-odd":1,"bad\r\nname":1,"zz":{"tools":[1]}})").ok());
  EXPECT_EQ(IgnoredHeader(ignored), "metadata, store, user, x-odd, zz");
}

TEST_F(CheckedTest, BodiesThatAreNoObject) {
  for (const char* body : {"", "   ", "[]", "\"x\"", "5", "null", "{}{}", "{/**/\"a\":1}", "{\"a\":1,}", "{'a':1}",
                           "\xEF\xBB\xBF{}", "{\"a\":NaN}", "{\"a\":1e400}", "{\"a\":\"\xff\"}"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Run<v1::ChatCompletionRequest>(body).status())) << body;
  }
}

TEST_F(CheckedTest, WhatAChatBecomes) {
  const auto r = Chat(
      R"({"messages":[{"role":"developer","content":"d"},{"role":"user","name":"bob","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
    "temperature":0.5,"top_p":0.25,"top_k":7,"min_p":0.125,"seed":-1,"stop":"x","stop_token_ids":[9,5,9],"n":3,"logprobs":true,"top_logprobs":4,"logit_bias":{"9":-100,"3":1.5},
    "presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.5,"min_tokens":2,"max_completion_tokens":8,"return_token_ids":true,"skip_special_tokens":false,"priority":-3,
    "chat_template_kwargs":{"a":1,"b":[true,null,"x",0.5]}})");
  ASSERT_TRUE(r.ok()) << r.status();
  EXPECT_EQ(r->messages.json, R"([{"role":"system","content":"d"},{"role":"user","content":"a\nb","name":"bob"}])");
  EXPECT_EQ(r->messages.content_bytes, 4u);
  EXPECT_EQ(r->sampling.temperature, 0.5f);
  EXPECT_EQ(r->sampling.top_p, 0.25f);
  EXPECT_EQ(r->sampling.top_k, 7);
  EXPECT_EQ(r->sampling.min_p, 0.125f);
  EXPECT_EQ(r->sampling.seed, UINT64_MAX);
  EXPECT_EQ(r->stops, std::vector<std::string>{"x"});
  EXPECT_EQ(r->stop_ids, (std::vector<int32_t>{5, 9, kFakeEnd}));
  EXPECT_EQ(r->sampling.end_ids, r->stop_ids);
  EXPECT_EQ(r->n, 3);
  EXPECT_EQ(r->sampling.top_logprobs, 4);
  EXPECT_EQ(r->sampling.logit_bias, (std::vector<std::pair<int32_t, float>>{{3, 1.5f}, {9, -100.f}}));
  EXPECT_EQ(r->sampling.min_tokens, 2);
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
  for (const char* name : {"tools", "documents", "functions", "chat_template"}) {
    const auto r = Chat(absl::StrCat(R"({"chat_template_kwargs":{"x":1,")", name, R"(":[{"type":"function"}]}})"));
    const std::string path = absl::StrCat("chat_template_kwargs.", name);
    EXPECT_EQ(r.status().message(), absl::StrCat("'", path, "' is not supported"));
    EXPECT_EQ(Param(r), path);
    for (const char* nothing : {"null", "[]", "{}", "\"\"", "false"}) {
      EXPECT_TRUE(Chat(absl::StrCat(R"({"chat_template_kwargs":{")", name, "\":", nothing, "}}")).ok()) << nothing;
    }
  }
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
  EXPECT_EQ(r->sampling.temperature, 1);
  EXPECT_EQ(r->sampling.top_logprobs, -1);
  EXPECT_EQ(r->max_tokens, std::nullopt);
  EXPECT_EQ(r->stop_ids, std::vector<int32_t>{kFakeEnd});
  EXPECT_NE(r->sampling.seed, Chat("{}")->sampling.seed);  // drawn
  EXPECT_TRUE(Chat(R"({"ignore_eos":true,"stop_token_ids":[4]})")->stop_ids == std::vector<int32_t>{4});
  EXPECT_TRUE(Chat(R"({"ignore_eos":true,"min_tokens":3})")->sampling.end_ids.empty());
  EXPECT_EQ(Chat(R"({"logprobs":true})")->sampling.top_logprobs, 0);
}

TEST_F(CheckedTest, TinyTemperaturesAreGreedy) {
  for (const char* t : {"0", "1e-40", "1e-320", "9e-6", "-0.0"})
    EXPECT_EQ(Chat(std::string(R"({"temperature":)") + t + "}")->sampling.temperature, 0) << t;
  EXPECT_GT(Chat(R"({"temperature":1e-4})")->sampling.temperature, 0);
}

TEST_F(CheckedTest, SeedsWrap) {
  EXPECT_EQ(Chat(R"({"seed":18446744073709551615})")->sampling.seed, UINT64_MAX);
  EXPECT_EQ(Chat(R"({"seed":9223372036854775808})")->sampling.seed, 1ull << 63);
  EXPECT_FALSE(Chat(R"({"seed":18446744073709551616})").ok());
}

TEST_F(CheckedTest, PromptForms) {
  EXPECT_EQ(Completion(R"({"prompt":["a","b"]})")->prompts[1].text, "b");
  EXPECT_EQ(Completion(R"({"prompt":[1,2,3.0]})")->prompts[0].ids, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(Completion(R"({"prompt":[[1],[2,3]]})")->prompts[1].ids, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(Completion(R"({"prompt":"\u0000\ufeff"})")->prompts[0].text, std::string("\0\xEF\xBB\xBF", 4));
  EXPECT_EQ(Completion(R"({"echo":true,"max_tokens":0})")->max_tokens, 0);
}

// NaN and infinities cannot be spelled in JSON but come over gRPC.
TEST_F(CheckedTest, NotANumber) {
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    for (const char* name :
         {"temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"}) {
      v1::CompletionRequest request;
      request.set_model("fake");
      request.mutable_prompt()->set_string_value("x");
      request.GetReflection()->SetDouble(&request, request.GetDescriptor()->FindFieldByName(name), bad);
      EXPECT_EQ(ToErrorAnswer(Check(request, server.context).status()).param, name) << bad;
    }
    v1::CompletionRequest request;
    request.set_model("fake");
    (*request.mutable_logit_bias())["5"] = bad;
    request.mutable_prompt()->set_string_value("x");
    EXPECT_EQ(ToErrorAnswer(Check(request, server.context).status()).param, "logit_bias");
    request.clear_logit_bias();
    request.mutable_prompt()->mutable_list_value()->add_values()->set_number_value(bad);
    EXPECT_EQ(ToErrorAnswer(Check(request, server.context).status()).param, "prompt");
  }
}

// Any field with any odd value is accepted or refused as the client's fault, never anything else.
TEST_F(CheckedTest, TypeConfusion) {
  const char* const values[] = {"null",
                                "true",
                                "[]",
                                "{}",
                                "\"\"",
                                "-0",
                                "\"\\u0000\"",
                                "[[]]",
                                "[null]",
                                "{\"\":{}}",
                                "1e308",
                                "-1e308",
                                "9223372036854775807",
                                "-9223372036854775808",
                                "18446744073709551615",
                                "0.1"};
  const auto fields = [](const google::protobuf::Descriptor* d) {
    std::vector<std::string> names;
    for (int i = 0; i < d->field_count(); ++i) names.push_back(d->field(i)->name());
    return names;
  };
  for (const char* value : values) {
    for (const auto& name : fields(v1::ChatCompletionRequest::descriptor())) {
      const auto status = Chat("{\"" + name + "\":" + value + "}").status();
      EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status) || absl::IsNotFound(status))
          << name << value << status;
    }
    for (const auto& name : fields(v1::CompletionRequest::descriptor())) {
      const auto status = Completion("{\"" + name + "\":" + value + "}").status();
      EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status) || absl::IsNotFound(status))
          << name << value << status;
    }
  }
}

}  // namespace
}  // namespace pangea
