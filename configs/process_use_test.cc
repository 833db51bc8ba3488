#include "configs/process_use.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <vector>

namespace pangea {
namespace {

TEST(ProcessUse, WorkMemoryAndDescriptorsShow) {
  const ProcessUse before = ReadProcessUse();
  EXPECT_GT(before.cpu_seconds, 0);
  EXPECT_GT(before.resident_bytes, 1u << 20);
  EXPECT_GE(before.open_descriptors, 3);

  std::vector<char> memory(64 << 20, 1);  // written, hence resident
  const int descriptor = dup(0);
  while (ReadProcessUse().cpu_seconds < before.cpu_seconds + 0.02) {
  }
  const ProcessUse after = ReadProcessUse();
  EXPECT_GE(after.resident_bytes, before.resident_bytes + (60u << 20));
  EXPECT_EQ(after.open_descriptors, before.open_descriptors + (descriptor >= 0 ? 1 : 0));
  EXPECT_EQ(memory[12345], 1);
  close(descriptor);
}

}  // namespace
}  // namespace pangea
