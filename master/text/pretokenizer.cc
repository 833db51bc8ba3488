#include "master/text/pretokenizer.h"

#include <array>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

using nlohmann::json;

// openai/gpt-2 encoder.py; the tokenizers library's ByteLevel with use_regex is the same.
constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// Qwen2's and Llama 3's tokenizer.json.
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Mistral-Nemo's.
constexpr std::string_view kTekken = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
                                     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
                                     R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

json Split(std::string_view regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}

json Sequence(std::vector<json> parts) { return {{"type", "Sequence"}, {"pretokenizers", std::move(parts)}}; }

std::string TypeOf(const json& part) {
  const auto it = part.find("type");
  return it != part.end() && it->is_string() ? it->get<std::string>() : "";
}

// The parts of a Sequence, or the one part that there is; nothing for null.
std::vector<json> Parts(const json& object, const char* key, const char* list) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_object()) return {};
  if (TypeOf(*it) != "Sequence") return {*it};
  const auto parts = it->find(list);
  if (parts == it->end() || !parts->is_array()) return {};
  std::vector<json> out;
  for (const auto& part : *parts) {
    if (part.is_object()) out.push_back(part);
  }
  return out;
}

bool IsString(const json& part, const char* key, std::string_view value) {
  const auto it = part.find(key);
  return it != part.end() && it->is_string() && it->get_ref<const std::string&>() == value;
}

bool PatternIs(const json& part, const char* kind, std::string_view value) {
  const auto it = part.find("pattern");
  return it != part.end() && it->is_object() && IsString(*it, kind, value);
}

}  // namespace

absl::StatusOr<Decoding> ReadDecoder(const json& tokenizer) {
  Decoding out;
  auto parts = Parts(tokenizer, "decoder", "decoders");
  if (parts.empty()) parts = Parts(tokenizer, "pre_tokenizer", "pretokenizers");  // a byte-level one says the same
  bool known = false;
  for (const auto& part : parts) {
    const std::string type = TypeOf(part);
    if (type == "ByteLevel") {
      out.byte_level = known = true;
    } else if (type == "Replace" && PatternIs(part, "String", "\xE2\x96\x81") && IsString(part, "content", " ")) {
      known = true;
    } else if (type == "Metaspace") {
      const bool legacy = !part.contains("prepend_scheme") && part.value("add_prefix_space", true);
      out.strip_first_space = known = true;
      if (!legacy) out.strip_first_space = !IsString(part, "prepend_scheme", "never");
      out.strip_first_piece = true;
    } else if (type == "ByteFallback") {
      out.byte_fallback = true;
    } else if (type == "Strip" && IsString(part, "content", " ") && part.value("start", 0) <= 1 &&
               part.value("stop", 0) == 0) {
      out.strip_first_space = part.value("start", 0) == 1;
    } else if (type != "Fuse" && tokenizer.contains("decoder") && tokenizer["decoder"].is_object()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.json: decoder ", type,
                       " is not supported (ByteLevel, or Metaspace/Replace with ByteFallback are)"));
    }
  }
  if (!known) {
    return absl::InvalidArgumentError(
        "tokenizer.json: no decoder that is supported (ByteLevel, or Metaspace/Replace with ByteFallback)");
  }
  return out;
}

NormalizerKind ReadNormalizer(const json& tokenizer) {
  const auto parts = Parts(tokenizer, "normalizer", "normalizers");
  for (const auto& part : parts) {
    const std::string type = TypeOf(part);
    const bool spaces = type == "Prepend" || (type == "Replace" && PatternIs(part, "String", " "));
    if (type != "NFC" && !spaces) return NormalizerKind::kOther;
  }
  return parts.empty() ? NormalizerKind::kNone : NormalizerKind::kUnicode;
}

std::optional<json> WithoutFirstPrefix(const json& tokenizer) {
  const auto it = tokenizer.find("pre_tokenizer");
  if (it == tokenizer.end() || !it->is_object()) return std::nullopt;
  json pre = *it;
  bool found = false;
  const auto turn = [&](json& part) {
    if (part.is_object() && TypeOf(part) == "Metaspace" && IsString(part, "prepend_scheme", "first")) {
      part["prepend_scheme"] = "never";
      found = true;
    }
  };
  turn(pre);
  if (const auto list = pre.find("pretokenizers"); list != pre.end() && list->is_array()) {
    for (auto& part : *list) turn(part);
  }
  if (!found) return std::nullopt;
  json out = tokenizer;
  out["pre_tokenizer"] = std::move(pre);
  return out;
}

bool KeepsEveryByte(const json& tokenizer) {
  for (const auto& part : Parts(tokenizer, "pre_tokenizer", "pretokenizers")) {
    const std::string type = TypeOf(part);
    if (type == "Digits") continue;
    if (type == "ByteLevel" && !part.value("add_prefix_space", true)) continue;
    bool known = false;
    for (const std::string_view regex : {kGpt2, kQwen2, kLlama3, kTekken, std::string_view(R"(\p{N})")}) {
      known |= type == "Split" && PatternIs(part, "Regex", regex) && IsString(part, "behavior", "Isolated");
    }
    if (!known) return false;
  }
  return true;
}

size_t SafeCut(std::string_view text, const CutPlaces& places) {
  constexpr size_t kPart = size_t{1} << 18;
  const auto letter = [](char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; };
  for (size_t at = kPart; at + 1 < text.size(); ++at) {
    const char c = text[at];
    if (places.spaces && (c == ' ' || (c == '\n' && text[at - 1] != '\r'))) return at;
    if (letter(text[at - 1])) {
      if (c == '\n' || (c == ' ' && letter(text[at + 1]))) return at;
    } else if (places.ideographs && (c == '\xEF' || c == '\xE3')) {
      const auto lead = static_cast<unsigned char>(text[at - 3]);
      const std::string_view here = text.substr(at, 3);
      // E4 to E8 lead U+4000 to U+8FFF, of which U+4DC0 to U+4DFF alone are no letters.
      const bool ideograph = lead >= 0xE5 && lead <= 0xE8;
      if (ideograph && (here == "\xEF\xBC\x8C" || here == "\xE3\x80\x82")) return at;
    }
  }
  return text.size();
}

absl::StatusOr<PreTokenizer> PreTokenizerByName(std::string_view name) {
  if (name == "gpt-2") return PreTokenizer{ByteLevel(true), nullptr};
  if (name == "smollm")
    return PreTokenizer{Sequence({{{"type", "Digits"}, {"individual_digits", true}}, ByteLevel(true)}), nullptr};
  if (name == "qwen2" || name == "deepseek-r1-qwen") {
    return PreTokenizer{Sequence({Split(kQwen2), ByteLevel(false)}), {{"type", "NFC"}}};
  }
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") {
    return PreTokenizer{Sequence({Split(kLlama3), ByteLevel(false)}), nullptr, true};
  }
  if (name == "tekken") return PreTokenizer{Sequence({Split(kTekken), ByteLevel(false)}), nullptr, true};
  if (name == "default" || name.empty()) {
    // llama.cpp's fallback: four splits, one after the other (llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_DEFAULT).
    return PreTokenizer{Sequence({Split(R"([\p{P}\$\+<=>\^~\|]+)"),
                                  Split(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))"),
                                  Split(R"(\p{N}+)"), Split("[0-9][0-9][0-9]"), ByteLevel(false)}),
                        nullptr};
  }
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.pre \"", std::string(name),
                                                 "\" is not supported (default, gpt-2, smollm, qwen2, "
                                                 "deepseek-r1-qwen, llama-bpe, llama3, llama-v3, tekken are)"));
}

}  // namespace pangea
