// SHA-256 of a sequence of byte runs.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct evp_md_ctx_st;  // OpenSSL's

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
  // Each ends the hash.
  std::array<uint8_t, 32> Digest();
  std::string Hex();  // 64 digits

 private:
  std::unique_ptr<evp_md_ctx_st, void (*)(evp_md_ctx_st*)> context_;
};

}  // namespace pangea
