#include "master/fleet/join_rules.h"

#include <functional>

#include "absl/strings/str_cat.h"
#include "configs/version.h"
#include "gtest/gtest.h"

namespace pangea {
namespace {

agent::v1::Join GoodJoin() {
  agent::v1::Join join;
  join.set_build("of another day, and as good");
  join.set_protocol(kProtocol);
  join.set_exactness(kExactness);
  join.set_pid(77);
  join.set_isa("avx2");
  join.set_agent(-1);
  return join;
}
// Agent 0 is launched here with pid 50, agents 1 and 2 are remote.
std::vector<Place> Places() { return {{.local = true, .launched_pid = 50}, {.local = false}, {.local = false}}; }

TEST(JoinRulesTest, FreePlacesGoInOrder) {
  std::vector<Place> places = Places();
  EXPECT_EQ(*PlaceFor(GoodJoin(), places, {}, ""), 1);
  places[1].taken = true;
  EXPECT_EQ(*PlaceFor(GoodJoin(), places, {}, ""), 2);
  places[2].taken = true;
  EXPECT_EQ(PlaceFor(GoodJoin(), places, {}, "").status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(JoinRulesTest, NamedPlaces) {
  agent::v1::Join join = GoodJoin();
  join.set_agent(2);
  EXPECT_EQ(*PlaceFor(join, Places(), {}, ""), 2);
  join.set_agent(0);
  EXPECT_EQ(PlaceFor(join, Places(), {}, "").status().code(), absl::StatusCode::kPermissionDenied)
      << "not the launched process";
  join.set_pid(50);
  EXPECT_EQ(*PlaceFor(join, Places(), {}, ""), 0);
}

TEST(JoinRulesTest, RefusalsNameTheirReason) {
  struct Row {
    std::function<void(agent::v1::Join*, Deployment*)> edit;
    std::string text;
  };
  const std::string others = absl::StrCat("exactness version ", kExactness + 1, ", the master ", kProtocol);
  const Row rows[] = {
      {[](auto* j, auto*) { j->set_protocol(kProtocol - 1); },
       absl::StrCat("of another day, and as good\" has protocol ", kProtocol - 1)},
      {[](auto* j, auto*) { j->set_exactness(kExactness + 1); }, others},
      {[](auto* j, auto*) { j->clear_protocol(); }, "has protocol 0"},
      {[](auto* j, auto*) { j->set_agent(3); }, "agent 3 is not one of the 3"},
      {[](auto* j, auto*) { j->set_isa("mmx"); }, "ISA class \"mmx\" is not known"},
      {[](auto*, auto* d) { d->kernels.isa = "avx512"; }, "kernels.isa is avx512"},
  };
  for (const Row& row : rows) {
    agent::v1::Join join = GoodJoin();
    Deployment deployment;
    row.edit(&join, &deployment);
    const auto place = PlaceFor(join, Places(), deployment, "");
    ASSERT_FALSE(place.ok()) << row.text;
    EXPECT_NE(place.status().message().find(row.text), std::string::npos) << place.status();
  }
  Deployment lower;
  lower.kernels.isa = "reference";
  EXPECT_TRUE(PlaceFor(GoodJoin(), Places(), lower, "").ok()) << "more than asked for is fine";
}

TEST(JoinRulesTest, TakenPlaceIsNotShared) {
  agent::v1::Join join = GoodJoin();
  join.set_agent(1);
  std::vector<Place> places = Places();
  places[1].taken = true;
  EXPECT_EQ(PlaceFor(join, places, {}, "").status().code(), absl::StatusCode::kAlreadyExists);
}

TEST(JoinRulesTest, CommonIsaIsTheLeast) {
  EXPECT_EQ(CommonIsa({"avx512"}), "avx512");
  EXPECT_EQ(CommonIsa({"avx512", "avx2", "avx512"}), "avx2");
  EXPECT_EQ(CommonIsa({"avx2", "reference"}), "reference");
}

// Four agents of 64 threads on hosts of 64 cores: those two that share a host would spin against each other.
TEST(JoinRulesTest, ThreadsAreCountedOnEachHostApart) {
  using Spins = std::vector<bool>;
  EXPECT_EQ(MaySpin({{"a", 64, 64}, {"b", 64, 64}, {"c", 64, 64}, {"c", 64, 64}}), (Spins{true, true, false, false}));
  EXPECT_EQ(MaySpin({{"a", 1, 2}, {"a", 1, 2}}), (Spins{true, true}));
  EXPECT_EQ(MaySpin({{"a", 1, 2}, {"a", 1, 1}}), (Spins{false, false})) << "one is held to a single core";
  EXPECT_EQ(MaySpin({{"a", 2, 1}}), (Spins{false}));
}

TEST(JoinRulesTest, OnlyWhoCouldServeMayStandBy) {
  EXPECT_TRUE(MayStandBy(GoodJoin(), {}, "").ok());
  agent::v1::Join join = GoodJoin();
  join.set_isa("reference");
  EXPECT_FALSE(MayStandBy(join, {}, "avx2").ok()) << "the others compute in a class that it lacks";
  join = GoodJoin();
  join.set_protocol(kProtocol - 1);
  EXPECT_FALSE(MayStandBy(join, {}, "").ok());
}

}  // namespace
}  // namespace pangea
