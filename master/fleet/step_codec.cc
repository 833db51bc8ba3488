#include "master/fleet/step_codec.h"

#include <algorithm>

#include "configs/values.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

void EncodeSampling(const Sampling& in, wire::Sampling* out) {
  out->set_temperature(in.temperature);
  out->set_top_p(in.top_p);
  out->set_top_k(in.top_k);
  out->set_min_p(in.min_p);
  out->set_presence_penalty(in.presence_penalty);
  out->set_frequency_penalty(in.frequency_penalty);
  out->set_repetition_penalty(in.repetition_penalty);
  out->set_seed(in.seed);
  out->set_choice(in.choice);
  out->set_top_logprobs(in.top_logprobs);
  out->set_min_tokens(in.min_tokens);
  out->mutable_end_ids()->Add(in.end_ids.begin(), in.end_ids.end());
  for (const auto& [id, bias] : in.logit_bias) {
    out->add_bias_ids(id);
    out->add_bias_values(bias);
  }
  out->mutable_prompt_ids()->Add(in.prompt_ids.begin(), in.prompt_ids.end());
  out->mutable_generated_ids()->Add(in.generated_ids.begin(), in.generated_ids.end());
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
  for (const StepSequence& sequence : in.sequences) {
    wire::StepSequence* to = out->add_sequences();
    to->set_id(sequence.id);
    to->set_adapter(sequence.adapter);
    to->set_start(sequence.start);
    to->mutable_ids()->Add(sequence.ids.begin(), sequence.ids.end());
    to->set_logits(static_cast<int>(sequence.logits));
    if (sequence.next_id >= 0) to->set_next_id(sequence.next_id);
    // Nothing new for any group, as in most steps, is said by no table at all.
    const bool news =
        std::any_of(sequence.blocks.begin(), sequence.blocks.end(), [](const auto& b) { return !b.empty(); });
    if (news || sequence.whole_tables) {
      for (const auto& blocks : sequence.blocks) to->add_tables()->mutable_blocks()->Add(blocks.begin(), blocks.end());
    }
    to->set_whole_tables(sequence.whole_tables);
    to->set_masked(sequence.masked);
    if (sequence.sampling) EncodeSampling(*sequence.sampling, to->mutable_sampling());
  }
  out->mutable_ended()->Add(in.ended.begin(), in.ended.end());
  for (const BlockCopy& copy : in.copies) {
    wire::BlockCopy* to = out->add_copies();
    to->set_group(copy.group);
    to->set_from(copy.from);
    to->set_to(copy.to);
  }
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

}  // namespace pangea
