// The Hugging Face layout: tokenizer.json, or tokenizer.model, or vocab.json + merges.txt; tokenizer_config.json,
// special_tokens_map.json, added_tokens.json, chat_template.jinja beside them.
#include <algorithm>
#include <filesystem>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "configs/read_file.h"
#include "master/text/folder_tokens.h"
#include "master/text/text_files.h"
#include "pipeline/checkpoint/fields.h"

namespace pangea {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr size_t kMaxVocabularyBytes = size_t{256} << 20;
constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr int kMaxDepth = 100;  // of brackets in each other; the tokenizers library stops at 128

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
  const auto text = ReadFile(In(header, name), kMaxConfigBytes);
  if (!text.ok()) return text.status();
  if (const auto shallow = CheckDepth(*text, In(header, name), kMaxDepth); !shallow.ok()) return shallow;
  auto out = json::parse(QuoteNonNumbers(*text), nullptr, /*allow_exceptions=*/false);
  if (!out.is_object()) return absl::InvalidArgumentError(absl::StrCat(In(header, name), ": not a JSON object"));
  return out;
}

std::string TextOf(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

// "tokenizer.model: SentencePiece: …": the file before what is wrong in it.
absl::Status InFile(std::string_view name, const absl::Status& status) {
  if (absl::StartsWith(std::string(status.message()), std::string(name))) return status;
  return absl::Status(status.code(), absl::StrCat(std::string(name), ": ", status.message()));
}

// The file whose SentencePiece model is the tokenizer; empty: none is.
std::string ModelFile(const CheckpointHeader& header) {
  for (const char* name : {"tokenizer.model", "tokenizer.model.v3", "tokenizer.model.v2", "tokenizer.model.v1"}) {
    if (Has(header, name)) return name;
  }
  return "";
}

// The class that Transformers takes for a model's tokenizer when no file names one.
std::string ClassOfModel(Architecture architecture) {
  switch (architecture) {
    case Architecture::kLlama:
    case Architecture::kMistral:
      return "LlamaTokenizer";
    case Architecture::kQwen2:
    case Architecture::kQwen3:
      return "Qwen2Tokenizer";
    case Architecture::kGpt2:
      return "GPT2Tokenizer";
    default:
      return "";
  }
}

struct Read {
  const CheckpointHeader& header;
  const FolderTokens& tokens;
  std::vector<std::string>* warnings;
};

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadJsonFile(const Read& read) {
  const auto text = ReadFile(In(read.header, "tokenizer.json"), kMaxVocabularyBytes);
  if (!text.ok()) return text.status();
  if (const auto shallow = CheckDepth(*text, "tokenizer.json", kMaxDepth); !shallow.ok()) return shallow;
  auto file = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!file.is_object()) return absl::InvalidArgumentError("tokenizer.json: not a JSON object");
  const bool changed =
      ApplyFolderTokens(read.tokens, !ModelFile(read.header).empty(), read.header.config.vocab, read.warnings, &file);
  return Tokenizer::FromJson(file, changed ? file.dump() : *text);
}

// Lines of a token in base64, a space and a rank.
bool IsTiktoken(const std::string& text) {
  const size_t space = text.find(' '), end = text.find('\n');
  return space != std::string::npos && space > 0 && end != std::string::npos && space + 1 < end &&
         text.find_first_not_of("0123456789", space + 1) >= end - (text[end - 1] == '\r');
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadModelFile(const Read& read, const std::string& name) {
  auto model = ReadFile(In(read.header, name), kMaxVocabularyBytes);
  if (!model.ok()) return model.status();
  const auto proto = ParseSentencePiece(*model);
  if (!proto.ok() && IsTiktoken(*model))
    return absl::InvalidArgumentError(absl::StrCat(name,
                                                   ": is a tiktoken vocabulary, which is not read; the model's "
                                                   "tokenizer.json is needed"));
  if (!proto.ok()) return InFile(name, proto.status());
  std::map<std::string, int32_t> ids;
  for (size_t id = 0; id < proto->pieces.size(); ++id)
    ids.try_emplace(proto->pieces[id].text, static_cast<int32_t>(id));
  SentencePieceOptions options;
  options.add_bos = options.add_eos = false;  // PlaceBosAndEos does it for all kinds alike
  options.prefix_after_special = read.tokens.legacy;
  if (read.tokens.prefix_space_named) options.prefix_space = read.tokens.prefix_space.value_or(false);
  options.added =
      Numbered(read.tokens, ids, static_cast<int32_t>(proto->pieces.size()), read.header.config.vocab, read.warnings);
  auto tokenizer = Tokenizer::FromSentencePiece(std::move(*model), options);
  if (!tokenizer.ok()) return InFile(name, tokenizer.status());
  return tokenizer;
}

// The pre-tokenizer by the class that reads such files in Transformers, else by the model's own architecture.
absl::StatusOr<std::string> PreName(const Read& read) {
  std::string name = read.tokens.tokenizer_class;
  if (name.empty() || name == "PreTrainedTokenizer") name = ClassOfModel(read.header.config.architecture);
  if (name == "GPT2Tokenizer") return "gpt-2";
  if (name == "Qwen2Tokenizer") return "qwen2";
  return absl::InvalidArgumentError(
      absl::StrCat("tokenizer_config.json: tokenizer_class \"", read.tokens.tokenizer_class,
                   "\" with vocab.json and merges.txt is not supported (GPT2Tokenizer and Qwen2Tokenizer are)"));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadVocabularyAndMerges(const Read& read) {
  const auto pre = PreName(read);
  if (!pre.ok()) return pre.status();
  const auto vocab_text = ReadFile(In(read.header, "vocab.json"), kMaxVocabularyBytes);
  const auto merges_text = ReadFile(In(read.header, "merges.txt"), kMaxVocabularyBytes);
  if (!vocab_text.ok()) return vocab_text.status();
  if (!merges_text.ok()) return merges_text.status();
  const auto vocab = json::parse(*vocab_text, nullptr, /*allow_exceptions=*/false);
  if (!vocab.is_object()) return absl::InvalidArgumentError("vocab.json: not a JSON object");
  BpeVocabulary bpe;
  bpe.pre = *pre;
  bpe.prefix_space = read.tokens.prefix_space.value_or(false);
  std::map<std::string, int32_t> ids;
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > kMaxTokenId) {
      return absl::InvalidArgumentError(
          absl::StrCat("vocab.json: the id of \"", token, "\" is not in 0..", kMaxTokenId));
    }
    const auto i = id.get<size_t>();
    if (bpe.tokens.size() <= i) bpe.tokens.resize(i + 1);
    bpe.tokens[i] = token;
    ids[token] = id.get<int32_t>();
  }
  std::istringstream lines(*merges_text);
  bool first = true;
  for (std::string line; std::getline(lines, line); first = false) {
    if (line.ends_with('\r')) line.pop_back();
    const bool version = first && line.starts_with("#version");
    if (!line.empty() && !version) bpe.merges.push_back(line);
  }
  FolderTokens tokens = read.tokens;
  tokens.names.merge(tokens.usual);  // here the class's own are added even where they are new
  bpe.added = Numbered(tokens, ids, static_cast<int32_t>(bpe.tokens.size()), read.header.config.vocab, read.warnings);
  auto tokenizer = MakeBpe(bpe);
  if (!tokenizer.ok()) return InFile("tokenizer_config.json", tokenizer.status());
  if (*pre == "gpt-2" && tokens.add_bos) {
    (*tokenizer)->SetPrefixAndSuffix((*tokenizer)->Find(tokens.names["bos_token"]), std::nullopt);
  }
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTokenizer(const Read& read) {
  const CheckpointHeader& header = read.header;
  if (header.config.architecture == Architecture::kPangu) {
    const std::string_view name = Has(header, "vocab.model") ? "vocab.model" : "tokenizer.model";
    auto model = ReadFile(In(header, name), kMaxVocabularyBytes);
    if (!model.ok()) return model.status();
    auto tokenizer = Tokenizer::FromPangu(std::move(*model));
    if (!tokenizer.ok()) return InFile(name, tokenizer.status());
    return tokenizer;
  }
  if (Has(header, "tokenizer.json")) return ReadJsonFile(read);
  if (const std::string name = ModelFile(header); !name.empty()) return ReadModelFile(read, name);
  if (Has(header, "vocab.json") && Has(header, "merges.txt")) return ReadVocabularyAndMerges(read);
  return absl::NotFoundError(absl::StrCat(header.path,
                                          ": no tokenizer.json, tokenizer.model, or vocab.json and merges.txt",
                                          Has(header, "tekken.json") ? "; tekken.json is not read" : ""));
}

absl::StatusOr<FolderTokens> ReadFolderTokens(const CheckpointHeader& header, const json& config) {
  const auto map = ReadConfig(header, "special_tokens_map.json");
  if (!map.ok()) return map.status();
  const auto added = ReadConfig(header, "added_tokens.json");
  if (!added.ok()) return added.status();
  const auto model = ReadConfig(header, "config.json");
  if (!model.ok()) return model.status();
  TokenFiles files{config, *map, *added, TextOf(*model, "tokenizer_class")};
  if (files.model_class.empty()) files.model_class = ClassOfModel(header.config.architecture);
  const bool pieces = !Has(header, "tokenizer.json") && !ModelFile(header).empty();
  auto tokens = ResolveTokens(files);
  if (!tokens.ok() || !pieces || tokens->places_bos_eos || header.config.architecture == Architecture::kPangu)
    return tokens;
  files.config["tokenizer_class"] = "LlamaTokenizer";  // any other class's SentencePiece model is read as Llama's
  return ResolveTokens(files);
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

absl::StatusOr<TextFiles> ReadFolder(const CheckpointHeader& header) {
  const auto config = ReadConfig(header, "tokenizer_config.json");
  if (!config.ok()) return config.status();
  const auto tokens = ReadFolderTokens(header, *config);
  if (!tokens.ok()) return tokens.status();
  TextFiles out;
  auto tokenizer = ReadTokenizer({header, *tokens, &out.warnings});
  if (!tokenizer.ok()) return tokenizer.status();
  out.tokenizer = std::move(*tokenizer);
  out.tokenizer_class = TextOf(*config, "tokenizer_class");
  out.names = tokens->names;
  for (const auto& [name, content] : tokens->usual) {
    if (out.tokenizer->Find(content)) out.names.try_emplace(name, content);
  }
  const bool pangu = header.config.architecture == Architecture::kPangu;
  if (!pangu) PlaceBosAndEos(*tokens, out.tokenizer.get());
  const std::string end = pangu ? "<eot>" : out.names.contains("eos_token") ? out.names["eos_token"] : "";
  if (const auto id = out.tokenizer->Find(end)) out.ends.push_back(*id);
  if (Has(header, "chat_template.jinja")) {
    const auto text = ReadFile(In(header, "chat_template.jinja"), kMaxTemplateBytes);
    if (!text.ok()) return text.status();
    out.chat_template = *text;
  } else {
    out.chat_template = TemplateOf(*config);
  }
  AddTemplateEnds(&out);
  return out;
}

}  // namespace pangea
