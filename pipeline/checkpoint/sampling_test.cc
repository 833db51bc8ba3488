#include "pipeline/checkpoint/sampling.h"

#include <gtest/gtest.h>

#include <cmath>

#include "pipeline/checkpoint/checkpoint_test_util.h"

namespace pangea {
namespace {

using Sampling = std::map<std::string, double>;

CheckpointHeader Read(const std::string& text) {
  CheckpointHeader header;
  header.path = "m";
  EXPECT_TRUE(ReadGenerationConfig(text, &header).ok()) << text;
  return header;
}

// As published for Qwen3-8B, less its ids.
TEST(GenerationConfig, GivesTheModelsOwnDefaults) {
  const auto header =
      Read(R"({"do_sample":true,"temperature":0.6,"top_k":20,"top_p":0.95,"transformers_version":"4.51.0"})");
  EXPECT_EQ(header.sampling, (Sampling{{"temperature", 0.6}, {"top_k", 20}, {"top_p", 0.95}}));
  EXPECT_TRUE(header.warnings.empty());
  EXPECT_EQ(Read(R"({"min_p":0.05,"repetition_penalty":1.1,"max_new_tokens":512,"max_length":20})").sampling,
            (Sampling{{"min_p", 0.05}, {"repetition_penalty", 1.1}, {"max_tokens", 512}}));
  EXPECT_TRUE(Read(R"({"temperature":null,"eos_token_id":2})").sampling.empty());
}

TEST(GenerationConfig, SamplesAsTheFileSaysWhateverDoSampleIs) {
  EXPECT_EQ(Read(R"({"do_sample":false,"temperature":0.7})").sampling, (Sampling{{"temperature", 0.7}}));
  EXPECT_TRUE(Read(R"({"do_sample":false})").sampling.empty());
}

TEST(GenerationConfig, ValuesThatNoRequestMayGiveAreIgnoredByName) {
  for (const auto& [name, value] : {std::pair{"temperature", "2.5"},
                                    {"temperature", "-1"},
                                    {"temperature", "\"hot\""},
                                    {"temperature", "true"},
                                    {"top_p", "1.5"},
                                    {"top_k", "0.5"},
                                    {"top_k", "-2"},
                                    {"top_k", "1e300"},
                                    {"top_p", "[0.1]"},
                                    {"repetition_penalty", "0"},
                                    {"max_new_tokens", "0"}}) {
    const auto header = Read(std::string("{\"min_p\":0.5,\"") + name + "\":" + value + "}");
    EXPECT_EQ(header.sampling, (Sampling{{"min_p", 0.5}})) << name << value;
    ASSERT_EQ(header.warnings.size(), 1u) << name << value;
    EXPECT_TRUE(header.warnings[0].starts_with(std::string("m: generation_config.json: ") + name + ": is "));
  }
  CheckpointHeader header;
  EXPECT_FALSE(ReadGenerationConfig("[]", &header).ok());
}

CheckpointHeader ReadFile(const GgufFile& file) {
  TempFolder folder;
  auto header = ReadCheckpointHeader(folder.Write("m.gguf", file.Bytes()));
  EXPECT_TRUE(header.ok()) << header.status();
  return header.ok() ? *std::move(header) : CheckpointHeader();
}

TEST(GgufSampling, GivesTheModelsOwnDefaults) {
  EXPECT_TRUE(ReadFile(TinyLlama()).sampling.empty());
  GgufFile file = TinyLlama();
  file.F32("general.sampling.temp", 0.6f);
  file.U32("general.sampling.top_k", 20);
  file.F32("general.sampling.top_p", 0.95f);
  file.F32("general.sampling.min_p", 0);
  file.F32("general.sampling.penalty_repeat", 1.1f);
  file.U32("general.sampling.mirostat", 0);
  const auto header = ReadFile(file);
  EXPECT_EQ(
      header.sampling,
      (Sampling{{"temperature", 0.6}, {"top_k", 20}, {"top_p", 0.95}, {"min_p", 0}, {"repetition_penalty", 1.1}}));
  EXPECT_TRUE(header.warnings.empty());
}

TEST(GgufSampling, WhatCannotBeServedIsIgnoredByName) {
  GgufFile file = TinyLlama();
  file.F32("general.sampling.temp", NAN);
  file.F32("general.sampling.top_p", INFINITY);
  file.F32("general.sampling.min_p", -1);
  file.String("general.sampling.top_k", "40");  // numbers as text are numbers to llama.cpp
  file.U32("general.sampling.mirostat", 2);
  const auto header = ReadFile(file);
  EXPECT_EQ(header.sampling, (Sampling{{"top_k", 40}}));
  const std::string at = header.path + ": ";
  EXPECT_EQ(header.warnings,
            (std::vector<std::string>{
                at + "general.sampling.temp: is \"nan\", must be a number from 0 to 2; it is ignored",
                at + "general.sampling.top_p: is \"infinite\", must be a number from 0 to 1; it is ignored",
                at + "general.sampling.min_p: is -1.0, must be a number from 0 to 1; it is ignored",
                at + "general.sampling.mirostat: is 2, but this sampler is not served; it is ignored"}));
}

}  // namespace
}  // namespace pangea
