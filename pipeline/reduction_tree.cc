#include "pipeline/reduction_tree.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace pangea {

int ReductionTree::Build(int first, int last) {
  int left = -1, right = -1;
  if (last - first > 1) {
    const int middle = first + (last - first + 1) / 2;
    left = Build(first, middle);
    right = Build(middle, last);
  }
  nodes_.push_back({first, last, left, right});
  return static_cast<int>(nodes_.size()) - 1;
}

ReductionTree ReductionTree::Halving(int leaves) {
  ReductionTree tree;
  if (leaves > 0) tree.root_ = tree.Build(0, leaves);
  return tree;
}

ReductionTree ReductionTree::Grouped(const std::vector<int>& leaves_per_group) {
  ReductionTree tree;
  std::vector<int> roots;
  int first = 0;
  for (const int count : leaves_per_group) {
    if (count <= 0) continue;
    roots.push_back(tree.Build(first, first + count));
    first += count;
  }
  const std::function<int(int, int)> join = [&](int from, int to) {
    if (to - from == 1) return roots[from];
    const int middle = from + (to - from + 1) / 2;
    const int left = join(from, middle), right = join(middle, to);
    tree.nodes_.push_back({tree.nodes_[left].first, tree.nodes_[right].last, left, right});
    return static_cast<int>(tree.nodes_.size()) - 1;
  };
  if (!roots.empty()) tree.root_ = join(0, static_cast<int>(roots.size()));
  return tree;
}

std::vector<int> ReductionTree::Subtrees(int first, int last) const {
  std::vector<int> found;
  if (root_ < 0) return found;
  const std::function<void(int)> visit = [&](int index) {
    const Node& node = nodes_[index];
    if (node.first >= last || node.last <= first) return;
    if (node.first >= first && node.last <= last) {
      found.push_back(index);
      return;
    }
    visit(node.left);
    visit(node.right);
  };
  visit(root_);
  return found;
}

LeafProgram ReductionTree::Program(int first, int last, const std::vector<int64_t>& cuts) const {
  LeafProgram program;
  program.merges.assign(std::max(0, last - first), 0);
  // A node is complete, and is merged, right after the last leaf that it covers.
  const std::function<void(int)> visit = [&](int index) {
    const Node& node = nodes_[index];
    if (node.left < 0) return;
    ++program.merges[node.last - 1 - first];
    visit(node.left);
    visit(node.right);
  };
  for (const int subtree : Subtrees(first, last)) visit(subtree);
  for (int leaf = first; leaf < last; ++leaf) program.cuts.push_back(cuts[leaf + 1] - cuts[first]);
  return program;
}

std::vector<std::pair<int, int>> ReductionTree::Finish(const std::vector<int>& held) const {
  std::vector<std::pair<int, int>> steps;
  if (root_ < 0) return steps;
  const std::function<int(int)> visit = [&](int index) -> int {
    const auto it = std::find(held.begin(), held.end(), index);
    if (it != held.end()) return static_cast<int>(it - held.begin());
    const int into = visit(nodes_[index].left), from = visit(nodes_[index].right);
    steps.emplace_back(into, from);
    return into;
  };
  visit(root_);
  return steps;
}

std::vector<int64_t> LeafCuts(int64_t k, int unit, int count) {
  const int64_t units = (k + unit - 1) / unit;
  const int64_t leaves = std::clamp<int64_t>(count, 1, std::max<int64_t>(units, 1));
  std::vector<int64_t> cuts;
  for (int64_t i = 0; i < leaves; ++i) cuts.push_back(unit * (i * units / leaves));
  cuts.push_back(k);
  return cuts;
}

SplitDefinition FfnSplit(int64_t k, DType dtype) {
  SplitDefinition split;
  split.cuts = LeafCuts(k, SplitUnit(dtype), k >= 8192 ? 32 : 16);
  split.tree = ReductionTree::Halving(static_cast<int>(split.cuts.size()) - 1);
  return split;
}

SplitDefinition AttentionSplit(int heads, int kv_heads, int head_dim, DType dtype) {
  const int per_group = heads / kv_heads;
  const int unit = SplitUnit(dtype) > 2 ? SplitUnit(dtype) : 1;  // types without blocks: leaves are never joined
  const bool by_group = kv_heads >= 8;
  // Heads in a leaf: one, or a group; joined until the width is a multiple of the block.
  int leaf_heads = by_group ? per_group : 1;
  const int joined = unit / std::gcd(unit, leaf_heads * head_dim);
  if (!by_group && per_group % joined == 0) {
    leaf_heads *= joined;  // fits inside a group
  } else if (joined > 1) {
    leaf_heads = per_group * (unit / std::gcd(unit, per_group * head_dim));
  }
  SplitDefinition split;
  for (int head = 0; head < heads; head += leaf_heads) split.cuts.push_back(int64_t{head} * head_dim);
  split.cuts.push_back(int64_t{heads} * head_dim);
  if (leaf_heads < per_group) {
    split.tree = ReductionTree::Grouped(std::vector<int>(kv_heads, per_group / leaf_heads));
  } else {
    split.tree = ReductionTree::Halving(static_cast<int>(split.cuts.size()) - 1);
  }
  return split;
}

}  // namespace pangea
