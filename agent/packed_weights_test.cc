// Packed weights that outlive their process: what a successor finds is what was packed, and nobody can change it.
#include "agent/packed_weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace pangea {
namespace {

std::string PathOf(int fd) { return absl::StrCat("/proc/", getpid(), "/fd/", fd); }

constexpr int64_t kSizes[] = {100, 64, 5000, 1, 4096};

std::unique_ptr<PackedWeights> Filled() {
  auto made = PackedWeights::Create(1 << 20);
  EXPECT_TRUE(made.ok()) << made.status();
  char value = 1;
  for (const int64_t size : kSizes) {
    bool filled = true;
    std::byte* at = (*made)->Take(size, &filled);
    EXPECT_FALSE(filled);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(at) % 64, 0u);
    std::memset(at, value++, size);
  }
  return *std::move(made);
}

TEST(PackedWeightsTest, ASuccessorFindsWhatWasPacked) {
  auto first = Filled();
  ASSERT_TRUE(first->Seal());
  auto kept = PackedWeights::Open(PathOf(first->fd()), first->bytes());
  ASSERT_TRUE(kept.ok()) << kept.status();
  first.reset();  // its process has died
  char value = 1;
  for (const int64_t size : kSizes) {
    bool filled = false;
    const std::byte* at = (*kept)->Take(size, &filled);
    ASSERT_NE(at, nullptr);
    EXPECT_TRUE(filled);
    const std::vector<std::byte> expected(size, static_cast<std::byte>(value++));
    EXPECT_EQ(std::memcmp(at, expected.data(), size), 0) << size;
  }
  bool filled = false;
  EXPECT_EQ((*kept)->Take(4096, &filled), nullptr) << "there are no more";
  EXPECT_FALSE((*kept)->Seal()) << "it was, before";
}

TEST(PackedWeightsTest, NobodyCanChangeWhatIsSealed) {
  auto made = Filled();
  const int before = open(PathOf(made->fd()).c_str(), O_RDWR);
  ASSERT_GE(before, 0);
  EXPECT_EQ(pwrite(before, "x", 1, 0), 1) << "the control: it could be";
  ASSERT_TRUE(made->Seal());
  EXPECT_LT(pwrite(before, "y", 1, 0), 0);
  EXPECT_NE(ftruncate(before, 0), 0);
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, before, 0), MAP_FAILED);
  close(before);
}

TEST(PackedWeightsTest, WhatIsNotWholeIsRefused) {
  auto made = Filled();
  const int64_t bytes = made->bytes();
  EXPECT_FALSE(PackedWeights::Open(PathOf(made->fd()), bytes).ok()) << "it could still change";
  ASSERT_TRUE(made->Seal());
  EXPECT_TRUE(PackedWeights::Open(PathOf(made->fd()), bytes).ok());
  EXPECT_FALSE(PackedWeights::Open(PathOf(made->fd()), bytes + 8192).ok());
  EXPECT_FALSE(PackedWeights::Open(PathOf(made->fd()), 0).ok());
  EXPECT_FALSE(PackedWeights::Open("/proc/self/exe", bytes).ok());
  EXPECT_FALSE(PackedWeights::Open("/proc/self/fd/9999", bytes).ok());
}

TEST(PackedWeightsTest, WithoutAKeptOneANewOneIsMade) {
  auto made = KeptOrNewWeights("/proc/self/fd/9999", 4096, 4096);
  ASSERT_NE(made, nullptr);
  EXPECT_FALSE(made->filled());
  EXPECT_FALSE(KeptOrNewWeights("", 0, 4096)->filled());
  auto kept = Filled();
  ASSERT_TRUE(kept->Seal());
  EXPECT_TRUE(KeptOrNewWeights(PathOf(kept->fd()), kept->bytes(), 4096)->filled());
}

}  // namespace
}  // namespace pangea
