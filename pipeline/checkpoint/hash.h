// SHA-256 of a sequence of byte runs.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace pangea {

class Sha256 {
 public:
  Sha256();
  // Each run is preceded by its length, so that runs cannot slide into each other.
  Sha256& Add(std::string_view run);
  Sha256& Add(std::span<const std::byte> run);
  Sha256& Add(uint64_t number);
  // Plain bytes, without a length.
  Sha256& AddRaw(const void* data, size_t size);
  std::string Hex();  // 64 digits; ends the hash

 private:
  void Block(const uint8_t* data);
  std::array<uint32_t, 8> state_;
  std::array<uint8_t, 64> buffer_{};
  size_t used_ = 0;
  uint64_t total_ = 0;
};

}  // namespace pangea
