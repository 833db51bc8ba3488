// OpenSSL, which gRPC brings into every executable anyway, has the fast code and is looked after.
#include "pipeline/checkpoint/hash.h"

#include <openssl/evp.h>

#include <cstdio>
#include <cstdlib>

namespace pangea {
namespace {

// Of a hash that everybody has: only for want of memory, or of a library that was told to do without.
void Require(int done) {
  if (done == 1) return;
  std::fputs("OpenSSL cannot compute SHA-256\n", stderr);
  std::abort();
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
  Require(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
}

Sha256& Sha256::AddRaw(const void* data, size_t size) {
  Require(EVP_DigestUpdate(context_.get(), data, size));
  return *this;
}

Sha256& Sha256::Add(uint64_t number) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(number >> (8 * i));
  return AddRaw(bytes, 8);
}

Sha256& Sha256::Add(std::string_view run) { return Add(uint64_t{run.size()}).AddRaw(run.data(), run.size()); }
Sha256& Sha256::Add(std::span<const std::byte> run) { return Add(uint64_t{run.size()}).AddRaw(run.data(), run.size()); }

std::array<uint8_t, 32> Sha256::Digest() {
  std::array<uint8_t, 32> digest;
  Require(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr));
  return digest;
}

std::string Sha256::Hex() {
  std::string hex;
  for (const uint8_t byte : Digest()) hex += {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
  return hex;
}

}  // namespace pangea
