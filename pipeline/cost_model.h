// How long a step takes on each stage of a plan, predicted from what it must compute, read and send; docs/simulation.md
// has the formulas and where they come from. Pure functions of checkpoint header, deployment and plan.
#pragma once
#include <utility>
#include <vector>

#include "configs/host.h"
#include "pipeline/capacity.h"
#include "pipeline/parallel_plan.h"
#include "pipeline/step.h"

namespace pangea {

// Seconds of one stage for one step: those of its slowest rank, as the ranks meet in every layer.
struct StageCost {
  double products = 0;   // with weights
  double attention = 0;  // over cached keys and values
  double rows = 0;       // norms, activations, sums of the gathered vectors: rows that pass through memory
  double fixed = 0;      // per step and per layer, whatever is in it
  double copies = 0;     // of blocks, before the forward
  double gather = 0;     // between the ranks
  double hand_over = 0;  // of the hidden state to the next stage; 0 on the last
  double compute() const { return products + attention + rows + fixed + copies; }
};

class CostModel {
 public:
  // deployment.simulate says how fast an agent and its links are. The arguments are not kept.
  CostModel(const TensorIndex& index, const Deployment& deployment, const ParallelPlan& plan);
  std::vector<StageCost> Stages(const Step& step) const;  // one entry a stage

 private:
  // What a step asks for, whoever computes it. Per distinct window of the model's layers: context read, and products of
  // a row with a position of its context.
  struct Load {
    double rows = 0, sampled = 0, copies = 0;
    std::vector<double> context, pairs;
  };
  // Of one agent: multiply-adds and bytes.
  struct Share {
    double layer_weights = 0, head_weights = 0;  // bytes read by a step that has rows, and one that samples
    double row_macs = 0, sample_macs = 0;
    double row_bytes = 0;                          // moved by what is no product
    std::vector<double> context_bytes, pair_macs;  // [window]: of all its layers of that window
    double block_bytes = 0;                        // of a block over all its layers
    double gather_bytes = 0;                       // received for a row
    int layers = 0;
  };

  Share ShareOf(const TensorIndex& index, const ParallelPlan& plan, const RankPlan& agent) const;
  Load LoadOf(const Step& step) const;
  StageCost CostOf(const Share& share, const Load& load) const;

  const Deployment::Simulate speed_;
  std::vector<int> windows_;  // distinct ones
  int stages_ = 1, ranks_ = 1;
  double hand_over_bytes_ = 0;  // of a row
  std::vector<Share> shares_;   // of every agent
};

// What is wrong when agents need more memory than simulate.memory: one line, naming the fullest. "" when nothing is, or
// when the key is 0.
std::string MemoryFault(const Deployment& deployment, const ParallelPlan& plan);
// What is wrong when the agents that the master starts on its own host need more memory than is available there: how
// much is missing, and the nearest change that fits. "" when nothing is. What lies in mapped files is not counted.
std::string HostFault(const Deployment& deployment, const ParallelPlan& plan, const HostMemory& host);
// The same of one agent and the memory of its own device. source: what it is.
std::string DeviceFault(const Deployment& deployment, const ParallelPlan& plan, int agent, const HostMemory& device);

}  // namespace pangea
