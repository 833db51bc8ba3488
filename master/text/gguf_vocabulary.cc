// GGUF's tokenizer keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, "Tokenizer".
#include "master/text/gguf_vocabulary.h"

#include <algorithm>
#include <set>
#include <unordered_map>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

constexpr std::string_view kEnds[] = {"<|eot_id|>",
                                      "<|im_end|>",
                                      "<|end|>",
                                      "<|return|>",
                                      "<|call|>",
                                      "<|flush|>",
                                      "<|calls|>",
                                      "<end_of_turn>",
                                      "<|endoftext|>",
                                      "</s>",
                                      "<|eom_id|>",
                                      "<EOT>",
                                      "_<EOT>",
                                      "[EOT]",
                                      "[EOS]",
                                      "<|end_of_text|>",
                                      "<end_of_utterance>",
                                      "<eos>",
                                      "<turn|>",
                                      "<|tool_response>",
                                      "<｜end▁of▁sentence｜>",
                                      "[e~["};

// Fill-in-the-middle: the key less _token_id, and spellings that stand in for it. Padding, a repository's and a file's
// name end a generation too.
struct Marker {
  const char* key;
  bool ends;
  std::vector<std::string_view> spellings;
};

const std::vector<Marker>& Markers() {
  static const std::vector<Marker> markers = {
      {"fim_pre",
       false,
       {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>",
        "<|prefix|>"}},
      {"fim_suf",
       false,
       {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>",
        "<|suffix|>"}},
      {"fim_mid",
       false,
       {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>",
        "<|middle|>"}},
      {"fim_pad", true, {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
      {"fim_rep", true, {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
      {"fim_sep", true, {"<|file_sep|>"}}};
  return markers;
}

bool LooksSpecial(std::string_view token) {
  const auto between = [&](std::string_view begin, std::string_view end) {
    return token.size() > begin.size() + end.size() && token.starts_with(begin) && token.ends_with(end);
  };
  for (const std::string_view name :
       {"<pad>", "<mask>", "<2mass>", "[@BOS@]", "<s>", "<bos>", "<start_of_turn>", "[INST]", "[/INST]"}) {
    if (token == name) return true;
  }
  return between("<|", "|>") || between("<｜", "｜>") || between("<unused", ">");
}

class Reader {
 public:
  explicit Reader(const CheckpointHeader& header)
      : header_(header), pieces_(GgufText(header, "tokenizer.ggml.model") == "llama") {}

  absl::StatusOr<GgufVocabulary> Read() && {
    if (absl::Status status = ReadTokens(); !status.ok()) return status;
    // llama.cpp's defaults for vocabularies with scores.
    const auto known = [&](int32_t id) { return pieces_ && Holds(id) ? std::optional(id) : std::nullopt; };
    out_.bos = Or(Id("bos"), known(1));
    out_.eos = Or(Id("eos"), known(2));
    out_.unknown = Or(Id("unknown"), known(0));
    out_.pad = Id("padding");
    FindEnds();
    FindAdded();
    return std::move(out_);
  }

 private:
  static std::optional<int32_t> Or(std::optional<int32_t> id, std::optional<int32_t> otherwise) {
    return id ? id : otherwise;
  }

  bool Holds(int64_t id) const { return id >= 0 && id < static_cast<int64_t>(out_.tokens.size()); }

  std::optional<int32_t> Id(std::string_view name) const {
    const std::string key = absl::StrCat("tokenizer.ggml.", std::string(name), "_token_id");
    int64_t id = -1;
    if (const auto* v = GgufValueOf<int64_t>(header_, key)) id = *v;
    if (const auto* v = GgufValueOf<uint64_t>(header_, key))
      id = static_cast<int64_t>(std::min<uint64_t>(*v, 1u << 31));
    return Holds(id) ? std::optional(static_cast<int32_t>(id)) : std::nullopt;
  }

  absl::Status ReadTokens() {
    const auto* tokens = GgufValueOf<std::vector<std::string>>(header_, "tokenizer.ggml.tokens");
    if (tokens == nullptr || tokens->empty())
      return absl::InvalidArgumentError("tokenizer.ggml.tokens: is missing (an array of strings)");
    out_.tokens = *tokens;
    out_.types.assign(tokens->size(), PieceType::kNormal);
    for (size_t id = 0; id < tokens->size(); ++id) ids_.emplace(out_.tokens[id], static_cast<int32_t>(id));
    const auto* types = GgufValueOf<std::vector<int64_t>>(header_, "tokenizer.ggml.token_type");
    if (types == nullptr) return absl::OkStatus();
    if (types->size() < tokens->size()) {
      return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.token_type: has ", types->size(),
                                                     " entries, tokenizer.ggml.tokens ", tokens->size()));
    }
    for (size_t id = 0; id < tokens->size(); ++id) {
      const int64_t type = (*types)[id];
      if (type >= 1 && type <= 6) out_.types[id] = static_cast<PieceType>(type);
      if (type == 4 && LooksSpecial(out_.tokens[id])) out_.types[id] = PieceType::kControl;
    }
    return absl::OkStatus();
  }

  std::optional<int32_t> Spelled(std::string_view text) const {
    const auto it = ids_.find(text);
    return it == ids_.end() ? std::nullopt : std::optional(it->second);
  }

  void FindEnds() {
    std::set<int32_t> ends;
    for (const std::string_view text : kEnds) {
      const auto id = Spelled(text);
      // HTML's end of strikethrough is a word like others in byte-level vocabularies (Qwen's).
      if (!id || (text == "</s>" && !pieces_ && out_.types[*id] == PieceType::kNormal)) continue;
      ends.insert(*id);
      out_.types[*id] = PieceType::kControl;
    }
    for (const Marker& marker : Markers()) {
      const auto named = Id(marker.key);
      if (named && marker.ends) ends.insert(*named);
      for (const std::string_view text : marker.spellings) {
        const auto id = named ? std::nullopt : Spelled(text);
        if (!id) continue;
        out_.types[*id] = PieceType::kControl;
        if (marker.ends) ends.insert(*id);
      }
    }
    for (const auto& id : {out_.eos, Id("eot"), Id("eom")}) {
      if (!id) continue;
      ends.insert(*id);
      if (out_.types[*id] == PieceType::kUserDefined) out_.types[*id] = PieceType::kControl;
    }
    const auto has = [&](std::string_view text) {
      const auto id = Spelled(text);
      return id && ends.contains(*id);
    };
    const auto spare = [&](std::string_view text, PieceType type) {
      const auto id = Spelled(text);
      if (id && ends.erase(*id) > 0) out_.types[*id] = type;
    };
    // Where an answer has several messages, the end of one is not the end of the answer.
    const bool calls = has("<|call|>") || has("<|calls|>");
    if (calls && (has("<|return|>") || has("<|flush|>"))) spare("<|end|>", PieceType::kUserDefined);
    if (has("<|tool_response>") || has("<|plamo:eos|>")) spare("</s>", PieceType::kNormal);
    out_.ends.assign(ends.begin(), ends.end());
  }

  void FindAdded() {
    std::string name = GgufText(header_, "general.name");
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    // Phi-3's special tokens take the white space behind them along; GGUF has no key for it.
    const bool phi3 = name.find("phi-3") != std::string::npos || name.find("phi3") != std::string::npos;
    const std::set<std::string_view> plain = {"<unk>", "<s>", "<|endoftext|>"};
    for (size_t id = 0; id < out_.tokens.size(); ++id) {
      const PieceType type = out_.types[id];
      const bool special = type == PieceType::kControl || type == PieceType::kUnknown;
      if (out_.tokens[id].empty() || (!special && type != PieceType::kUserDefined)) continue;
      AddedToken token{out_.tokens[id], static_cast<int32_t>(id), special};
      token.rstrip = phi3 && !plain.contains(token.content);
      out_.added.push_back(std::move(token));
    }
  }

  const CheckpointHeader& header_;
  const bool pieces_;  // SentencePiece's, by scores
  GgufVocabulary out_;
  std::unordered_map<std::string_view, int32_t> ids_;  // of equal tokens the first
};

}  // namespace

absl::StatusOr<GgufVocabulary> ReadGgufVocabulary(const CheckpointHeader& header) { return Reader(header).Read(); }

std::string GgufText(const CheckpointHeader& header, std::string_view key) {
  const auto* v = GgufValueOf<std::string>(header, key);
  return v == nullptr ? "" : *v;
}

}  // namespace pangea
