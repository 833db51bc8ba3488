#include <algorithm>

#include "absl/strings/str_cat.h"
#include "master/text/pretokenizer.h"
#include "master/text/text_files.h"

namespace pangea {

using nlohmann::json;

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpe(const BpeVocabulary& vocabulary) {
  auto pre = PreTokenizerByName(vocabulary.pre);
  if (!pre.ok()) return pre.status();
  if (vocabulary.prefix_space && vocabulary.pre == "gpt-2") pre->pre_tokenizer["add_prefix_space"] = true;
  auto added = vocabulary.added;
  std::sort(added.begin(), added.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  // The library numbers added tokens that the vocabulary does not hold from its end on; so those at the end stay out of
  // it (where a vocabulary is asked for whole words before merging, they would be found in plain text), the others go
  // in with their ids.
  const auto at = [&](int32_t id) {
    return std::find_if(added.begin(), added.end(), [&](const AddedToken& a) { return a.id == id; });
  };
  size_t base = vocabulary.tokens.size();
  while (base > 0 && at(static_cast<int32_t>(base) - 1) != added.end()) --base;
  json words = json::object();
  for (size_t id = 0; id < base; ++id) {
    // The first of equal tokens keeps the name.
    if (!vocabulary.tokens[id].empty() && !words.contains(vocabulary.tokens[id])) words[vocabulary.tokens[id]] = id;
  }
  json list = json::array();
  for (const auto& token : added) {
    if (token.id < static_cast<int32_t>(base)) words[token.content] = token.id;
    list.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", token.single_word},
                    {"lstrip", token.lstrip},
                    {"rstrip", token.rstrip},
                    {"normalized", false},
                    {"special", token.special}});
  }
  const json file = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", std::move(list)},
      {"normalizer", std::move(pre->normalizer)},
      {"pre_tokenizer", std::move(pre->pre_tokenizer)},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", pre->ignore_merges},
        {"vocab", std::move(words)},
        {"merges", vocabulary.merges}}}};
  auto tokenizer = Tokenizer::FromJson(file, file.dump(-1, ' ', false, json::error_handler_t::replace));
  if (!tokenizer.ok()) return tokenizer.status();
  for (const auto& token : added) {
    const auto& pieces = (*tokenizer)->pieces();
    if (!pieces.Known(token.id) || pieces.pieces[token.id].bytes != BytesOfByteLevel(token.content)) {
      return absl::InvalidArgumentError(absl::StrCat("added token ", token.content, " has the id ", token.id,
                                                     ", which leaves a gap after the vocabulary's ", base));
    }
    (*tokenizer)->SetBytes(token.id, token.content);  // as it is written, whatever letters that takes
  }
  return tokenizer;
}

void AddTemplateEnds(TextFiles* files) {
  for (const std::string_view name : {"<|im_end|>", "<|eot_id|>"}) {
    const auto id = files->tokenizer->Find(name);
    if (!id || files->chat_template.find(name) == std::string::npos) continue;
    if (std::find(files->ends.begin(), files->ends.end(), *id) == files->ends.end()) files->ends.push_back(*id);
  }
}

}  // namespace pangea
