#include "master/keys/keys.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <iostream>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "configs/cat.h"
#include "configs/command_line.h"
#include "configs/read_file.h"
#include "pipeline/checkpoint/hash.h"

namespace pangea {
namespace {

constexpr std::string_view kHash = "sha256:", kSecret = "sk-pangea-";
constexpr size_t kSecretBytes = 32, kMostFileBytes = 1 << 20, kMostNameBytes = 64;
constexpr double kLeastWeight = 0.001, kMostWeight = 1000;

// Debian's Abseil has a string_view of its own.
absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }
template <size_t n>
absl::string_view Bytes(const std::array<uint8_t, n>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), n};
}

bool ValidName(std::string_view name) {
  return !name.empty() && name.size() <= kMostNameBytes && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '_' || c == '-';
  });
}

std::optional<double> ToWeight(std::string_view text) {
  double weight = 0;
  if (!absl::SimpleAtod(Absl(text), &weight) || !(weight >= kLeastWeight && weight <= kMostWeight)) return std::nullopt;
  return weight;
}

std::optional<std::array<uint8_t, 32>> ToDigest(std::string_view word) {
  std::array<uint8_t, 32> digest;
  if (!word.starts_with(kHash)) return std::nullopt;
  word.remove_prefix(kHash.size());
  const bool hex = std::all_of(word.begin(), word.end(), [](unsigned char c) { return std::isxdigit(c); });
  if (!hex || word.size() != 2 * digest.size()) return std::nullopt;
  const std::string bytes = absl::HexStringToBytes(Absl(word));
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

constexpr char kNameRule[] = "a name has 1 to 64 letters, digits, '.', '_' or '-'";
constexpr char kWeightRule[] = "a weight is a number from 0.001 to 1000";

}  // namespace

void KeyRing::ParseLine(std::string_view line, const std::string& place, std::vector<std::string>* faults) {
  const std::vector<std::string> words = absl::StrSplit(Absl(line), absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
  if (words.empty() || words[0].starts_with("#")) return;
  const size_t before = faults->size();
  const auto fault = [&](const std::string& what) { faults->push_back(Cat(place, ": ", what)); };
  if (words.size() > 3) fault("expected sha256:HEX NAME [WEIGHT], and nothing behind");
  const auto digest = ToDigest(words[0]);
  if (!digest) {
    fault("the first word must be sha256: and 64 hexadecimal digits; `pangea key NAME` makes such a line");
  } else if (std::find(digests_.begin(), digests_.end(), *digest) != digests_.end()) {
    fault("this key stands in the file twice");
  }
  ApiKey key{.account = static_cast<uint32_t>(keys_.size() + 1)};
  if (words.size() < 2 || !ValidName(words[1])) {
    fault(Cat("the second word must be the key's name; ", kNameRule));
  } else {
    key.name = std::string(words[1]);
    if (std::any_of(keys_.begin(), keys_.end(), [&](const ApiKey& k) { return k.name == key.name; }))
      fault(Cat("the name ", key.name, " stands in the file twice"));
  }
  if (words.size() > 2) {
    const auto weight = ToWeight(words[2]);
    if (!weight) fault(kWeightRule);
    key.weight = weight.value_or(1);
  }
  if (faults->size() != before) return;
  keys_.push_back(std::move(key));
  digests_.push_back(*digest);
}

KeyRing KeyRing::Parse(std::string_view text, const std::string& file_name, std::vector<std::string>* faults) {
  KeyRing ring;
  const size_t before = faults->size();
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(Absl(text), '\n'))
    ring.ParseLine({line.data(), line.size()}, Cat(file_name, ":", ++number), faults);
  if (ring.empty() && faults->size() == before) faults->push_back(file_name + ": holds no key: nobody could ask");
  return ring;
}

KeyRing KeyRing::Read(const std::string& path, std::vector<std::string>* faults) {
  const auto text = ReadFile(path, kMostFileBytes);
  if (!text.ok()) return faults->push_back(Cat("keys.file: ", text.status().message())), KeyRing();
  return Parse(*text, path, faults);
}

const ApiKey* KeyRing::Find(std::string_view secret) const {
  const Digest shown = Sha256().AddRaw(secret.data(), secret.size()).Digest();
  const ApiKey* found = nullptr;
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (CRYPTO_memcmp(shown.data(), digests_[i].data(), shown.size()) == 0) found = &keys_[i];
  }
  return found;
}

int KeyMain(int argc, char** argv) {
  std::string weight = "1";
  CommandLine line("key", "NAME [--weight W]",
                   "Makes an API key and prints two lines: the key, which is shown only now, and its\n"
                   "line for the file that keys.file names.");
  line.Word("NAME", "whose key it is, for logs");
  line.Value("--weight", "W", "share of the machine against the other keys, default 1 (0.001 to 1000)",
             [&](const std::string& text) {
               weight = text;
               return ToWeight(text) ? absl::OkStatus() : absl::InvalidArgumentError(kWeightRule);
             });
  const auto words = line.Parse(argc, argv, /*most_words=*/1);
  absl::Status parsed = words.status();
  if (parsed.ok() && !line.help() && (words->empty() || !ValidName(words->front())))
    parsed = absl::InvalidArgumentError(Cat("a NAME is expected; ", kNameRule));
  if (const auto code = line.Exit(parsed)) return *code;
  std::array<uint8_t, kSecretBytes> random;
  if (RAND_bytes(random.data(), random.size()) != 1) return std::cerr << "pangea key: no randomness\n", 1;
  std::string text;
  absl::WebSafeBase64Escape(Bytes(random), &text);
  while (text.ends_with("=")) text.pop_back();
  const std::string secret = Cat(kSecret, text);
  std::cout << secret << "\n"
            << kHash << absl::BytesToHexString(Bytes(Sha256().AddRaw(secret.data(), secret.size()).Digest())) << " "
            << words->front() << " " << weight << "\n";
  return 0;
}

}  // namespace pangea
