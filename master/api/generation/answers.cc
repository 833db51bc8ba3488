#include "master/api/generation/answers.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "master/api/generation/context.h"
#include "master/text/utf8.h"

namespace pangea {
namespace {

namespace pb = google::protobuf;

constexpr double kImpossible = -9999;  // what OpenAI's servers write for minus infinity, which JSON has not

double Logprob(float value) { return std::isfinite(value) ? std::max<double>(value, kImpossible) : kImpossible; }

// The id's bytes as text: what is no UTF-8 by itself becomes U+FFFD, once a broken run.
std::string Readable(const std::string& bytes) {
  std::string text;
  bool broken = false;
  for (size_t at = 0; at < bytes.size();) {
    const size_t n = CharacterBytes(std::string_view(bytes).substr(at));
    if (n > 0) {
      text.append(bytes, at, n);
    } else if (!broken) {
      text += "\uFFFD";
    }
    broken = n == 0;
    at += std::max<size_t>(n, 1);
  }
  return text;
}

// /v1/completions maps texts to numbers: two ids that are different broken bytes need different names, as OpenAI's
// servers give.
std::string UniqueName(const std::string& bytes) {
  if (IsUtf8(bytes)) return bytes;
  std::string text = "bytes:";
  for (const unsigned char c : bytes) text += absl::StrFormat("\\x%02x", c);
  return text;
}

template <class M>
void FillHead(const Generation& g, const char* object, M* message) {
  message->set_id(g.id());
  message->set_object(object);
  message->set_created(g.created());
  message->set_model(g.request().model);
  message->set_system_fingerprint(g.context().fingerprint.Get());
}

void FillUsage(const Generation& g, v1::Usage* usage) {
  usage->set_prompt_tokens(g.prompt_tokens());
  usage->set_completion_tokens(g.completion_tokens());
  usage->set_total_tokens(g.prompt_tokens() + g.completion_tokens());
  usage->mutable_prompt_tokens_details()->set_cached_tokens(g.cached_tokens());
}

// What was given out up to this chunk.
void FillRunningUsage(const Generation& g, v1::Usage* usage) {
  FillUsage(g, usage);
  usage->set_completion_tokens(g.told_tokens());
  usage->set_total_tokens(g.prompt_tokens() + g.told_tokens());
}

template <class M>
void FillToken(const Text& text, int32_t id, float logprob, M* token) {
  const std::string bytes = text.Bytes(id);
  token->set_token(Readable(bytes));
  token->set_logprob(Logprob(logprob));
  for (const unsigned char c : bytes) token->add_bytes(c);
}

void FillChatLogprobs(const Generation& g, const AnswerPiece& piece, v1::ChatLogprobs* logprobs) {
  const Text& text = *g.context().text;
  const size_t alternatives = g.request().sampling->top_logprobs;
  for (const GeneratedToken& token : piece.tokens) {
    v1::TokenLogprob* entry = logprobs->add_content();
    FillToken(text, token.sample.id, token.sample.logprob, entry);
    for (size_t i = 0; i < std::min(alternatives, token.sample.top.size()); ++i) {
      FillToken(text, token.sample.top[i].first, token.sample.top[i].second, entry->add_top_logprobs());
    }
  }
}

void AddCompletionToken(const Generation& g, const Sample& sample, int64_t offset, v1::CompletionLogprobs* logprobs) {
  const Text& text = *g.context().text;
  const size_t alternatives = g.request().sampling->top_logprobs;
  const std::string name = UniqueName(text.Bytes(sample.id));
  logprobs->add_tokens(name);
  logprobs->add_text_offset(offset);
  logprobs->mutable_token_logprobs()->add_values()->set_number_value(Logprob(sample.logprob));
  auto& fields = *logprobs->mutable_top_logprobs()->add_values()->mutable_struct_value()->mutable_fields();
  // The token itself is always there, as one more when it is none of the best; of equal names the best stays.
  for (size_t i = 0; i < std::min(alternatives, sample.top.size()); ++i) {
    const auto [it, added] = fields.insert({UniqueName(text.Bytes(sample.top[i].first)), {}});
    if (added) it->second.set_number_value(Logprob(sample.top[i].second));
  }
  const auto [it, added] = fields.insert({name, {}});
  if (added) it->second.set_number_value(Logprob(sample.logprob));
}

void AddPromptLogprobs(const Generation& g, int prompt, v1::CompletionLogprobs* logprobs) {
  const auto& ids = g.prompt_ids(prompt);
  const auto& offsets = g.prompt_offsets(prompt);
  logprobs->add_tokens(UniqueName(g.context().text->Bytes(ids[0])));
  logprobs->add_text_offset(offsets[0]);
  logprobs->mutable_token_logprobs()->add_values()->set_null_value(pb::NULL_VALUE);  // nothing comes before the first
  logprobs->mutable_top_logprobs()->add_values()->set_null_value(pb::NULL_VALUE);
  const auto& samples = g.prompt_samples(prompt);
  for (size_t i = 0; i < samples.size() && i + 1 < ids.size(); ++i)
    AddCompletionToken(g, samples[i], offsets[i + 1], logprobs);
}

}  // namespace

v1::ChatCompletionChunk ChatChunk(const Generation& g, const AnswerPiece& piece) {
  v1::ChatCompletionChunk chunk;
  FillHead(g, "chat.completion.chunk", &chunk);
  if (g.request().continuous_usage) FillRunningUsage(g, chunk.mutable_usage());
  v1::ChatChunkChoice* choice = chunk.add_choices();
  choice->set_index(piece.index);
  v1::ChatDelta* delta = choice->mutable_delta();
  if (piece.first) {
    delta->set_role("assistant");
    delta->set_content("");
    if (g.request().return_token_ids && piece.index == 0) {
      for (const int32_t id : g.prompt_ids(piece.prompt)) chunk.add_prompt_token_ids(id);
    }
  } else if (!piece.finish.empty()) {
    choice->set_finish_reason(piece.finish);
  } else {
    delta->set_content(piece.text);
    if (g.request().sampling->top_logprobs >= 0) FillChatLogprobs(g, piece, choice->mutable_logprobs());
    if (g.request().return_token_ids) {
      for (const auto& token : piece.tokens) choice->add_token_ids(token.sample.id);
    }
  }
  return chunk;
}

v1::CompletionResponse CompletionChunk(const Generation& g, const AnswerPiece& piece) {
  v1::CompletionResponse chunk;
  FillHead(g, "text_completion", &chunk);
  if (g.request().continuous_usage) FillRunningUsage(g, chunk.mutable_usage());
  v1::CompletionChoice* choice = chunk.add_choices();
  choice->set_index(piece.index);
  choice->set_text(piece.text);
  if (!piece.finish.empty()) choice->set_finish_reason(piece.finish);
  if (g.request().return_token_ids) {
    if (piece.first) {
      for (const int32_t id : g.prompt_ids(piece.prompt)) choice->add_prompt_token_ids(id);
    }
    for (const auto& token : piece.tokens) choice->add_token_ids(token.sample.id);
  }
  if (g.request().sampling->top_logprobs < 0 || !piece.finish.empty()) return chunk;
  if (piece.first && !g.request().echo) return chunk;
  v1::CompletionLogprobs* logprobs = choice->mutable_logprobs();
  if (piece.first) AddPromptLogprobs(g, piece.prompt, logprobs);
  for (const auto& token : piece.tokens) AddCompletionToken(g, token.sample, token.offset, logprobs);
  return chunk;
}

v1::ChatCompletionChunk ChatUsageChunk(const Generation& g) {
  v1::ChatCompletionChunk chunk;
  FillHead(g, "chat.completion.chunk", &chunk);
  FillUsage(g, chunk.mutable_usage());
  return chunk;
}

v1::CompletionResponse CompletionUsageChunk(const Generation& g) {
  v1::CompletionResponse chunk;
  FillHead(g, "text_completion", &chunk);
  FillUsage(g, chunk.mutable_usage());
  return chunk;
}

ChatCollector::ChatCollector(const Generation& g) {
  FillHead(g, "chat.completion", &response_);
  const int choices = g.prompts() * g.request().n;
  for (int i = 0; i < choices; ++i) {
    v1::ChatChoice* choice = response_.add_choices();
    choice->set_index(i);
    choice->mutable_message()->set_role("assistant");
    if (g.request().sampling->top_logprobs >= 0) choice->mutable_logprobs();
  }
}

void ChatCollector::Add(v1::ChatCompletionChunk chunk) {
  response_.mutable_prompt_token_ids()->MergeFrom(chunk.prompt_token_ids());
  for (v1::ChatChunkChoice& from : *chunk.mutable_choices()) {
    v1::ChatChoice* choice = response_.mutable_choices(static_cast<int>(from.index()));
    choice->mutable_message()->mutable_content()->append(from.delta().content());
    if (from.has_logprobs()) choice->mutable_logprobs()->MergeFrom(from.logprobs());
    choice->mutable_token_ids()->MergeFrom(from.token_ids());
    if (from.has_finish_reason()) choice->set_finish_reason(from.finish_reason());
  }
}

v1::ChatCompletionResponse ChatCollector::Take(const Generation& g) {
  FillUsage(g, response_.mutable_usage());
  return std::move(response_);
}

CompletionCollector::CompletionCollector(const Generation& g) {
  FillHead(g, "text_completion", &response_);
  const int choices = g.prompts() * g.request().n;
  for (int i = 0; i < choices; ++i) {
    v1::CompletionChoice* choice = response_.add_choices();
    choice->set_index(i);
    if (g.request().sampling->top_logprobs >= 0) {
      choice->mutable_logprobs()->mutable_token_logprobs();
      choice->mutable_logprobs()->mutable_top_logprobs();
    }
  }
}

void CompletionCollector::Add(v1::CompletionResponse chunk) {
  for (v1::CompletionChoice& from : *chunk.mutable_choices()) {
    v1::CompletionChoice* choice = response_.mutable_choices(static_cast<int>(from.index()));
    choice->mutable_text()->append(from.text());
    if (from.has_logprobs()) choice->mutable_logprobs()->MergeFrom(from.logprobs());
    choice->mutable_token_ids()->MergeFrom(from.token_ids());
    choice->mutable_prompt_token_ids()->MergeFrom(from.prompt_token_ids());
    if (from.has_finish_reason()) choice->set_finish_reason(from.finish_reason());
  }
}

v1::CompletionResponse CompletionCollector::Take(const Generation& g) {
  FillUsage(g, response_.mutable_usage());
  return std::move(response_);
}

}  // namespace pangea
