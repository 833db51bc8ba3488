// GGUF metadata made by hand, for tests.
#pragma once
#include <string>
#include <vector>

#include "master/text/sentencepiece_model.h"
#include "master/text/text_test_util.h"

namespace pangea {

inline CheckpointHeader MistralMetadata() {
  const auto proto = ParseSentencePiece(ReadFile(TestData("mistral/tokenizer.model")));
  EXPECT_TRUE(proto.ok());
  std::vector<std::string> tokens;
  std::vector<double> scores;
  std::vector<int64_t> types;
  for (const auto& piece : proto->pieces) {
    tokens.push_back(piece.text);
    scores.push_back(piece.score);
    types.push_back(static_cast<int64_t>(piece.type));
  }
  CheckpointHeader header;
  header.format = CheckpointFormat::kGguf;
  header.metadata["tokenizer.ggml.model"] = {std::string("llama")};
  header.metadata["tokenizer.ggml.tokens"] = {tokens};
  header.metadata["tokenizer.ggml.scores"] = {scores};
  header.metadata["tokenizer.ggml.token_type"] = {types};
  header.metadata["tokenizer.ggml.bos_token_id"] = {int64_t{1}};
  header.metadata["tokenizer.ggml.eos_token_id"] = {int64_t{2}};
  return header;
}

// The same with more tokens behind its 32000.
inline CheckpointHeader MistralWith(const std::vector<std::pair<std::string, PieceType>>& more) {
  CheckpointHeader header = MistralMetadata();
  for (const auto& [text, type] : more) {
    std::get<std::vector<std::string>>(header.metadata["tokenizer.ggml.tokens"].value).push_back(text);
    std::get<std::vector<double>>(header.metadata["tokenizer.ggml.scores"].value).push_back(-1000);
    std::get<std::vector<int64_t>>(header.metadata["tokenizer.ggml.token_type"].value)
        .push_back(static_cast<int64_t>(type));
  }
  return header;
}

inline std::string Refusal(const CheckpointHeader& header) {
  const auto text = Text::Load(header, "");
  return text.ok() ? "" : std::string(text.status().message());
}

}  // namespace pangea
