#include "pipeline/checkpoint/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

constexpr uint32_t kMagic = 0x46554747;       // "GGUF"
constexpr uint32_t kOldest = 2, kNewest = 3;  // one layout
constexpr uint64_t kMaxKeys = 1 << 16, kMaxTensors = 1 << 20, kMaxNameBytes = 1 << 16, kMaxTensorName = 255;
constexpr uint64_t kMaxArray = 1 << 26, kMaxAlignment = 1 << 20;
constexpr uint32_t kMaxDims = 4;

enum ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBoolean,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
  kTypes
};

// Reads forward; every read says what it wanted when the bytes do not hold it.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint64_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }
  template <typename T>
  absl::Status Read(const std::string& what, T* value) {
    if (left() < sizeof(T)) return Short(what);
    std::memcpy(value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return absl::OkStatus();
  }
  absl::Status ReadString(const std::string& what, uint64_t limit, std::string* text) {
    uint64_t length = 0;
    if (absl::Status s = Read(absl::StrCat("the length of ", what), &length); !s.ok()) return s;
    if (length > limit)
      return absl::InvalidArgumentError(absl::StrCat("the length of ", what, " is ", length, ", at most ", limit));
    if (length > left()) return Short(what);
    text->assign(reinterpret_cast<const char*>(bytes_.data()) + position_, length);
    position_ += length;
    return absl::OkStatus();
  }

 private:
  absl::Status Short(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat("the file ends at byte ", bytes_.size(), " within ", what));
  }
  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
};

int WidthOf(uint32_t type) {
  switch (type) {
    case kU8:
    case kI8:
    case kBoolean:
      return 1;
    case kU16:
    case kI16:
      return 2;
    case kU32:
    case kI32:
    case kF32:
      return 4;
    case kU64:
    case kI64:
    case kF64:
    case kString:
      return 8;  // a string has at least its length
    default:
      return 0;
  }
}

// Calls f with a value of the C++ type of a scalar GGUF type.
template <typename F>
absl::Status WithScalar(Reader& reader, uint32_t type, const std::string& what, F&& f) {
  const auto read = [&](auto value) {
    absl::Status status = reader.Read(what, &value);
    return status.ok() ? f(value) : status;
  };
  switch (type) {
    case kU8:
      return read(uint8_t{});
    case kI8:
      return read(int8_t{});
    case kU16:
      return read(uint16_t{});
    case kI16:
      return read(int16_t{});
    case kU32:
      return read(uint32_t{});
    case kI32:
      return read(int32_t{});
    case kF32:
      return read(float{});
    case kU64:
      return read(uint64_t{});
    case kI64:
      return read(int64_t{});
    case kF64:
      return read(double{});
    default:
      return absl::InvalidArgumentError(absl::StrCat(what, ": value type ", type, " is not known"));
  }
}

absl::Status ReadBool(Reader& reader, const std::string& what, bool* value) {
  uint8_t byte = 0;
  if (absl::Status s = reader.Read(what, &byte); !s.ok()) return s;
  if (byte > 1) return absl::InvalidArgumentError(absl::StrCat(what, ": a boolean is ", byte, ", must be 0 or 1"));
  *value = byte == 1;
  return absl::OkStatus();
}

absl::Status ReadArray(Reader& reader, const std::string& what, GgufValue* out) {
  uint32_t type = 0;
  uint64_t count = 0;
  if (absl::Status s = reader.Read(absl::StrCat(what, "'s element type"), &type); !s.ok()) return s;
  if (type == kArray) return absl::InvalidArgumentError(absl::StrCat(what, ": arrays of arrays are not supported"));
  const int width = WidthOf(type);
  if (width == 0) return absl::InvalidArgumentError(absl::StrCat(what, ": element type ", type, " is not known"));
  if (absl::Status s = reader.Read(absl::StrCat(what, "'s count"), &count); !s.ok()) return s;
  if (count > kMaxArray)
    return absl::InvalidArgumentError(absl::StrCat(what, ": has ", count, " elements, at most ", kMaxArray));
  if (count > reader.left() / width) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": has ", count, " elements, but only ", reader.left(), " bytes follow"));
  }
  if (type == kString) {
    auto& list = out->value.emplace<std::vector<std::string>>(count);
    for (std::string& text : list) {
      if (absl::Status s = reader.ReadString(what, reader.left(), &text); !s.ok()) return s;
    }
  } else if (type == kBoolean) {
    auto& list = out->value.emplace<std::vector<bool>>(count);
    for (uint64_t i = 0; i < count; ++i) {
      bool value = false;
      if (absl::Status s = ReadBool(reader, what, &value); !s.ok()) return s;
      list[i] = value;
    }
  } else if (type == kF32 || type == kF64) {
    auto& list = out->value.emplace<std::vector<double>>(count);
    for (double& item : list) {
      absl::Status s = WithScalar(reader, type, what,
                                  [&](auto value) { return item = static_cast<double>(value), absl::OkStatus(); });
      if (!s.ok()) return s;
    }
  } else {
    auto& list = out->value.emplace<std::vector<int64_t>>(count);
    for (int64_t& item : list) {
      absl::Status s = WithScalar(reader, type, what, [&](auto value) {
        if constexpr (std::is_same_v<decltype(value), uint64_t>) {
          if (value > INT64_MAX)
            return absl::InvalidArgumentError(absl::StrCat(what, ": element ", value, " is above 2^63 - 1"));
        }
        return item = static_cast<int64_t>(value), absl::OkStatus();
      });
      if (!s.ok()) return s;
    }
  }
  return absl::OkStatus();
}

absl::Status ReadValue(Reader& reader, const std::string& what, GgufValue* out) {
  uint32_t type = 0;
  if (absl::Status s = reader.Read(absl::StrCat(what, "'s type"), &type); !s.ok()) return s;
  if (type == kArray) return ReadArray(reader, what, out);
  if (type == kString) return reader.ReadString(what, reader.left(), &out->value.emplace<std::string>());
  if (type == kBoolean) return ReadBool(reader, what, &out->value.emplace<bool>());
  return WithScalar(reader, type, what, [&](auto value) {
    using T = decltype(value);
    if constexpr (std::is_floating_point_v<T>) {
      out->value.emplace<double>(value);
    } else if constexpr (std::is_signed_v<T>) {
      out->value.emplace<int64_t>(value);
    } else {
      out->value.emplace<uint64_t>(value);
    }
    return absl::OkStatus();
  });
}

// ggml's numbers of the tensor types.
std::optional<DType> DTypeOf(uint32_t type) {
  for (const QuantFormat& format : kQuantFormats) {
    if (format.gguf == type) return format.dtype;
  }
  switch (type) {
    case 0:
      return DType::kF32;
    case 1:
      return DType::kF16;
    case 24:
      return DType::kI8;
    case 26:
      return DType::kI32;
    case 27:
      return DType::kI64;
    case 28:
      return DType::kF64;
    case 30:
      return DType::kBF16;
    default:
      return std::nullopt;
  }
}

// Of a type that is not served.
std::string TypeName(uint32_t type) {
  static constexpr std::pair<uint32_t, const char*> kNames[] = {
      {9, "Q8_1"},     {10, "Q2_K"},  {11, "Q3_K"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"},
      {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"},
      {25, "I16"},     {29, "IQ1_M"}, {34, "TQ1_0"},  {35, "TQ2_0"}, {39, "MXFP4"}};
  for (const auto& [number, name] : kNames) {
    if (number == type) return absl::StrCat(name, " (", type, ")");
  }
  return absl::StrCat(type);
}

absl::Status ReadTensor(Reader& reader, uint64_t alignment, TensorInfo* info, GgufContent* content) {
  if (absl::Status s = reader.ReadString("a tensor's name", kMaxTensorName, &info->name); !s.ok()) return s;
  const std::string what = absl::StrCat("tensor ", info->name);
  const auto fault = [&](auto&&... text) { return absl::InvalidArgumentError(absl::StrCat(what, ": ", text...)); };
  uint32_t dims = 0, type = 0;
  if (absl::Status s = reader.Read(absl::StrCat(what, ": n_dims"), &dims); !s.ok()) return s;
  if (dims < 1 || dims > kMaxDims) return fault("n_dims is ", dims, ", must be from 1 to ", kMaxDims);
  uint64_t elements = 1, first = 0;
  for (uint32_t i = 0; i < dims; ++i) {
    uint64_t size = 0;
    if (absl::Status s = reader.Read(absl::StrCat(what, ": ne"), &size); !s.ok()) return s;
    if (size == 0 || size > INT64_MAX || __builtin_mul_overflow(elements, size, &elements))
      return fault("ne[", i, "] is ", size, ": zero, or the product overflows");
    if (i == 0) first = size;
    info->shape.insert(info->shape.begin(), static_cast<int64_t>(size));
  }
  if (absl::Status s = reader.Read(absl::StrCat(what, ": type"), &type); !s.ok()) return s;
  if (absl::Status s = reader.Read(absl::StrCat(what, ": offset"), &info->offset); !s.ok()) return s;
  if (info->offset % alignment != 0)
    return fault("offset ", info->offset, " is not a multiple of the alignment ", alignment);
  const auto dtype = DTypeOf(type);
  if (!dtype) {
    info->dtype = DType::kU8;
    auto& unsupported = content->unsupported[TypeName(type)];
    if (unsupported.tensors++ == 0) unsupported.first = info->name;
    return absl::OkStatus();
  }
  info->dtype = *dtype;
  const DTypeInfo layout = Info(*dtype);
  if (first % layout.block != 0)
    return fault("rows of ", first, " elements are no multiple of ", std::string(layout.name), "'s block of ",
                 layout.block);
  if (__builtin_mul_overflow(elements / layout.block, static_cast<uint64_t>(layout.bytes), &info->bytes))
    return fault("the product of ne overflows");
  return absl::OkStatus();
}

absl::Status PlaceTensors(uint64_t data, uint64_t size, GgufContent* content) {
  std::vector<const TensorInfo*> placed;
  for (auto& [name, info] : content->tensors) {
    uint64_t end = 0;
    if (__builtin_add_overflow(info.offset, data, &info.offset) ||
        __builtin_add_overflow(info.offset, info.bytes, &end) || end > size) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", name, ": offset and size (", info.bytes,
                                                     " bytes) reach beyond the end of the file at byte ", size));
    }
    placed.push_back(&info);
  }
  std::sort(placed.begin(), placed.end(),
            [](auto* a, auto* b) { return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes); });
  for (size_t i = 1; i < placed.size(); ++i) {
    if (placed[i]->offset < placed[i - 1]->offset + placed[i - 1]->bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensors ", placed[i - 1]->name, " and ", placed[i]->name, " overlap"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> AlignmentOf(const GgufContent& content) {
  const auto it = content.metadata.find("general.alignment");
  if (it == content.metadata.end()) return 32;
  const auto* value = std::get_if<uint64_t>(&it->second.value);
  if (value == nullptr || *value > kMaxAlignment || *value < 8 || !std::has_single_bit(*value)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "general.alignment: ", value == nullptr ? "must be an unsigned number" : absl::StrCat("is ", *value),
        ", a power of two from 8 to ", kMaxAlignment));
  }
  return *value;
}

}  // namespace

absl::StatusOr<GgufContent> ParseGguf(std::span<const std::byte> bytes) {
  GgufContent content;
  Reader reader(bytes);
  uint32_t magic = 0, version = 0;
  uint64_t tensors = 0, keys = 0;
  absl::Status s = reader.Read("the magic", &magic);
  if (!s.ok()) return s;
  if (magic != kMagic) return absl::InvalidArgumentError("magic: not a GGUF file");
  if (s = reader.Read("the version", &version); !s.ok()) return s;
  const auto known = [](uint32_t number) { return number >= kOldest && number <= kNewest; };
  if (known(__builtin_bswap32(version)))
    return absl::InvalidArgumentError("version: the file is big-endian, only little-endian is supported");
  if (!known(version)) return absl::InvalidArgumentError(absl::StrCat("version: is ", version, ", supported: 2, 3"));
  if (s = reader.Read("the number of tensors", &tensors); !s.ok()) return s;
  if (s = reader.Read("the number of keys", &keys); !s.ok()) return s;
  if (tensors > kMaxTensors)
    return absl::InvalidArgumentError(absl::StrCat("tensor_count: is ", tensors, ", at most ", kMaxTensors));
  if (keys > kMaxKeys)
    return absl::InvalidArgumentError(absl::StrCat("metadata_kv_count: is ", keys, ", at most ", kMaxKeys));
  for (uint64_t i = 0; i < keys; ++i) {
    std::string key;
    if (s = reader.ReadString(absl::StrCat("the name of key ", i), kMaxNameBytes, &key); !s.ok()) return s;
    GgufValue value;
    if (s = ReadValue(reader, key, &value); !s.ok()) return s;
    if (!content.metadata.emplace(key, std::move(value)).second)
      return absl::InvalidArgumentError(absl::StrCat("key ", key, ": occurs twice"));
  }
  const auto alignment = AlignmentOf(content);
  if (!alignment.ok()) return alignment.status();
  for (uint64_t i = 0; i < tensors; ++i) {
    TensorInfo info;
    if (s = ReadTensor(reader, *alignment, &info, &content); !s.ok()) return s;
    const std::string name = info.name;
    if (!content.tensors.emplace(name, std::move(info)).second)
      return absl::InvalidArgumentError(absl::StrCat("tensor ", name, ": occurs twice"));
  }
  const uint64_t data = (reader.position() + *alignment - 1) / *alignment * *alignment;
  if (s = PlaceTensors(data, bytes.size(), &content); !s.ok()) return s;
  content.header_bytes = reader.position();
  return content;
}

}  // namespace pangea
