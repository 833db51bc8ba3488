// The vocabulary of a GGUF file: tokens, their types, special ids, ends of generation.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "master/text/sentencepiece_model.h"
#include "master/text/special_tokens.h"
#include "pipeline/checkpoint/header.h"

namespace pangea {

struct GgufVocabulary {
  std::vector<std::string> tokens;  // by id; empty ones are holes
  std::vector<PieceType> types;     // as many
  std::optional<int32_t> bos, eos, unknown, pad;
  std::vector<int32_t> ends;      // ids that end a generation, ascending
  std::vector<AddedToken> added;  // control, unknown (special) and user-defined tokens, by id
};

// GGUF has no list of ends: converters write one id, two at most. So llama.cpp goes by the spelling of tokens
// (llama-vocab.cpp, special_eog_ids), and so does this. A token that is spelled as an end, as a marker of
// fill-in-the-middle, or as llama.cpp's converter takes for special (convert_hf_to_gguf.py, does_token_look_special) is
// a control token whatever type the file gives it: it is not printed, and no message may spell it.
// Ids that the vocabulary does not hold count as absent. InvalidArgument naming the key: no tokens, or types that are
// fewer.
absl::StatusOr<GgufVocabulary> ReadGgufVocabulary(const CheckpointHeader& header);

// A metadata value of type T; null: absent, or of another type.
template <typename T>
const T* GgufValueOf(const CheckpointHeader& header, std::string_view key) {
  const auto it = header.metadata.find(std::string(key));
  return it == header.metadata.end() ? nullptr : std::get_if<T>(&it->second.value);
}
std::string GgufText(const CheckpointHeader& header, std::string_view key);  // "": absent

}  // namespace pangea
