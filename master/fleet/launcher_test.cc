#include "master/fleet/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "gtest/gtest.h"

namespace pangea {
namespace {

// Runs a shell script as an agent would be started; what it wrote to the file $OUT, and how it ended.
struct Ran {
  std::string wrote, end;
  bool by_signal = false;
};
Ran RunChild(const std::string& script, const std::string& token = "a-token-of-the-test") {
  const std::string out = testing::TempDir() + "launcher_test." + std::to_string(getpid());
  setenv("OUT", out.c_str(), 1);
  auto child = Launch({"/bin/sh", "-c", script}, token);
  unsetenv("OUT");
  EXPECT_TRUE(child.ok()) << child.status();
  pollfd ended{child->pidfd, POLLIN, 0};
  EXPECT_EQ(poll(&ended, 1, 60'000), 1) << "the descriptor tells of the end";
  const ChildEnd end = Reap(*child);
  std::ostringstream text;
  text << std::ifstream(out).rdbuf();
  std::filesystem::remove(out);
  return {text.str(), end.text, end.by_signal};
}

TEST(Launcher, TellsHowAChildEnded) {
  EXPECT_EQ(RunChild("exit 0").end, "exited with code 0");
  EXPECT_EQ(RunChild("exit 3").end, "exited with code 3");
  const Ran killed = RunChild("kill -9 $$");
  EXPECT_TRUE(killed.by_signal);
  EXPECT_EQ(killed.end, "was killed by signal 9 (Killed)");
  EXPECT_FALSE(Launch({"/no/such/program"}, "token").ok());
}

TEST(Launcher, TheTokenIsInTheEnvironmentAndNotOnTheCommandLine) {
  setenv("PANGEA_AGENT_TOKEN", "of-somebody-else", 1);
  const Ran ran = RunChild("echo \"$PANGEA_AGENT_TOKEN\" >$OUT; tr '\\0' ' ' </proc/$$/cmdline >>$OUT");
  unsetenv("PANGEA_AGENT_TOKEN");
  EXPECT_EQ(ran.wrote.substr(0, ran.wrote.find('\n')), "a-token-of-the-test");
  EXPECT_EQ(ran.wrote.find("a-token-of-the-test", 20), std::string::npos) << ran.wrote;
}

TEST(Launcher, AChildInheritsNoDescriptorAndNoBlockedSignal) {
  const int secret = open("/etc/hostname", O_RDONLY);  // not close-on-exec, as a library may open its own
  ASSERT_GE(secret, 3);
  sigset_t term, before;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, &before);
  const Ran ran = RunChild("(test -e /proc/self/fd/" + std::to_string(secret) +
                           " && echo inherited || echo none) >$OUT; grep SigBlk /proc/self/status >>$OUT");
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  close(secret);
  EXPECT_EQ(ran.wrote, "none\nSigBlk:\t0000000000000000\n");
}

TEST(Launcher, StandardOutputIsTheMastersOwn) {
  const Ran ran = RunChild("readlink /proc/$$/fd/0 >$OUT; [ /proc/$$/fd/1 -ef /proc/$$/fd/2 ] && echo same >>$OUT");
  EXPECT_EQ(ran.wrote, "/dev/null\nsame\n");
}

}  // namespace
}  // namespace pangea
