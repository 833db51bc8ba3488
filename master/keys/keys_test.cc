#include "master/keys/keys.h"

#include <gtest/gtest.h>

#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace pangea {
namespace {

// SHA-256 of "abc" and of the empty text, as FIPS 180-2 and its validation data print them.
constexpr char kAbc[] = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kEmpty[] = "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";

std::vector<std::string> Faults(const std::string& text) {
  std::vector<std::string> faults;
  KeyRing::Parse(text, "f", &faults);
  return faults;
}

TEST(Keys, FindsByTheSecretsHash) {
  std::vector<std::string> faults;
  const std::string text = absl::StrCat("# ours\n\n", kAbc, " alice\r\n  ", kEmpty, "\tbob 2.5");
  const KeyRing ring = KeyRing::Parse(text, "f", &faults);
  ASSERT_TRUE(faults.empty()) << faults[0];
  ASSERT_EQ(ring.keys().size(), 2u);
  const ApiKey* alice = ring.Find("abc");
  ASSERT_NE(alice, nullptr);
  EXPECT_EQ(alice->name, "alice");
  EXPECT_EQ(alice->weight, 1);
  EXPECT_EQ(alice->account, 1u);
  const ApiKey* bob = ring.Find("");
  ASSERT_NE(bob, nullptr);
  EXPECT_EQ(bob->weight, 2.5);
  EXPECT_EQ(bob->account, 2u);
  for (const char* wrong : {"ab", "abcd", "ABC", "alice", kAbc}) EXPECT_EQ(ring.Find(wrong), nullptr) << wrong;
}

TEST(Keys, FaultsNameTheirLineButNeverRepeatItsText) {
  const std::string text =
      absl::StrCat(kAbc, " alice\n", "sk-pangea-hunter2 carol\n", kEmpty, "\n", kEmpty, " bad/name\n", kEmpty,
                   " bob 0\n", kEmpty, " bob nan\n", kEmpty, " bob 1 2\n", kAbc, " alice 1\n", "sha256:12 dave");
  const std::vector<std::string> faults = Faults(text);
  std::vector<std::string> places;
  for (const std::string& fault : faults) {
    const std::vector<std::string> parts = absl::StrSplit(fault, ':');
    places.push_back(parts[0] + ":" + parts[1]);
    EXPECT_EQ(fault.find("hunter2"), std::string::npos) << fault;
  }
  // Line 8 repeats both a key and a name.
  EXPECT_EQ(places, (std::vector<std::string>{"f:2", "f:3", "f:4", "f:5", "f:6", "f:7", "f:8", "f:8", "f:9"}));
}

TEST(Keys, AFileWithoutAKeyIsAFault) {
  for (const char* text : {"", "\n\n", "# nobody\n"}) EXPECT_EQ(Faults(text).size(), 1u) << text;
  std::vector<std::string> faults;
  KeyRing::Read("/nonexistent/keys", &faults);
  KeyRing::Read("/", &faults);  // a folder
  EXPECT_EQ(faults.size(), 2u);
}

// What the subcommand prints -> {secret, line}.
std::vector<std::string> Make(std::vector<std::string> words) {
  std::vector<char*> argv;
  words.insert(words.begin(), "key");
  for (std::string& word : words) argv.push_back(word.data());
  testing::internal::CaptureStdout();
  EXPECT_EQ(KeyMain(static_cast<int>(argv.size()), argv.data()), 0);
  return absl::StrSplit(testing::internal::GetCapturedStdout(), '\n', absl::SkipEmpty());
}

TEST(Keys, AMadeKeyIsAccepted) {
  const auto made = Make({"alice", "--weight", "3"}), other = Make({"bob"});
  ASSERT_EQ(made.size(), 2u);
  ASSERT_EQ(other.size(), 2u);
  EXPECT_NE(made[0], other[0]);
  EXPECT_GE(made[0].size(), 43u);  // 256 bits in base64
  EXPECT_EQ(made[1].find(made[0]), std::string::npos);
  std::vector<std::string> faults;
  const KeyRing ring = KeyRing::Parse(absl::StrCat(made[1], "\n", other[1], "\n"), "f", &faults);
  ASSERT_TRUE(faults.empty()) << faults[0];
  ASSERT_NE(ring.Find(made[0]), nullptr);
  EXPECT_EQ(ring.Find(made[0])->name, "alice");
  EXPECT_EQ(ring.Find(made[0])->weight, 3);
  EXPECT_EQ(ring.Find(other[0])->name, "bob");
  EXPECT_EQ(ring.Find(made[0] + "x"), nullptr);
}

TEST(Keys, TheSubcommandRefusesWhatTheFileWould) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {}, {"a b"}, {"a", "b"}, {"a", "--weight", "0"}, {"a", "--weight"}, {"a", "--wight", "1"}, {""}}) {
    std::vector<std::string> copy = words;
    copy.insert(copy.begin(), "key");
    std::vector<char*> argv;
    for (std::string& word : copy) argv.push_back(word.data());
    testing::internal::CaptureStderr();
    EXPECT_EQ(KeyMain(static_cast<int>(argv.size()), argv.data()), 64);
    EXPECT_NE(testing::internal::GetCapturedStderr(), "");
  }
}

}  // namespace
}  // namespace pangea
