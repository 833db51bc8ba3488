#include "configs/join_token.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "configs/cat.h"

namespace pangea {
namespace {

// As a master and as an agent read it from a file.
absl::StatusOr<std::string> FromFile(std::string text) {
  const std::string path = Cat(testing::TempDir(), "/join_token_test_", getpid());
  std::ofstream(path, std::ios::binary) << text;
  auto token = ReadJoinToken(path);
  std::filesystem::remove(path);
  return token;
}

TEST(JoinToken, TheRulesAreTheSameForFileAndEnvironment) {
  for (const auto& read : {FromFile, CheckJoinToken}) {
    EXPECT_EQ(*read("12345678"), "12345678");
    EXPECT_EQ(*read("a-secret\r\n"), "a-secret");
    EXPECT_EQ(*read(std::string(4096, 'x') + "\n"), std::string(4096, 'x'));
    for (const std::string& bad :
         {std::string(), std::string("1234567"), std::string("      \n"), std::string(4097, 'x'),
          std::string("two words"), std::string("caf\xc3\xa9-caf\xc3\xa9"), std::string("eight\0nul", 9)}) {
      const auto token = read(bad);
      EXPECT_FALSE(token.ok()) << bad;
      EXPECT_EQ(token.status().message().find("two words"), std::string::npos) << "a secret in a message";
    }
  }
  EXPECT_FALSE(ReadJoinToken("/nonexistent/token").ok());
  EXPECT_FALSE(ReadJoinToken("/").ok());
}

}  // namespace
}  // namespace pangea
