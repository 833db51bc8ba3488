#include "master/text/tokenizer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

constexpr int32_t kMaxId = 1 << 22;
constexpr size_t kBigText = size_t{1} << 20;

// The piece goes on over a space or newline. Where none does, and none of these is dropped, text may be cut before one
// that follows a letter.
bool JoinsWords(std::string_view piece) {
  const std::string text = ReplaceAll(piece, "\xE2\x96\x81", " ");
  const size_t word = text.find_first_not_of(" \n");
  return word != std::string::npos && text.find_first_of(" \n", word) != std::string::npos;
}

bool KeepsWordsApart(const SentencePieceProto& proto) {
  const auto& pieces = proto.pieces;
  return !proto.remove_extra_whitespaces &&
         std::none_of(pieces.begin(), pieces.end(), [](const auto& piece) { return JoinsWords(piece.text); });
}

}  // namespace

absl::Status Tokenizer::EncodeStretch(std::string_view text, bool first, std::vector<int32_t>* ids) const {
  if (const auto* json = std::get_if<Json>(&backend_)) {
    const auto places = json->cut ? std::optional(CutPlaces{.ideographs = true}) : std::nullopt;
    return EncodeParts(text, places, [&](std::string_view part, bool begins) {
      return ((first && begins) || !json->later ? json->first : *json->later).Encode(part, false, ids);
    });
  }
  if (const auto* pieces = std::get_if<Pieces>(&backend_)) {
    const auto places = pieces->cut ? std::optional(CutPlaces{}) : std::nullopt;
    return EncodeParts(text, places, [&](std::string_view part, bool begins) {
      const bool spaced = part.starts_with(' ') || part.starts_with("\xE2\x96\x81");
      const bool bare = pieces->bare && (!begins || (pieces->bare_later && (!first || spaced)));
      return (bare ? *pieces->bare : pieces->first).Encode(part, ids);
    });
  }
  if (const auto* scores = std::get_if<Scores>(&backend_)) {
    const auto places = scores->cut ? std::optional(CutPlaces{}) : std::nullopt;
    return EncodeParts(text, places, [&](std::string_view part, bool begins) {
      scores->bpe.Encode(part, scores->space_prefix && begins, ids);
      return absl::OkStatus();
    });
  }
  // jieba never joins white space with anything, and segments reach SentencePiece with a space between them: the dummy
  // prefix of the next part is that space.
  const auto& pangu = std::get<Pangu>(backend_);
  return EncodeParts(text, CutPlaces{.ideographs = true, .spaces = true}, [&](std::string_view part, bool) {
    const auto segments = pangu.jieba.Segment(part);
    return segments.ok() ? pangu.pieces.Encode(*segments, ids) : segments.status();
  });
}

template <typename Encode>
absl::Status Tokenizer::EncodeParts(std::string_view text, const std::optional<CutPlaces>& places,
                                    const Encode& encode) const {
  for (bool begins = true; !text.empty(); begins = false) {
    const size_t end = places ? SafeCut(text, *places) : text.size();
    std::optional<MutexLock> lock;
    if (end > kBigText) lock.emplace(big_);
    if (const auto status = encode(text.substr(0, end), begins); !status.ok()) return status;
    text.remove_prefix(end);
  }
  return absl::OkStatus();
}

std::optional<int32_t> Tokenizer::Find(std::string_view token) const {
  for (const auto& special : special_.tokens()) {
    if (special.content == token) return special.id;
  }
  const auto& all = pieces_.pieces;
  const auto it = std::find_if(all.begin(), all.end(), [&](const Piece& piece) { return piece.bytes == token; });
  if (token.empty() || it == all.end()) return std::nullopt;
  return static_cast<int32_t>(it - all.begin());
}

void Tokenizer::SetPrefixAndSuffix(std::optional<int32_t> prefix, std::optional<int32_t> suffix) {
  prefix_.clear();
  suffix_.clear();
  if (prefix) prefix_.push_back(*prefix);
  if (suffix) suffix_.push_back(*suffix);
}

std::optional<size_t> Tokenizer::MaxBytes(int64_t positions) const {
  if (!complete_) return std::nullopt;
  size_t longest = 1;
  for (const auto& piece : pieces_.pieces) longest = std::max(longest, piece.bytes.size());
  return longest * static_cast<size_t>(positions) * shrink_;
}

// --- tokenizer.json

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("tokenizer.json: not a JSON object");
  return FromJson(json, text);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(const nlohmann::json& json, std::string_view text) {
  auto first = JsonTokenizer::Load(text);
  if (!first.ok()) return first.status();
  Json backend{std::move(*first), std::nullopt, false};
  if (auto without = WithoutFirstPrefix(json)) {
    auto later = JsonTokenizer::Load(without->dump());
    if (!later.ok()) return later.status();
    backend.later = std::move(*later);
  }
  std::unique_ptr<Tokenizer> out(new Tokenizer(std::move(backend)));
  if (const auto status = out->ReadJsonPieces(json); !status.ok()) return status;
  if (const auto status = out->FindPrefixAndSuffix(); !status.ok()) return status;
  return out;
}

absl::Status Tokenizer::ReadJsonPieces(const nlohmann::json& json) {
  const auto decoding = ReadDecoder(json);
  if (!decoding.ok()) return decoding.status();
  auto& backend = std::get<Json>(backend_);
  const auto tokens = backend.first.Tokens();
  if (!tokens.ok()) return tokens.status();
  std::vector<AddedToken> added;
  bool plain = true;  // no added token that SafeCut could cut through, or that takes white space along
  std::vector<bool> bytes(256, false);
  for (const auto& token : *tokens) {
    if (token.id < 0 || token.id >= kMaxId) {
      return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: token id ", token.id, " is above ", kMaxId - 1));
    }
    if (pieces_.pieces.size() <= static_cast<size_t>(token.id)) pieces_.pieces.resize(token.id + 1);
    Piece& piece = pieces_.pieces[token.id];
    piece.special = token.flags & PANGEA_PIECE_SPECIAL;
    // The decoder works on added tokens as on any other.
    piece.bytes = decoding->byte_level ? BytesOfByteLevel(token.content)
                                       : BytesOfSentencePiece(token.content, decoding->byte_fallback);
    if (token.flags & PANGEA_PIECE_ADDED) {
      AddedToken a{token.content,
                   token.id,
                   piece.special,
                   bool(token.flags & PANGEA_PIECE_LSTRIP),
                   bool(token.flags & PANGEA_PIECE_RSTRIP),
                   bool(token.flags & PANGEA_PIECE_SINGLE_WORD)};
      for (const unsigned char c : a.content) plain &= c > ' ' && c < 0x7F;
      plain &= !a.lstrip && !a.rstrip;
      if (a.special) added.push_back(std::move(a));
    } else {
      const bool byte = decoding->byte_level || (decoding->byte_fallback && IsByteToken(token.content));
      if (byte && piece.bytes.size() == 1) bytes[static_cast<unsigned char>(piece.bytes[0])] = true;
    }
  }
  special_ = SpecialTokens(std::move(added));
  pieces_.strip_first_space = decoding->strip_first_space;
  pieces_.strip_first_piece = decoding->strip_first_piece;
  const NormalizerKind normalizer = ReadNormalizer(json);
  const bool known_split = KeepsEveryByte(json);
  backend.cut = plain && known_split && decoding->byte_level && json.contains("pre_tokenizer") &&
                json["pre_tokenizer"].is_object() && normalizer != NormalizerKind::kOther;
  complete_ = plain && known_split && normalizer != NormalizerKind::kOther &&
              std::find(bytes.begin(), bytes.end(), false) == bytes.end();
  shrink_ = normalizer == NormalizerKind::kNone ? 1 : 4;
  return absl::OkStatus();
}

absl::Status Tokenizer::FindPrefixAndSuffix() {
  const auto& json = std::get<Json>(backend_);
  std::vector<int32_t> plain, full;
  for (const bool special : {false, true}) {
    if (auto status = json.first.Encode("a", special, special ? &full : &plain); !status.ok()) return status;
  }
  const auto at = std::search(full.begin(), full.end(), plain.begin(), plain.end());
  if (at == full.end()) {
    prefix_ = full;
    return absl::OkStatus();
  }
  prefix_.assign(full.begin(), at);
  suffix_.assign(at + plain.size(), full.end());
  return absl::OkStatus();
}

// --- SentencePiece

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromSentencePiece(std::string model,
                                                                        const SentencePieceOptions& options) {
  auto proto = ParseSentencePiece(model);
  if (!proto.ok()) return proto.status();
  const bool prefix = options.prefix_space.value_or(proto->add_dummy_prefix);
  if (prefix != proto->add_dummy_prefix) model = WithDummyPrefix(std::move(model), prefix);
  proto->add_dummy_prefix = prefix;
  auto first = SentencePiece::Load(model);
  if (!first.ok()) return first.status();
  Pieces backend{std::move(*first), std::nullopt, !options.prefix_after_special, KeepsWordsApart(*proto)};
  if (proto->add_dummy_prefix && (backend.bare_later || backend.cut)) {
    auto bare = SentencePiece::Load(WithDummyPrefix(std::move(model), false));
    if (!bare.ok()) return bare.status();
    backend.bare = std::move(*bare);
  }
  for (const auto& token : options.added) {
    if (token.id < 0 || token.id >= kMaxId) {
      return absl::InvalidArgumentError(
          absl::StrCat("added token ", token.content, ": id ", token.id, " is not in 0..", kMaxId - 1));
    }
  }
  std::unique_ptr<Tokenizer> out(new Tokenizer(std::move(backend)));
  out->ReadSentencePieces(*proto, options);
  return out;
}

void Tokenizer::ReadSentencePieces(const SentencePieceProto& proto, const SentencePieceOptions& options) {
  std::vector<AddedToken> added;
  int32_t bos = -1, eos = -1;
  for (size_t id = 0; id < proto.pieces.size(); ++id) {
    const auto& from = proto.pieces[id];
    Piece& piece = pieces_.pieces.emplace_back();
    piece.special = from.type == PieceType::kControl || from.type == PieceType::kUnknown;
    piece.bytes = piece.special ? from.text : BytesOfSentencePiece(from.text, from.type == PieceType::kByte);
    // Found in the text before the library sees what is between them: it would put its leading space before them.
    if (piece.special || from.type == PieceType::kUserDefined)
      added.push_back({from.text, static_cast<int32_t>(id), piece.special});
    if (bos < 0 && from.text == "<s>") bos = static_cast<int32_t>(id);
    if (eos < 0 && from.text == "</s>") eos = static_cast<int32_t>(id);
  }
  for (const auto& token : options.added) {
    const auto same = [&](const AddedToken& a) { return a.content == token.content; };
    if (static_cast<size_t>(token.id) >= pieces_.pieces.size()) pieces_.pieces.resize(token.id + 1);
    pieces_.pieces[token.id] = {BytesOfSentencePiece(token.content, proto.byte_fallback), token.special};
    std::erase_if(added, same);
    added.push_back(token);
  }
  special_ = SpecialTokens(std::move(added));
  pieces_.strip_first_space = proto.add_dummy_prefix || proto.remove_extra_whitespaces;
  pieces_.strip_all_first_spaces = proto.remove_extra_whitespaces;
  if (options.add_bos && bos >= 0) prefix_.push_back(bos);
  if (options.add_eos && eos >= 0) suffix_.push_back(eos);
  complete_ = proto.byte_fallback && !proto.remove_extra_whitespaces && options.added.empty();
  shrink_ = proto.normalizer == "identity" ? 1 : 4;
}

std::unique_ptr<Tokenizer> Tokenizer::FromScores(ScoreVocabulary vocabulary) {
  const auto& types = vocabulary.types;
  std::vector<ScoreBpe::Piece> list;
  PieceTable table;
  bool apart = true;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string& text = vocabulary.tokens[id];
    const bool special = types[id] == PieceType::kControl || types[id] == PieceType::kUnknown;
    table.pieces.push_back({special ? text : BytesOfSentencePiece(text, types[id] == PieceType::kByte), special});
    list.push_back({text, vocabulary.scores[id], !special && types[id] != PieceType::kByte});
    apart &= special || !JoinsWords(text);
  }
  table.strip_first_space = vocabulary.space_prefix;
  ScoreBpe bpe(std::move(list), vocabulary.unknown);
  const auto drops = [](const AddedToken& token) { return token.lstrip || token.rstrip; };
  const bool complete = bpe.has_all_bytes() && std::none_of(vocabulary.added.begin(), vocabulary.added.end(), drops);
  std::unique_ptr<Tokenizer> out(new Tokenizer(Scores{std::move(bpe), vocabulary.space_prefix, apart}));
  out->pieces_ = std::move(table);
  out->special_ = SpecialTokens(std::move(vocabulary.added));
  out->complete_ = complete;
  return out;
}

// --- PanGu-alpha

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromPangu(std::string model) {
  const auto proto = ParseSentencePiece(model);
  if (!proto.ok()) return proto.status();
  auto pieces = SentencePiece::Load(model);
  if (!pieces.ok()) return pieces.status();
  auto jieba = Jieba::Load();
  if (!jieba.ok()) return jieba.status();
  std::unique_ptr<Tokenizer> out(new Tokenizer(Pangu{std::move(*pieces), std::move(*jieba)}));
  out->ReadPanguPieces(*proto);
  return out;
}

// The model's decoding of a whole text drops every space, then writes U+2582 as a space and U+2583 as a newline; so it
// is the concatenation of the pieces with the same done to each.
void Tokenizer::ReadPanguPieces(const SentencePieceProto& proto) {
  std::vector<AddedToken> added;
  for (size_t id = 0; id < proto.pieces.size(); ++id) {
    const auto& from = proto.pieces[id];
    Piece& piece = pieces_.pieces.emplace_back();
    const bool named = from.text.size() > 2 && from.text.front() == '<' && from.text.back() == '>';
    piece.special = from.type == PieceType::kControl || (from.type == PieceType::kUserDefined && named);
    if (from.type == PieceType::kUnknown) {
      piece.bytes = "\xE2\x81\x87";  // U+2047, SentencePiece's surface of an unknown piece
      continue;
    }
    piece.bytes = ReplaceAll(ReplaceAll(from.text, "\xE2\x96\x81", ""), " ", "");
    piece.bytes = ReplaceAll(ReplaceAll(piece.bytes, "\xE2\x96\x82", " "), "\xE2\x96\x83", "\n");
    if (piece.special) added.push_back({from.text, static_cast<int32_t>(id)});
  }
  special_ = SpecialTokens(std::move(added));
}

}  // namespace pangea
