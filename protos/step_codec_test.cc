// What the master encodes the agent decodes, and the other way round: every field differs from its default.
#include "protos/step_codec.h"

#include <set>

#include "gtest/gtest.h"

namespace pangea {
namespace {

// Every struct of step.h taken apart by name: a member more does not compile here, and then belongs into the messages,
// the codec and the tests below.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-variable"
[[maybe_unused]] void EveryMemberIsNamed(const Step& step, const StepResult& result, const Mask& mask) {
  const auto& [mask_epoch, mask_step, mask_sequence, allowed] = mask;
  const auto& [others, words] = allowed;
  const auto& [epoch, number, sequences, ended, copies] = step;
  const auto& [id, adapter, start, ids, logits, next_id, blocks, whole_tables, sampling, masked] = sequences[0];
  const auto& [params, choice, prompt_ids, generated_ids] = *sampling;
  const auto& [temperature, top_p, top_k, min_p, presence, frequency, repetition, seed, top_logprobs, min_tokens,
               end_ids, logit_bias] = *params;
  const auto& [group, from, to] = copies[0];
  const auto& [result_epoch, result_number, results, copy_seconds] = result;
  const auto& [result_id, samples, prompt, status] = results[0];
  const auto& [sample_id, logprob, top] = samples[0];
}
#pragma GCC diagnostic pop

// The fields of a message, and of all messages in it, that are never set in it: what an encoder forgot.
void AddUnset(const google::protobuf::Message& message, std::set<std::string>* unset, std::set<std::string>* set) {
  const auto* reflection = message.GetReflection();
  const auto* type = message.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const auto* field = type->field(i);
    const bool present =
        field->is_repeated() ? reflection->FieldSize(message, field) > 0 : reflection->HasField(message, field);
    (present ? set : unset)->insert(std::string(field->full_name()));
    if (!present || field->cpp_type() != field->CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      AddUnset(reflection->GetMessage(message, field), unset, set);
      continue;
    }
    for (int j = 0; j < reflection->FieldSize(message, field); ++j)
      AddUnset(reflection->GetRepeatedMessage(message, field, j), unset, set);
  }
}
std::set<std::string> NeverSet(const google::protobuf::Message& message) {
  std::set<std::string> unset, set;
  AddUnset(message, &unset, &set);
  for (const std::string& name : set) unset.erase(name);
  return unset;
}

TEST(StepCodecTest, StepSurvivesTheWire) {
  Step step{.epoch = 3, .number = 41};
  StepSequence full{.id = 7, .adapter = 2, .start = 16, .ids = {5, 6, 9}, .logits = LogitRows::kAll};
  full.next_id = 11;
  full.blocks = {{4, 9}, {}, {kNoBlock, 1}};
  full.whole_tables = true;
  full.masked = true;
  const Sampling params = {.temperature = 0.5f,
                           .top_p = 0.25f,
                           .top_k = 40,
                           .min_p = 0.125f,
                           .presence_penalty = 1.5f,
                           .frequency_penalty = -1.25f,
                           .repetition_penalty = 1.75f,
                           .seed = 0xfedcba9876543210,
                           .top_logprobs = 5,
                           .min_tokens = 6,
                           .end_ids = {2, 8},
                           .logit_bias = {{1, -100}, {4, 2.5f}}};
  full.sampling = {
      .params = std::make_shared<Sampling>(params), .choice = 3, .prompt_ids = {10, 11}, .generated_ids = {12, 13, 14}};
  const StepSequence decodes{.id = 8, .start = 33, .logits = LogitRows::kLast, .blocks = {{}, {}, {}}};
  const StepSequence grows{.id = 9, .start = 15, .blocks = {{}, {3}, {}}};
  step.sequences = {full, decodes, grows};
  step.ended = {1, 0xffffffffffffffff};
  step.copies = {{.group = 1, .from = 2, .to = 3}};
  agent::v1::Step message;
  EncodeStep(step, &message);
  agent::v1::Step received;
  ASSERT_TRUE(received.ParseFromString(message.SerializeAsString()));
  EXPECT_EQ(NeverSet(received), std::set<std::string>{}) << "a field that EncodeStep does not fill";
  const Step back = DecodeStep(received);
  agent::v1::Step again;
  EncodeStep(back, &again);
  EXPECT_EQ(again.SerializeAsString(), message.SerializeAsString()) << "a field that DecodeStep does not read";

  EXPECT_EQ(back.epoch, 3u);
  EXPECT_EQ(back.number, 41u);
  ASSERT_EQ(back.sequences.size(), 3u);
  const StepSequence& s = back.sequences[0];
  EXPECT_EQ(s.id, 7u);
  EXPECT_EQ(s.adapter, 2);
  EXPECT_EQ(s.start, 16);
  EXPECT_EQ(s.ids, full.ids);
  EXPECT_EQ(s.logits, LogitRows::kAll);
  EXPECT_EQ(s.next_id, 11);
  EXPECT_EQ(s.blocks, full.blocks);
  EXPECT_TRUE(s.whole_tables);
  EXPECT_TRUE(s.masked);
  EXPECT_FALSE(back.sequences[1].masked);
  ASSERT_TRUE(s.sampling);
  EXPECT_EQ(s.sampling->choice, 3);
  EXPECT_EQ(s.sampling->prompt_ids, full.sampling->prompt_ids);
  EXPECT_EQ(s.sampling->generated_ids, full.sampling->generated_ids);
  const Sampling &a = *s.sampling->params, &b = params;
  EXPECT_EQ(std::tie(a.temperature, a.top_p, a.top_k, a.min_p, a.presence_penalty, a.frequency_penalty,
                     a.repetition_penalty, a.seed, a.top_logprobs, a.min_tokens, a.end_ids, a.logit_bias),
            std::tie(b.temperature, b.top_p, b.top_k, b.min_p, b.presence_penalty, b.frequency_penalty,
                     b.repetition_penalty, b.seed, b.top_logprobs, b.min_tokens, b.end_ids, b.logit_bias));
  EXPECT_TRUE(back.sequences[1].ids.empty());
  EXPECT_EQ(back.sequences[1].next_id, StepSequence().next_id);
  EXPECT_FALSE(back.sequences[1].sampling);
  EXPECT_FALSE(back.sequences[1].whole_tables);
  EXPECT_TRUE(back.sequences[1].blocks.empty()) << "nothing new for any group needs no words";
  EXPECT_EQ(back.sequences[2].blocks, step.sequences[2].blocks) << "every group keeps its place";
  EXPECT_EQ(back.ended, step.ended);
  ASSERT_EQ(back.copies.size(), 1u);
  EXPECT_EQ(back.copies[0].group, 1);
  EXPECT_EQ(back.copies[0].from, 2);
  EXPECT_EQ(back.copies[0].to, 3);
}

TEST(StepCodecTest, ResultSurvivesTheWire) {
  StepResult result{.epoch = 3, .number = 41, .copy_seconds = 0.25};
  result.sequences = {{.id = 7,
                       .samples = {{.id = 5, .logprob = -0.5f, .top = {{5, -0.5f}, {6, -1.5f}}}},
                       .prompt = {{.id = 1, .logprob = -2, .top = {{1, -2}}}, {.id = 2, .logprob = -3}}},
                      {.id = 8, .status = absl::InternalError("NaN in the logits")}};
  agent::v1::StepResult message;
  EncodeResult(result, &message);
  agent::v1::StepResult received;
  ASSERT_TRUE(received.ParseFromString(message.SerializeAsString()));
  // What the session adds: where the time went, and the timeline's traces.
  EXPECT_EQ(NeverSet(received),
            (std::set<std::string>{"pangea.agent.v1.StepResult.activity", "pangea.agent.v1.StepResult.traces"}))
      << "a field that EncodeResult does not fill";
  const StepResult back = DecodeResult(received);
  agent::v1::StepResult again;
  EncodeResult(back, &again);
  EXPECT_EQ(again.SerializeAsString(), message.SerializeAsString()) << "a field that DecodeResult does not read";
  EXPECT_EQ(back.epoch, 3u);
  EXPECT_EQ(back.number, 41u);
  ASSERT_EQ(back.sequences.size(), 2u);
  const SequenceResult& s = back.sequences[0];
  EXPECT_TRUE(s.status.ok());
  ASSERT_EQ(s.samples.size(), 1u);
  EXPECT_EQ(s.samples[0].id, 5);
  EXPECT_EQ(s.samples[0].logprob, -0.5f);
  EXPECT_EQ(s.samples[0].top, result.sequences[0].samples[0].top);
  ASSERT_EQ(s.prompt.size(), 2u);
  EXPECT_EQ(s.prompt[1].logprob, -3);
  EXPECT_EQ(back.sequences[1].status, absl::InternalError("NaN in the logits"));
}

TEST(StepCodecTest, MaskSurvivesTheWire) {
  const Mask mask{.epoch = 3,
                  .step = 41,
                  .sequence = 0xfedcba9876543210,
                  .allowed = {.others = true, .words = {{0, 5}, {3, ~uint64_t{0}}}}};
  agent::v1::Mask message, received;
  EncodeMask(mask, &message);
  ASSERT_TRUE(received.ParseFromString(message.SerializeAsString()));
  EXPECT_EQ(NeverSet(received), std::set<std::string>{}) << "a field that EncodeMask does not fill";
  const auto back = DecodeMask(received, 256);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->epoch, 3u);
  EXPECT_EQ(back->step, 41u);
  EXPECT_EQ(back->sequence, mask.sequence);
  EXPECT_TRUE(back->allowed.others);
  EXPECT_EQ(back->allowed.words, mask.allowed.words);
}

// Before anything is made of it.
TEST(StepCodecTest, AMaskThatIsTooLongOrTornIsRefused) {
  agent::v1::Mask message;
  for (int i = 0; i < 4; ++i) message.add_words(i), message.add_bits(1);
  EXPECT_TRUE(DecodeMask(message, 256).ok());
  EXPECT_FALSE(DecodeMask(message, 192).ok());
  message.add_bits(1);
  EXPECT_FALSE(DecodeMask(message, 100000).ok());
  message.clear_bits();
  EXPECT_FALSE(DecodeMask(message, 100000).ok());
}

// A value that is none of LogitRows' must reach Validate as such.
TEST(StepCodecTest, UnknownLogitRowsAreNotMistaken) {
  for (int value : {3, 256, 257, -1, 1 << 30}) {
    agent::v1::Step message;
    agent::v1::StepSequence* s = message.add_sequences();
    s->set_id(1);
    s->add_ids(1);
    s->add_tables()->add_blocks(0);
    s->set_logits(value);
    const StepLimits limits{
        .vocab = 10, .max_rows = 8, .max_sequences = 2, .max_position = 64, .groups = {{.blocks = 4}}};
    EXPECT_FALSE(Validate(DecodeStep(message), limits).ok()) << value;
  }
}

}  // namespace
}  // namespace pangea
