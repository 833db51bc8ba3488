#include "agent/kept_pages.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace pangea {
namespace {

std::string PathOf(int fd) { return absl::StrCat("/proc/", getpid(), "/fd/", fd); }

TEST(KeptPagesTest, WhatIsWrittenOutlivesTheMapping) {
  auto made = KeptPages::Create(3 * 4096 + 64);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_FALSE((*made)->kept());
  std::memcpy((*made)->base() + 5000, "committed", 10);
  const int held = dup((*made)->fd());  // as a master does
  made->reset();
  auto opened = KeptPages::Open(PathOf(held), 3 * 4096 + 64);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE((*opened)->kept());
  EXPECT_STREQ(reinterpret_cast<char*>((*opened)->base() + 5000), "committed");
  std::memcpy((*opened)->base() + 5000, "goes on", 8);
  opened->reset();
  EXPECT_STREQ(reinterpret_cast<char*>((*KeptPages::Open(PathOf(held), 3 * 4096 + 64))->base() + 5000), "goes on");
  close(held);
}

TEST(KeptPagesTest, NothingOfThemStaysMappedWhenTheyGo) {
  auto made = KeptPages::Create(1 << 20);
  ASSERT_TRUE(made.ok());
  const auto mapped = [] {
    std::ifstream maps("/proc/self/maps");
    return std::string(std::istreambuf_iterator<char>(maps), {}).find("pangea-pages") != std::string::npos;
  };
  EXPECT_TRUE(mapped());
  made->reset();
  EXPECT_FALSE(mapped()) << "it would keep all of their memory";
  KeptPages::Distrust();  // by a signal, say: harmless
}

TEST(KeptPagesTest, ThoseOfAProcessThatHasFailedAreNotTrusted) {
  for (const int how : {SIGKILL, SIGSEGV, SIGABRT, 0}) {
    const auto made = KeptPages::Create(8192);
    ASSERT_TRUE(made.ok());
    const std::string path = PathOf((*made)->fd());
    const pid_t child = fork();
    if (child == 0) {
      const rlimit none{};
      setrlimit(RLIMIT_CORE, &none);
      MarkPagesOnErrors();
      const auto mapped = KeptPages::Open(path, 8192);
      if (how == 0) KeptPages::Distrust();
      raise(how == 0 ? SIGKILL : how);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_NE(status, 0) << how;  // a sanitizer makes an exit code of a signal
    EXPECT_EQ(KeptPages::Open(path, 8192).ok(), how == SIGKILL) << how;
  }
}

TEST(KeptPagesTest, NothingElseIsTakenForThem) {
  const auto made = KeptPages::Create(8192);
  ASSERT_TRUE(made.ok());
  EXPECT_FALSE(KeptPages::Open(PathOf((*made)->fd()), 4096).ok()) << "of another size";
  EXPECT_NE(ftruncate((*made)->fd(), 4096), 0) << "nobody can take pages away that are mapped";
  const int unsealed = memfd_create("other", MFD_CLOEXEC), plain = open("/tmp", O_TMPFILE | O_RDWR, 0600);
  for (const int other : {unsealed, plain}) {
    if (other < 0) continue;  // no such file system
    ASSERT_EQ(ftruncate(other, 12288), 0);
    EXPECT_FALSE(KeptPages::Open(PathOf(other), 8192).ok()) << "its size could change";
    close(other);
  }
  EXPECT_FALSE(KeptPages::Open("/proc/self/fd/99999", 8192).ok());
}

TEST(KeptPagesTest, WithoutAnyNewOnesAreMade) {
  EXPECT_EQ(KeptOrNewPages("", 0), nullptr) << "the plan keeps none";
  for (const char* path : {"", "/proc/self/fd/99999"}) {
    const auto pages = KeptOrNewPages(path, 4096);
    ASSERT_NE(pages, nullptr);
    EXPECT_FALSE(pages->kept());
    EXPECT_EQ(pages->base()[4095], std::byte{0});
  }
}

}  // namespace
}  // namespace pangea
