#include "pipeline/step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

namespace pangea {
namespace {

const StepLimits kLimits = {.vocab = 100,
                            .block_tokens = 16,
                            .max_rows = 32,
                            .max_sequences = 4,
                            .max_position = 64,
                            .groups = {{.blocks = 10}}};

// Step 41 of the header's example.
Step Good() {
  Step step;
  step.number = 41;
  StepSequence prompt;
  prompt.id = 7;
  prompt.ids.assign(16, 5);
  prompt.blocks = {{4}};
  prompt.sampling = SequenceSampling{};
  StepSequence decode;
  decode.id = 3;
  decode.start = 33;
  decode.ids = {81};
  decode.logits = LogitRows::kLast;
  step.sequences = {prompt, decode};
  step.ended = {1};
  step.copies = {{0, 2, 3}};
  return step;
}

TEST(Step, RowsCountEmptyIdsAsOne) {
  Step step = Good();
  EXPECT_EQ(step.rows(), 17);
  step.sequences[1].ids.clear();
  EXPECT_EQ(step.rows(), 17);
  EXPECT_TRUE(Validate(step, kLimits).ok());
}

TEST(Step, GoodStepsPass) {
  EXPECT_EQ(Validate(Good(), kLimits), absl::OkStatus());
  EXPECT_EQ(Validate(Step{}, kLimits), absl::OkStatus());
  Step resumed = Good();
  resumed.sequences[0].whole_tables = true;
  resumed.sequences[0].sampling->generated_ids = {1, 2};
  resumed.sequences[0].sampling->params = std::make_shared<Sampling>(Sampling{.logit_bias = {{3, -100.0f}, {9, 4.0f}}});
  resumed.ended = {7};
  EXPECT_EQ(Validate(resumed, kLimits), absl::OkStatus()) << "forgotten, then begun anew";
}

struct Attack {
  const char* named;  // must stand in the message
  std::function<void(Step&)> change;
};

TEST(Step, AttacksAreNamed) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  const auto sequence = [](Step& s) -> SequenceSampling& { return *s.sequences[0].sampling; };
  const auto sampling = [=](Step& s) -> Sampling& {  // one of its own
    auto params = std::make_shared<Sampling>(*sequence(s).params);
    sequence(s).params = params;
    return *params;
  };
  const std::vector<Attack> attacks = {
      {"sequences", [](Step& s) { s.sequences.resize(5); }},
      {"rows", [](Step& s) { s.sequences[0].ids.resize(32, 1); }},
      {"twice", [](Step& s) { s.sequences[1].id = 7; }},
      {"ended", [](Step& s) { s.ended = {1, 1}; }},
      {"ended in this very step", [](Step& s) { s.ended = {3}; }},
      {"adapter", [](Step& s) { s.sequences[0].adapter = 1; }},
      {"start", [](Step& s) { s.sequences[0].start = -1; }},
      {"start", [](Step& s) { s.sequences[0].start = 49; }},
      {"start", [](Step& s) { s.sequences[1].start = INT32_MAX; }},
      {"last sample", [](Step& s) { s.sequences[0].ids.clear(); }},
      {"outside the vocabulary", [](Step& s) { s.sequences[0].ids[3] = 100; }},
      {"outside the vocabulary", [](Step& s) { s.sequences[0].ids[3] = -1; }},
      {"logits", [](Step& s) { s.sequences[0].logits = static_cast<LogitRows>(3); }},
      {"cache groups", [](Step& s) { s.sequences[0].blocks.push_back({1}); }},
      {"outside the 10 blocks", [](Step& s) { s.sequences[0].blocks = {{10}}; }},
      {"outside the 10 blocks", [](Step& s) { s.sequences[0].blocks = {{-1}}; }},
      {"occurs twice", [](Step& s) { s.sequences[0].blocks = {{1, 1}}; }},
      {"at most 4", [](Step& s) { s.sequences[0].blocks = {{1, 2, 3, 4, 5}}; }},
      {"whole table", [](Step& s) { s.sequences[1].whole_tables = true, s.sequences[1].blocks = {{1, 2}}; }},
      {"whole tables", [](Step& s) { s.sequences[1].whole_tables = true; }},
      {"temperature", [=](Step& s) { sampling(s).temperature = kNan; }},
      {"temperature", [=](Step& s) { sampling(s).temperature = -1; }},
      {"top_p", [=](Step& s) { sampling(s).top_p = 1.5f; }},
      {"top_k", [=](Step& s) { sampling(s).top_k = -1; }},
      {"min_p", [=](Step& s) { sampling(s).min_p = kNan; }},
      {"presence_penalty", [=](Step& s) { sampling(s).presence_penalty = kInf; }},
      {"frequency_penalty", [=](Step& s) { sampling(s).frequency_penalty = kNan; }},
      {"repetition_penalty", [=](Step& s) { sampling(s).repetition_penalty = 0; }},
      {"repetition_penalty", [=](Step& s) { sampling(s).repetition_penalty = kNan; }},
      {"choice", [=](Step& s) { sequence(s).choice = -1; }},
      {"top_logprobs", [=](Step& s) { sampling(s).top_logprobs = 101; }},
      {"min_tokens", [=](Step& s) { sampling(s).min_tokens = -1; }},
      {"end_ids", [=](Step& s) { sampling(s).end_ids = {100}; }},
      {"prompt_ids", [=](Step& s) { sequence(s).prompt_ids.resize(65, 1); }},
      {"generated_ids", [=](Step& s) { sequence(s).generated_ids = {-5}; }},
      {"logit_bias", [=](Step& s) { sampling(s).logit_bias = {{100, 1.0f}}; }},
      {"ascend", [=](Step& s) { sampling(s).logit_bias = {{5, 1.0f}, {5, 1.0f}}; }},
      {"not finite", [=](Step& s) { sampling(s).logit_bias = {{5, kInf}}; }},
      {"cache group", [](Step& s) { s.copies[0].group = 1; }},
      {"outside the 10 blocks", [](Step& s) { s.copies[0].from = 10; }},
      {"outside the 10 blocks", [](Step& s) { s.copies[0].to = -1; }},
      {"itself", [](Step& s) { s.copies[0].to = 2; }},
      {"written twice", [](Step& s) { s.copies.push_back({0, 5, 3}); }},
  };
  for (const Attack& attack : attacks) {
    Step step = Good();
    attack.change(step);
    const absl::Status status = Validate(step, kLimits);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << attack.named;
    EXPECT_NE(std::string(status.message()).find(attack.named), std::string::npos)
        << attack.named << " is not in: " << status;
  }
}

// Block 3 of a window of 20 positions, in blocks of 16: a row at position 35 sees 16 to 35.
TEST(Step, EveryCacheGroupHasItsOwnLimits) {
  StepLimits limits = kLimits;
  limits.groups.push_back({.blocks = 4, .swap_blocks = 2, .window = 20});
  const auto step = [](StepTables tables, int start, bool whole) {
    Step made;
    StepSequence& s = made.sequences.emplace_back();
    s.id = 1, s.start = start, s.ids = {5}, s.blocks = std::move(tables), s.whole_tables = whole;
    return made;
  };
  EXPECT_EQ(Validate(step({{7, 8, 9}, {1, 2, 3}}, 35, true), limits), absl::OkStatus());
  EXPECT_EQ(Validate(step({{7, 8, 9}, {kNoBlock, 2, 3}}, 35, true), limits), absl::OkStatus());
  EXPECT_EQ(Validate(step({{7}, {3}}, 35, false), limits), absl::OkStatus());
  EXPECT_EQ(Validate(step({}, 35, false), limits), absl::OkStatus());
  const auto refused = [&](const Step& wrong, const char* named) {
    const absl::Status status = Validate(wrong, limits);
    EXPECT_NE(std::string(status.message()).find(named), std::string::npos) << named << " is not in: " << status;
  };
  refused(step({{7, 8, 9}, {1, 2, 4}}, 35, true), "outside the 4 blocks");
  refused(step({{7}}, 35, false), "must name blocks of all 2");
  refused(step({{7, 8, 9}, {1, 2, 1}}, 35, true), "occurs twice");
  refused(step({{7, 8, 9}, {kNoBlock, kNoBlock, 3}}, 35, true), "block -1");
  refused(step({{7, 8, 9}, {kNoBlock, 2, 3}}, 34, true), "block -1");
  refused(step({{kNoBlock, 8, 9}, {1, 2, 3}}, 35, true), "block -1");
  refused(step({{7}, {kNoBlock}}, 35, false), "block -1");
  refused(step({{7, 8, 9}, {2, 3}}, 35, true), "another number of blocks");
  refused(step({{7, 8, 9}}, 35, true), "for all 2 cache groups");
  refused(step({{7}, {3}, {1}}, 35, false), "cache groups");
  Step copies;
  copies.copies = {{0, 9, 2}, {1, 5, 2}, {1, 3, 4}};
  EXPECT_EQ(Validate(copies, limits), absl::OkStatus());
  copies.copies = {{1, 9, 2}};
  refused(copies, "outside the 4 blocks and 2 swap blocks");
  copies.copies = {{0, 10, 2}};
  refused(copies, "outside the 10 blocks and 0 swap blocks");
  copies.copies = {{2, 1, 2}};
  refused(copies, "cache group 2");
}

// 100 ids are one whole word and 36 bits of another.
TEST(Step, MasksAreChecked) {
  const auto allowed = [](bool others, std::vector<std::pair<int32_t, uint64_t>> words) {
    return Mask{.epoch = 1, .step = 2, .sequence = 7, .allowed = {.others = others, .words = std::move(words)}};
  };
  constexpr uint64_t kAll = ~uint64_t{0}, kLast = (uint64_t{1} << 36) - 1;
  for (const Mask& good : {allowed(true, {}), allowed(false, {{0, 1}}), allowed(false, {{0, 0}, {1, kLast}}),
                           allowed(true, {{0, 0}}), allowed(true, {{0, kAll}, {1, 0}})})
    EXPECT_EQ(Validate(good, kLimits), absl::OkStatus());
  const auto refused = [&](const Mask& mask, const char* named) {
    const absl::Status status = Validate(mask, kLimits);
    EXPECT_NE(std::string(status.message()).find(named), std::string::npos) << named << " is not in: " << status;
  };
  refused(allowed(false, {}), "no id is allowed");
  refused(allowed(false, {{0, 0}, {1, 0}}), "no id is allowed");
  refused(allowed(true, {{0, 0}, {1, 0}}), "no id is allowed");
  refused(allowed(true, {{2, 1}}), "outside the 2 words");
  refused(allowed(true, {{-1, 1}}), "outside the 2 words");
  refused(allowed(true, {{1, 1}, {0, 1}}), "must ascend");
  refused(allowed(true, {{1, 1}, {1, 1}}), "must ascend");
  refused(allowed(true, {{1, kLast + 1}}), "outside the vocabulary");
  StepLimits even = kLimits;
  even.vocab = 128;
  EXPECT_EQ(Validate(allowed(false, {{1, kAll}}), even), absl::OkStatus());

  Step step = Good();
  step.sequences[1].masked = true;
  EXPECT_EQ(Validate(step, kLimits), absl::OkStatus());
  step.sequences[0].masked = true;
  EXPECT_NE(std::string(Validate(step, kLimits).message()).find("masked"), std::string::npos);
}

TEST(Step, AMaskContainsWhatItsBitsSay) {
  const AllowedIds few = {.others = false, .words = {{0, 0b1010}, {2, 1}}},
                   most = {.others = true, .words = {{0, ~uint64_t{0b1010}}, {2, ~uint64_t{1}}}};
  for (int32_t id = 0; id < 300; ++id) {
    const bool listed = id == 1 || id == 3 || id == 128;
    EXPECT_EQ(few.Contains(id), listed) << id;
    EXPECT_EQ(most.Contains(id), !listed) << id;
  }
}

}  // namespace
}  // namespace pangea
