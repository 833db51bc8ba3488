// The fixed tree in which a K-split product is added (attention output, FFN down): a function of the model alone, never
// of the deployment, so that any number of ranks gives the same bytes. Source: docs/exactness.md, section 2.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/types.h"

namespace pangea {

// A binary tree over leaves 0..n-1. Every node covers a run [first, last) of leaves; a leaf has no children (-1).
class ReductionTree {
 public:
  struct Node {
    int first, last, left, right;
  };
  // Halving: the left child gets ceil(n/2).
  static ReductionTree Halving(int leaves);
  // Halving inside each group of so many leaves, then halving over the groups.
  static ReductionTree Grouped(const std::vector<int>& leaves_per_group);
  int leaves() const { return nodes_.empty() ? 0 : nodes_[root_].last; }
  int root() const { return root_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  // Maximal whole subtrees inside [first, last), from left to right (node indices): what a rank holding that run sends.
  std::vector<int> Subtrees(int first, int last) const;
  // Stack program that computes them from the leaves (merges after each leaf). cuts: SplitDefinition's, over all
  // leaves; the program's are relative to cuts[first].
  LeafProgram Program(int first, int last, const std::vector<int64_t>& cuts) const;
  // The additions that finish the root from `held` (all ranks' subtrees, left to right): steps (into, from), vector
  // indices into held, to be done in this order as v[into] = v[into] + v[from] with into < from; v[0] ends as the root.
  std::vector<std::pair<int, int>> Finish(const std::vector<int>& held) const;

 private:
  int Build(int first, int last);
  std::vector<Node> nodes_;
  int root_ = -1;
};

// cut(i) = unit * floor(i*n/count) for i < count with n = ceil(k/unit), cut(count) = k; count is clamped to n.
std::vector<int64_t> LeafCuts(int64_t k, int unit, int count);

struct SplitDefinition {
  std::vector<int64_t> cuts;  // over K: leaf i is [cuts[i], cuts[i+1])
  ReductionTree tree;
};
// FFN down: 16 leaves, 32 when k >= 8192.
SplitDefinition FfnSplit(int64_t k, DType dtype);
// Attention output: a leaf is a KV group when the model has 8 or more, else one query head; in a block format
// neighbours are joined until the width is a multiple of the block (inside a group first, then whole groups).
SplitDefinition AttentionSplit(int heads, int kv_heads, int head_dim, DType dtype);

}  // namespace pangea
