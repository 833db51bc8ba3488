#include "configs/deployment.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "configs/cat.h"
#include "configs/keys.h"
#include "configs/values.h"

namespace pangea {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<Deployment> LoadDeployment(const std::string& target, const std::vector<std::string>& settings) {
  const DeploymentResult result = ReadDeploymentTarget(target, settings);
  if (!result.faults.empty()) return absl::InvalidArgumentError(absl::StrJoin(result.faults, "\n"));
  return result.deployment;
}
std::string Error(const absl::StatusOr<Deployment>& result) {
  return result.ok() ? "" : std::string(result.status().message());
}
std::string ParseError(const std::string& yaml) { return Error(ParseDeployment(yaml, "f.yaml")); }

// All keys of all agents as text: equality of two deployments without trusting DumpDeployment.
std::vector<std::string> Values(Deployment d) {
  std::vector<std::string> out;
  for (const ConfigKey& key : ConfigKeys()) {
    if (!key.per_agent() || d.agent_list.empty())
      out.push_back(Cat(key.name, "=", GetKey(key, key.field(d, d.agents))));
    for (AgentConfig& agent : d.agent_list) {
      if (key.per_agent()) out.push_back(Cat(key.name, "=", GetKey(key, key.field(d, agent))));
    }
  }
  return out;
}

class TempDir : public testing::Test {
 protected:
  TempDir() {
    std::string pattern = testing::TempDir() + "/configs.XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~TempDir() override { fs::remove_all(path_); }
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return (path_ / name).string();
  }
  fs::path path_;
};
using LoadTest = TempDir;

TEST(Parse, TheMostUsedKeys) {
  const auto d = ParseDeployment(R"(
model: models/SmolLM2-135M-Instruct.Q4_1.gguf   # the only key without a default
parallel: {pipeline: 2, tensor: 3}
agents: {device: sim, threads: 4}
cache: {memory: 1.5GiB, block_tokens: 32, type: int8}
kernels: {activations: 8, isa: avx2}
limits: {queue: 7, queue_seconds: 500ms, body: 1MB}
rest: {listen: "127.0.0.1:0"}
grpc: {listen: '[::1]:9001'}
chat:
  allow_request_template: true
drain_seconds: 2m
)",
                                 "f.yaml");
  ASSERT_TRUE(d.ok()) << d.status();
  EXPECT_EQ(d->name, "SmolLM2-135M-Instruct.Q4_1");
  EXPECT_EQ(d->parallel.pipeline, 2);
  EXPECT_EQ(d->parallel.tensor, 3);
  EXPECT_EQ(d->agents.device, "sim");
  EXPECT_EQ(d->agent(5).threads, 4);
  EXPECT_EQ(d->cache.memory, 1610612736u);
  EXPECT_EQ(d->cache.type, "int8");
  EXPECT_EQ(d->kernels.isa, "avx2");
  EXPECT_EQ(d->limits.queue_seconds, 0.5);
  EXPECT_EQ(d->limits.body, 1000000u);
  EXPECT_EQ(d->grpc.listen, "[::1]:9001");
  EXPECT_TRUE(d->chat.allow_request_template);
  EXPECT_EQ(d->drain_seconds, 120);
}

TEST(Parse, ListOfAgents) {
  const auto d = ParseDeployment(
      "model: m\nparallel: {pipeline: 2}\nagents:\n  - {threads: 3}\n  - {threads: 5, model: /x}\n", "f");
  ASSERT_TRUE(d.ok()) << d.status();
  ASSERT_EQ(d->agent_list.size(), 2u);
  EXPECT_EQ(d->agent(0).threads, 3);
  EXPECT_EQ(d->agent(1).threads, 5);
  EXPECT_EQ(d->agent(1).model, "/x");
}

TEST(Parse, AllFaultsAtOnceEachWithItsPlace) {
  const std::string error = ParseError(
      "modell: x\n"
      "parallel:\n"
      "  pipeline: 0\n"
      "  tensr: 2\n"
      "cache: {memory: lots, block_tokens: 17}\n"
      "rest: {listen: \"localhost:70000\"}\n"
      "agents: {device: gpu}\n");
  const std::vector<std::string> lines = absl::StrSplit(error, '\n');
  EXPECT_EQ(lines, (std::vector<std::string>{
                       "f.yaml:1:1: modell: unknown key; the nearest known key is model",
                       "f.yaml:3:13: parallel.pipeline: must be 1 to 1024",
                       "f.yaml:4:3: parallel.tensr: unknown key; the nearest known key is parallel.tensor",
                       "f.yaml:5:17: cache.memory: expected bytes, such as 268435456, 256MiB or 1GB",
                       "f.yaml:6:16: rest.listen: the port must be 0 to 65535",
                       "f.yaml:7:18: agents.device: \"gpu\" is none of cpu, sim, cuda_on_cpu, cuda",
                       "f.yaml:5:37: cache.block_tokens: must be a multiple of 16",
                       "f.yaml: model: must be given: a checkpoint folder or a .gguf file",
                   }))
      << error;
}

// Changes every key away from its default, in a form that differs from how it is dumped, and reads it back.
TEST(Table, EveryKeyIsSettableAndComesBackFromADump) {
  Deployment all;
  all.model = "m";
  for (const ConfigKey& key : ConfigKeys()) {
    Deployment d;
    d.model = "m";
    const std::string before = GetKey(key, key.field(d, d.agents));
    const KeyField field = key.field(all, all.agents);
    switch (key.kind) {
      case KeyKind::kText:
        *std::get<std::string*>(field) = "some \"text\" with $5, \\ and ü: #x";
        break;
      case KeyKind::kAddress:
        *std::get<std::string*>(field) = Cat("host.example:", 1000 + static_cast<int>(&key - ConfigKeys().data()));
        break;
      case KeyKind::kChoice:
        *std::get<std::string*>(field) = std::string(key.choices.substr(key.choices.rfind(' ') + 1));
        break;
      case KeyKind::kInteger:
        *std::get<int*>(field) = static_cast<int>(key.min) + 16;
        break;
      case KeyKind::kBytes:
        *std::get<uint64_t*>(field) = static_cast<uint64_t>(key.min) + 12345;
        break;
      case KeyKind::kTexts:
        *std::get<std::vector<std::string>*>(field) = key.name == "rest.allowed_origins"
                                                          ? std::vector<std::string>{"https://a.example:8443", "*"}
                                                          : std::vector<std::string>{"a, \"b\"", "[c]: #"};
        break;
      case KeyKind::kOptionalNumber:
      case KeyKind::kOptionalInteger:
        *std::get<std::optional<double>*>(field) = key.min;
        break;
      case KeyKind::kSeconds:
      case KeyKind::kNumber:
        *std::get<double*>(field) = key.min + 0.1 + 0.2;
        break;
      case KeyKind::kBoolean:
        *std::get<bool*>(field) = !*std::get<bool*>(field);
        break;
    }
    EXPECT_NE(GetKey(key, field), before) << key.name << " shares its field with another key, or has no other value";
  }
  // Values that other rules hold narrower.
  all.kernels.activations = 8, all.kernels.fusion = 1;
  all.schedule.prefill_slowdown = 1.5;
  all.cache.block_tokens = 32;
  all.parallel.transport = "gloo";
  all.limits.header_bytes = 2000, all.limits.body = 9999999, all.limits.bodies = 99999999;
  all.context = 1000;
  for (const DeploymentFault& fault : ValidateDeployment(all)) FAIL() << fault.Text();
  const std::string dump = DumpDeployment(all);
  const auto back = ParseDeployment(dump, "dump");
  ASSERT_TRUE(back.ok()) << back.status() << dump;
  EXPECT_EQ(Values(*back), Values(all));
  EXPECT_EQ(DumpDeployment(*back), dump);
}

TEST(Table, NoTwoKeysShareAField) {
  Deployment d;
  std::set<const void*> fields;
  for (const ConfigKey& key : ConfigKeys()) {
    const void* field = std::visit([](auto* p) -> const void* { return p; }, key.field(d, d.agents));
    EXPECT_TRUE(fields.insert(field).second) << key.name;
    EXPECT_EQ(FindKey(key.name), &key);
    EXPECT_EQ(CheckKey(key, key.field(d, d.agents)), "") << key.name << ": the default must be valid";
    EXPECT_FALSE(key.doc.empty()) << key.name;
  }
}

TEST(Dump, ListOfAgentsAndUnusualNumbersComeBack) {
  Deployment d;
  d.model = "m";
  d.name = "n";
  d.parallel.pipeline = 3;
  d.agent_list.resize(3);
  d.agent_list[1].threads = 9;
  d.agent_list[2].model = "/a b/'c'";
  d.limits.idle_seconds = 1.0 / 3;
  d.cache.memory = (1ull << 40) + 1;
  const auto back = ParseDeployment(DumpDeployment(d), "dump");
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(Values(*back), Values(d));
}

TEST_F(LoadTest, NamesByDefault) {
  fs::create_directory(path_ / "my-model");
  Write("my-model/config.json", "{}");
  EXPECT_EQ(LoadDeployment((path_ / "my-model").string(), {})->name, "my-model");
  EXPECT_EQ(LoadDeployment((path_ / "my-model").string() + "/", {})->name, "my-model");
  EXPECT_EQ(LoadDeployment(Write("big$x.Q4.gguf", "x"), {})->name, "big$x.Q4");
  EXPECT_EQ(LoadDeployment(Write("d.yml", "model: a/b.gguf\n"), {})->name, "b");
  EXPECT_EQ(LoadDeployment(Write("d.yaml", "model: a/b.gguf\nname: c\n"), {})->name, "c");
}

TEST_F(LoadTest, AliasesOfTheModel) {
  EXPECT_EQ(ParseDeployment("model: m\nnames: [gpt-4o, \"a b\", 5]\n", "f")->names,
            (std::vector<std::string>{"gpt-4o", "a b", "5"}));
  EXPECT_EQ(ParseDeployment("model: m\nnames:\n  - a\n  - b\n", "f")->names, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(ParseDeployment("model: m\nnames: []\n", "f")->names.empty());
  const std::string model = Write("m.gguf", "x");
  EXPECT_EQ(LoadDeployment(model, {"names=[a, b]"})->names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(ParseDeployment("model: m\nnames: a\n", "f")->names, std::vector<std::string>{"a"});
  EXPECT_EQ(ParseError("model: m\nnames: {a: b}"), "f.yaml:2:8: names: expected a list of texts, not a map");
  EXPECT_EQ(ParseError("model: m\nnames: [[a]]"), "f.yaml:2:9: names: expected a list of texts, not a list");
  EXPECT_EQ(ParseError("model: m\nnames: [a, m]"), "f.yaml:2:8: names: \"m\" is given twice");
  EXPECT_EQ(ParseError("model: m\nnames: [../a]"),
            "f.yaml:2:8: names: \"../a\" must not start with \"/\" nor have \"..\" in it");
  EXPECT_EQ(ParseError("model: m\nnames: [\"\"]"), "f.yaml:2:8: names: must not be empty");
}

TEST(Parse, EveryFaultyEntryOfAListIsTold) {
  EXPECT_EQ(ParseError("model: m\nnames: [a, a, /b, \"\"]"),
            "f.yaml:2:8: names: \"a\" is given twice\n"
            "f.yaml:2:8: names: \"/b\" must not start with \"/\" nor have \"..\" in it\n"
            "f.yaml:2:8: names: must not be empty");
  const std::string origins = ParseError("model: m\nrest: {allowed_origins: [a, \"https://b\", c]}");
  EXPECT_NE(origins.find("\"a\" is no origin"), std::string::npos) << origins;
  EXPECT_NE(origins.find("\"c\" is no origin"), std::string::npos) << origins;
}

TEST(Parse, SamplingParametersOrAuto) {
  const auto d = ParseDeployment(
      "model: m\nsampling: {defaults: openai, temperature: 0, top_k: -1, top_p: auto, presence_penalty: -0.5}\n", "f");
  ASSERT_TRUE(d.ok()) << d.status();
  EXPECT_EQ(d->sampling.defaults, "openai");
  EXPECT_EQ(d->sampling.temperature, 0);
  EXPECT_EQ(d->sampling.top_k, -1);
  EXPECT_EQ(d->sampling.top_p, std::nullopt);
  EXPECT_EQ(d->sampling.presence_penalty, -0.5);
  EXPECT_EQ(d->sampling.max_tokens, std::nullopt);
  EXPECT_EQ(ParseError("model: m\nsampling: {temperature: 2.5}"),
            "f.yaml:2:25: sampling.temperature: must be auto, or 0 to 2");
  EXPECT_EQ(ParseError("model: m\nsampling: {top_k: 1.5}"),
            "f.yaml:2:19: sampling.top_k: expected auto or a whole number");
  EXPECT_EQ(ParseError("model: m\nsampling: {min_p: hot}"), "f.yaml:2:19: sampling.min_p: expected auto or a number");
  EXPECT_EQ(ParseError("model: m\nsampling: {defaults: me}"),
            "f.yaml:2:22: sampling.defaults: \"me\" is none of model, openai");
}

TEST_F(LoadTest, AGgufFileUnderAnyName) {
  for (const char* name : {"sha256-6a0746a1ec1a", "model.bin", "model.GGUF", "gguf"}) {
    const std::string path = Write(name, std::string("GGUF\3\0\0\0", 8));
    const auto d = LoadDeployment(path, {});
    ASSERT_TRUE(d.ok()) << d.status();
    EXPECT_EQ(d->model, path);
    EXPECT_EQ(d->name, name);
  }
  EXPECT_FALSE(LoadDeployment(Write("short", "GGU"), {}).ok());
}

TEST_F(LoadTest, InvalidTargetsAreRefused) {
  EXPECT_NE(Error(LoadDeployment((path_ / "none.yaml").string(), {})).find("no such file"), std::string::npos);
  EXPECT_NE(Error(LoadDeployment(Write("x.txt", "model: m"), {})).find("expected a deployment file"),
            std::string::npos);
  EXPECT_FALSE(LoadDeployment("/dev/zero", {}).ok());
}

TEST_F(LoadTest, SettingsGoThroughTheSameReader) {
  const std::string file = Write("d.yaml", "model: m\nparallel: {pipeline: 2}\ncache: {memory: 1MiB, type: int8}\n");
  const auto d =
      LoadDeployment(file, {"parallel.tensor=2", "cache.memory=2MiB", "agents.threads=3", "agents={device: sim}",
                            "name=\"x y\"", "cache={block_tokens: 32}", "limits.queue=5", "limits.queue=6"});
  ASSERT_TRUE(d.ok()) << d.status();
  EXPECT_EQ(d->agent_count(), 4);
  EXPECT_EQ(d->cache.memory, 2u << 20);
  EXPECT_EQ(d->cache.type, "int8") << "a map is merged, not replaced";
  EXPECT_EQ(d->cache.block_tokens, 32);
  EXPECT_EQ(d->agents.threads, 3);
  EXPECT_EQ(d->agents.device, "sim");
  EXPECT_EQ(d->name, "x y");
  EXPECT_EQ(d->limits.queue, 6) << "the last one holds";
}

// `log` was one value before it had two keys, and still may be.
TEST_F(LoadTest, LogMayBeALevelOrAMap) {
  const auto log = [&](const std::string& yaml, const std::vector<std::string>& settings) {
    const auto d = LoadDeployment(Write("d.yaml", "model: m\n" + yaml), settings);
    return d.ok() ? Cat(d->log.level, d->log.requests ? " with requests" : " without") : std::string(Error(d));
  };
  EXPECT_EQ(log("", {}), "info with requests");
  EXPECT_EQ(log("log: warning\n", {}), "warning with requests");
  EXPECT_EQ(log("log: {level: debug, requests: false}\n", {}), "debug without");
  EXPECT_EQ(log("log:\n  requests: false\n", {"log=error"}), "error without") << "the other key stays";
  EXPECT_EQ(log("log: warning\n", {"log.requests=false"}), "warning without");
  EXPECT_EQ(log("log: warning\n", {"log={requests: false}"}), "warning without");
  EXPECT_EQ(log("", {"log=debug", "log.level=error"}), "error with requests") << "the last one holds";
  EXPECT_NE(log("log: loud\n", {}).find("d.yaml:2:6: log.level: \"loud\" is none of"), std::string::npos);
  EXPECT_NE(log("log: [info]\n", {}).find("log: expected a map, not a list"), std::string::npos);
}

TEST_F(LoadTest, AllowedOriginsAreAListOrOneValue) {
  const auto origins = [&](const std::string& value) -> std::vector<std::string> {
    const auto d = LoadDeployment(Write("d.yaml", "model: m\nrest: {allowed_origins: " + value + "}\n"), {});
    return d.ok() ? d->rest.allowed_origins : std::vector<std::string>{std::string(Error(d))};
  };
  using List = std::vector<std::string>;
  EXPECT_EQ(origins("[]"), List());
  EXPECT_EQ(origins("[\"https://a.example\", \"http://[::1]:3000\"]"),
            (List{"https://a.example", "http://[::1]:3000"}));
  EXPECT_EQ(origins("\"*\""), List{"*"});
  EXPECT_EQ(
      LoadDeployment(Write("d.yaml", "model: m\n"), {"rest.allowed_origins=https://a.example"})->rest.allowed_origins,
      List{"https://a.example"});
  // What no browser sends would never match.
  for (const char* bad : {"a.example", "https://a.example/", "https://a.example/chat", "https://", "://a",
                          "https://*.example", "https://u@a.example", ""})
    EXPECT_NE(origins(Cat("[\"", bad, "\"]"))[0].find("is no origin"), std::string::npos) << bad;
  EXPECT_NE(origins("[[x]]")[0].find("expected a list of texts, not a list"), std::string::npos);
  EXPECT_NE(origins("{a: b}")[0].find("expected a list of texts, not a map"), std::string::npos);
}

TEST_F(LoadTest, SettingsOfAList) {
  const std::string file = Write("d.yaml", "model: m\nparallel: {tensor: 2}\nagents: [{threads: 1}, {threads: 2}]\n");
  const auto d = LoadDeployment(file, {"agents.1.threads=7"});
  ASSERT_TRUE(d.ok()) << d.status();
  EXPECT_EQ(d->agent(0).threads, 1);
  EXPECT_EQ(d->agent(1).threads, 7);
  EXPECT_NE(Error(LoadDeployment(file, {"agents.2.threads=7"})).find("there is no entry 2: the list has 2"),
            std::string::npos);
  EXPECT_NE(Error(LoadDeployment(file, {"agents.threads=7"})).find("name an entry by its number"), std::string::npos);
}

TEST_F(LoadTest, SettingsThatAreRefused) {
  const std::string file = Write("d.yaml", "model: m\n");
  const struct {
    std::string setting, error;
  } kCases[] = {
      {"cahce.memory=1GiB", "--set cahce.memory=1GiB: unknown key; the nearest known key is cache.memory"},
      {"memory=1GiB", "--set memory=1GiB: unknown key; the nearest known key is cache.memory"},
      {"parallel.pipeline=0", "--set parallel.pipeline=0: parallel.pipeline: must be 1 to 1024"},
      {"parallel.pipeline=", "--set parallel.pipeline=: parallel.pipeline: has no value"},
      {"parallel.pipeline=[1]", "--set parallel.pipeline=[1]: parallel.pipeline: expected 1 to 1024, not a list"},
      {"parallel.pipeline", "--set parallel.pipeline: expected key.path=value"},
      {"=1", "--set =1: expected key.path=value"},
      {"cache={memory: 1MiB, memory: 2MiB}", "--set cache={memory: 1MiB, memory: 2MiB}: cache.memory: is given twice"},
      {"cache={memory: *x}", "--set cache={memory: *x}: aliases (\"*\") are refused"},
      {"model.x=1", "--set model.x=1: unknown key; the nearest known key is model"},
      {"cache.memory.x=1", "--set cache.memory.x=1: unknown key; the nearest known key is cache.memory"},
      {"name=${PANGEA_TEST_NOT_SET}",
       "--set name=${PANGEA_TEST_NOT_SET}: name: the environment variable PANGEA_TEST_NOT_SET is not set"},
  };
  for (const auto& c : kCases) EXPECT_EQ(Error(LoadDeployment(file, {c.setting})), c.error);
  EXPECT_EQ(Error(LoadDeployment(file, {"a=1", "log=loud"})),
            "--set a=1: unknown key; the nearest known key is name\n--set log=loud: log.level: \"loud\" is none of "
            "debug, info, warning, error")
      << "all of them at once";
}

TEST_F(LoadTest, EnvironmentIsExpandedInFilesOnly) {
  setenv("PANGEA_TEST_DIR", "/srv/m", 1);
  setenv("PANGEA_TEST_N", "2", 1);
  const std::string text =
      "model: ${PANGEA_TEST_DIR}/x.gguf\nname: \"$$5 ${PANGEA_TEST_N}$\"\nparallel: {tensor: \"${PANGEA_TEST_N}\"}\n";
  const auto d = LoadDeployment(Write("d.yaml", text), {"cache.memory=${PANGEA_TEST_N}MiB"});
  ASSERT_TRUE(d.ok()) << d.status();
  EXPECT_EQ(d->model, "/srv/m/x.gguf");
  EXPECT_EQ(d->name, "$5 2$");
  EXPECT_EQ(d->parallel.tensor, 2);
  EXPECT_EQ(d->cache.memory, 2u << 20);
  EXPECT_EQ(ParseDeployment("model: ${PANGEA_TEST_DIR}\n", "f")->model, "${PANGEA_TEST_DIR}");
  EXPECT_EQ(Error(LoadDeployment(Write("e.yaml", "model: a${PANGEA_TEST_NONE}\n"), {})),
            (path_ / "e.yaml").string() + ":1:8: model: the environment variable PANGEA_TEST_NONE is not set");
  EXPECT_NE(Error(LoadDeployment(Write("g.yaml", "model: a${no\n"), {})).find("without \"}\""), std::string::npos);
}

TEST_F(LoadTest, WorldReadableTokenIsAWarning) {
  Deployment d;
  d.control.token_file = Write("token", "secret");
  fs::permissions(d.control.token_file, fs::perms::owner_read | fs::perms::others_read);
  ASSERT_EQ(DeploymentWarnings(d).size(), 1u);
  EXPECT_EQ(DeploymentWarnings(d)[0].find("secret"), std::string::npos);
  fs::permissions(d.control.token_file, fs::perms::owner_read);
  EXPECT_TRUE(DeploymentWarnings(d).empty());
}

TEST_F(LoadTest, TextThatIsNotUtf8IsRefusedWhereverItComesFrom) {
  const std::string file = Write("d.yaml", "model: m\n");
  EXPECT_EQ(Error(LoadDeployment(file, {"name=caf\xe9"})), "--set name=caf\\xe9: not UTF-8");
  EXPECT_EQ(Error(LoadDeployment(file, {"caf\xe9=1"})), "--set caf\\xe9=1: unknown key; the nearest known key is name");
  setenv("PANGEA_TEST_LATIN", "/srv/caf\xe9", 1);
  EXPECT_EQ(Error(LoadDeployment(file, {"name=${PANGEA_TEST_LATIN}"})),
            "--set name=${PANGEA_TEST_LATIN}: name: \"/srv/caf\\xe9\" is not UTF-8\n"
            "--set name=${PANGEA_TEST_LATIN}: name: \"/srv/caf\\xe9\" must not start with \"/\" nor have \"..\" in it");
  EXPECT_EQ(Error(LoadDeployment(Write("e.yaml", "model: m\ntimeline: {file: \"${PANGEA_TEST_LATIN}\"}\n"), {})),
            Cat((path_ / "e.yaml").string(), ":2:18: timeline.file: \"/srv/caf\\xe9\" is not UTF-8"));
  // A model is named by its path: both are told.
  const std::string latin = Write("caf\xe9.gguf", "x"), shown = Cat(path_.string(), "/caf\\xe9.gguf");
  EXPECT_EQ(Error(LoadDeployment(latin, {})),
            Cat(shown, ": model: \"", shown, "\" is not UTF-8\n", shown, ": name: \"caf\\xe9\" is not UTF-8"));
  // Nobody is told the path of a deployment file, so that may be anything.
  EXPECT_TRUE(LoadDeployment(Write("caf\xe9.yaml", "model: m\n"), {}).ok());
  EXPECT_EQ(LoadDeployment(Write("caf\xc3\xa9.gguf", "x"), {})->name, "caf\xc3\xa9");
}

TEST(Examples, EveryOneLoads) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(PANGEA_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    const auto d = LoadDeployment(entry.path().string(), {});
    EXPECT_TRUE(d.ok()) << d.status();
    if (!d.ok()) continue;
    EXPECT_EQ(Values(*ParseDeployment(DumpDeployment(*d), "dump")), Values(*d)) << entry.path();
  }
  EXPECT_GE(count, 5);
}

TEST(ReferencePage, HasExactlyTheRowsOfTheTable) {
  std::ifstream file(fs::path(PANGEA_SOURCE_DIR) / "docs/deployment.md");
  std::vector<std::string> page, table;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("| `")) page.push_back(line);
  }
  std::string expected;
  for (const ConfigKey& key : ConfigKeys()) {
    table.push_back(ReferenceRow(key));
    Append(expected, table.back(), "\n");
  }
  EXPECT_EQ(page, table) << "docs/deployment.md should have these rows:\n" << expected;
}

}  // namespace
}  // namespace pangea
