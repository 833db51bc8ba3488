// Bodies through parser and checks: what is refused, naming what.
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "master/api/generation/checked_test_util.h"

namespace pangea {
namespace {

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
    {R"({"top_p":-0.01})", "top_p"},
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
    {R"({"model":5})", "model"},
    {R"({"cache_salt":""})", "cache_salt"},
    {R"({"cache_salt":5})", "cache_salt"},
    {R"({"stream_options":{"continuous_usage_stats":1}})", "stream_options.continuous_usage_stats"},
    {R"({"min_tokens":-1})", "min_tokens"},
    {R"({"min_tokens":5,"max_tokens":4})", "min_tokens"},
    {R"({"priority":1e12})", "priority"},
    {R"({"response_format":{"type":"xml"}})", "response_format.type"},
    {R"({"tools":[{"type":"function"}]})", "tools"},
    {R"({"tool_choice":"required"})", "tool_choice"},
    {R"({"tool_choice":{"type":"function"}})", "tool_choice"},
    {R"({"functions":[{}]})", "functions"},
    {R"({"modalities":["text","audio"]})", "modalities"},
    {R"({"audio":{"voice":"x"}})", "audio"},
    {R"({"prediction":{"type":"content"}})", "prediction"},
    {R"({"guided_json":{}, "guided_regex":"a"})", "guided_regex"},
    {R"({"guided_whitespace_pattern":"a"})", "guided_whitespace_pattern"},
    {R"({"grammar":"root ::= x"})", "grammar"},
    {R"({"json_schema":true})", "json_schema"},
    {R"({"structured_outputs":{"structural_tag":"x"}})", "structured_outputs.structural_tag"},
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
  for (const char* prompt : {"5", "0", "-1", "true", "{}", "[true]"}) {  // a bare number is no list of ids
    EXPECT_EQ(Completion(absl::StrCat(R"({"prompt":)", prompt, "}")).status().message(),
              "'prompt' must be a string, a list of strings, a list of token ids, or a list of lists of token ids")
        << prompt;
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
  for (int i = 0; i < kTestContext; ++i) longest += ",1";
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

TEST_F(CheckedTest, NullAndNeutralValuesAreAccepted) {
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
