// API keys: who may ask, and what share of the machine each is due. A key is a random secret of 256 bits, so that its
// plain SHA-256 can be neither reversed nor guessed; the secret is shown once, when it is made, and stored nowhere.
//
// The file has one key a line, `sha256:HEX NAME [WEIGHT]`; empty lines and lines that begin with # say nothing.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pangea {

struct ApiKey {
  std::string name;
  double weight = 1;     // share of the machine, against the other keys
  uint32_t account = 0;  // 1, 2, … in the order of the file; 0 is a caller without a key
};

// What a file holds. Immutable, thread safe.
class KeyRing {
 public:
  // Every fault of the file is added to `faults`, as "FILE:LINE: what"; a line's own words are never repeated, for it
  // may hold a secret by mistake. A file without a key is a fault: nobody could ask.
  static KeyRing Parse(std::string_view text, const std::string& file_name, std::vector<std::string>* faults);
  static KeyRing Read(const std::string& path, std::vector<std::string>* faults);  // at most 1 MiB

  bool empty() const { return keys_.empty(); }
  const std::vector<ApiKey>& keys() const { return keys_; }
  // The key with this secret, or null. Takes the same time whichever it is, and when it is none.
  const ApiKey* Find(std::string_view secret) const;

 private:
  using Digest = std::array<uint8_t, 32>;
  void ParseLine(std::string_view line, const std::string& place, std::vector<std::string>* faults);
  std::vector<ApiKey> keys_;
  std::vector<Digest> digests_;  // of keys_, in their order
};

// `pangea key NAME [--weight W]`: makes a key; prints the secret, then the line for the file.
int KeyMain(int argc, char** argv);

}  // namespace pangea
