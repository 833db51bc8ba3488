// The rules of a deployment file: each broken alone is one fault at its place, and a fault breeds no other.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include "absl/strings/str_join.h"
#include "configs/cat.h"
#include "configs/device.h"
#include "configs/keys.h"
#include "configs/values.h"

namespace pangea {
namespace {

namespace fs = std::filesystem;

class Rules : public testing::Test {
 protected:
  Rules() {
    std::string pattern = testing::TempDir() + "/rules.XXXXXX";
    folder_ = mkdtemp(pattern.data());
    file_ = (folder_ / "f.yaml").string();
  }
  ~Rules() override { fs::remove_all(folder_); }

  // "model: m" is its first line.
  DeploymentResult Read(const std::string& yaml) {
    std::ofstream(file_) << "model: m\n" << yaml << "\n";
    DeploymentResult result = ReadDeploymentTarget(file_, {});
    for (const DeploymentFault& fault : ValidateLayout(result.deployment))
      ADD_FAILURE() << "no plan can be made: " << fault.Text() << "\nof " << yaml;
    return result;
  }
  std::vector<std::string> Faults(const std::string& yaml) {
    std::vector<std::string> faults = Read(yaml).faults;
    for (std::string& fault : faults) {
      if (fault.starts_with(file_)) fault = "f.yaml" + fault.substr(file_.size());
    }
    return faults;
  }

  fs::path folder_;
  std::string file_;
};

// Texts of a value that the key's own rule refuses.
std::vector<std::string> BadValues(const ConfigKey& key) {
  const auto number = [&](double value) {
    return key.kind == KeyKind::kInteger || key.kind == KeyKind::kBytes ? Cat(static_cast<int64_t>(value))
                                                                        : FormatSeconds(value);
  };
  switch (key.kind) {
    case KeyKind::kText:
      return {"\"a\\x01b\"", "true"};
    case KeyKind::kTexts:
      return {"[\"a\\x01b\"]"};
    case KeyKind::kChoice:
      return {"no-such-choice", "\"\""};
    case KeyKind::kAddress:
      return {"nowhere", "\"127.0.0.1:70000\""};
    case KeyKind::kBoolean:
      return {"maybe", "1"};
    default:
      std::vector<std::string> values = {"much", number(2 * key.max + 1)};
      if (key.min > 0) values.push_back(number(key.kind == KeyKind::kInteger ? key.min - 1 : key.min / 2));
      return values;
  }
}

// A line that sets the key. In flow form, so that sections of one file may repeat no name.
std::string Line(const ConfigKey& key, const std::string& value) {
  if (key.section().empty()) return Cat(key.name, ": ", value);
  return Cat(key.section(), ": {", key.last(), ": ", value, "}");
}

TEST_F(Rules, EveryKeysOwnRuleIsOneFaultAtItsPlace) {
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.name == "model") continue;
    for (const std::string& value : BadValues(key)) {
      const std::string line = Line(key, value);
      std::vector<std::string> faults = Faults(line);
      ASSERT_EQ(faults.size(), 1u) << line << "\n" << absl::StrJoin(faults, "\n");
      EXPECT_TRUE(faults[0].starts_with(Cat("f.yaml:2:", line.size() - value.size() + (key.section().empty() ? 1 : 0),
                                            ": ", key.name, ": ")) ||
                  key.kind == KeyKind::kTexts)
          << faults[0];
    }
  }
  EXPECT_EQ(Faults("agents: [{threads: 0}]"),
            std::vector<std::string>{"f.yaml:2:20: agents[0].threads: must be 1 to 1024"});
}

// The ends of a range belong to it.
TEST_F(Rules, ARangesEndsAreGood) {
  for (const ConfigKey& key : ConfigKeys()) {
    const bool whole = key.kind == KeyKind::kInteger || key.kind == KeyKind::kBytes;
    if (!whole && key.kind != KeyKind::kSeconds && key.kind != KeyKind::kNumber) continue;
    for (const double end : {key.min, key.max}) {
      const std::string line = Line(key, whole ? Cat(static_cast<int64_t>(end)) : FormatSeconds(end));
      for (const std::string& fault : Faults(line)) {
        EXPECT_EQ(fault.find(Cat(key.name, ": must be ", RangeText(key))), fault.npos) << line;
      }
    }
  }
}

TEST_F(Rules, EveryRuleBetweenKeysIsOneFaultAtItsPlace) {
  const struct {
    std::string yaml, fault;
  } kCases[] = {
      {"parallel: {pipeline: 2}\nagents: [{threads: 1}]",
       "f.yaml:3:1: agents: the list has 1 entry, but parallel asks for 2 stages of 1 ranks: 2"},
      {"agents: []", "f.yaml:2:1: agents: the list is empty; one entry an agent is needed"},
      {"parallel: {pipeline: 1024, tensor: 1024}",
       "f.yaml:2:22: parallel.pipeline: 1024 stages of 1024 ranks are more than 4096 agents"},
      {"agents: {launch: remote}",
       "f.yaml:2:18: control.token_file: must be given when an agent is remote: it has no other way to know the token"},
      {"agents: {device: cuda_on_cpu}\nparallel: {transport: nccl}",
       "f.yaml:3:23: parallel.transport: nccl needs agents.device: cuda"},
      {"agents: {launch: remote}\nparallel: {transport: shm}\ncontrol: {token_file: t}",
       "f.yaml:3:23: parallel.transport: shm needs every agent on the master's host; use gloo or auto"},
      {"parallel: {tensor: 2}\nagents: [{launch: remote}, {}]\ncontrol: {token_file: t, listen: \"0.0.0.0:1\"}",
       "f.yaml:3:1: agents: local agents next to remote ones need a host: control.listen is 0.0.0.0:1, which tells no "
       "address"},
      {"parallel: {tensor: 2}\nagents: [{device: cpu}, {device: sim}]",
       "f.yaml:3:34: agents[1].device: all agents must have the same kind of device"},
      {"schedule: {prefill_slowdown: 0.9}",
       "f.yaml:2:30: schedule.prefill_slowdown: must be above 1, or 0 for no bound"},
      {"kernels: {activations: 12}", "f.yaml:2:24: kernels.activations: must be 8 or 16"},
      {"cache: {block_tokens: 24}", "f.yaml:2:23: cache.block_tokens: must be a multiple of 16"},
      {"context: 100\nlimits: {max_tokens: 101}", "f.yaml:3:22: limits.max_tokens: must not exceed context (100)"},
      {"context: 100\nlimits: {max_prompt_tokens: 101}",
       "f.yaml:3:29: limits.max_prompt_tokens: must not exceed context (100)"},
      {"limits: {max_tokens: 10}\nsampling: {max_tokens: 11}",
       "f.yaml:3:24: sampling.max_tokens: must not exceed limits.max_tokens (10)"},
      // The one that the file sets.
      {"limits: {bodies: 1MiB}", "f.yaml:2:18: limits.body: must not exceed limits.bodies (1048576)"},
      {"limits: {body: 2KiB}", "f.yaml:2:16: limits.header_bytes: must not exceed limits.body (2048)"},
      {"name: ../../etc/passwd",
       "f.yaml:2:7: name: \"../../etc/passwd\" must not start with \"/\" nor have \"..\" in it"},
      {"name: " + std::string(257, 'x'), "f.yaml:2:7: name: is longer than 256 bytes"},
      {"name: a\nnames: [b, a]", "f.yaml:3:8: names: \"a\" is given twice"},
      {"names: [\"\", b]", "f.yaml:2:8: names: must not be empty"},
      {"rest: {allowed_origins: [x]}",
       "f.yaml:2:25: rest.allowed_origins: \"x\" is no origin: expected \"*\" or SCHEME://HOST[:PORT] without a path, "
       "such as https://chat.example.com"},
  };
  for (const auto& c : kCases) EXPECT_EQ(Faults(c.yaml), std::vector<std::string>{c.fault});
  std::string names = "names: [n0";
  for (int i = 1; i < 65; ++i) Append(names, ", n", i);
  EXPECT_EQ(Faults(names + "]"), std::vector<std::string>{"f.yaml:2:8: names: has 65 names, at most 64"});
}

// What is said of a key that could not be read, or of one that depends on it, would mislead.
TEST_F(Rules, AFaultBreedsNoOther) {
  for (const char* yaml : {
           "parallel: {tensor: 0}\nagents: [{}, {}, {}, {}]",
           "parallel: {tensor: 9999999}\nagents: [{}, {}]",
           "parallel: []\nagents: [{}, {}]",
           "parallel: {tensor: 2}\nagents: [{device: tpu}, {device: sim}]",
           "parallel: {tensor: 2}\nagents: [{device: sim}, x]",
           "limits: {bodies: lots, body: 1GiB}",
           "limits: {body: 2GiB}",
           "limits: {bodies: 1}",
           "context: few\nlimits: {max_tokens: 16777216}",
           "cache: {memory: 1, memory: 2}",
           "name: 1\nname: 2\nnames: [1]",
       }) {
    const std::vector<std::string> faults = Faults(yaml);
    EXPECT_EQ(faults.size(), 1u) << yaml << "\n" << absl::StrJoin(faults, "\n");
  }
}

// Many bad keys at once: each is told once, whatever the others are.
TEST_F(Rules, NoKeyIsToldTwice) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::map<std::string, std::string> sections;  // of flow maps
    std::set<std::string> bad;
    for (const ConfigKey& key : ConfigKeys()) {
      if (key.name == "model" || random() % 8 != 0 || bad.size() == 12) continue;
      const std::vector<std::string> values = BadValues(key);
      const std::string value = values[0];
      bad.insert(std::string(key.name));
      std::string& section = sections[std::string(key.section())];
      Append(section, section.empty() ? "" : key.section().empty() ? "\n" : ", ", key.last(), ": ", value);
    }
    std::string yaml = sections[""];
    for (const auto& [name, keys] : sections) {
      if (!name.empty()) Append(yaml, "\n", name, ": {", keys, "}");
    }
    std::multiset<std::string> told;
    for (const std::string& fault : Faults(yaml)) {
      const size_t key = fault.find(": ") + 2;
      told.insert(fault.substr(key, fault.find(": ", key) - key));
    }
    EXPECT_EQ(std::vector(told.begin(), told.end()), std::vector<std::string>(bad.begin(), bad.end())) << yaml;
  }
}

TEST_F(Rules, FaultyKeysHaveTheirDefaultsAndTheRestIsKept) {
  const DeploymentResult result = Read(
      "parallel: {pipeline: 2, tensor: 0}\ncache: {memory: 1, block_tokens: 32}\n"
      "agents: [{threads: 2, device: x}, {threads: 3}]\nqueue: 1");
  EXPECT_TRUE(result.readable);
  EXPECT_EQ(result.faults.size(), 4u);
  EXPECT_EQ(result.deployment.parallel.pipeline, 2);
  EXPECT_EQ(result.deployment.parallel.tensor, 1);
  EXPECT_EQ(result.deployment.cache.memory, Deployment().cache.memory);
  EXPECT_EQ(result.deployment.cache.block_tokens, 32);
  EXPECT_EQ(result.deployment.agent(0).device, "cpu");
  EXPECT_EQ(result.deployment.agent(0).threads, 2);
  EXPECT_EQ(result.deployment.agent(1).threads, 3);
  EXPECT_FALSE(ReadDeploymentTarget((folder_ / "none.yaml").string(), {}).readable);
  std::ofstream(file_) << "name: x\n";
  EXPECT_FALSE(ReadDeploymentTarget(file_, {}).readable);
}

TEST_F(Rules, AFaultThatIsFoundLaterHasItsPlaceToo) {
  std::ofstream(file_) << "model: m\nparallel: {pipeline: 2}\nagents: [{threads: 1}]\n";
  const DeploymentResult read = ReadDeploymentTarget(file_, {"context=7"});
  ASSERT_EQ(read.faults.size(), 1u);
  EXPECT_TRUE(read.faulty.contains("agents"));
  EXPECT_EQ(read.Placed({"parallel.pipeline", "the model has 1 layer"}),
            Cat(file_, ":2:22: parallel.pipeline: the model has 1 layer"));
  EXPECT_EQ(read.Placed({"context", "is 7"}), "--set context=7: context: is 7");
  EXPECT_EQ(read.Placed({"cache.memory", "is too little", "context"}), "--set context=7: cache.memory: is too little");
  EXPECT_EQ(read.Placed({"cache.memory", "is too little"}), "cache.memory: is too little");
  EXPECT_EQ(read.Placed({"", "no key: at all"}), "no key: at all");
}

TEST(Deployment, AKeyIsSoundWhenItAndWhatItLiesInAre) {
  const std::set<std::string> faulty = {"cache", "agents[1]", "parallel.tensor", ""};
  for (const char* key : {"cache", "cache.memory", "agents[1].device", "parallel.tensor"})
    EXPECT_FALSE(KeyIsSound(key, faulty)) << key;
  for (const char* key : {"", "context", "agents[0].device", "parallel.pipeline", "cacheable"})
    EXPECT_TRUE(KeyIsSound(key, faulty)) << key;
}

// One default that does not go with the rest may break another in its turn.
TEST_F(Rules, TheLayoutThatIsLeftCanBePlanned) {
  std::ofstream(file_) << "model: m\nparallel: {pipeline: 100, pipeline: 1, tensor: 100}\nagents: [{}, {}]\n";
  const DeploymentResult read = ReadDeploymentTarget(file_, {});
  EXPECT_FALSE(read.faults.empty());
  EXPECT_TRUE(ValidateLayout(read.deployment).empty());
}

TEST(Devices, TheKeysNameThoseThatThereAre) {
  std::vector<std::string> names;
  for (const DeviceInfo& device : kDevices) names.emplace_back(device.name);
  EXPECT_EQ(absl::StrJoin(names, ", "), kDeviceChoices);
  std::string isas = "auto";
  for (size_t i = std::size(kIsaClasses); i-- > 0;) Append(isas, ", ", kIsaClasses[i]);
  EXPECT_EQ(isas, kIsaChoices);
}

}  // namespace
}  // namespace pangea
