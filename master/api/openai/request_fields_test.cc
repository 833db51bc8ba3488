// What becomes of every name that a client may send: served, refused when it asks for something, or harmless.
#include "master/api/openai/request_fields.h"

#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_split.h"
#include "master/api/openai/api_error.h"
#include "master/api/openai/request.h"
#include "protos/generation.pb.h"

namespace pangea {
namespace {

using Json = nlohmann::json;

// The parameters of the same two routes in other servers, and those of llama.cpp's, TGI's and Ollama's own routes,
// whose clients send them here too. Read off their sources: vLLM vllm/entrypoints/openai/{chat_completion,completion}/
// protocol.py; SGLang srt/entrypoints/openai/protocol.py; llama.cpp tools/server/server-task.cpp and README.md; TGI
// router/src/lib.rs; Ollama openai/openai.go and api/types.go.
struct Server {
  const char* name;
  const char* chat;
  const char* completion;
};
constexpr Server kServers[] = {
    {"OpenAI",
     "messages model audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens "
     "max_tokens "
     "metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_retention "
     "reasoning_effort response_format safety_identifier seed service_tier stop store stream stream_options "
     "temperature "
     "tool_choice tools top_logprobs top_p user verbosity web_search_options",
     "model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream "
     "stream_options suffix temperature top_p user"},
    {"vLLM",
     "messages model frequency_penalty logit_bias logprobs top_logprobs max_tokens max_completion_tokens n "
     "presence_penalty response_format seed stop stream stream_options temperature top_p tools tool_choice "
     "reasoning_effort thinking_token_budget include_reasoning parallel_tool_calls user use_beam_search top_k min_p "
     "repetition_penalty watermarking length_penalty stop_token_ids include_stop_str_in_output ignore_eos min_tokens "
     "skip_special_tokens spaces_between_special_tokens truncate_prompt_tokens truncation_side prompt_logprobs "
     "logprob_token_ids allowed_token_ids bad_words echo add_generation_prompt continue_final_message "
     "add_special_tokens documents chat_template chat_template_kwargs media_io_kwargs mm_processor_kwargs "
     "structured_outputs priority request_id session_id return_tokens_as_token_ids return_token_ids "
     "routed_experts_prompt_start return_token_offsets return_prompt_text return_mm_kwargs cache_salt "
     "kv_transfer_params ec_transfer_params vllm_xargs repetition_detection stream_interval guided_json guided_regex "
     "guided_choice guided_grammar guided_decoding_backend guided_whitespace_pattern logits_processors best_of",
     "model prompt echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream "
     "stream_options suffix temperature top_p user use_beam_search top_k min_p repetition_penalty watermarking "
     "length_penalty stop_token_ids include_stop_str_in_output ignore_eos min_tokens skip_special_tokens "
     "spaces_between_special_tokens truncate_prompt_tokens truncation_side allowed_token_ids prompt_logprobs "
     "logprob_token_ids bad_words prompt_embeds add_special_tokens response_format structured_outputs priority "
     "request_id session_id return_tokens_as_token_ids return_token_ids routed_experts_prompt_start "
     "return_token_offsets return_mm_kwargs cache_salt kv_transfer_params ec_transfer_params vllm_xargs "
     "repetition_detection thinking_token_budget stream_interval guided_json"},
    {"SGLang",
     "messages model frequency_penalty logit_bias logprobs top_logprobs max_tokens max_completion_tokens n "
     "presence_penalty response_format seed stop stream stream_options temperature top_p user tools tool_choice "
     "parallel_tool_calls return_hidden_states return_routed_experts routed_experts_start_len "
     "return_cached_tokens_details return_prompt_token_ids return_token_ids return_meta_info reasoning_effort "
     "reasoning "
     "task top_k min_p min_tokens regex ebnf repetition_penalty stop_token_ids stop_regex no_stop_trim ignore_eos "
     "continue_final_message skip_special_tokens lora_path session_id session_params separate_reasoning "
     "stream_reasoning "
     "chat_template_kwargs max_dynamic_patch min_dynamic_patch use_audio_in_video images_config custom_logit_processor "
     "custom_params input_ids rid extra_key cache_salt ngram_corpus_id priority bootstrap_host bootstrap_port "
     "bootstrap_room routed_dp_rank disagg_prefill_dp_rank data_parallel_rank",
     "model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream "
     "stream_options suffix temperature top_p user return_hidden_states return_routed_experts routed_experts_start_len "
     "return_cached_tokens_details return_token_ids top_k min_p min_tokens json_schema regex ebnf repetition_penalty "
     "stop_token_ids stop_regex no_stop_trim ignore_eos skip_special_tokens lora_path session_id session_params "
     "response_format custom_params custom_logit_processor images_config bootstrap_host bootstrap_port bootstrap_room "
     "routed_dp_rank disagg_prefill_dp_rank data_parallel_rank rid extra_key cache_salt ngram_corpus_id priority "
     "custom_labels input_embeds structural_tag sampling_seed"},
    {"llama.cpp",
     "timings_per_token stream stream_options cache_prompt return_tokens return_progress max_tokens n_predict "
     "max_completion_tokens n_indent n_keep n_discard n_cmpl n n_cache_reuse t_max_predict_ms response_fields top_k "
     "top_p "
     "min_p top_n_sigma xtc_probability xtc_threshold typical_p temperature dynatemp_range dynatemp_exponent "
     "repeat_last_n repeat_penalty frequency_penalty presence_penalty dry_multiplier dry_base dry_allowed_length "
     "dry_penalty_last_n dry_sequence_breakers mirostat mirostat_tau mirostat_eta adaptive_target adaptive_decay seed "
     "n_probs min_keep backend_sampling post_sampling_probs speculative.n_min speculative.n_max speculative.p_min "
     "speculative.type speculative.ngram_size_n speculative.ngram_size_m speculative.ngram_m_hits logprobs lora "
     "json_schema grammar grammar_lazy grammar_triggers chat_format reasoning_format reasoning_in_content "
     "thinking_forced_open parse_tool_calls chat_parser preserved_tokens reasoning_budget_tokens "
     "reasoning_budget_start_tag reasoning_budget_end_tag reasoning_budget_message reasoning_budget_arm_immediately "
     "logit_bias ignore_eos stop samplers id_slot chat_template_kwargs parallel_tool_calls reasoning_budget",
     "prompt input_prefix input_suffix input_extra image_data n_predict n_probs samplers repeat_penalty typical_p "
     "penalize_nl lora cache_prompt"},
    {"TGI",
     "model messages frequency_penalty logit_bias logprobs top_logprobs max_tokens n presence_penalty stop stream seed "
     "temperature top_p tools tool_prompt tool_choice response_format guideline stream_options",
     "inputs parameters best_of temperature repetition_penalty frequency_penalty top_k top_p typical_p do_sample "
     "max_new_tokens return_full_text stop truncate watermark details decoder_input_details seed top_n_tokens grammar "
     "adapter_id stream"},
    {"Ollama",
     "model messages stream stream_options max_tokens seed stop temperature frequency_penalty presence_penalty top_p "
     "response_format tools reasoning reasoning_effort logprobs top_logprobs _debug_render_only format options "
     "keep_alive "
     "think truncate shift",
     "model prompt frequency_penalty max_tokens presence_penalty seed stop stream stream_options temperature top_p "
     "suffix "
     "logprobs _debug_render_only system template context raw format images keep_alive options think num_keep "
     "num_predict top_k min_p typical_p repeat_last_n repeat_penalty mirostat mirostat_tau mirostat_eta "
     "penalize_newline tfs_z"},
};

template <class T, class Name>
bool Has(std::span<const T> fields, const Name& name) {
  return std::any_of(fields.begin(), fields.end(), [&](const T& field) { return field.name == name; });
}

void EveryNameHasAVerdict(const char* server, const char* names, const google::protobuf::Descriptor* message) {
  for (const std::string& name : std::vector<std::string>(absl::StrSplit(std::string(names), ' '))) {
    bool refusable = false;
    (void)CheckUnserved(name, name, nullptr, &refusable);
    const bool served = message->FindFieldByName(name) != nullptr;
    EXPECT_TRUE(served || refusable || Has(HarmlessFields(), name)) << server << ": " << name;
  }
}

TEST(RequestFields, EveryNameOfOtherServersHasAVerdict) {
  for (const Server& server : kServers) {
    EveryNameHasAVerdict(server.name, server.chat, v1::ChatCompletionRequest::descriptor());
    EveryNameHasAVerdict(server.name, server.completion, v1::CompletionRequest::descriptor());
  }
}

TEST(RequestFields, NoNameIsInTwoLists) {
  std::set<std::string_view> seen;
  for (const RefusedField& field : RefusedFields()) EXPECT_TRUE(seen.insert(field.name).second) << field.name;
  for (const HarmlessField& field : HarmlessFields()) {
    EXPECT_TRUE(seen.insert(field.name).second) << field.name;
    EXPECT_FALSE(field.why.empty()) << field.name;
  }
  for (const std::string_view name : seen) {
    if (name == "user") continue;  // a field that says nothing to the model
    const std::string text(name);
    EXPECT_FALSE(v1::ChatCompletionRequest::descriptor()->FindFieldByName(text) &&
                 v1::CompletionRequest::descriptor()->FindFieldByName(text))
        << text << " is served";
  }
}

absl::Status Parse(const std::string& name, const Json& value) {
  v1::CompletionRequest message;
  std::vector<std::string> ignored;
  return ParseOpenAi(Json{{"prompt", "x"}, {name, value}}.dump(), {}, &message, &ignored);
}

TEST(RequestFields, WhatAsksForSomethingIsRefusedByName) {
  const std::pair<const char*, Json> cases[] = {
      {"ebnf", "root ::= \"yes\""},
      {"format", "json"},
      {"format", {{"type", "object"}}},
      {"stop_regex", "a+"},
      {"stop_sequences", {"a"}},
      {"suppress_tokens", {1}},
      {"bad_words", {"x"}},
      {"bad_words_ids", {{1, 2}}},
      {"custom_logit_processor", "x"},
      {"lora_path", "x"},
      {"lora", {{{"id", 0}, {"scale", 1.0}}}},
      {"adapter_id", "x"},
      {"input_embeds", {{0.5}}},
      {"response_prefix", "x"},
      {"truncate", 5},
      {"truncate_prompt_tokens", -1},
      {"return_tokens_as_token_ids", true},
      {"repeat_penalty", 1.1},
      {"typical_p", 0.5},
      {"mirostat", 2},
      {"dynatemp_range", 0.5},
      {"dry_multiplier", 0.8},
      {"xtc_probability", 0.5},
      {"top_n_sigma", 1.5},
      {"samplers", {"top_k"}},
      {"do_sample", false},
      {"n_predict", 10},
      {"think", false},
      {"options", {{"temperature", 0}}},
      {"guided_whitespace_pattern", "a"},
      {"guided_anything", 1},
  };
  for (const auto& [name, value] : cases) {
    const absl::Status status = Parse(name, value);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name << value;
    EXPECT_EQ(ToErrorAnswer(status).param, name);
  }
}

TEST(RequestFields, WhatAsksForNothingIsAccepted) {
  for (const RefusedField& field : RefusedFields()) {
    const std::string name(field.name);
    if (v1::CompletionRequest::descriptor()->FindFieldByName(name)) continue;
    EXPECT_TRUE(Parse(name, nullptr).ok()) << name;
    for (const Json& neutral : Json::parse(field.neutral)) EXPECT_TRUE(Parse(name, neutral).ok()) << name << neutral;
    for (const Json& empty : {Json(""), Json::array(), Json::object(), Json(false)})
      EXPECT_EQ(Parse(name, empty).ok(), field.empty_is_neutral) << name << empty;
    EXPECT_FALSE(Parse(name, 12345).ok()) << name;
  }
  const std::pair<const char*, Json> defaults[] = {
      {"repeat_penalty", 1.0},  {"typical_p", 1.0},      {"top_n_sigma", -1.0},
      {"xtc_probability", 0.0}, {"mirostat", 0},         {"repeat_last_n", 64},
      {"n_predict", -1},        {"do_sample", true},     {"length_penalty", 1.0},
      {"dry_multiplier", 0.0},  {"tool_choice", "none"}, {"response_format", {{"type", "text"}}},
  };
  for (const auto& [name, value] : defaults) EXPECT_TRUE(Parse(name, value).ok()) << name << value;
}

TEST(RequestFields, InsideAMessageThoseThatMeanSomethingThere) {
  const auto parse = [](const std::string& name, const Json& value) {
    v1::ChatCompletionRequest message;
    std::vector<std::string> ignored;
    const Json body = {{"messages", {{{"role", "assistant"}, {"content", "x"}, {name, value}}}}};
    return ParseOpenAi(body.dump(), {}, &message, &ignored);
  };
  for (const auto& [name, value] : {std::pair<std::string, Json>{"prefix", true},
                                    {"partial", true},
                                    {"images", {"AAAA"}},
                                    {"tool_call_id", "a"},
                                    {"tool_calls", {{{"id", "a"}}}}})
    EXPECT_EQ(ToErrorAnswer(parse(name, value)).param, "messages[0]." + name);
  EXPECT_TRUE(parse("prefix", false).ok());
  for (const char* note : {"details", "context", "system", "thinking", "id"})
    EXPECT_TRUE(parse(note, "x").ok()) << note;
}

}  // namespace
}  // namespace pangea
