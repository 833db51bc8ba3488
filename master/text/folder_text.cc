// The Hugging Face layout: tokenizer.json, or tokenizer.model, or vocab.json + merges.txt; tokenizer_config.json,
// special_tokens_map.json, chat_template.jinja beside them.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "master/text/text_files.h"

namespace pangea {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr size_t kMaxVocabularyBytes = size_t{256} << 20;
constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr size_t kMaxTemplateBytes = size_t{1} << 20;
constexpr int64_t kMaxTokenId = (int64_t{1} << 22) - 1;

std::string In(const CheckpointHeader& header, std::string_view name) {
  return (fs::path(header.path) / name).string();
}

bool Has(const CheckpointHeader& header, std::string_view name) {
  std::error_code error;
  return fs::is_regular_file(In(header, name), error);
}

// An absent file is an empty object.
absl::StatusOr<json> ReadConfig(const CheckpointHeader& header, std::string_view name) {
  if (!Has(header, name)) return json::object();
  const auto text = ReadTextFile(In(header, name), kMaxConfigBytes);
  if (!text.ok()) return text.status();
  auto out = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!out.is_object()) return absl::InvalidArgumentError(absl::StrCat(In(header, name), ": not a JSON object"));
  return out;
}

// A token is a string, or an object with `content`.
std::string TokenText(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  const auto it = value.is_object() ? value.find("content") : value.end();
  return value.is_object() && it != value.end() && it->is_string() ? it->get<std::string>() : "";
}

bool Truth(const json& object, const char* key, bool otherwise) {
  const auto it = object.find(key);
  return it != object.end() && it->is_boolean() ? it->get<bool>() : otherwise;
}

std::string TextOf(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

absl::StatusOr<std::vector<AddedToken>> ReadAdded(const json& config) {
  std::vector<AddedToken> out;
  const auto it = config.find("added_tokens_decoder");
  if (it == config.end() || !it->is_object()) return out;
  for (const auto& [key, value] : it->items()) {
    int64_t id = -1;
    if (!absl::SimpleAtoi(key, &id) || id < 0 || id > kMaxTokenId || !value.is_object()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer_config.json: added_tokens_decoder: id ", key, " is not in 0..", kMaxTokenId));
    }
    out.push_back({TextOf(value, "content"), static_cast<int32_t>(id), Truth(value, "special", false),
                   Truth(value, "lstrip", false), Truth(value, "rstrip", false), Truth(value, "single_word", false)});
  }
  std::sort(out.begin(), out.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return out;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadJsonFile(const CheckpointHeader& header) {
  const auto text = ReadTextFile(In(header, "tokenizer.json"), kMaxVocabularyBytes);
  if (!text.ok()) return text.status();
  return Tokenizer::FromJson(*text);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadModelFile(const CheckpointHeader& header, std::string_view name,
                                                         const json& config) {
  auto model = ReadTextFile(In(header, name), kMaxVocabularyBytes);
  if (!model.ok()) return model.status();
  auto added = ReadAdded(config);
  if (!added.ok()) return added.status();
  SentencePieceOptions options;
  options.add_bos = Truth(config, "add_bos_token", true);
  options.add_eos = Truth(config, "add_eos_token", false);
  options.prefix_after_special = Truth(config, "legacy", true);
  options.added = std::move(*added);
  return Tokenizer::FromSentencePiece(std::move(*model), options);
}

// The pre-tokenizer by the class that reads such files in Transformers, else by the model's own architecture.
absl::StatusOr<std::string> PreName(const CheckpointHeader& header, const json& config) {
  std::string name = TextOf(config, "tokenizer_class");
  if (name.empty() || name == "PreTrainedTokenizerFast") {
    const auto a = header.config.architecture;
    if (a == Architecture::kGpt2) return "gpt-2";
    if (a == Architecture::kQwen2 || a == Architecture::kQwen3) return "qwen2";
  }
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  if (name == "GPT2Tokenizer") return "gpt-2";
  if (name == "Qwen2Tokenizer") return "qwen2";
  return absl::InvalidArgumentError(
      absl::StrCat("tokenizer_config.json: tokenizer_class \"", name,
                   "\" with vocab.json and merges.txt is not supported (GPT2Tokenizer and Qwen2Tokenizer are)"));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadVocabularyAndMerges(const CheckpointHeader& header, const json& config) {
  const auto pre = PreName(header, config);
  if (!pre.ok()) return pre.status();
  const auto vocab_text = ReadTextFile(In(header, "vocab.json"), kMaxVocabularyBytes);
  const auto merges_text = ReadTextFile(In(header, "merges.txt"), kMaxVocabularyBytes);
  if (!vocab_text.ok()) return vocab_text.status();
  if (!merges_text.ok()) return merges_text.status();
  const auto vocab = json::parse(*vocab_text, nullptr, /*allow_exceptions=*/false);
  if (!vocab.is_object()) return absl::InvalidArgumentError("vocab.json: not a JSON object");
  BpeVocabulary bpe;
  bpe.pre = *pre;
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > kMaxTokenId) {
      return absl::InvalidArgumentError(
          absl::StrCat("vocab.json: the id of \"", token, "\" is not in 0..", kMaxTokenId));
    }
    const auto i = id.get<size_t>();
    if (bpe.tokens.size() <= i) bpe.tokens.resize(i + 1);
    bpe.tokens[i] = token;
  }
  std::istringstream lines(*merges_text);
  bool first = true;
  for (std::string line; std::getline(lines, line); first = false) {
    if (line.ends_with('\r')) line.pop_back();
    const bool version = first && line.starts_with("#version");
    if (!line.empty() && !version) bpe.merges.push_back(line);
  }
  auto added = ReadAdded(config);
  if (!added.ok()) return added.status();
  bpe.added = std::move(*added);
  // GPT-2's own files name no added tokens.
  const std::string_view end = "<|endoftext|>";
  if (bpe.added.empty() && vocab.contains(end)) bpe.added.push_back({std::string(end), vocab[end].get<int32_t>()});
  auto tokenizer = MakeBpe(bpe);
  if (tokenizer.ok() && Truth(config, "add_bos_token", false)) {
    (*tokenizer)->SetPrefixAndSuffix((*tokenizer)->Find(TokenText(config.value("bos_token", json()))), std::nullopt);
  }
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTokenizer(const CheckpointHeader& header, const json& config) {
  if (header.config.architecture == Architecture::kPangu) {
    const std::string_view name = Has(header, "vocab.model") ? "vocab.model" : "tokenizer.model";
    auto model = ReadTextFile(In(header, name), kMaxVocabularyBytes);
    if (!model.ok()) return model.status();
    return Tokenizer::FromPangu(std::move(*model));
  }
  if (Has(header, "tokenizer.json")) return ReadJsonFile(header);
  for (const std::string_view name :
       {"tokenizer.model", "tokenizer.model.v3", "tokenizer.model.v2", "tokenizer.model.v1"}) {
    if (Has(header, name)) return ReadModelFile(header, name, config);
  }
  if (Has(header, "vocab.json") && Has(header, "merges.txt")) return ReadVocabularyAndMerges(header, config);
  return absl::NotFoundError(
      absl::StrCat(header.path, ": no tokenizer.json, tokenizer.model, or vocab.json and merges.txt"));
}

// A string, or several by name, of which `default` is meant: an object, or a list of {name, template}.
std::string TemplateOf(const json& config) {
  const auto it = config.find("chat_template");
  if (it == config.end()) return "";
  if (it->is_string()) return it->get<std::string>();
  if (it->is_object()) return TextOf(*it, "default");
  if (!it->is_array()) return "";
  for (const auto& entry : *it) {
    if (entry.is_object() && TextOf(entry, "name") == "default") return TextOf(entry, "template");
  }
  return "";
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t limit) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (error) return absl::NotFoundError(absl::StrCat(path, ": ", error.message()));
  if (size > limit)
    return absl::InvalidArgumentError(absl::StrCat(path, " has ", size, " bytes; the limit is ", limit));
  std::ifstream in(path, std::ios::binary);
  std::string out(size, '\0');
  if (!in.read(out.data(), static_cast<std::streamsize>(size)))
    return absl::UnavailableError(absl::StrCat(path, ": can not be read"));
  return out;
}

absl::StatusOr<TextFiles> ReadFolder(const CheckpointHeader& header) {
  const auto config = ReadConfig(header, "tokenizer_config.json");
  if (!config.ok()) return config.status();
  const auto map = ReadConfig(header, "special_tokens_map.json");
  if (!map.ok()) return map.status();
  auto tokenizer = ReadTokenizer(header, *config);
  if (!tokenizer.ok()) return tokenizer.status();
  TextFiles out;
  out.tokenizer = std::move(*tokenizer);
  for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"}) {
    for (const json* source : {&*config, &*map}) {
      const auto it = source->find(key);
      const std::string text = it == source->end() ? "" : TokenText(*it);
      if (!text.empty() && !out.names.contains(key)) out.names[key] = text;
    }
  }
  const bool pangu = header.config.architecture == Architecture::kPangu;
  if (out.tokenizer->splits_added() && !pangu) {  // a SentencePiece model names its own
    if (out.tokenizer->Find("<s>")) out.names.try_emplace("bos_token", "<s>");
    if (out.tokenizer->Find("</s>")) out.names.try_emplace("eos_token", "</s>");
  }
  const std::string end = pangu ? "<eot>" : out.names.contains("eos_token") ? out.names["eos_token"] : "";
  if (const auto id = out.tokenizer->Find(end)) out.ends.push_back(*id);
  if (Has(header, "chat_template.jinja")) {
    const auto text = ReadTextFile(In(header, "chat_template.jinja"), kMaxTemplateBytes);
    if (!text.ok()) return text.status();
    out.chat_template = *text;
  } else {
    out.chat_template = TemplateOf(*config);
  }
  AddTemplateEnds(&out);
  return out;
}

}  // namespace pangea
