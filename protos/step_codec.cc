#include "protos/step_codec.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/values.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

void EncodeSampling(const SequenceSampling& sampling, wire::Sampling* out) {
  const Sampling& in = *sampling.params;
  out->set_temperature(in.temperature);
  out->set_top_p(in.top_p);
  out->set_top_k(in.top_k);
  out->set_min_p(in.min_p);
  out->set_presence_penalty(in.presence_penalty);
  out->set_frequency_penalty(in.frequency_penalty);
  out->set_repetition_penalty(in.repetition_penalty);
  out->set_seed(in.seed);
  out->set_choice(sampling.choice);
  out->set_top_logprobs(in.top_logprobs);
  out->set_min_tokens(in.min_tokens);
  out->mutable_end_ids()->Add(in.end_ids.begin(), in.end_ids.end());
  for (const auto& [id, bias] : in.logit_bias) {
    out->add_bias_ids(id);
    out->add_bias_values(bias);
  }
  out->mutable_prompt_ids()->Add(sampling.prompt_ids.begin(), sampling.prompt_ids.end());
  out->mutable_generated_ids()->Add(sampling.generated_ids.begin(), sampling.generated_ids.end());
}

SequenceSampling DecodeSampling(const wire::Sampling& in) {
  Sampling out;
  out.temperature = in.temperature();
  out.top_p = in.top_p();
  out.top_k = in.top_k();
  out.min_p = in.min_p();
  out.presence_penalty = in.presence_penalty();
  out.frequency_penalty = in.frequency_penalty();
  out.repetition_penalty = in.repetition_penalty();
  out.seed = in.seed();
  out.top_logprobs = in.top_logprobs();
  out.min_tokens = in.min_tokens();
  out.end_ids.assign(in.end_ids().begin(), in.end_ids().end());
  const int biases = std::min(in.bias_ids_size(), in.bias_values_size());
  for (int i = 0; i < biases; ++i) out.logit_bias.emplace_back(in.bias_ids(i), in.bias_values(i));
  return {.params = std::make_shared<const Sampling>(std::move(out)),
          .choice = in.choice(),
          .prompt_ids = {in.prompt_ids().begin(), in.prompt_ids().end()},
          .generated_ids = {in.generated_ids().begin(), in.generated_ids().end()}};
}

void EncodeSequence(const StepSequence& in, wire::StepSequence* out) {
  out->set_id(in.id);
  out->set_adapter(in.adapter);
  out->set_start(in.start);
  out->mutable_ids()->Add(in.ids.begin(), in.ids.end());
  out->set_logits(static_cast<int>(in.logits));
  if (in.next_id >= 0) out->set_next_id(in.next_id);
  // Nothing new for any group, as in most steps, is said by no table at all.
  const bool news = std::any_of(in.blocks.begin(), in.blocks.end(), [](const auto& b) { return !b.empty(); });
  if (news || in.whole_tables) {
    for (const auto& blocks : in.blocks) out->add_tables()->mutable_blocks()->Add(blocks.begin(), blocks.end());
  }
  out->set_whole_tables(in.whole_tables);
  out->set_masked(in.masked);
  if (in.sampling) EncodeSampling(*in.sampling, out->mutable_sampling());
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

Sample DecodeSample(const wire::Sample& in) {
  Sample out{.id = in.id(), .logprob = in.logprob()};
  const int alternatives = std::min(in.top_ids_size(), in.top_logprobs_size());
  for (int i = 0; i < alternatives; ++i) out.top.emplace_back(in.top_ids(i), in.top_logprobs(i));
  return out;
}

}  // namespace

void EncodeStep(const Step& in, wire::Step* out) {
  out->set_epoch(in.epoch);
  out->set_number(in.number);
  out->mutable_sequences()->Reserve(static_cast<int>(in.sequences.size()));
  for (const StepSequence& sequence : in.sequences) EncodeSequence(sequence, out->add_sequences());
  out->mutable_ended()->Add(in.ended.begin(), in.ended.end());
  for (const BlockCopy& copy : in.copies) {
    wire::BlockCopy* to = out->add_copies();
    to->set_group(copy.group);
    to->set_from(copy.from);
    to->set_to(copy.to);
  }
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

void EncodeMask(const Mask& in, wire::Mask* out) {
  out->set_epoch(in.epoch);
  out->set_step(in.step);
  out->set_sequence(in.sequence);
  out->set_others(in.allowed.others);
  for (const auto& [word, bits] : in.allowed.words) {
    out->add_words(word);
    out->add_bits(bits);
  }
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

StepResult DecodeResult(const wire::StepResult& in) {
  StepResult out{.epoch = in.epoch(), .number = in.number()};
  out.copy_seconds = in.copy_seconds();
  out.sequences.reserve(in.sequences_size());
  for (const auto& sequence : in.sequences()) {
    SequenceResult& to = out.sequences.emplace_back();
    to.id = sequence.id();
    for (const auto& sample : sequence.samples()) to.samples.push_back(DecodeSample(sample));
    for (const auto& sample : sequence.prompt()) to.prompt.push_back(DecodeSample(sample));
    if (sequence.error_code() != 0) {
      to.status = absl::Status(static_cast<absl::StatusCode>(sequence.error_code()), Printable(sequence.error()));
    }
  }
  return out;
}

void EncodeActivity(const ActivityClock::Totals& in, wire::Activity* out) {
  out->set_now(ActivityClock::Now());
  out->set_since_begin(in.since_begin);
  out->mutable_spent()->Add(in.spent.begin(), in.spent.end());
}

}  // namespace pangea
