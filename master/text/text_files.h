// The tokenizer, special tokens' names and chat template of a checkpoint, from its files or GGUF metadata.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "master/text/tokenizer.h"
#include "pipeline/checkpoint/header.h"

namespace pangea {

struct TextFiles {
  std::unique_ptr<Tokenizer> tokenizer;
  std::map<std::string, std::string> names;  // bos_token, eos_token, … as a chat template sees them
  std::vector<int32_t> ends;                 // ids that end a turn or a text
  std::string chat_template;                 // empty: none
  std::string tokenizer_class;               // of Transformers, as the files name it; empty: they do not
  std::vector<std::string> warnings;         // what is odd and stops nothing
};

// A folder in the Hugging Face layout. NotFound naming what was looked for when it holds no tokenizer.
absl::StatusOr<TextFiles> ReadFolder(const CheckpointHeader& header);
// GGUF: tokenizer.ggml.* and tokenizer.chat_template.
absl::StatusOr<TextFiles> ReadGguf(const CheckpointHeader& header);

inline constexpr size_t kMaxTemplateBytes = size_t{1} << 20;  // of a chat template

// A tokenizer.json text for a GPT-2 style vocabulary. tokens by id (empty: a hole); merges as "left right"; added
// tokens keep the ids that they name. InvalidArgument when they can not.
struct BpeVocabulary {
  std::vector<std::string> tokens;
  std::vector<std::string> merges;
  std::vector<AddedToken> added;
  std::string pre;            // see PreTokenizerByName
  bool prefix_space = false;  // gpt-2: a space before the text, as before any other word
};
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpe(const BpeVocabulary& vocabulary);

// Ends of a turn that a chat template writes and the files do not name apart (<|im_end|>, <|eot_id|>).
void AddTemplateEnds(TextFiles* files);

}  // namespace pangea
