#include "pipeline/reduction_tree.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

namespace pangea {
namespace {

// The order of additions as text, from the nodes alone.
std::string Expression(const ReductionTree& tree, int node) {
  const auto& n = tree.nodes()[node];
  if (n.left < 0) return std::to_string(n.first);
  return "(" + Expression(tree, n.left) + "+" + Expression(tree, n.right) + ")";
}

// What a rank computes by its stack program.
std::vector<std::string> RunProgram(const ReductionTree& tree, int first, int last) {
  std::vector<int64_t> cuts;
  for (int i = 0; i <= tree.leaves(); ++i) cuts.push_back(10 * i);
  const LeafProgram program = tree.Program(first, last, cuts);
  EXPECT_EQ(program.cuts.size(), program.merges.size() + 1);
  std::vector<std::string> stack;
  for (size_t i = 0; i < program.merges.size(); ++i) {
    EXPECT_EQ(program.cuts[i], static_cast<int64_t>(10 * i)) << "cuts are relative to the run";
    stack.push_back(std::to_string(first + static_cast<int>(i)));
    for (int m = 0; m < program.merges[i]; ++m) {
      const std::string upper = stack.back();
      stack.pop_back();
      stack.back() = "(" + stack.back() + "+" + upper + ")";
    }
  }
  EXPECT_EQ(program.vectors(), static_cast<int>(stack.size()));
  return stack;
}

// All ranks' vectors, finished: must read as the whole tree, whatever the cut.
std::string RunRanks(const ReductionTree& tree, const std::vector<int>& cuts) {
  std::vector<std::string> vectors;
  std::vector<int> held;
  for (size_t r = 0; r + 1 < cuts.size(); ++r) {
    const auto own = RunProgram(tree, cuts[r], cuts[r + 1]);
    const auto nodes = tree.Subtrees(cuts[r], cuts[r + 1]);
    EXPECT_EQ(own.size(), nodes.size());
    for (size_t i = 0; i < nodes.size(); ++i) EXPECT_EQ(own[i], Expression(tree, nodes[i]));
    vectors.insert(vectors.end(), own.begin(), own.end());
    held.insert(held.end(), nodes.begin(), nodes.end());
  }
  for (const auto& [into, from] : tree.Finish(held)) {
    EXPECT_LT(into, from);
    vectors[into] = "(" + vectors[into] + "+" + vectors[from] + ")";
  }
  return vectors[0];
}

std::vector<ReductionTree> SomeTrees() {
  return {ReductionTree::Halving(1),      ReductionTree::Halving(2),
          ReductionTree::Halving(7),      ReductionTree::Halving(16),
          ReductionTree::Halving(32),     ReductionTree::Grouped({3, 3, 3}),
          ReductionTree::Grouped({7, 7}), ReductionTree::Grouped({1, 1, 1, 1}),
          ReductionTree::Grouped({4}),    ReductionTree::Grouped({2, 2, 2, 2, 2})};
}

TEST(ReductionTree, AnyCutGivesTheWholeTree) {
  std::mt19937 random(1);
  for (const ReductionTree& tree : SomeTrees()) {
    const std::string whole = Expression(tree, tree.root());
    for (int trial = 0; trial < 60; ++trial) {
      std::vector<int> cuts = {0, tree.leaves()};
      const int ranks = 1 + trial % 9;
      for (int r = 1; r < ranks; ++r) cuts.push_back(static_cast<int>(random() % (tree.leaves() + 1)));
      std::sort(cuts.begin(), cuts.end());
      EXPECT_EQ(RunRanks(tree, cuts), whole);
    }
  }
}

TEST(ReductionTree, ShapesOfTheDefinition) {
  const auto text = [](const ReductionTree& tree) { return Expression(tree, tree.root()); };
  EXPECT_EQ(text(ReductionTree::Grouped({3, 3, 3})), "((((0+1)+2)+((3+4)+5))+((6+7)+8))");
  EXPECT_EQ(text(ReductionTree::Halving(5)), "(((0+1)+2)+(3+4))");
  EXPECT_EQ(text(ReductionTree::Halving(6)), text(ReductionTree::Grouped({1, 1, 1, 1, 1, 1})));
  EXPECT_EQ(ReductionTree::Halving(0).leaves(), 0);
  EXPECT_TRUE(ReductionTree::Halving(0).Subtrees(0, 0).empty());
}

// "leaves held : vectors sent" by the default cuts ceil(C*r/R); the table of docs/exactness.md section 2.
std::string Row(const ReductionTree& tree, int units, int ranks) {
  std::string row;
  const int per_unit = tree.leaves() / units;
  const auto cut = [&](int r) { return (units * r + ranks - 1) / ranks * per_unit; };
  for (int r = 0; r < ranks; ++r) {
    row += (r ? " " : "") + std::to_string(cut(r + 1) - cut(r)) + ":" +
           std::to_string(tree.Subtrees(cut(r), cut(r + 1)).size());
  }
  return row;
}

TEST(ReductionTree, TableOfVectorsSent) {
  const ReductionTree nine = AttentionSplit(9, 3, 64, DType::kQ4_1).tree;
  EXPECT_EQ(Row(nine, 3, 2), "6:1 3:1");
  EXPECT_EQ(Row(nine, 3, 3), "3:1 3:1 3:1");
  EXPECT_EQ(Row(nine, 9, 4), "3:1 2:1 2:2 2:2");
  EXPECT_EQ(Row(nine, 9, 8), "2:1 1:1 1:1 1:1 1:1 1:1 1:1 1:1");
  const ReductionTree fourteen = AttentionSplit(14, 2, 64, DType::kBF16).tree;
  EXPECT_EQ(Row(fourteen, 2, 2), "7:1 7:1");
  EXPECT_EQ(Row(fourteen, 14, 3), "5:2 5:4 4:2");
  EXPECT_EQ(Row(fourteen, 14, 4), "4:1 3:1 4:1 3:1");
  EXPECT_EQ(Row(fourteen, 14, 8), "2:1 2:1 2:1 1:1 2:1 2:1 2:1 1:1");
  const ReductionTree eight = AttentionSplit(32, 8, 128, DType::kF16).tree;
  EXPECT_EQ(eight.leaves(), 8);
  EXPECT_EQ(Row(eight, 8, 2), "4:1 4:1");
  EXPECT_EQ(Row(eight, 8, 3), "3:2 3:2 2:1");
  EXPECT_EQ(Row(eight, 8, 4), "2:1 2:1 2:1 2:1");
  EXPECT_EQ(Row(eight, 8, 8), "1:1 1:1 1:1 1:1 1:1 1:1 1:1 1:1");
  const ReductionTree sixteen = FfnSplit(1536, DType::kQ4_1).tree, thirty_two = FfnSplit(8192, DType::kBF16).tree;
  EXPECT_EQ(Row(sixteen, 16, 2), "8:1 8:1");
  EXPECT_EQ(sixteen.Subtrees(0, 7).size(), 3u);
  EXPECT_EQ(sixteen.Subtrees(7, 16).size(), 2u);
  EXPECT_EQ(Row(sixteen, 16, 3), "6:2 5:3 5:2");
  EXPECT_EQ(Row(sixteen, 16, 4), "4:1 4:1 4:1 4:1");
  EXPECT_EQ(Row(sixteen, 16, 8), "2:1 2:1 2:1 2:1 2:1 2:1 2:1 2:1");
  EXPECT_EQ(Row(thirty_two, 32, 2), "16:1 16:1");
  EXPECT_EQ(Row(thirty_two, 32, 3), "11:3 11:4 10:2");
  EXPECT_EQ(Row(thirty_two, 32, 4), "8:1 8:1 8:1 8:1");
  EXPECT_EQ(Row(thirty_two, 32, 8), "4:1 4:1 4:1 4:1 4:1 4:1 4:1 4:1");
}

TEST(ReductionTree, BoundsOfAnyRun) {
  for (const auto& [leaves, edge, middle] : {std::tuple{16, 4, 6}, {32, 5, 8}}) {
    const ReductionTree tree = ReductionTree::Halving(leaves);
    int most_edge = 0, most_middle = 0;
    for (int first = 0; first < leaves; ++first) {
      for (int last = first + 1; last <= leaves; ++last) {
        const int count = static_cast<int>(tree.Subtrees(first, last).size());
        (first == 0 || last == leaves ? most_edge : most_middle) =
            std::max(first == 0 || last == leaves ? most_edge : most_middle, count);
      }
    }
    EXPECT_LE(most_edge, edge);
    EXPECT_EQ(most_middle, middle);
  }
}

TEST(LeafCuts, UnitsAndTheShortEnd) {
  EXPECT_EQ(LeafCuts(1536, 32, 16)[1], 96);
  EXPECT_EQ(LeafCuts(160, 32, 16), (std::vector<int64_t>{0, 32, 64, 96, 128, 160})) << "no more leaves than units";
  EXPECT_EQ(LeafCuts(172, 2, 16).size(), 17u);
  EXPECT_EQ(LeafCuts(7, 2, 3), (std::vector<int64_t>{0, 2, 4, 7}));
  EXPECT_EQ(LeafCuts(1, 2, 16), (std::vector<int64_t>{0, 1}));
  for (const auto& [k, unit, count] : {std::tuple{172, 2, 16}, {8193, 2, 32}, {4864, 32, 16}, {14336, 32, 32}}) {
    const auto cuts = LeafCuts(k, unit, count);
    EXPECT_EQ(cuts.front(), 0);
    EXPECT_EQ(cuts.back(), k);
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      EXPECT_LT(cuts[i], cuts[i + 1]);
      EXPECT_EQ(cuts[i] % unit, 0);
    }
  }
  EXPECT_EQ(FfnSplit(8190, DType::kF32).tree.leaves(), 16);
  EXPECT_EQ(FfnSplit(8192, DType::kF32).tree.leaves(), 32);
}

std::vector<int64_t> Widths(const SplitDefinition& split) {
  std::vector<int64_t> widths;
  for (size_t i = 0; i + 1 < split.cuts.size(); ++i) widths.push_back(split.cuts[i + 1] - split.cuts[i]);
  return widths;
}

TEST(AttentionSplit, WidthsOfTheLeaves) {
  using W = std::vector<int64_t>;
  EXPECT_EQ(Widths(AttentionSplit(9, 3, 64, DType::kQ8_0)), W(9, 64)) << "fewer than 8 groups: a head";
  EXPECT_EQ(Widths(AttentionSplit(32, 8, 128, DType::kBF16)), W(8, 512)) << "8 and more: a group";
  EXPECT_EQ(Widths(AttentionSplit(12, 12, 64, DType::kF32)), W(12, 64));
  EXPECT_EQ(Widths(AttentionSplit(4, 2, 16, DType::kQ4_0)), W(2, 32)) << "joined inside a group";
  EXPECT_EQ(Widths(AttentionSplit(4, 2, 16, DType::kF16)), W(4, 16)) << "plain types are never joined";
  EXPECT_EQ(Widths(AttentionSplit(8, 2, 8, DType::kQ4_1)), W(2, 32));
  EXPECT_EQ(Widths(AttentionSplit(8, 1, 16, DType::kQ4_1)), W(4, 32)) << "pairs inside one group";
  EXPECT_EQ(Widths(AttentionSplit(6, 2, 16, DType::kQ8_0)), W(1, 96))
      << "three heads of 16 fit no block: both groups in one leaf";
  EXPECT_EQ(Widths(AttentionSplit(12, 4, 16, DType::kQ8_0)), W(2, 96));
  EXPECT_EQ(Widths(AttentionSplit(16, 8, 8, DType::kQ8_0)), W(4, 32)) << "whole groups joined";
  EXPECT_EQ(Widths(AttentionSplit(32, 8, 64, DType::kQ4_K)), W(8, 256)) << "a group of four heads is a block";
  EXPECT_EQ(Widths(AttentionSplit(12, 2, 128, DType::kQ5_K)), W(6, 256)) << "pairs inside a group";
  EXPECT_EQ(Widths(AttentionSplit(14, 2, 64, DType::kQ6_K)), W(1, 896)) << "no multiple of 256 but the whole";
  EXPECT_EQ(Widths(AttentionSplit(20, 5, 64, DType::kQ6_K)), W(5, 256));
  EXPECT_EQ(Widths(FfnSplit(1536, DType::kQ6_K)), W(6, 256)) << "no more leaves than blocks";
  EXPECT_EQ(Widths(FfnSplit(8192, DType::kQ4_K)), W(32, 256));
  const ReductionTree tree = AttentionSplit(8, 2, 16, DType::kQ4_1).tree;
  EXPECT_EQ(Expression(tree, tree.root()), "((0+1)+(2+3))");
}

}  // namespace
}  // namespace pangea
