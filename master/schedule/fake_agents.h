// Test only. Agents without arithmetic: a StepPort that obeys steps on simulated pages and checks every rule of
// pipeline/step.h. A page slot holds the id and a hash of the whole prefix up to it; "attention" walks the tables of
// all cache groups, as far as their windows look back, and verifies that it sees exactly the prefix. The next id is a
// hash of what the table holds, of the seed, the choice and what was generated, so a wrong page changes the text.
#pragma once
#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "master/schedule/engine.h"
#include "master/schedule/step_port.h"

namespace pangea {

constexpr int32_t kFakeVocab = 97;

uint64_t Mix(uint64_t a, uint64_t b);
// The deterministic model. prefix: hash of all ids up to and with the newest; generated: of those generated before.
// Under a mask, the next id that it allows; allowed may be null.
Sample FakeSample(uint64_t prefix, const SequenceSampling& sampling, const std::vector<int32_t>& generated,
                  const AllowedIds* allowed);
// The mask that a client gives for a choice's id number `index`.
AllowedIds FakeMask(uint64_t seed, int choice, int index);
Sample FakePromptSample(uint64_t prefix, int32_t next_id, const Sampling& sampling);
// What a request must give, computed without engine or agents: plain recomputation.
struct Expected {
  std::vector<Sample> samples;
  FinishReason finish = FinishReason::kNone;
  bool fails = false;  // after these samples
};
Expected ExpectedOf(const SequenceRequest& request, int choice, int capacity);
std::vector<Sample> ExpectedPrompt(const SequenceRequest& request);
bool SameSample(const Sample& a, const Sample& b);

class FakeAgents : public StepPort {
 public:
  // In no epoch yet.
  explicit FakeAgents(const EngineOptions& options);
  void Send(const Step& step) override;
  void SendMask(const Mask& mask) override;
  // Their groups are broken: what is under way, and what is sent from now on, is never answered in time.
  void Break();
  // They have formed their groups for a newer epoch; their processes may be others. layout: theirs from now on; null:
  // as before. pages: they still have what answered steps have written, and what the others were to write is as nobody
  // can read it; otherwise nothing is left.
  void BeginEpoch(uint64_t epoch, const EngineLayout* layout = nullptr, bool pages = false);
  bool broken() const { return broken_; }
  bool HasResult() const { return !results_.empty() && results_.front().undrawn.empty(); }
  StepResult TakeResult();  // the oldest: its step is committed now
  // Results of steps that were under way at a break: they may still come, at any time.
  std::deque<StepResult> late;
  const std::string& fault() const { return fault_; }

  // How often each happened in the lives so far.
  int copies = 0, swap_outs = 0, swap_ins = 0, shared_tables = 0, resumes = 0, ran_ahead = 0, void_steps = 0,
      given_back = 0, masks = 0, rewound = 0;

 private:
  using Block = std::pair<int, int32_t>;  // cache group, block
  struct Slot {
    uint64_t prefix = 0;
    int32_t id = -1;
  };
  struct Known {  // what agents keep of a sequence
    StepTables tables;
    int length = 0;  // positions written in this run
    int first = 0;   // position of its first own row
    SequenceSampling sampling;
    std::vector<int32_t> generated;
  };
  struct Pending {
    StepResult result;
    std::map<Block, std::set<uint64_t>> named;                // block -> sequences of that step
    std::map<uint64_t, std::pair<size_t, uint64_t>> undrawn;  // masked sequences: index in the result, prefix
    std::map<uint64_t, int> ends;                             // of the sequences: position after their last row
    std::vector<std::pair<Block, int>> written;               // slots
  };

  void Fault(const std::string& what);
  void MakePages();
  void Copy(const BlockCopy& copy, Pending* pending);
  void Run(const StepSequence& part, Pending* pending);
  void UpdateTable(const StepSequence& part, Known* known);
  void Draw(uint64_t prefix, const AllowedIds* allowed, Known* known, SequenceResult* result);
  bool Continues(const StepSequence& part, const Known& known, const Known& before) const;
  void CheckShared(const StepSequence& part, const Known& known);
  uint64_t CheckPrefix(const StepSequence& part, const Known& known);
  void Write(uint64_t id, Block block, int slot, Slot content, bool again, Pending* pending);
  static bool Has(const Known& known, Block block);
  bool InATable(Block block, uint64_t but) const;
  void MayWrite(uint64_t id, Block block);
  const Slot* At(const Known& known, int group, int position) const;  // null: it has no block there
  int First(size_t group, int position) const {
    return options_.groups[group].FirstBlock(position, options_.block_tokens);
  }

  EngineOptions options_;
  std::vector<std::vector<std::vector<Slot>>> pages_;  // [cache group][block][slot]
  std::map<uint64_t, Known> sequences_;
  std::map<std::pair<const Sampling*, int>, Known> before_;  // of the epoch before, by request and choice
  std::set<uint64_t> ended_;
  std::set<Block> tainted_;  // written by sequences that failed, and not since
  std::deque<Pending> results_;
  std::vector<std::pair<Block, int>> torn_;  // slots that void steps of this epoch were to write
  std::map<Block, int32_t> copy_targets_;    // of the present step: where from
  std::string fault_;
  bool broken_ = true;
  uint64_t epoch_ = 0, next_number_ = 1;
};

}  // namespace pangea
