#include "master/api/generation/checked.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "master/api/generation/context.h"
#include "master/api/generation/random_bits.h"
#include "master/api/openai/api_error.h"
#include "pipeline/checkpoint/hash.h"

namespace pangea {
namespace {

namespace pb = google::protobuf;

constexpr float kGreedyBelow = 1e-5f;  // a temperature this small only overflows the logits: it is greedy
constexpr int kStopIds = 1024;
constexpr size_t kSaltBytes = 1024;
constexpr int kMaxPriority = 1 << 30;

// ---- numbers

absl::Status CheckRange(const std::string& name, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();  // false for NaN
  return BadParam(name, absl::StrCat("'", name, "' must be between ", low, " and ", high));
}

absl::StatusOr<int> CheckInteger(const std::string& name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return static_cast<int>(value);
  return BadParam(name, absl::StrCat("'", name, "' must be between ", low, " and ", high, ", not ", value));
}

absl::StatusOr<int> CheckTopLogprobs(const std::string& name, int64_t value, const ApiContext& context) {
  // More alternatives than ids there are none.
  const int limit = std::min(context.deployment->limits.top_logprobs, context.model->vocab);
  auto top = CheckInteger(name, value, 0, limit);
  return top.ok() || value < 0 ? top : OverLimit("top_logprobs", top.status());
}

// What a request may be sampled by; what it leaves open is the deployment's, the model's or OpenAI's.
template <class M>
absl::Status CheckSampling(const M& m, const ApiContext& context, Sampling* s) {
  const auto number = [&](const char* name, std::optional<double> given, double low, double high, float* out) {
    const double value = given ? *given : context.sampling.at(name).value;
    *out = static_cast<float>(value);
    return CheckRange(name, value, low, high);
  };
  const auto given = [](bool has, double value) { return has ? std::optional(value) : std::nullopt; };
  absl::Status st = number("temperature", given(m.has_temperature(), m.temperature()), 0, 2, &s->temperature);
  if (s->temperature < kGreedyBelow) s->temperature = 0;
  st.Update(number("top_p", given(m.has_top_p(), m.top_p()), 0, 1, &s->top_p));
  // 0 keeps what the least share keeps: the best id.
  s->top_p = std::max(s->top_p, std::numeric_limits<float>::min());
  st.Update(number("min_p", given(m.has_min_p(), m.min_p()), 0, 1, &s->min_p));
  st.Update(
      number("presence_penalty", given(m.has_presence_penalty(), m.presence_penalty()), -2, 2, &s->presence_penalty));
  st.Update(number("frequency_penalty", given(m.has_frequency_penalty(), m.frequency_penalty()), -2, 2,
                   &s->frequency_penalty));
  st.Update(number("repetition_penalty", given(m.has_repetition_penalty(), m.repetition_penalty()), 0.01, 100,
                   &s->repetition_penalty));
  if (!st.ok()) return st;
  s->top_k = static_cast<int>(context.sampling.at("top_k").value);
  if (!m.has_top_k()) return absl::OkStatus();
  auto top_k = CheckInteger("top_k", m.top_k(), -1, context.model->vocab);
  if (!top_k.ok()) return top_k.status();
  s->top_k = std::max(*top_k, 0);
  return absl::OkStatus();
}

absl::Status CheckBias(const pb::Map<std::string, double>& bias, const ApiContext& context, Sampling* s) {
  const int limit = context.deployment->limits.logit_bias;
  if (static_cast<int64_t>(bias.size()) > limit) {
    return OverLimit("logit_bias", BadParam("logit_bias", absl::StrCat("'logit_bias' may have at most ", limit,
                                                                       " entries, not ", bias.size())));
  }
  for (const auto& [key, value] : bias) {
    int id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id >= context.model->vocab) {
      return BadParam("logit_bias", absl::StrCat("'logit_bias' names a token id outside 0..", context.model->vocab - 1,
                                                 ": '", key.substr(0, 32), "'"));
    }
    if (!(value >= -100 && value <= 100))
      return BadParam("logit_bias", absl::StrCat("'logit_bias' of id ", id, " must be between -100 and 100"));
    s->logit_bias.emplace_back(id, static_cast<float>(value));
  }
  std::sort(s->logit_bias.begin(), s->logit_bias.end());
  for (size_t i = 1; i < s->logit_bias.size(); ++i) {
    if (s->logit_bias[i].first == s->logit_bias[i - 1].first) {  // "7" and "07"
      return BadParam("logit_bias", absl::StrCat("'logit_bias' names id ", s->logit_bias[i].first, " twice"));
    }
  }
  return absl::OkStatus();
}

// ---- stops

absl::Status AddStop(const pb::Value& value, const Deployment::Limits& limits, std::vector<std::string>* stops) {
  if (value.kind_case() != pb::Value::kStringValue)
    return BadParam("stop", "'stop' must be a string or a list of strings");
  if (value.string_value().empty()) return BadParam("stop", "'stop' must not be an empty string");
  if (static_cast<int64_t>(value.string_value().size()) > limits.stop_bytes) {
    return OverLimit("stop_bytes", BadParam("stop", absl::StrCat("a 'stop' string may have at most ", limits.stop_bytes,
                                                                 " bytes, not ", value.string_value().size())));
  }
  stops->push_back(value.string_value());
  return absl::OkStatus();
}

absl::Status CheckStops(const pb::Value& stop, const Deployment::Limits& limits, std::vector<std::string>* stops) {
  if (stop.kind_case() == pb::Value::kNullValue || stop.kind_case() == pb::Value::KIND_NOT_SET) return absl::OkStatus();
  if (stop.kind_case() != pb::Value::kListValue) return AddStop(stop, limits, stops);
  const auto& list = stop.list_value().values();
  if (list.size() > limits.stop_strings) {
    return OverLimit("stop_strings", BadParam("stop", absl::StrCat("'stop' may have at most ", limits.stop_strings,
                                                                   " strings, not ", list.size())));
  }
  for (const auto& element : list) {
    if (auto s = AddStop(element, limits, stops); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// The special token that is spelled so. A stop string that is one means the token, which may have no text.
std::optional<int32_t> SpecialId(const std::string& spelling, const Text& text) {
  const auto ids = text.Encode(spelling, /*add_special=*/false, /*parse_special=*/true);
  const bool one = ids.ok() && ids->size() == 1 && text.IsSpecial(ids->front()) && text.Bytes(ids->front()) == spelling;
  return one ? std::optional(ids->front()) : std::nullopt;
}

// Ids that end a generation: those that the model and the tokenizer name, and the request's own.
template <class M>
absl::Status CheckStopIds(const M& m, const ApiContext& context, CheckedRequest* out) {
  if (m.stop_token_ids_size() > kStopIds) {
    return BadParam("stop_token_ids", absl::StrCat("'stop_token_ids' may have at most ", kStopIds, " ids, not ",
                                                   m.stop_token_ids_size()));
  }
  auto ids = CheckIds(m.stop_token_ids(), "stop_token_ids", context);
  if (!ids.ok()) return ids.status();
  out->stop_ids = *std::move(ids);
  for (const std::string& stop : out->stops) {
    if (const auto id = SpecialId(stop, *context.text)) out->stop_ids.push_back(*id);
  }
  if (!m.ignore_eos()) {
    for (const int id : context.model->eos) out->stop_ids.push_back(id);
    for (const int32_t id : context.text->end_ids()) out->stop_ids.push_back(id);
  }
  auto& all = out->stop_ids;
  all.erase(std::remove_if(all.begin(), all.end(), [&](int32_t id) { return id < 0 || id >= context.model->vocab; }),
            all.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  if (m.min_tokens() > 0 && static_cast<int>(all.size()) >= context.model->vocab) {
    return BadParam("min_tokens", "'min_tokens' and 'stop_token_ids' together leave no id to draw");
  }
  return absl::OkStatus();
}

// ---- what chat and completion share

template <class M>
absl::Status CheckCommon(const M& m, const ApiContext& context, Sampling* sampling, CheckedRequest* out) {
  const auto& limits = context.deployment->limits;
  Sampling& s = *sampling;
  if (auto st = CheckSampling(m, context, &s); !st.ok()) return st;
  if (m.has_n()) {
    auto n = CheckInteger("n", m.n(), 1, limits.n);
    if (!n.ok()) return m.n() > limits.n ? OverLimit("n", n.status()) : n.status();
    out->n = *n;
  }
  if (auto st = CheckBias(m.logit_bias(), context, &s); !st.ok()) return st;
  auto form = CheckForm(m, context);
  if (!form.ok()) return form.status();
  out->form = *std::move(form);
  if (auto st = CheckStops(m.stop(), limits, &out->stops); !st.ok()) return st;
  if (m.has_min_tokens()) {
    auto least = CheckInteger("min_tokens", m.min_tokens(), 0, out->max_tokens.value_or(context.context));
    if (!least.ok()) return least.status();
    s.min_tokens = *least;
  }
  if (auto st = CheckStopIds(m, context, out); !st.ok()) return st;
  s.end_ids = out->stop_ids;
  if (m.has_priority()) {
    auto priority = CheckInteger("priority", m.priority(), -kMaxPriority, kMaxPriority);
    if (!priority.ok()) return priority.status();
    out->priority = *priority;
  }
  // UIs that cannot leave the field out send -1, as to vLLM and llama.cpp.
  s.seed = m.has_seed() && m.seed() != -1 ? static_cast<uint64_t>(m.seed()) : RandomBits();
  if (m.has_cache_salt()) {
    const size_t bytes = m.cache_salt().size();
    if (bytes < 1 || bytes > kSaltBytes)
      return BadParam("cache_salt", absl::StrCat("'cache_salt' must have 1 to ", kSaltBytes, " bytes, not ", bytes));
    const auto digest = Sha256().AddRaw(m.cache_salt().data(), bytes).Digest();
    std::memcpy(out->cache_salt.data(), digest.data(), digest.size());
  }
  out->stream = m.stream();
  if (m.has_stream_options() && m.has_stream() && !m.stream()) {
    return BadParam("stream_options", "'stream_options' is only allowed when 'stream' is true");
  }
  out->include_usage = m.stream_options().include_usage();
  out->continuous_usage = m.stream_options().continuous_usage_stats();
  out->return_token_ids = m.return_token_ids();
  out->skip_special_tokens = !m.has_skip_special_tokens() || m.skip_special_tokens();
  return absl::OkStatus();
}

absl::Status CheckMaxTokens(const std::string& name, int64_t value, int64_t low, const ApiContext& context,
                            CheckedRequest* out) {
  const int limit = context.deployment->limits.max_tokens;
  if (limit > 0 && value > limit)
    return OverLimit("max_tokens",
                     BadParam(name, absl::StrCat("'", name, "' may be at most ", limit, ", not ", value)));
  if (value > context.context) {
    return ContextOverflow(name, out->chat, context.context,
                           absl::StrCat("at least ", value, " tokens (", value, " in the completion)"));
  }
  auto tokens = CheckInteger(name, value, low, context.context);
  if (!tokens.ok()) return tokens.status();
  out->max_tokens = *tokens;
  out->max_tokens_name = name;
  return absl::OkStatus();
}

// ---- prompts

absl::Status WrongPrompt() {
  return BadParam("prompt",
                  "'prompt' must be a string, a list of strings, a list of token ids, or a list of lists of token ids");
}

absl::StatusOr<int32_t> CheckId(const pb::Value& value, int vocab) {
  const double d = value.number_value();
  if (value.kind_case() != pb::Value::kNumberValue || d != std::floor(d)) return WrongPrompt();
  if (!(d >= 0 && d < vocab)) return BadParam("prompt", absl::StrCat("'prompt' has a token id outside 0..", vocab - 1));
  return static_cast<int32_t>(d);
}

absl::StatusOr<PromptInput> CheckIdList(const pb::ListValue& list, const ApiContext& context) {
  PromptInput prompt;
  prompt.is_ids = true;
  if (list.values_size() == 0) return BadParam("prompt", "'prompt' must not be empty");
  if (list.values_size() > context.context) {
    return ContextOverflow("prompt", false, context.context,
                           absl::StrCat(list.values_size(), " tokens (", list.values_size(), " in the prompt)"));
  }
  for (const auto& value : list.values()) {
    auto id = CheckId(value, context.model->vocab);
    if (!id.ok()) return id.status();
    prompt.ids.push_back(*id);
  }
  return prompt;
}

absl::StatusOr<PromptInput> CheckText(const std::string& text) {
  if (text.empty()) return BadParam("prompt", "'prompt' must not be empty");
  PromptInput prompt;
  prompt.text = text;
  return prompt;
}

absl::StatusOr<std::vector<PromptInput>> CheckPrompts(const pb::Value& value, const ApiContext& context) {
  std::vector<PromptInput> prompts;
  const auto add = [&](absl::StatusOr<PromptInput> prompt) {
    if (prompt.ok()) prompts.push_back(*std::move(prompt));
    return prompt.status();
  };
  if (value.kind_case() == pb::Value::KIND_NOT_SET || value.kind_case() == pb::Value::kNullValue)
    return BadParam("prompt", "'prompt' is required");
  if (value.kind_case() == pb::Value::kStringValue) {
    if (auto s = add(CheckText(value.string_value())); !s.ok()) return s;
    return prompts;
  }
  if (value.kind_case() != pb::Value::kListValue) return WrongPrompt();
  const auto& list = value.list_value().values();
  if (list.empty()) return BadParam("prompt", "'prompt' must not be empty");
  if (list[0].kind_case() == pb::Value::kNumberValue) {
    if (auto s = add(CheckIdList(value.list_value(), context)); !s.ok()) return s;
    return prompts;
  }
  const int limit = context.deployment->limits.prompts;
  if (list.size() > limit)
    return OverLimit("prompts", BadParam("prompt", absl::StrCat("'prompt' may have at most ", limit, " prompts, not ",
                                                                list.size())));
  for (const auto& element : list) {
    if (element.kind_case() != list[0].kind_case())
      return BadParam("prompt", "'prompt' must not mix strings and lists of token ids");
    absl::Status s;
    if (element.kind_case() == pb::Value::kStringValue) {
      s = add(CheckText(element.string_value()));
    } else if (element.kind_case() == pb::Value::kListValue) {
      s = add(CheckIdList(element.list_value(), context));
    } else {
      s = WrongPrompt();
    }
    if (!s.ok()) return s;
  }
  return prompts;
}

}  // namespace

absl::Status CheckModel(const std::string& model, const ApiContext& context) {
  const auto& names = context.names;
  const bool served = model.empty() || std::find(names.begin(), names.end(), model) != names.end();
  return served ? absl::OkStatus() : ModelNotFound(model, names);
}

absl::StatusOr<std::vector<int32_t>> CheckIds(const pb::RepeatedField<int64_t>& ids, const std::string& name,
                                              const ApiContext& context) {
  std::vector<int32_t> checked;
  checked.reserve(ids.size());
  for (const int64_t id : ids) {
    if (id < 0 || id >= context.model->vocab) {
      return BadParam(name, absl::StrCat("'", name, "' has the id ", id, ", outside 0..", context.model->vocab - 1));
    }
    checked.push_back(static_cast<int32_t>(id));
  }
  return checked;
}

absl::StatusOr<CheckedRequest> Check(const v1::ChatCompletionRequest& request, const ApiContext& context) {
  if (auto s = CheckModel(request.model(), context); !s.ok()) return s;
  CheckedRequest out;
  out.model = request.model().empty() ? context.names[0] : request.model();
  out.chat = true;
  auto messages = CheckMessages(request.messages(), context);
  if (!messages.ok()) return messages.status();
  out.messages = *std::move(messages);
  auto options = CheckTemplateOptions(request, context);
  if (!options.ok()) return options.status();
  out.options = *std::move(options);
  if (!request.chat_template().empty()) {
    if (!context.deployment->chat.allow_request_template)
      return BadParam("chat_template", "'chat_template' in a request is not allowed by this server");
    out.options.override_template = request.chat_template();
  }
  if (request.has_max_tokens() && request.has_max_completion_tokens() &&
      request.max_tokens() != request.max_completion_tokens()) {
    return BadParam("max_tokens", "'max_tokens' and 'max_completion_tokens' must not differ");
  }
  if (request.has_max_tokens() || request.has_max_completion_tokens()) {
    const bool newer = request.has_max_completion_tokens();
    const auto s = CheckMaxTokens(newer ? "max_completion_tokens" : "max_tokens",
                                  newer ? request.max_completion_tokens() : request.max_tokens(), 1, context, &out);
    if (!s.ok()) return s;
  }
  Sampling sampling;
  if (auto s = CheckCommon(request, context, &sampling, &out); !s.ok()) return s;
  if (request.has_top_logprobs()) {
    auto top = CheckTopLogprobs("top_logprobs", request.top_logprobs(), context);
    if (!top.ok()) return top.status();
    if (!request.logprobs() && *top > 0) return BadParam("top_logprobs", "'top_logprobs' needs 'logprobs' to be true");
    if (request.logprobs()) sampling.top_logprobs = *top;
  } else if (request.logprobs()) {
    sampling.top_logprobs = 0;
  }
  out.sampling = std::make_shared<const Sampling>(std::move(sampling));
  return out;
}

absl::StatusOr<CheckedRequest> Check(const v1::CompletionRequest& request, const ApiContext& context) {
  if (auto s = CheckModel(request.model(), context); !s.ok()) return s;
  CheckedRequest out;
  out.model = request.model().empty() ? context.names[0] : request.model();
  auto prompts = CheckPrompts(request.prompt(), context);
  if (!prompts.ok()) return prompts.status();
  out.prompts = *std::move(prompts);
  out.add_special_tokens = !request.has_add_special_tokens() || request.add_special_tokens();
  out.echo = request.echo();
  if (request.has_max_tokens()) {
    if (auto s = CheckMaxTokens("max_tokens", request.max_tokens(), out.echo ? 0 : 1, context, &out); !s.ok()) return s;
  }
  Sampling sampling;
  if (auto s = CheckCommon(request, context, &sampling, &out); !s.ok()) return s;
  if (request.has_best_of() && request.best_of() != out.n) {
    return BadParam("best_of", absl::StrCat("'best_of' must equal 'n' (", out.n, "), not ", request.best_of()));
  }
  if (request.has_logprobs()) {
    auto top = CheckTopLogprobs("logprobs", request.logprobs(), context);
    if (!top.ok()) return top.status();
    sampling.top_logprobs = *top;
  }
  out.sampling = std::make_shared<const Sampling>(std::move(sampling));
  return out;
}

}  // namespace pangea
