#include "master/text/folder_tokens.h"

#include <algorithm>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

using nlohmann::json;

constexpr const char* kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

// Defaults of the classes' constructors, and whether they write the post-processor anew.
struct TokenizerClass {
  std::map<std::string, std::string> names;
  bool places = false, add_bos = false;
};

const TokenizerClass& ClassOf(const std::string& name) {
  static const TokenizerClass llama = {
      {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}}, true, true};
  static const std::string end = "<|endoftext|>";
  static const std::map<std::string, TokenizerClass> known = {
      {"LlamaTokenizer", llama},
      {"CodeLlamaTokenizer", llama},
      {"GemmaTokenizer",
       {{{"bos_token", "<bos>"}, {"eos_token", "<eos>"}, {"unk_token", "<unk>"}, {"pad_token", "<pad>"}}, true, true}},
      {"CohereTokenizer",
       {{{"bos_token", "<BOS_TOKEN>"}, {"eos_token", "<|END_OF_TURN_TOKEN|>"}, {"unk_token", "<UNK>"}}, true, true}},
      {"GPTNeoXTokenizer", {{{"bos_token", end}, {"eos_token", end}, {"unk_token", end}}, true, false}},
      {"GPT2Tokenizer", {{{"bos_token", end}, {"eos_token", end}, {"unk_token", end}}, false, false}},
      {"Qwen2Tokenizer", {{{"eos_token", end}, {"unk_token", end}, {"pad_token", end}}, false, false}}};
  static const TokenizerClass none;
  const auto it = known.find(name);
  return it == known.end() ? none : it->second;
}

bool Truth(const json& object, const char* key, bool otherwise) {
  const auto it = object.find(key);
  return it != object.end() && it->is_boolean() ? it->get<bool>() : otherwise;
}

// A token is a string, or an object with `content` and flags.
AddedToken TokenOf(const json& value, bool special) {
  AddedToken token{"", -1, special};
  if (value.is_string()) token.content = value.get<std::string>();
  if (!value.is_object()) return token;
  if (const auto it = value.find("content"); it != value.end() && it->is_string())
    token.content = it->get<std::string>();
  token.lstrip = Truth(value, "lstrip", false);
  token.rstrip = Truth(value, "rstrip", false);
  token.single_word = Truth(value, "single_word", false);
  token.normalized = Truth(value, "normalized", !special);
  return token;
}

absl::Status BadId(const char* file, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", what, " is not in 0..", kMaxTokenId));
}

// special_tokens_map.json overrides tokenizer_config.json; lists of additional tokens are joined.
void Override(const json& map, json* config) {
  constexpr const char* kList = "additional_special_tokens";
  for (const auto& [key, value] : map.items()) {
    if (key != kList || !value.is_array()) {
      (*config)[key] = value;
      continue;
    }
    json& list = (*config)[kList];
    if (!list.is_array()) list = json::array();
    for (const json& token : value) list.push_back(token);
  }
}

// The tokens that have a name, in Transformers' order.
std::vector<AddedToken> NamedTokens(const json& config, const TokenizerClass& of, FolderTokens* out) {
  std::vector<AddedToken> named;
  const auto add = [&](const json& value, const std::string& name) {
    AddedToken token = TokenOf(value, /*special=*/true);
    if (token.content.empty()) return;
    if (!name.empty()) out->names[name] = token.content;
    named.push_back(std::move(token));
  };
  for (const char* name : kNames) {
    const auto usual = of.names.find(name);
    if (config.contains(name)) {
      add(config[name], name);
    } else if (usual != of.names.end()) {
      out->usual[name] = usual->second;
      add(usual->second, "");
    }
  }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto it = config.find(key);
    if (it == config.end() || !(it->is_array() || it->is_object())) continue;
    for (const auto& [name, value] : it->items()) add(value, it->is_object() ? name : "");
  }
  return named;
}

absl::Status ReadDecoder(const json& decoder, FolderTokens* out) {
  out->from_decoder = true;
  if (!decoder.is_object())
    return absl::InvalidArgumentError("tokenizer_config.json: added_tokens_decoder: must be an object");
  for (const auto& [key, value] : decoder.items()) {
    int64_t id = -1;
    if (!absl::SimpleAtoi(key, &id) || id < 0 || id > kMaxTokenId || !value.is_object())
      return BadId("tokenizer_config.json", absl::StrCat("added_tokens_decoder: id ", key));
    out->added.push_back(TokenOf(value, Truth(value, "special", false)));
    out->added.back().id = static_cast<int32_t>(id);
  }
  return absl::OkStatus();
}

absl::Status ReadAddedFile(const json& file, const std::vector<AddedToken>& named, FolderTokens* out) {
  for (const auto& [content, id] : file.items()) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > kMaxTokenId)
      return BadId("added_tokens.json", absl::StrCat("the id of \"", content, "\""));
    const bool special = std::any_of(named.begin(), named.end(), [&](auto& t) { return t.content == content; });
    out->added.push_back({content, id.get<int32_t>(), special});
    out->added.back().normalized = !special;
  }
  return absl::OkStatus();
}

std::string TypeMember(const json& object) {
  const auto it = object.is_object() ? object.find("type") : object.end();
  return object.is_object() && it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

json ToJson(const AddedToken& token) {
  return {{"id", token.id},          {"content", token.content}, {"single_word", token.single_word},
          {"lstrip", token.lstrip},  {"rstrip", token.rstrip},   {"normalized", token.normalized},
          {"special", token.special}};
}

// The ids of a tokenizer.json's vocabulary, and the next that is free.
std::map<std::string, int32_t> VocabularyIds(const json& tokenizer, int32_t* next) {
  std::map<std::string, int32_t> ids;
  const auto model = tokenizer.find("model");
  const json* vocab = nullptr;
  if (model != tokenizer.end() && model->is_object() && model->contains("vocab")) vocab = &(*model)["vocab"];
  int32_t row = 0;
  if (vocab != nullptr && vocab->is_object()) {
    for (const auto& [content, id] : vocab->items()) {
      if (id.is_number_integer()) ids[content] = id.get<int32_t>();
    }
  } else if (vocab != nullptr && vocab->is_array()) {  // unigram: [token, score]
    for (const json& entry : *vocab) {
      if (entry.is_array() && !entry.empty() && entry[0].is_string()) ids[entry[0].get<std::string>()] = row;
      ++row;
    }
  }
  *next = std::max(row, static_cast<int32_t>(ids.size()));
  if (const auto added = tokenizer.find("added_tokens"); added != tokenizer.end() && added->is_array()) {
    for (const json& token : *added) {
      const auto id = token.is_object() ? token.find("id") : token.end();
      if (!token.is_object() || id == token.end() || !id->is_number_integer()) continue;
      if (id->get<int64_t>() < 0 || id->get<int64_t>() > kMaxTokenId) continue;  // the library numbers it anew
      ids[TokenOf(token, false).content] = id->get<int32_t>();
      *next = std::max(*next, id->get<int32_t>() + 1);
    }
  }
  return ids;
}

bool MergeTokens(const FolderTokens& tokens, int vocab, std::vector<std::string>* warnings, json* tokenizer) {
  bool changed = false;
  json& list = (*tokenizer)["added_tokens"];
  if (!list.is_array()) list = json::array();
  std::map<std::string, size_t> places;
  for (size_t i = 0; i < list.size(); ++i) places.emplace(TokenOf(list[i], false).content, i);
  FolderTokens missing = tokens;
  missing.added.clear();
  for (const AddedToken& token : tokens.added) {
    const auto place = places.find(token.content);
    if (place == places.end()) {
      missing.added.push_back(token);
      missing.added.back().id = -1;  // the library numbers tokens itself
      continue;
    }
    json& own = list[place->second];
    const bool in_decoder = tokens.from_decoder && token.id >= 0;
    json other = in_decoder ? ToJson(token) : own;
    if (own.contains("id")) other["id"] = own["id"];
    // A name makes a token special, and nothing takes that away again. But beside an added_tokens_decoder that lacks
    // it, a token stays what tokenizer.json says.
    const bool named = tokens.special.contains(token.content) && (in_decoder || !tokens.from_decoder);
    if (named || Truth(own, "special", false)) other["special"] = true;
    changed |= own != other;
    own = std::move(other);
  }
  if (missing.added.empty()) return changed;
  int32_t next = 0;
  const auto ids = VocabularyIds(*tokenizer, &next);
  for (const AddedToken& token : Numbered(missing, ids, next, vocab, warnings)) {
    list.push_back(ToJson(token));
    changed = true;
  }
  return changed;
}

// A byte-level pre-tokenizer that stands alone takes add_prefix_space from tokenizer_config.json.
bool SetBytePrefix(const FolderTokens& tokens, json* tokenizer) {
  const auto pre = tokenizer->find("pre_tokenizer");
  if (pre == tokenizer->end() || TypeMember(*pre) != "ByteLevel") return false;
  const bool says_none = tokens.prefix_space_named || tokens.tokenizer_class == "LlamaTokenizer";
  if (!tokens.prefix_space && says_none) return false;
  const bool want = tokens.prefix_space.value_or(false);
  if (Truth(*pre, "add_prefix_space", true) == want) return false;
  (*pre)["add_prefix_space"] = want;
  return true;
}

// LlamaTokenizer is built anew from tokenizer.model where add_prefix_space is set (convert_slow_tokenizer.py,
// LlamaConverter): the same vocabulary, with these parts around it.
void RebuildLlama(const FolderTokens& tokens, json* tokenizer) {
  const bool prefix = *tokens.prefix_space;
  const std::string space = "\xE2\x96\x81";
  const json to_mark = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space}};
  json normalizers = json::array();
  if (prefix) normalizers.push_back({{"type", "Prepend"}, {"prepend", space}});
  normalizers.push_back(to_mark);
  (*tokenizer)["normalizer"] = tokens.legacy ? json{{"type", "Sequence"}, {"normalizers", normalizers}} : json();
  (*tokenizer)["pre_tokenizer"] = tokens.legacy ? json()
                                                : json{{"type", "Metaspace"},
                                                       {"replacement", space},
                                                       {"prepend_scheme", prefix ? "first" : "never"},
                                                       {"split", false}};
  json decoders = json::array({{{"type", "Replace"}, {"pattern", {{"String", space}}}, {"content", " "}},
                               {{"type", "ByteFallback"}},
                               {{"type", "Fuse"}}});
  if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  (*tokenizer)["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
}

}  // namespace

absl::StatusOr<FolderTokens> ResolveTokens(TokenFiles files) {
  FolderTokens out;
  const auto name = files.config.find("tokenizer_class");
  out.tokenizer_class =
      name != files.config.end() && name->is_string() ? name->get<std::string>() : std::move(files.model_class);
  if (out.tokenizer_class.ends_with("Fast")) out.tokenizer_class.resize(out.tokenizer_class.size() - 4);
  const bool decoder = files.config.contains("added_tokens_decoder");
  if (!decoder) Override(files.special_map, &files.config);
  const TokenizerClass& of = ClassOf(out.tokenizer_class);
  const std::vector<AddedToken> named = NamedTokens(files.config, of, &out);
  if (const auto status =
          decoder ? ReadDecoder(files.config["added_tokens_decoder"], &out) : ReadAddedFile(files.added, named, &out);
      !status.ok())
    return status;
  std::sort(out.added.begin(), out.added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  for (const AddedToken& token : named) {
    out.special.insert(token.content);
    const auto same = [&](const AddedToken& known) { return known.content == token.content; };
    if (std::none_of(out.added.begin(), out.added.end(), same)) out.added.push_back(token);
  }
  out.places_bos_eos = of.places;
  out.add_bos = Truth(files.config, "add_bos_token", of.add_bos);
  out.add_eos = Truth(files.config, "add_eos_token", false);
  out.legacy = Truth(files.config, "legacy", true);
  const auto prefix = files.config.find("add_prefix_space");
  out.prefix_space_named = prefix != files.config.end();
  if (out.prefix_space_named && prefix->is_boolean()) out.prefix_space = prefix->get<bool>();
  return out;
}

std::vector<AddedToken> Numbered(const FolderTokens& tokens, const std::map<std::string, int32_t>& ids, int32_t next,
                                 int vocab, std::vector<std::string>* warnings) {
  std::set<std::string> usual;
  for (const auto& [name, content] : tokens.usual) usual.insert(content);
  for (const auto& [name, content] : tokens.names) usual.erase(content);
  std::vector<AddedToken> out;
  for (const AddedToken& token : tokens.added) next = std::max(next, token.id + 1);
  for (AddedToken token : tokens.added) {
    const auto known = ids.find(token.content);
    if (token.id < 0 && known == ids.end() && usual.contains(token.content)) continue;
    if (token.id < 0) token.id = known != ids.end() ? known->second : next;
    token.special |= tokens.special.contains(token.content);
    if (vocab > 0 && token.id >= vocab) {
      warnings->push_back(absl::StrCat("added token ", token.content, " is left out: its id would be ", token.id,
                                       ", the model has ", vocab, " ids"));
      continue;
    }
    next = std::max(next, token.id + 1);
    out.push_back(std::move(token));
  }
  return out;
}

bool ApplyFolderTokens(const FolderTokens& tokens, bool model_file, int vocab, std::vector<std::string>* warnings,
                       json* tokenizer) {
  bool changed = MergeTokens(tokens, vocab, warnings, tokenizer);
  changed |= SetBytePrefix(tokens, tokenizer);
  const bool llama = tokens.tokenizer_class == "LlamaTokenizer" && tokens.prefix_space && model_file;
  if (llama && TypeMember((*tokenizer)["decoder"]) != "ByteLevel") {
    RebuildLlama(tokens, tokenizer);
    changed = true;
  }
  return changed;
}

void PlaceBosAndEos(const FolderTokens& tokens, Tokenizer* tokenizer) {
  if (!tokens.places_bos_eos) return;
  const auto id = [&](const std::string& name) {
    const auto named = tokens.names.find(name);
    const auto usual = tokens.usual.find(name);
    if (named != tokens.names.end()) return tokenizer->Find(named->second);
    return usual != tokens.usual.end() ? tokenizer->Find(usual->second) : std::nullopt;
  };
  const auto bos = id("bos_token");
  // A vocabulary without the class's own BOS is of another family: its own file knows better.
  if (tokens.add_bos && !bos && tokens.usual.contains("bos_token")) return;
  tokenizer->SetPrefixAndSuffix(tokens.add_bos ? bos : std::nullopt, tokens.add_eos ? id("eos_token") : std::nullopt);
}

}  // namespace pangea
