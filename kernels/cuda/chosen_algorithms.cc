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
  if (folder.empty() && home != nullptr && home[0] == '/') {
    folder = std::string(home) + "/.cache";
    mkdir(folder.c_str(), 0700);
  }
  if (folder.empty()) return "";
  folder += "/pangea";
  mkdir(folder.c_str(), 0700);
  return folder;
}

}  // namespace

void ChosenAlgorithms::Open(const std::string& machine) {
  machine_ = "pangea cuBLASLt algorithms 1: " + machine;
  const std::string folder = CacheFolder();
  if (folder.empty()) return;
  std::ostringstream name;
  name << folder << "/cublaslt-" << std::hex << std::hash<std::string>()(machine_);
  path_ = name.str();
  std::ifstream file(path_);
  std::string line;
  if (!std::getline(file, line) || line != machine_) return;
  while (chosen_.size() < kMost && std::getline(file, line)) {
    std::istringstream numbers(line);
    ProductKey key;
    Algorithm algorithm;
    for (int64_t& number : key) numbers >> number;
    for (uint64_t& word : algorithm.data) numbers >> std::hex >> word;
    if (numbers.fail()) break;  // the rest is measured again
    chosen_[key] = algorithm;
  }
}

const Algorithm* ChosenAlgorithms::Find(const ProductKey& key) const {
  const auto found = chosen_.find(key);
  return found == chosen_.end() ? nullptr : &found->second;
}

void ChosenAlgorithms::Add(const ProductKey& key, const Algorithm& algorithm) {
  chosen_[key] = algorithm;
  if (path_.empty() || chosen_.size() > kMost) return;
  const std::string written = path_ + "." + std::to_string(getpid());
  std::ofstream file(written);
  file << machine_ << '\n';
  for (const auto& [product, choice] : chosen_) {
    for (const int64_t number : product) file << number << ' ';
    for (const uint64_t word : choice.data) file << std::hex << word << ' ' << std::dec;
    file << '\n';
  }
  file.close();
  if (!file || std::rename(written.c_str(), path_.c_str()) != 0) std::remove(written.c_str());
}

}  // namespace pangea::cuda
