#include "master/text/pretokenizer.h"

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

using nlohmann::json;

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
    const auto pattern = part.find("pattern");
    const bool regex = type == "Split" && IsString(part, "behavior", "Isolated") && pattern != part.end() &&
                       pattern->is_object() && pattern->contains("Regex") && (*pattern)["Regex"].is_string();
    if (!regex || !KnownSplit((*pattern)["Regex"].get_ref<const std::string&>())) return false;
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

}  // namespace pangea
