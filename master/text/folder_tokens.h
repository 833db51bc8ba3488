// Which tokens the files of a folder name beside the vocabulary, as Transformers resolves them (4.57,
// tokenization_utils_base.py, _from_pretrained, and tokenization_utils_fast.py, __init__):
//  - added_tokens_decoder of tokenizer_config.json, when it is there, is all: special_tokens_map.json and
//    added_tokens.json are not read;
//  - else special_tokens_map.json overrides tokenizer_config.json, and added_tokens.json gives more tokens;
//  - what has a name (bos_token, …, additional_special_tokens, extra_special_tokens) is special.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "master/text/special_tokens.h"
#include "master/text/tokenizer.h"
#include "nlohmann/json.hpp"

namespace pangea {

inline constexpr int64_t kMaxTokenId = (int64_t{1} << 22) - 1;

// The files, parsed; empty objects where there is none.
struct TokenFiles {
  nlohmann::json config, special_map, added;
  std::string model_class;  // the tokenizer's class where tokenizer_config.json names none
};

struct FolderTokens {
  std::string tokenizer_class;               // without "Fast"
  std::map<std::string, std::string> names;  // bos_token, … as a chat template sees them
  std::vector<AddedToken> added;             // in order; id -1: the vocabulary's own, else the next free one
  std::set<std::string> special;             // all that have a name
  // Names that only the class gives: they hold where the vocabulary has such a token.
  std::map<std::string, std::string> usual;
  bool from_decoder = false;    // added_tokens_decoder was there: it also corrects the flags of tokenizer.json
  bool places_bos_eos = false;  // the class puts them by the two flags, whatever tokenizer.json says
  bool add_bos = false, add_eos = false;
  bool legacy = true;                // text after a special token gets the leading space, too
  std::optional<bool> prefix_space;  // add_prefix_space; null counts as false where nothing but the model is read
  bool prefix_space_named = false;   // the key is there, be it null
};

// InvalidArgument: an id that is none.
absl::StatusOr<FolderTokens> ResolveTokens(TokenFiles files);

// `added` with an id for each: what `ids` has for its content, else the next free one from `next` on. Left out: tokens
// of `usual` that `ids` lacks and, with a warning, those whose id the model lacks (of `vocab` ids; 0: not known).
std::vector<AddedToken> Numbered(const FolderTokens& tokens, const std::map<std::string, int32_t>& ids, int32_t next,
                                 int vocab, std::vector<std::string>* warnings);

// Changes a parsed tokenizer.json as the other files say; false: they change nothing. model_file: a tokenizer.model is
// there, too.
bool ApplyFolderTokens(const FolderTokens& tokens, bool model_file, int vocab, std::vector<std::string>* warnings,
                       nlohmann::json* tokenizer);

// What add_special puts before and after the text, where the class and its flags say so.
void PlaceBosAndEos(const FolderTokens& tokens, Tokenizer* tokenizer);

}  // namespace pangea
