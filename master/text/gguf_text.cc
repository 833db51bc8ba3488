// GGUF's tokenizer keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, "Tokenizer".
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "master/text/text_files.h"

namespace pangea {
namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";

template <typename T>
const T* Get(const CheckpointHeader& header, std::string_view key) {
  const auto it = header.metadata.find(std::string(key));
  return it == header.metadata.end() ? nullptr : std::get_if<T>(&it->second.value);
}

std::optional<int64_t> Integer(const CheckpointHeader& header, std::string_view key) {
  if (const auto* v = Get<int64_t>(header, key)) return *v;
  if (const auto* v = Get<uint64_t>(header, key)) return *v <= INT32_MAX ? std::optional<int64_t>(*v) : std::nullopt;
  return std::nullopt;
}

bool Flag(const CheckpointHeader& header, std::string_view key, bool otherwise) {
  const auto* v = Get<bool>(header, std::string(kPrefix) + std::string(key));
  return v == nullptr ? otherwise : *v;
}

std::string TextOf(const CheckpointHeader& header, std::string_view key) {
  const auto* v = Get<std::string>(header, key);
  return v == nullptr ? "" : *v;
}

struct Vocabulary {
  const std::vector<std::string>* tokens;
  std::vector<PieceType> types;  // as many
  std::optional<int32_t> Id(const CheckpointHeader& header, std::string_view key) const {
    const auto id = Integer(header, std::string(kPrefix) + std::string(key));
    if (!id || *id < 0 || *id >= static_cast<int64_t>(tokens->size())) return std::nullopt;
    return static_cast<int32_t>(*id);
  }
};

absl::StatusOr<Vocabulary> ReadVocabulary(const CheckpointHeader& header) {
  Vocabulary out{Get<std::vector<std::string>>(header, "tokenizer.ggml.tokens"), {}};
  if (out.tokens == nullptr || out.tokens->empty()) {
    return absl::InvalidArgumentError("GGUF: tokenizer.ggml.tokens is missing (an array of strings)");
  }
  out.types.assign(out.tokens->size(), PieceType::kNormal);
  if (const auto* types = Get<std::vector<int64_t>>(header, "tokenizer.ggml.token_type")) {
    if (types->size() != out.tokens->size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("GGUF: tokenizer.ggml.token_type has ", types->size(), " entries, tokens ", out.tokens->size()));
    }
    for (size_t i = 0; i < types->size(); ++i) {
      const int64_t type = (*types)[i];
      if (type < 0 || type > 6)
        return absl::InvalidArgumentError(absl::StrCat("GGUF: tokenizer.ggml.token_type ", type));
      out.types[i] = type == 0 ? PieceType::kNormal : static_cast<PieceType>(type);
    }
  }
  return out;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadBpe(const CheckpointHeader& header, const Vocabulary& vocabulary) {
  const auto* merges = Get<std::vector<std::string>>(header, "tokenizer.ggml.merges");
  if (merges == nullptr)
    return absl::InvalidArgumentError("GGUF: tokenizer.ggml.merges is missing (an array of strings)");
  BpeVocabulary bpe{*vocabulary.tokens, *merges, {}, TextOf(header, "tokenizer.ggml.pre")};
  for (size_t id = 0; id < vocabulary.types.size(); ++id) {
    const PieceType type = vocabulary.types[id];
    if (type != PieceType::kControl && type != PieceType::kUserDefined && type != PieceType::kUnknown) continue;
    if (!bpe.tokens[id].empty()) {
      bpe.added.push_back({bpe.tokens[id], static_cast<int32_t>(id), type != PieceType::kUserDefined});
    }
  }
  return MakeBpe(bpe);
}

// "llama": SentencePiece's BPE by scores. The vocabulary goes back into the form that it came from, so that the library
// itself encodes.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadSentencePiece(const CheckpointHeader& header,
                                                             const Vocabulary& vocabulary) {
  const auto* scores = Get<std::vector<double>>(header, "tokenizer.ggml.scores");
  if (scores == nullptr || scores->size() != vocabulary.tokens->size()) {
    return absl::InvalidArgumentError("GGUF: tokenizer.ggml.scores is missing or not as long as tokenizer.ggml.tokens");
  }
  SentencePieceProto proto;
  proto.model_type = 2;
  proto.add_dummy_prefix = Flag(header, "add_space_prefix", true);
  proto.remove_extra_whitespaces = Flag(header, "remove_extra_whitespaces", false);
  int bytes = 0;
  bool unknown = false;
  for (size_t id = 0; id < vocabulary.types.size(); ++id) {
    proto.pieces.push_back({(*vocabulary.tokens)[id], static_cast<float>((*scores)[id]), vocabulary.types[id]});
    bytes += vocabulary.types[id] == PieceType::kByte;
    unknown |= vocabulary.types[id] == PieceType::kUnknown;
  }
  proto.byte_fallback = bytes == 256;
  if (!unknown) proto.pieces[vocabulary.Id(header, "unknown_token_id").value_or(0)].type = PieceType::kUnknown;
  SentencePieceOptions options;
  options.bos = vocabulary.Id(header, "bos_token_id").value_or(-1);
  options.eos = vocabulary.Id(header, "eos_token_id").value_or(-1);
  options.add_bos = options.add_eos = false;  // the caller's, for all kinds alike
  return Tokenizer::FromSentencePiece(SerializeSentencePiece(proto), options);
}

}  // namespace

absl::StatusOr<TextFiles> ReadGguf(const CheckpointHeader& header) {
  const auto vocabulary = ReadVocabulary(header);
  if (!vocabulary.ok()) return vocabulary.status();
  const std::string model = TextOf(header, "tokenizer.ggml.model");
  const std::string pre = TextOf(header, "tokenizer.ggml.pre");
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer;
  bool add_bos = false;
  if (model == "gpt2") {
    tokenizer = ReadBpe(header, *vocabulary);
    add_bos = pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3" || pre == "tekken";
  } else if (model == "llama") {
    tokenizer = ReadSentencePiece(header, *vocabulary);
    add_bos = true;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("GGUF: tokenizer.ggml.model \"", model, "\" is not supported (gpt2 and llama are)"));
  }
  if (!tokenizer.ok()) return tokenizer.status();
  TextFiles out;
  out.tokenizer = std::move(*tokenizer);
  const auto id = [&](std::string_view key) { return vocabulary->Id(header, key); };
  const auto bos = id("bos_token_id"), eos = id("eos_token_id");
  out.tokenizer->SetPrefixAndSuffix(Flag(header, "add_bos_token", add_bos) ? bos : std::nullopt,
                                    Flag(header, "add_eos_token", false) ? eos : std::nullopt);
  for (const auto& [name, key] : {std::pair{"bos_token", "bos_token_id"},
                                  {"eos_token", "eos_token_id"},
                                  {"unk_token", "unknown_token_id"},
                                  {"pad_token", "padding_token_id"}}) {
    if (const auto token = id(key)) out.names[name] = (*vocabulary->tokens)[*token];
  }
  for (const std::string_view key : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    const auto token = id(key);
    if (token && std::find(out.ends.begin(), out.ends.end(), *token) == out.ends.end()) out.ends.push_back(*token);
  }
  out.chat_template = TextOf(header, "tokenizer.chat_template");
  AddTemplateEnds(&out);
  return out;
}

}  // namespace pangea
