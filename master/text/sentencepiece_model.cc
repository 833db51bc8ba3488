#include "master/text/sentencepiece_model.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

constexpr size_t kMaxPieces = size_t{1} << 22;

// Field numbers of sentencepiece_model.proto.
constexpr int kModelPieces = 1, kModelTrainer = 2, kModelNormalizer = 3;
constexpr int kPieceText = 1, kPieceScore = 2, kPieceType = 3;
constexpr int kTrainerModelType = 3, kTrainerByteFallback = 35;
constexpr int kNormalizerName = 1, kNormalizerDummyPrefix = 3, kNormalizerExtraWhitespaces = 4;

// One field of a Protobuf message.
struct Field {
  int number = 0;
  uint64_t integer = 0;    // varint
  float real = 0;          // fixed32
  std::string_view bytes;  // length-delimited
};

class WireReader {
 public:
  explicit WireReader(std::string_view data) : data_(data) {}
  bool done() const { return data_.empty(); }
  bool Next(Field* field) {
    uint64_t tag = 0, length = 0;
    if (!Varint(&tag) || (tag >> 3) == 0 || (tag >> 3) > (1u << 29)) return false;
    *field = Field{.number = static_cast<int>(tag >> 3)};
    switch (tag & 7) {
      case 0:
        return Varint(&field->integer);
      case 1:
        return Skip(8);
      case 2:
        if (!Varint(&length) || length > data_.size()) return false;
        field->bytes = data_.substr(0, length);
        return Skip(length);
      case 5:
        if (data_.size() < 4) return false;
        std::memcpy(&field->real, data_.data(), 4);
        return Skip(4);
      default:
        return false;
    }
  }

 private:
  bool Varint(uint64_t* value) {
    for (int shift = 0; shift < 64 && !data_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(data_[0]);
      data_.remove_prefix(1);
      *value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  bool Skip(size_t size) {
    if (size > data_.size()) return false;
    data_.remove_prefix(size);
    return true;
  }
  std::string_view data_;
};

absl::Status NotAModel() { return absl::InvalidArgumentError("not a SentencePiece model (ModelProto)"); }

bool ParsePiece(std::string_view bytes, SentencePieceProto::Piece* piece) {
  WireReader reader(bytes);
  for (Field f; !reader.done();) {
    if (!reader.Next(&f)) return false;
    if (f.number == kPieceText) piece->text = std::string(f.bytes);
    if (f.number == kPieceScore) piece->score = f.real;
    if (f.number == kPieceType) {
      if (f.integer < 1 || f.integer > 6) return false;
      piece->type = static_cast<PieceType>(f.integer);
    }
  }
  return true;
}

void PutVarint(std::string* out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

void PutInteger(std::string* out, int field, uint64_t value) {
  PutVarint(out, static_cast<uint64_t>(field) << 3);
  PutVarint(out, value);
}

void PutBytes(std::string* out, int field, std::string_view bytes) {
  PutVarint(out, static_cast<uint64_t>(field) << 3 | 2);
  PutVarint(out, bytes.size());
  out->append(bytes);
}

}  // namespace

absl::StatusOr<SentencePieceProto> ParseSentencePiece(std::string_view model) {
  SentencePieceProto proto;
  WireReader reader(model);
  for (Field f; !reader.done();) {
    if (!reader.Next(&f)) return NotAModel();
    if (f.number == kModelPieces) {
      if (proto.pieces.size() == kMaxPieces) {
        return absl::InvalidArgumentError(absl::StrCat("SentencePiece model has more than ", kMaxPieces, " pieces"));
      }
      if (!ParsePiece(f.bytes, &proto.pieces.emplace_back())) return NotAModel();
    } else if (f.number == kModelTrainer || f.number == kModelNormalizer) {
      const bool trainer = f.number == kModelTrainer;
      WireReader inner(f.bytes);
      for (Field g; !inner.done();) {
        if (!inner.Next(&g)) return NotAModel();
        if (trainer && g.number == kTrainerModelType) proto.model_type = static_cast<int>(g.integer);
        if (trainer && g.number == kTrainerByteFallback) proto.byte_fallback = g.integer != 0;
        if (!trainer && g.number == kNormalizerName) proto.normalizer = std::string(g.bytes);
        if (!trainer && g.number == kNormalizerDummyPrefix) proto.add_dummy_prefix = g.integer != 0;
        if (!trainer && g.number == kNormalizerExtraWhitespaces) proto.remove_extra_whitespaces = g.integer != 0;
      }
    }
  }
  if (proto.pieces.empty()) return NotAModel();
  return proto;
}

std::string WithDummyPrefix(std::string model, bool prefix) {
  std::string normalizer;
  PutInteger(&normalizer, kNormalizerDummyPrefix, prefix);
  PutBytes(&model, kModelNormalizer, normalizer);
  return model;
}

absl::StatusOr<SentencePiece> SentencePiece::Load(std::string_view model) {
  std::string message;
  SentencePiece out;
  out.handle_.reset(pangea_sentencepiece_load(
      model.data(), model.size(),
      [](void* arg, const char* text, size_t size) { static_cast<std::string*>(arg)->assign(text, size); }, &message));
  if (out.handle_ == nullptr) return absl::InvalidArgumentError("SentencePiece: " + message);
  return out;
}

absl::Status SentencePiece::Encode(std::string_view text, std::vector<int32_t>* ids) const {
  struct Result {
    std::vector<int32_t>* ids;
    std::string message;
  } result{ids, {}};
  const int failed = pangea_sentencepiece_encode(
      handle_.get(), text.data(), text.size(),
      [](void* arg, const int* got, size_t count) {
        auto* ids = static_cast<Result*>(arg)->ids;
        ids->insert(ids->end(), got, got + count);
      },
      [](void* arg, const char* text, size_t size) { static_cast<Result*>(arg)->message.assign(text, size); }, &result);
  if (failed) return absl::InvalidArgumentError("SentencePiece: " + result.message);
  return absl::OkStatus();
}

}  // namespace pangea
