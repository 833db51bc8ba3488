#include "configs/read_file.h"

#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "configs/cat.h"

namespace pangea {
namespace {

namespace fs = std::filesystem;

class ReadFileTest : public testing::Test {
 protected:
  ReadFileTest() {
    std::string pattern = testing::TempDir() + "/read_file.XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~ReadFileTest() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return Path(name);
  }
  fs::path folder_;
};

TEST_F(ReadFileTest, WholeFilesUpToTheLimit) {
  for (const size_t size : {0, 1, 4095, 4096, 4097, 100000}) {
    std::string text(size, 'x');
    for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 7);
    const std::string path = Write("f", text);
    EXPECT_EQ(*ReadFile(path, size), text) << size;
    EXPECT_EQ(*ReadFile(path, 1 << 20), text) << size;
    if (size == 0) continue;
    EXPECT_EQ(ReadFile(path, size - 1).status(),
              absl::InvalidArgumentError(Cat(path, ": larger than ", size - 1, " bytes")));
  }
}

// A hole of a terabyte: looked at, and not read.
TEST_F(ReadFileTest, WhatIsTooLargeIsNotRead) {
  const std::string path = Write("f", "x");
  ASSERT_EQ(truncate(path.c_str(), off_t{1} << 40), 0);
  EXPECT_EQ(ReadFile(path, 4096).status(), absl::InvalidArgumentError(path + ": larger than 4096 bytes"));
}

TEST_F(ReadFileTest, WhatIsNoPlainFile) {
  EXPECT_EQ(ReadFile(folder_.string(), 10).status(),
            absl::InvalidArgumentError(folder_.string() + ": not a plain file"));
  const std::string pipe = Path("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(ReadFile(pipe, 10).status(), absl::InvalidArgumentError(pipe + ": not a plain file")) << "it must not wait";
  EXPECT_FALSE(ReadFile("/dev/zero", 10).ok());
}

TEST_F(ReadFileTest, WhatIsMissingOrForbidden) {
  EXPECT_EQ(ReadFile(Path("none"), 10).status(), absl::NotFoundError(Path("none") + ": No such file or directory"));
  EXPECT_EQ(ReadFile(Write("f", "x") + "/g", 10).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(std::string(ReadFile(Path("a\nb"), 10).status().message()),
            Path("a\\x0ab") + ": No such file or directory");
  EXPECT_EQ(ReadFile("", 10).status().code(), absl::StatusCode::kNotFound);
  ASSERT_EQ(chmod(Path("f").c_str(), 0), 0);
  setfsuid(65534);  // of this thread: root may read everything
  const auto forbidden = ReadFile(Path("f"), 10);
  setfsuid(geteuid());
  EXPECT_EQ(forbidden.status(), absl::FailedPreconditionError(Path("f") + ": Permission denied"));
}

// Its size is said to be 0; half a file is never taken for a whole one.
TEST_F(ReadFileTest, WhatIsLongerThanItSays) {
  EXPECT_EQ(ReadFile("/proc/self/status", 1 << 20).status(),
            absl::FailedPreconditionError("/proc/self/status: changed while it was read"));
}

}  // namespace
}  // namespace pangea
