#include "configs/model_path.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "configs/cat.h"
#include "configs/deployment.h"

namespace pangea {
namespace {

namespace fs = std::filesystem;

// A folder in which the paths of a test lie; the process works in it, so that messages have the paths as typed.
class ModelPath : public testing::Test {
 protected:
  ModelPath() : before_(fs::current_path()) {
    std::string pattern = testing::TempDir() + "/model_path.XXXXXX";
    path_ = mkdtemp(pattern.data());
    fs::current_path(path_);
  }
  ~ModelPath() override {
    fs::current_path(before_);
    fs::remove_all(path_);
  }
  static void Touch(const fs::path& path) {
    if (path.has_parent_path()) fs::create_directories(path.parent_path());
    std::ofstream(path) << "x";
  }
  static std::string Error(const std::string& path) {
    const auto found = FindModel(path);
    return found.ok() ? Cat("found ", *found) : std::string(found.status().message());
  }
  fs::path before_, path_;
};

TEST_F(ModelPath, OneFileInAFolderIsTheModel) {
  Touch("models/README.md");
  Touch("models/tiny.Q8_0.gguf");
  EXPECT_EQ(*FindModel("models"), "models/tiny.Q8_0.gguf");
  EXPECT_EQ(*FindModel("models/"), "models/tiny.Q8_0.gguf");
  EXPECT_EQ(*FindModel("models/tiny.Q8_0.gguf"), "models/tiny.Q8_0.gguf");
  Touch("models/mmproj-tiny.gguf");  // a projector is no model of its own
  EXPECT_EQ(*FindModel("models"), "models/tiny.Q8_0.gguf");
  Touch("models/other.gguf");
  EXPECT_EQ(Error("models"), "models: this folder has several models; give one of them: other.gguf, tiny.Q8_0.gguf");
  fs::remove("models/other.gguf");
  Touch("models/config.json");  // which often lies beside, of the model that the file was made from
  EXPECT_EQ(*FindModel("models"), "models/tiny.Q8_0.gguf");
  Touch("models/model-00001-of-00002.safetensors");  // a folder in the Hugging Face layout, whatever lies beside
  EXPECT_EQ(*FindModel("models"), "models");
}

TEST_F(ModelPath, TheFileNamesTheModel) {
  Touch("models/tiny.Q8_0.gguf");
  const DeploymentResult result = ReadDeploymentTarget("models", {});
  EXPECT_EQ(result.faults, std::vector<std::string>());
  EXPECT_EQ(result.deployment.model, "models/tiny.Q8_0.gguf");
  EXPECT_EQ(result.deployment.name, "tiny.Q8_0");
  std::ofstream("d.yaml") << "model: models\n";
  EXPECT_EQ(ReadDeploymentTarget("d.yaml", {}).deployment.model, "models/tiny.Q8_0.gguf");
}

TEST_F(ModelPath, ASplitModelCountsOnceAndIsItsFirstPart) {
  for (const char* part : {"1-of-00003", "2-of-00003", "3-of-00003"}) Touch(Cat("big/big-0000", part, ".gguf"));
  EXPECT_EQ(*FindModel("big"), "big/big-00001-of-00003.gguf");
  for (const char* part : {"1-of-00002", "2-of-00002"}) Touch(Cat("big/other-0000", part, ".gguf"));
  EXPECT_EQ(
      Error("big"),
      "big: this folder has several models; give one of them: big-00001-of-00003.gguf, other-00001-of-00002.gguf");
}

TEST_F(ModelPath, AFolderWithoutAModelSaysWhatIsInIt) {
  fs::create_directory("empty");
  EXPECT_EQ(Error("empty"), "empty: this folder has neither a config.json nor a .gguf file");
  Touch("more/llama/config.json");
  Touch("more/qwen/config.json");
  Touch("more/notes/a.txt");
  EXPECT_EQ(Error("more"),
            "more: this folder has neither a config.json nor a .gguf file; these folders in it have one: llama, qwen");
  Touch("configs/a.yaml");
  Touch("configs/b.yml");
  EXPECT_EQ(
      Error("configs"),
      "configs: this folder has neither a config.json nor a .gguf file; give one of its deployment files: a.yaml, "
      "b.yml");
  EXPECT_EQ(ReadDeploymentTarget("configs", {}).faults, std::vector<std::string>{Error("configs")});
}

TEST_F(ModelPath, NearNamesAreTold) {
  Touch("configs/smollm2-2x2.yaml");
  Touch("configs/smollm2-1x1.yaml");
  Touch("configs/unlike.yaml");
  Touch("models/stories260k/config.json");
  Touch("models/Llama-3.2-1B.Q8_0.gguf");
  const struct {
    const char *path, *error;
  } kCases[] = {
      {"configs/smollm2-2x2.yml",
       "configs/smollm2-2x2.yml: no such file or folder; did you mean configs/smollm2-2x2.yaml or "
       "configs/smollm2-1x1.yaml?"},
      {"configs/Unlike.yaml", "configs/Unlike.yaml: no such file or folder; did you mean configs/unlike.yaml?"},
      {"models/stories260", "models/stories260: no such file or folder; did you mean models/stories260k?"},
      {"model/stories260k/",
       "model/stories260k/: no such file or folder (there is no model); did you mean models/stories260k?"},
      {"models/llama-3.2-1b.q8_0.gguf",
       "models/llama-3.2-1b.q8_0.gguf: no such file or folder; did you mean models/Llama-3.2-1B.Q8_0.gguf?"},
      {"config", "config: no such file or folder; did you mean configs?"},
      {"nothing/like/it.yaml", "nothing/like/it.yaml: no such file or folder (there is no nothing)"},
      {"/nothing/like/it.gguf", "/nothing/like/it.gguf: no such file or folder (there is no /nothing)"},
  };
  for (const auto& c : kCases) {
    const std::string text = MissingText(c.path);
    EXPECT_EQ(text.substr(0, std::string(c.error).size()), c.error);
  }
}

TEST_F(ModelPath, AddressesAndNamesOfModelsAreNotFetched) {
  const std::string local = "this server opens local files";
  for (const char* name : {"https://huggingface.co/Qwen/Qwen3-0.6B", "http://127.0.0.1:8000/v1", "s3://bucket/model",
                           "hf://Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF",
                           "bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_0", "llama3.2:1b", "smollm2"}) {
    EXPECT_NE(MissingText(name).find(local), std::string::npos) << MissingText(name);
    EXPECT_EQ(ReadDeploymentTarget(name, {}).faults, std::vector<std::string>{MissingText(name)});
  }
  for (const char* path : {"./models/x", "/srv/models/x/y.gguf", "d.yaml", "x.gguf", "a/b/c/d"})
    EXPECT_EQ(MissingText(path).find(local), std::string::npos) << MissingText(path);
}

TEST_F(ModelPath, MessagesArePlainText) {
  EXPECT_EQ(MissingText("caf\xe9/x\n.yaml"), "caf\\xe9/x\\x0a.yaml: no such file or folder (there is no caf\\xe9)");
  Touch("m/caf\xe9.gguf");
  Touch("m/b.gguf");
  EXPECT_EQ(Error("m"), "m: this folder has several models; give one of them: b.gguf, caf\\xe9.gguf");
  EXPECT_EQ(Error(std::string(5000, 'x')), Cat(std::string(5000, 'x'), ": File name too long"));
}

}  // namespace
}  // namespace pangea
