// The command line of serve and check, down to the deployment that it makes.
#include "configs/serve_args.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "configs/cat.h"
#include "configs/keys.h"

namespace pangea {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<ServeArgs> Parse(std::vector<const char*> words) {
  ServeArgs args;
  words.insert(words.begin(), "serve");
  CommandLine line = ServeCommandLine("serve", &args);
  const absl::Status parsed = ParseTarget(line, static_cast<int>(words.size()), words.data(), &args);
  if (!parsed.ok()) return parsed;
  return args;
}
std::string Refusal(const std::vector<const char*>& words) { return std::string(Parse(words).status().message()); }

TEST(ServeArgs, OptionsBecomeSettings) {
  const auto args = Parse({"--pipeline", "2", "d.yaml", "--tensor=3", "--device", "sim", "--set", "cache.memory=1GiB"});
  ASSERT_TRUE(args.ok()) << args.status();
  EXPECT_EQ(args->target, "d.yaml");
  EXPECT_EQ(args->settings, (std::vector<std::string>{"parallel.pipeline=2", "parallel.tensor=3", "agents.device=sim",
                                                      "cache.memory=1GiB"}));
  EXPECT_EQ(args->at.host, "");
  EXPECT_LT(args->at.port, 0);
}

TEST(ServeArgs, Refusals) {
  for (const std::vector<const char*>& words : std::vector<std::vector<const char*>>{
           {}, {""}, {"a", "b"}, {"a", "--set"}, {"--tensor", "2"}, {"a", "--port"}, {"a", "-x"}}) {
    EXPECT_FALSE(Parse(words).ok());
  }
  EXPECT_EQ(Refusal({"a", "--pipelin", "2"}), "unknown option --pipelin; did you mean --pipeline?");
  EXPECT_EQ(Refusal({"a", "--api-key=x"}), "unknown option --api-key; did you mean --api-key-file?");
  // Empty by a variable that is not set: everybody could ask.
  EXPECT_EQ(Refusal({"a", "--api-key-file", ""}), "--api-key-file needs a value; see --help");
  for (const char* port : {"65536", "-1", "80a", " "}) {
    EXPECT_NE(Refusal({"a", "--port", port}).find("--port: expected a whole number from 0 to 65535"), std::string::npos)
        << port;
  }
  for (const char* host : {"a b", "http://x", "127.0.0.1:80", "[::1"}) {
    EXPECT_NE(Refusal({"a", "--host", host}).find("--host: an address or a name"), std::string::npos) << host;
  }
}

TEST(ServeHelp, HelpIsOneScreenAndHelpAllListsEveryKey) {
  EXPECT_TRUE(Parse({"--help-all"})->every_key);
  for (const char* command : {"serve", "check"}) {
    ServeArgs args;
    std::istringstream text(ServeCommandLine(command, &args).Help());
    int lines = 0;
    for (std::string line; std::getline(text, line); ++lines) EXPECT_LE(line.size(), 80u) << line;
    EXPECT_LE(lines, 24);
    for (const char* option : {"--host", "--port", "--name", "--api-key-file", "--set", "--help-all"})
      EXPECT_NE(text.str().find(option), std::string::npos) << option;
  }
  for (const ConfigKey& key : ConfigKeys())
    EXPECT_NE(KeysHelp().find(Cat("  ", key.name, " ")), std::string::npos) << key.name;
}

class ServeArgsTest : public testing::Test {
 protected:
  ServeArgsTest() {
    std::string pattern = testing::TempDir() + "/command_line.XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~ServeArgsTest() override { fs::remove_all(path_); }
  // What a file and the words of a command line make together.
  Deployment Read(const std::string& yaml, const std::vector<const char*>& more) {
    const std::string file = (path_ / "d.yaml").string();
    std::ofstream(file) << "model: m\n" << yaml << "\n";
    std::vector<const char*> words = {file.c_str()};
    words.insert(words.end(), more.begin(), more.end());
    const auto args = Parse(words);
    EXPECT_TRUE(args.ok()) << args.status();
    DeploymentResult result = ReadDeploymentTarget(args->target, args->settings, args->at);
    faults_ = result.faults;
    return result.deployment;
  }
  fs::path path_;
  std::vector<std::string> faults_;
};

TEST_F(ServeArgsTest, HostAndPortMoveTheDoors) {
  const struct {
    const char* yaml;
    std::vector<const char*> words;
    const char *rest, *grpc;
  } kCases[] = {
      {"", {}, "127.0.0.1:8000", "127.0.0.1:8001"},
      {"", {"--port", "9000"}, "127.0.0.1:9000", "127.0.0.1:9001"},
      {"", {"--port=0"}, "127.0.0.1:0", "127.0.0.1:0"},
      {"", {"--port", "65535"}, "127.0.0.1:65535", "127.0.0.1:0"},  // there is no port behind it: a free one
      {"", {"--host", "0.0.0.0"}, "0.0.0.0:8000", "0.0.0.0:8001"},
      {"", {"--host", "::1", "--port", "80"}, "[::1]:80", "[::1]:81"},
      {"", {"--host", "[::]"}, "[::]:8000", "[::]:8001"},
      {"", {"--host=localhost"}, "localhost:8000", "localhost:8001"},
      // Half of what the file says stays.
      {"rest: {listen: \"10.0.0.1:5000\"}", {"--port", "6000"}, "10.0.0.1:6000", "127.0.0.1:6001"},
      {"rest: {listen: \"10.0.0.1:5000\"}", {"--host", "::"}, "[::]:5000", "[::]:8001"},
      // A place that was given to gRPC stays as it is.
      {"grpc: {listen: \"10.0.0.1:7000\"}", {"--host", "0.0.0.0", "--port", "9000"}, "0.0.0.0:9000", "10.0.0.1:7000"},
      {"", {"--port", "9000", "--set", "grpc.listen=127.0.0.1:0"}, "127.0.0.1:9000", "127.0.0.1:0"},
      {"", {"--set", "rest.listen=\"[::1]:1\"", "--port", "9000"}, "[::1]:9000", "127.0.0.1:9001"},
  };
  for (const auto& c : kCases) {
    const Deployment d = Read(c.yaml, c.words);
    EXPECT_EQ(faults_, std::vector<std::string>());
    EXPECT_EQ(d.rest.listen, c.rest);
    EXPECT_EQ(d.grpc.listen, c.grpc);
  }
}

TEST_F(ServeArgsTest, NamesAndPathsAreNotReadAsYaml) {
  setenv("PANGEA_TEST_X", "expanded", 1);
  for (const char* text :
       {"my model: v2", "a # b", "*x", "true", "null", "7", "${PANGEA_TEST_X}", "$5 \"q\" \\", "[a, b]", "été", "'"}) {
    const Deployment d = Read("name: other\n", {"--name", text, "--api-key-file", text, "--timeline", text});
    EXPECT_EQ(faults_, std::vector<std::string>()) << text;
    EXPECT_EQ(d.name, text);
    EXPECT_EQ(d.keys.file, text);
    EXPECT_EQ(d.timeline.file, text);
  }
  EXPECT_EQ(Read("", {"--set", "name=${PANGEA_TEST_X}"}).name, "expanded");  // a setting is YAML
  Read("", {"--name", "caf\xe9"});
  ASSERT_EQ(faults_.size(), 1u);
  EXPECT_NE(faults_[0].find("not UTF-8"), std::string::npos) << faults_[0];
}

}  // namespace
}  // namespace pangea
