#include "agent/service_codec.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

Sampling DecodeSampling(const wire::Sampling& in) {
  Sampling out;
  out.temperature = in.temperature();
  out.top_p = in.top_p();
  out.top_k = in.top_k();
  out.min_p = in.min_p();
  out.presence_penalty = in.presence_penalty();
  out.frequency_penalty = in.frequency_penalty();
  out.repetition_penalty = in.repetition_penalty();
  out.seed = in.seed();
  out.choice = in.choice();
  out.top_logprobs = in.top_logprobs();
  out.min_tokens = in.min_tokens();
  out.end_ids.assign(in.end_ids().begin(), in.end_ids().end());
  const int biases = std::min(in.bias_ids_size(), in.bias_values_size());
  for (int i = 0; i < biases; ++i) out.logit_bias.emplace_back(in.bias_ids(i), in.bias_values(i));
  out.prompt_ids.assign(in.prompt_ids().begin(), in.prompt_ids().end());
  out.generated_ids.assign(in.generated_ids().begin(), in.generated_ids().end());
  return out;
}

StepSequence DecodeSequence(const wire::StepSequence& in) {
  StepSequence out;
  out.id = in.id();
  out.adapter = in.adapter();
  out.start = in.start();
  out.ids.assign(in.ids().begin(), in.ids().end());
  // An unknown value must not become a known one in the cast; Validate refuses it.
  out.logits = static_cast<LogitRows>(in.logits() < 0 || in.logits() > 255 ? 255 : in.logits());
  if (in.has_next_id()) out.next_id = in.next_id();
  for (const auto& table : in.tables()) out.blocks.emplace_back(table.blocks().begin(), table.blocks().end());
  out.whole_tables = in.whole_tables();
  out.masked = in.masked();
  if (in.has_sampling()) out.sampling = DecodeSampling(in.sampling());
  return out;
}

void EncodeSample(const Sample& in, wire::Sample* out) {
  out->set_id(in.id);
  out->set_logprob(in.logprob);
  for (const auto& [id, logprob] : in.top) {
    out->add_top_ids(id);
    out->add_top_logprobs(logprob);
  }
}

}  // namespace

void EncodeActivity(const ActivityClock::Totals& in, wire::Activity* out) {
  out->set_now(ActivityClock::Now());
  out->set_since_begin(in.since_begin);
  out->mutable_spent()->Add(in.spent.begin(), in.spent.end());
}

Step DecodeStep(const wire::Step& in) {
  Step out;
  out.epoch = in.epoch();
  out.number = in.number();
  out.sequences.reserve(in.sequences_size());
  for (const auto& sequence : in.sequences()) out.sequences.push_back(DecodeSequence(sequence));
  out.ended.assign(in.ended().begin(), in.ended().end());
  for (const auto& copy : in.copies())
    out.copies.push_back({.group = copy.group(), .from = copy.from(), .to = copy.to()});
  return out;
}

absl::StatusOr<Mask> DecodeMask(const wire::Mask& in, int32_t vocab) {
  if (in.words_size() > MaskWords(vocab) || in.words_size() != in.bits_size()) {
    return absl::InvalidArgumentError(absl::StrCat("mask of sequence ", in.sequence(), ": has ", in.words_size(),
                                                   " words and ", in.bits_size(), " bits, at most ", MaskWords(vocab)));
  }
  Mask out{.epoch = in.epoch(), .step = in.step(), .sequence = in.sequence(), .allowed = {.others = in.others()}};
  out.allowed.words.reserve(in.words_size());
  for (int i = 0; i < in.words_size(); ++i) out.allowed.words.emplace_back(in.words(i), in.bits(i));
  return out;
}

void EncodeResult(const StepResult& in, wire::StepResult* out) {
  out->set_epoch(in.epoch);
  out->set_number(in.number);
  out->set_copy_seconds(in.copy_seconds);
  for (const SequenceResult& sequence : in.sequences) {
    wire::SequenceResult* to = out->add_sequences();
    to->set_id(sequence.id);
    for (const Sample& sample : sequence.samples) EncodeSample(sample, to->add_samples());
    for (const Sample& sample : sequence.prompt) EncodeSample(sample, to->add_prompt());
    if (!sequence.status.ok()) {
      to->set_error_code(static_cast<int>(sequence.status.code()));
      to->set_error(std::string(sequence.status.message()));
    }
  }
}

}  // namespace pangea
