// Hostile deployment files: every one is refused with its place, quickly, and the next good file reads as ever.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "configs/cat.h"
#include "configs/deployment.h"
#include "configs/yaml_guard.h"
#include "configs/yaml_tree.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/exceptions.h"
#include "yaml-cpp/parser.h"

namespace pangea {
namespace {

std::string Repeat(const std::string& text, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += text;
  return out;
}

std::string AliasBomb() {
  std::string out = "a: &a [x, x, x, x, x, x, x, x, x]\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    const std::string ref = Cat("*", std::string(1, static_cast<char>(c - 1)));
    out += Cat(std::string(1, c), ": &", std::string(1, c), " [", ref, Repeat(", " + ref, 8), "]\n");
  }
  return out;
}

std::string Error(const std::string& yaml) {
  const auto result = ParseDeployment(yaml, "f");
  return result.ok() ? "accepted" : std::string(result.status().message());
}
std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

struct Case {
  const char* name;
  std::string yaml;
  std::string error;  // the first line of the refusal
};

const std::vector<Case> kCases = {
    {"alias bomb", AliasBomb(), "f:1:4: anchors (\"&\") are refused"},
    {"cyclic anchor", "model: &x [*x]\n", "f:1:8: anchors (\"&\") are refused"},
    {"cyclic anchor on its own", "&x [*x]", "f:1:1: anchors (\"&\") are refused"},
    {"alias", "model: *x\n", "f:1:8: aliases (\"*\") are refused"},
    {"alias as a key", "*x : 1\n", "f:1:1: aliases (\"*\") are refused"},
    {"100,000 brackets, open", Repeat("[", 100000), "f:1:33: nested deeper than 32 levels"},
    {"100,000 brackets, closed", "model: " + Repeat("[", 100000) + Repeat("]", 100000),
     "f:1:40: nested deeper than 32 levels"},
    {"100,000 braces", Repeat("{a: ", 100000), "f:1:129: nested deeper than 32 levels"},
    {"100,000 list markers in a line", Repeat("- ", 100000) + "x",
     "f:1:200001: nested or indented deeper than 64 columns"},
    {"deep by indentation",
     [] {
       std::string out;
       for (int i = 0; i < 1000; ++i) out += std::string(i, ' ') + "a:\n";
       return out;
     }(),
     "f:66:66: nested or indented deeper than 64 columns"},
    {"too large", "model: " + std::string(kMaxYamlBytes, 'x'), "f: larger than 1048576 bytes"},
    {"tab as indentation", "cache:\n\tmemory: 1\n", "f:2:1: a tab; YAML indents and separates with spaces"},
    {"tab after a colon", "model:\tm\n", "f:1:7: a tab; YAML indents and separates with spaces"},
    {"key given twice", "model: a\nmodel: b\n", "f:2:1: model: is given twice"},
    {"key given twice in a section", "model: a\ncache: {memory: 1MiB, memory: 2MiB}\n",
     "f:2:23: cache.memory: is given twice"},
    {"section given twice", "model: a\ncache: {}\ncache: {}\n", "f:3:1: cache: is given twice"},
    {"python tag", "model: !!python/object:os.system [x]\n", "f:1:8: tags (\"!\") are refused"},
    {"python tag at the start", "!!python/object/apply:os.system ['id']\n", "f:1:1: tags (\"!\") are refused"},
    {"CVE-2017-11692", "!2", "f:1:1: tags (\"!\") are refused"},
    {"tag after a document start", "--- !2\n", "f:1:5: tags (\"!\") are refused"},
    {"verbatim tag", "model: !<tag:yaml.org,2002:str> x\n", "f:1:8: tags (\"!\") are refused"},
    {"core tag", "model: !!str x\n", "f:1:8: tags (\"!\") are refused"},
    {"merge key", "<<: {model: x}\n", "f:1:1: merge keys (\"<<\") are refused"},
    {"merge key in a section", "model: m\ncache:\n  <<: *x\n", "f:3:3: merge keys (\"<<\") are refused"},
    {"merge key in quotes is any unknown key", "model: m\n\"<<\": {}\n",
     "f:2:1: <<: unknown key; the nearest known key is log"},
    {"NUL", std::string("model: a\0b\n", 11), "f:1:9: a NUL byte"},
    {"NUL in quotes", "model: \"a\\0b\"\n", "f:1:8: model: has a control character in it"},
    {"escape character", "model: \x1b[31m\n", "f:1:8: a control character (0x1B)"},
    {"bare carriage return", "model: a\rb\n", "f:1:9: a control character (0x0D)"},
    {"not UTF-8", "model: \xff\n", "f:1:8: not UTF-8"},
    {"overlong UTF-8", "model: \xc0\xaf\n", "f:1:8: not UTF-8"},
    {"surrogate", "model: \xed\xa0\x80\n", "f:1:8: not UTF-8"},
    {"UTF-16", std::string("\xff\xfem\0", 4), "f:1:1: not UTF-8"},
    {"two documents", "model: a\n---\nmodel: b\n", "f: more than one YAML document"},
    {"directive", "%YAML 1.2\n---\nmodel: a\n", "f:1:1: YAML directives are refused"},
    {"complex key", "? model\n: a\n", "f:1:1: complex keys (\"? \") are refused"},
    {"map as a key", "{a: b}: c\n", "f:1:1: a key must be a plain word"},
    {"block scalar", "model: |\n  x\n", "f:1:8: block scalars (\"|\" and \">\") are refused; write the text in quotes"},
    {"unclosed quote", "model: \"a\n", "f:1:8: a quote is not closed"},
    {"unclosed single quote", "model: m\nname: 'it''s\n", "f:2:7: a quote is not closed"},
    {"unclosed bracket", "cache: {memory: 1\n", "f:2:1: not YAML: end of map flow not found"},
    {"a list", "- model\n", "f:1:1: a deployment is a map of keys, not a list"},
    {"a word", "model\n", "f:1:1: a deployment is a map of keys, not a single value"},
    {"nothing", "", "f: model: must be given: a checkpoint folder or a .gguf file"},
    {"only a comment", "# model: x\n", "f: model: must be given: a checkpoint folder or a .gguf file"},
    {"wrong type: list for text", "model: [a]\n", "f:1:8: model: expected text, not a list"},
    {"wrong type: map for text", "model: {a: b}\n", "f:1:8: model: expected text, not a map"},
    {"wrong type: boolean for text", "model: true\n", "f:1:8: model: expected text, not true or false"},
    {"wrong type: nothing for text", "model:\n", "f:1:1: model: has no value"},
    {"wrong type: text for a section", "model: m\ncache: big\n", "f:2:1: cache: expected a map, not a single value"},
    {"wrong type: text for a number", "model: m\nparallel: {tensor: two}\n",
     "f:2:20: parallel.tensor: expected a whole number"},
    {"wrong type: quoted number", "model: m\nparallel: {tensor: \"2\"}\n",
     "f:2:20: parallel.tensor: expected a whole number, without quotes"},
    {"wrong type: fraction", "model: m\nparallel: {tensor: 1.5}\n", "f:2:20: parallel.tensor: expected a whole number"},
    {"wrong type: hexadecimal", "model: m\nparallel: {tensor: 0x2}\n",
     "f:2:20: parallel.tensor: expected a whole number"},
    {"wrong type: yes", "model: m\nchat: {allow_request_template: yes}\n",
     "f:2:32: chat.allow_request_template: expected true or false"},
    {"wrong type: list for agents' entries", "model: m\nagents: [cpu]\n",
     "f:2:10: agents[0]: expected a map, not a single value"},
    {"empty list of agents", "model: m\nagents: []\n",
     "f:2:1: agents: the list is empty; one entry an agent is needed"},
    {"unknown key", "model: m\nkv_cache: {}\n", "f:2:1: kv_cache: unknown key; the nearest known key is cache"},
    {"unknown key in a section", "model: m\ngrpc: {port: 1}\n",
     "f:2:8: grpc.port: unknown key; the nearest known key is "},
    {"key of another section", "model: m\ncache: {threads: 1}\n",
     "f:2:9: cache.threads: unknown key; the nearest known key is agents.threads"},
    {"dotted key", "model: m\ncache.memory: 1MiB\n",
     "f:2:1: cache.memory: unknown key; the nearest known key is cache.memory"},
    {"tensor 0", "model: m\nparallel: {tensor: 0}\n", "f:2:20: parallel.tensor: must be 1 to 1024"},
    {"tensor -1", "model: m\nparallel: {tensor: -1}\n", "f:2:20: parallel.tensor: must be 1 to 1024"},
    {"tensor 2^31", "model: m\nparallel: {tensor: 2147483648}\n", "f:2:20: parallel.tensor: must be 1 to 1024"},
    {"tensor 2^64", "model: m\nparallel: {tensor: 18446744073709551616}\n",
     "f:2:20: parallel.tensor: too large a number"},
    {"pipeline 1e9", "model: m\nparallel: {pipeline: 1e9}\n", "f:2:22: parallel.pipeline: expected a whole number"},
    {"memory -1", "model: m\ncache: {memory: -1}\n",
     "f:2:17: cache.memory: expected bytes, such as 268435456, 256MiB or 1GB"},
    {"memory 2^64", "model: m\ncache: {memory: 18446744073709551616}\n", "f:2:17: cache.memory: too large a number"},
    {"memory of overflowing unit", "model: m\ncache: {memory: 99999999999TiB}\n",
     "f:2:17: cache.memory: too large a number"},
    {"seconds nan", "model: m\ndrain_seconds: .nan\n",
     "f:2:16: drain_seconds: expected seconds, such as 30, 0.5, 30s or 500ms"},
    {"seconds nan without a point", "model: m\ndrain_seconds: nan\n",
     "f:2:16: drain_seconds: expected seconds, such as 30, 0.5, 30s or 500ms"},
    {"seconds inf", "model: m\ndrain_seconds: inf\n",
     "f:2:16: drain_seconds: expected seconds, such as 30, 0.5, 30s or 500ms"},
    {"port 70000", "model: m\nrest: {listen: \"127.0.0.1:70000\"}\n",
     "f:2:16: rest.listen: the port must be 0 to 65535"},
    {"port -1", "model: m\nrest: {listen: \"127.0.0.1:-1\"}\n",
     "f:2:16: rest.listen: expected HOST:PORT, such as 127.0.0.1:8000 or [::1]:0"},
    {"path traversal in the name", "model: m\nname: ../x\n",
     "f:2:7: name: \"../x\" must not start with \"/\" nor have \"..\" in it"},
};

TEST(BadYaml, EveryLineIsRefusedAtItsPlaceAndTheNextFileIsFine) {
  const std::string good = "model: m\nparallel: {pipeline: 2}\n";
  const std::string golden = DumpDeployment(*ParseDeployment(good, "good"));
  for (const Case& c : kCases) {
    const std::clock_t start = std::clock();
    const std::string error = FirstLine(Error(c.yaml));
    // A parser's own words are only checked as far as the table gives them.
    const bool prefix = c.error.ends_with(' ');
    EXPECT_EQ(prefix ? error.substr(0, c.error.size()) : error, c.error) << c.name;
    EXPECT_LT(std::clock() - start, 5 * CLOCKS_PER_SEC) << c.name;
    const auto canary = ParseDeployment(good, "good");
    ASSERT_TRUE(canary.ok()) << c.name;
    EXPECT_EQ(DumpDeployment(*canary), golden) << c.name;
  }
}

TEST(BadYaml, ALargeFileIsNotRead) {
  const auto path = std::filesystem::path(testing::TempDir()) / Cat("large.", static_cast<int64_t>(getpid()), ".yaml");
  std::ofstream(path) << "model: m\n";
  std::filesystem::resize_file(path, 1ull << 30);  // sparse
  EXPECT_EQ(ReadDeploymentTarget(path.string(), {}).faults,
            std::vector<std::string>{path.string() + ": larger than 1048576 bytes"});
  std::filesystem::remove(path);
}

TEST(BadYaml, ManyFaultsAreCutShort) {
  std::string yaml = "model: m\n";
  for (int i = 0; i < 20000; ++i) yaml += Cat("key", i, ": 1\n");
  const std::string error = Error(yaml);
  EXPECT_LE(std::count(error.begin(), error.end(), '\n'), 101);
  EXPECT_LT(error.size(), 20000u);
}

TEST(BadYaml, WhatIsHarmlessIsAccepted) {
  for (const char* yaml : {
           "model: m # a comment with\ttab, & and * and !x\n",
           "# comment\n\nmodel:   m   \n",
           "---\nmodel: m\n...\n",
           "\xEF\xBB\xBFmodel: m\n",
           "model: m\r\ncache:\r\n  memory: 1MiB\r\n",
           "model: 'it''s [&*!] {'\n",
           "model: \"a \\\" [[[[ & * ! | > \\\\\"\n",
           "model: a&b*c!d|e>f<<g\n",
           "model: don't\n",
           "model: m\ncache:\n# nothing\nrest:\n  listen: \"[::1]:0\"\n",
           "{\"model\": \"m\", \"cache\": {\"memory\": \"1MiB\"}}\n",
           "model: größe-模型\n",
           "model: m\nagents:\n- threads: 1\n",
       }) {
    EXPECT_EQ(Error(yaml), "accepted") << yaml;
  }
}

// An independent look at what yaml-cpp makes of a text.
struct Watcher : YAML::EventHandler {
  int depth = 0, deepest = 0;
  bool forbidden = false;
  void See(const std::string& tag, YAML::anchor_t anchor) {
    forbidden |= anchor != 0 || (tag != "" && tag != "?" && tag != "!");
  }
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t anchor) override { See("", anchor); }
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override { forbidden = true; }
  void OnScalar(const YAML::Mark&, const std::string& tag, YAML::anchor_t anchor, const std::string&) override {
    See(tag, anchor);
  }
  void OnSequenceStart(const YAML::Mark&, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    See(tag, anchor), deepest = std::max(deepest, ++depth);
  }
  void OnSequenceEnd() override { --depth; }
  void OnMapStart(const YAML::Mark&, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    See(tag, anchor), deepest = std::max(deepest, ++depth);
  }
  void OnMapEnd() override { --depth; }
};

// Random soups of YAML's indicators. What the parser sees an anchor, an alias or a tag in is refused, nearly always by
// the guard: it reads a plain scalar that goes on over several lines as one a line, and there the tree builder, which
// never expands an alias, says no.
TEST(BadYaml, NothingForbiddenPassesTheGuardAndTheTreeBuilder) {
  std::mt19937_64 random(1);
  const std::vector<std::string> pieces = {"a",  "model", ": ",  ":",  "\n",   "\n  ", " ", "- ", "-",   "[", "]",
                                           "{",  "}",     ",",   "&x", "*x",   "!y",   "'", "\"", "\\",  "#", " #",
                                           "? ", "<<",    "\n#", "''", "\r\n", "|",    ">", "%",  "---", "ü"};
  int passed_guard = 0, accepted = 0, forbidden = 0, by_builder = 0;
  for (int round = 0; round < 300000; ++round) {
    std::string text;
    for (int i = 1 + static_cast<int>(random() % 14); i > 0; --i) text += pieces[random() % pieces.size()];
    const bool parsed = ParseYaml(text, "f").faults.empty();
    const bool guarded = !GuardYaml(text).empty();
    Watcher watcher;
    try {
      std::istringstream stream(text);
      YAML::Parser parser(stream);
      // yaml-cpp finds documents without end in a stray "]"; ParseYaml asks for two.
      for (int i = 0; i < 2 && parser.HandleNextDocument(watcher); ++i) {
      }
    } catch (const YAML::Exception&) {
    }
    passed_guard += !guarded;
    accepted += parsed;
    forbidden += watcher.forbidden;
    by_builder += watcher.forbidden && !guarded;
    EXPECT_FALSE(parsed && (guarded || watcher.forbidden)) << testing::PrintToString(text);
  }
  // The test says nothing if everything is refused, or nothing forbidden is tried.
  EXPECT_GT(passed_guard, 30000);
  EXPECT_GT(accepted, 10000);
  EXPECT_GT(forbidden, 10000);
  EXPECT_LT(by_builder, forbidden / 1000);
}

// A good file with bytes changed at random: a status, never a crash; and what is accepted comes back from its own dump.
TEST(BadYaml, MutatedFiles) {
  std::ifstream file(std::filesystem::path(PANGEA_SOURCE_DIR) / "configs/remote-gloo.yaml");
  const std::string good(std::istreambuf_iterator<char>(file), {});
  std::mt19937_64 random(2);
  int accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = good;
    for (int i = 1 + static_cast<int>(random() % 3); i > 0; --i) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, 1 + random() % 20);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 20));
          break;
      }
    }
    const auto result = ParseDeployment(text, "f");
    if (!result.ok()) continue;
    ++accepted;
    const std::string dump = DumpDeployment(*result);
    const auto back = ParseDeployment(dump, "dump");
    ASSERT_TRUE(back.ok()) << back.status() << dump;
    EXPECT_EQ(DumpDeployment(*back), dump);
  }
  EXPECT_GT(accepted, 100);
}

}  // namespace
}  // namespace pangea
