#include "agent/mask_box.h"

#include <gtest/gtest.h>

#include <thread>

namespace pangea {
namespace {

// A step with these masked sequences, and one that is not.
Step StepOf(uint64_t epoch, uint64_t number, const std::vector<uint64_t>& masked) {
  Step step{.epoch = epoch, .number = number};
  step.sequences.emplace_back().id = 1000;
  for (const uint64_t id : masked) {
    StepSequence& sequence = step.sequences.emplace_back();
    sequence.id = id;
    sequence.masked = true;
  }
  return step;
}

Mask MaskOf(uint64_t epoch, uint64_t step, uint64_t sequence, uint64_t bits) {
  return {.epoch = epoch, .step = step, .sequence = sequence, .allowed = {.words = {{0, bits}}}};
}

class MaskBoxTest : public ::testing::Test {
 protected:
  MaskBoxTest() {
    box_.Open(absl::Seconds(200));
    box_.BeginEpoch(1);
  }
  uint64_t BitsOf(const Step& step, uint64_t sequence) {
    const auto allowed = box_.Take(step, sequence);
    EXPECT_TRUE(allowed.ok()) << allowed.status();
    return allowed.ok() ? allowed->words.at(0).second : 0;
  }
  MaskBox box_;
};

TEST_F(MaskBoxTest, EveryDrawGetsItsOwn) {
  const Step first = StepOf(1, 1, {7, 8}), second = StepOf(1, 2, {7});
  box_.Expect(first);
  box_.Expect(second);
  for (const Mask& mask : {MaskOf(1, 2, 7, 0x27), MaskOf(1, 1, 8, 0x18), MaskOf(1, 1, 7, 0x17)})
    EXPECT_EQ(box_.Deliver(mask), absl::OkStatus());
  EXPECT_EQ(BitsOf(first, 7), 0x17u);
  EXPECT_EQ(BitsOf(first, 8), 0x18u);
  EXPECT_EQ(BitsOf(second, 7), 0x27u);
}

TEST_F(MaskBoxTest, ADrawWaitsForAMaskThatComesLater) {
  const Step step = StepOf(1, 1, {7});
  box_.Expect(step);
  std::thread control([&] { EXPECT_EQ(box_.Deliver(MaskOf(1, 1, 7, 5)), absl::OkStatus()); });
  EXPECT_EQ(BitsOf(step, 7), 5u);
  control.join();
}

// The stream that brings the masks must not be held back for the step that waits for one.
TEST_F(MaskBoxTest, SaysWhetherItWaitsForOne) {
  const Step step = StepOf(1, 1, {7, 8});
  EXPECT_FALSE(box_.Waiting());
  box_.Expect(step);
  EXPECT_TRUE(box_.Waiting());
  EXPECT_TRUE(box_.Deliver(MaskOf(1, 1, 7, 5)).ok());
  EXPECT_TRUE(box_.Waiting()) << "for the other";
  EXPECT_TRUE(box_.Deliver(MaskOf(1, 1, 8, 5)).ok());
  EXPECT_FALSE(box_.Waiting());
}

TEST_F(MaskBoxTest, AWaitIsBounded) {
  box_.Open(absl::Milliseconds(1));
  const Step step = StepOf(1, 12, {7});
  box_.Expect(step);
  const absl::Status status = box_.Take(step, 7).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(status.message(), "step 12, sequence 7: its mask did not come within 1ms");
}

TEST_F(MaskBoxTest, OnlyWhatAStepAskedForIsKept) {
  box_.Expect(StepOf(1, 1, {7}));
  for (const Mask& wrong : {MaskOf(1, 2, 7, 1), MaskOf(1, 1, 1000, 1), MaskOf(1, 1, 9, 1)})
    EXPECT_EQ(box_.Deliver(wrong).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(box_.Deliver(MaskOf(1, 1, 7, 1)), absl::OkStatus());
  EXPECT_EQ(box_.Deliver(MaskOf(1, 1, 7, 1)).code(), absl::StatusCode::kInvalidArgument) << "twice";
  EXPECT_EQ(box_.Take(StepOf(1, 1, {7}), 9).status().code(), absl::StatusCode::kInternal);
}

// A sequence may fail before it draws: its mask is dropped with the step, or when it comes afterwards.
TEST_F(MaskBoxTest, AStepThatIsDoneNeedsNoMask) {
  box_.Expect(StepOf(1, 1, {7, 8}));
  box_.Expect(StepOf(1, 2, {9}));
  EXPECT_EQ(box_.Deliver(MaskOf(1, 1, 7, 1)), absl::OkStatus());
  box_.Forget(StepOf(1, 1, {7, 8}));
  EXPECT_EQ(box_.Deliver(MaskOf(1, 1, 8, 1)), absl::OkStatus());
  EXPECT_EQ(box_.Take(StepOf(1, 1, {7}), 7).status().code(), absl::StatusCode::kInternal) << "it is gone";
  EXPECT_EQ(box_.Deliver(MaskOf(1, 2, 9, 3)), absl::OkStatus());
  EXPECT_EQ(BitsOf(StepOf(1, 2, {9}), 9), 3u) << "of a later step it is kept";
}

TEST_F(MaskBoxTest, ANewEpochEndsWaitsAndMasksOfTheOldOne) {
  const Step old = StepOf(1, 1, {7});
  box_.Expect(old);
  std::thread control([&] { box_.BeginEpoch(2); });
  EXPECT_EQ(box_.Take(old, 7).status(), absl::AbortedError("epoch 1 is over"));
  control.join();
  box_.Expect(old);
  EXPECT_EQ(box_.Deliver(MaskOf(1, 1, 7, 1)), absl::OkStatus()) << "late, and no fault";
  const Step step = StepOf(2, 1, {7});
  box_.Expect(step);
  EXPECT_EQ(box_.Deliver(MaskOf(2, 1, 7, 6)), absl::OkStatus());
  EXPECT_EQ(BitsOf(step, 7), 6u);
}

TEST_F(MaskBoxTest, AnAbortEndsAWait) {
  const Step step = StepOf(1, 1, {7});
  box_.Expect(step);
  std::thread control([&] { box_.Abort(absl::AbortedError("the master is gone")); });
  EXPECT_EQ(box_.Take(step, 7).status(), absl::AbortedError("the master is gone"));
  control.join();
  EXPECT_EQ(box_.Take(step, 7).status(), absl::AbortedError("the master is gone")) << "and every later one";
}

}  // namespace
}  // namespace pangea
