// GGUF's tokenizer keys -> a tokenizer, as llama.cpp makes it (llama-vocab.cpp).
#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "master/text/gguf_vocabulary.h"
#include "master/text/pretokenizer.h"
#include "master/text/text_files.h"

namespace pangea {
namespace {

bool Flag(const CheckpointHeader& header, std::string_view key, bool otherwise) {
  const auto* v = GgufValueOf<bool>(header, key);
  return v == nullptr ? otherwise : *v;
}

// Why the library refused: the first merge that the vocabulary does not bear out, or else in the library's words.
absl::Status FaultOfMerges(const BpeVocabulary& bpe, const absl::Status& refusal) {
  const std::set<std::string_view> known(bpe.tokens.begin(), bpe.tokens.end());
  for (size_t i = 0; i < bpe.merges.size(); ++i) {
    const std::string& merge = bpe.merges[i];
    const auto fault = [&](auto&&... what) {
      return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.merges: ", i, " is \"", merge, "\", ", what...));
    };
    const size_t space = merge.find(' ', 1);
    if (space == std::string::npos || space + 1 == merge.size()) return fault("not two tokens with a space between");
    const std::string left = merge.substr(0, space), right = merge.substr(space + 1);
    for (const std::string& token : {left, right, left + right}) {
      if (!known.contains(token)) return fault("but there is no token ", token);
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.tokens: ", refusal.message()));
}

// "gpt2": byte-level BPE by merges.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadBpe(const CheckpointHeader& header, const GgufVocabulary& vocabulary) {
  const auto* merges = GgufValueOf<std::vector<std::string>>(header, "tokenizer.ggml.merges");
  if (merges == nullptr) return absl::InvalidArgumentError("tokenizer.ggml.merges: is missing (an array of strings)");
  BpeVocabulary bpe{vocabulary.tokens, *merges, {}, GgufText(header, "tokenizer.ggml.pre")};
  std::set<std::string_view> taken;
  std::vector<bool> named(bpe.tokens.size(), false);
  for (const AddedToken& token : vocabulary.added) {
    if (!taken.insert(token.content).second) continue;
    named[token.id] = true;
    bpe.added.push_back(token);
  }
  // What has no name of its own (none, or one that is taken) gets one that no text leads to: ids stay without gaps.
  std::vector<size_t> nameless;
  for (size_t id = 0; id < bpe.tokens.size(); ++id) {
    const std::string& text = vocabulary.tokens[id];
    if (named[id] || (!text.empty() && taken.insert(text).second)) continue;
    bpe.tokens[id] = absl::StrCat("[EMPTY_", id, "]");
    nameless.push_back(id);
  }
  if (const auto pre = PreTokenizerByName(bpe.pre); !pre.ok()) return pre.status();
  auto tokenizer = MakeBpe(bpe);
  if (!tokenizer.ok()) return FaultOfMerges(bpe, tokenizer.status());
  for (const size_t id : nameless) {
    const bool added = vocabulary.types[id] == PieceType::kControl || vocabulary.types[id] == PieceType::kUserDefined;
    (*tokenizer)
        ->SetBytes(static_cast<int32_t>(id), added ? vocabulary.tokens[id] : BytesOfByteLevel(vocabulary.tokens[id]));
  }
  return tokenizer;
}

// "llama": SentencePiece's BPE by scores.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadScores(const CheckpointHeader& header,
                                                      const GgufVocabulary& vocabulary) {
  constexpr char kScores[] = "tokenizer.ggml.scores";
  const size_t size = vocabulary.tokens.size();
  ScoreVocabulary out{vocabulary.tokens, {}, vocabulary.types, true, vocabulary.unknown, vocabulary.added};
  const auto take = [&](const auto* scores) {
    if (scores == nullptr || scores->size() < size) return false;
    for (size_t id = 0; id < size; ++id) out.scores.push_back(static_cast<float>((*scores)[id]));
    return true;
  };
  if (!header.metadata.contains(kScores)) {
    out.scores.assign(size, 0);
  } else if (!take(GgufValueOf<std::vector<double>>(header, kScores)) &&
             !take(GgufValueOf<std::vector<int64_t>>(header, kScores))) {
    return absl::InvalidArgumentError(absl::StrCat(kScores, ": must be an array of ", size, " numbers, one a token"));
  }
  out.space_prefix = Flag(header, "tokenizer.ggml.add_space_prefix", true);
  return Tokenizer::FromScores(std::move(out));
}

absl::StatusOr<TextFiles> Read(const CheckpointHeader& header) {
  const auto vocabulary = ReadGgufVocabulary(header);
  if (!vocabulary.ok()) return vocabulary.status();
  const std::string model = GgufText(header, "tokenizer.ggml.model");
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer;
  bool add_bos = true;
  if (model == "gpt2") {
    tokenizer = ReadBpe(header, *vocabulary);
    const auto pre = PreTokenizerByName(GgufText(header, "tokenizer.ggml.pre"));
    add_bos = pre.ok() && pre->add_bos;
  } else if (model == "llama") {
    tokenizer = ReadScores(header, *vocabulary);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.ggml.model: is \"", model.substr(0, 80), "\"; supported: gpt2, llama"));
  }
  if (!tokenizer.ok()) return tokenizer.status();
  TextFiles out;
  out.tokenizer = std::move(*tokenizer);
  out.tokenizer->SetPrefixAndSuffix(
      Flag(header, "tokenizer.ggml.add_bos_token", add_bos) ? vocabulary->bos : std::nullopt,
      Flag(header, "tokenizer.ggml.add_eos_token", false) ? vocabulary->eos : std::nullopt);
  for (const auto& [name, id] : {std::pair{"bos_token", vocabulary->bos},
                                 {"eos_token", vocabulary->eos},
                                 {"unk_token", vocabulary->unknown},
                                 {"pad_token", vocabulary->pad}}) {
    if (id) out.names[name] = vocabulary->tokens[*id];
  }
  out.ends = vocabulary->ends;
  out.chat_template = GgufText(header, "tokenizer.chat_template");
  return out;
}

}  // namespace

absl::StatusOr<TextFiles> ReadGguf(const CheckpointHeader& header) {
  auto files = Read(header);
  if (files.ok()) return files;
  return absl::Status(files.status().code(), absl::StrCat(header.path, ": ", files.status().message()));
}

}  // namespace pangea
