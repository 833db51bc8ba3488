#include "kernels/cuda/chosen_algorithms.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>

namespace pangea::cuda {
namespace {

constexpr size_t kMost = 4096;  // products of one file

// A folder of the user's own; empty: there is none.
std::string CacheFolder() {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  const char* const home = std::getenv("HOME");
  std::string folder = cache != nullptr && cache[0] == '/' ? cache : "";
  if (!folder.empty()) mkdir(folder.c_str(), 0700);
  if (folder.empty() && home != nullptr && home[0] == '/') {
    folder = std::string(home) + "/.cache";
    mkdir(folder.c_str(), 0700);
  }
  if (folder.empty()) return "";
  folder += "/pangea";
  mkdir(folder.c_str(), 0700);
  return folder;
}

// Of a line, so that a damaged one is not taken (FNV-1a).
uint64_t Sum(const ProductKey& key, const Algorithm& algorithm) {
  uint64_t sum = 0xcbf29ce484222325ull;
  const auto add = [&](uint64_t word) {
    for (int i = 0; i < 64; i += 8) sum = (sum ^ (word >> i & 0xff)) * 0x100000001b3ull;
  };
  for (const int64_t number : key) add(static_cast<uint64_t>(number));
  for (const uint64_t word : algorithm.data) add(word);
  return sum;
}

}  // namespace

void ChosenAlgorithms::Open(const std::string& machine) {
  machine_ = "pangea cuBLASLt algorithms 1: " + machine;
  const std::string folder = CacheFolder();
  if (folder.empty()) return;
  std::ostringstream name;
  name << folder << "/cublaslt-" << std::hex << std::hash<std::string>()(machine_);
  path_ = name.str();
  Read();
}

// What stands in the file and is not known yet.
void ChosenAlgorithms::Read() {
  std::ifstream file(path_);
  std::string line;
  if (!std::getline(file, line) || line != machine_) return;
  while (chosen_.size() < kMost && std::getline(file, line)) {
    std::istringstream numbers(line);
    ProductKey key;
    Algorithm algorithm;
    uint64_t sum = 0;
    for (int64_t& number : key) numbers >> number;
    for (uint64_t& word : algorithm.data) numbers >> std::hex >> word;
    numbers >> sum;
    if (numbers.fail() || sum != Sum(key, algorithm)) break;  // the rest is measured again
    chosen_.try_emplace(key, algorithm);
  }
}

const Algorithm* ChosenAlgorithms::Find(const ProductKey& key) const {
  const auto found = chosen_.find(key);
  return found == chosen_.end() ? nullptr : &found->second;
}

void ChosenAlgorithms::Add(const ProductKey& key, const Algorithm& algorithm) {
  chosen_[key] = algorithm;
  if (path_.empty() || chosen_.size() > kMost) return;
  Read();  // what others have added meanwhile
  std::string written = path_ + ".XXXXXX";
  const int made = mkstemp(written.data());
  if (made < 0) return;
  close(made);
  std::ofstream file(written);
  file << machine_ << '\n';
  for (const auto& [product, choice] : chosen_) {
    for (const int64_t number : product) file << number << ' ';
    for (const uint64_t word : choice.data) file << std::hex << word << ' ';
    file << Sum(product, choice) << std::dec << '\n';
  }
  file.close();
  if (!file || std::rename(written.c_str(), path_.c_str()) != 0) std::remove(written.c_str());
}

}  // namespace pangea::cuda
