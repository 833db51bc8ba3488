#include "configs/model_path.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "configs/cat.h"
#include "configs/values.h"

namespace pangea {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostEntries = 10000;  // of a folder that are looked at
constexpr size_t kMostNamed = 5;
constexpr char kLocalFiles[] = "this server opens local files; download the model first and give its file or folder";

bool IsYaml(std::string_view name) { return name.ends_with(".yaml") || name.ends_with(".yml"); }

// Names in a folder for which want(path) holds, sorted.
template <typename Want>
std::vector<std::string> Names(const fs::path& folder, Want want) {
  std::vector<std::string> names;
  std::error_code error;
  size_t seen = 0;
  for (fs::directory_iterator i(folder, error), end; !error && i != end && seen < kMostEntries; i.increment(error)) {
    ++seen;
    if (want(i->path())) names.push_back(i->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// "…-00002-of-00003.gguf": a part of a split model that is not its first.
bool IsLaterPart(std::string_view name) {
  constexpr std::string_view kEnding = "-00000-of-00000.gguf";
  if (name.size() < kEnding.size()) return false;
  const std::string_view ending = name.substr(name.size() - kEnding.size());
  for (size_t i = 0; i < kEnding.size(); ++i) {
    if (kEnding[i] == '0' ? !absl::ascii_isdigit(ending[i]) : ending[i] != kEnding[i]) return false;
  }
  return !ending.starts_with("-00001");
}

bool IsModelFile(const fs::path& path) {
  const std::string name = path.filename().string();
  std::error_code error;
  return name.ends_with(".gguf") && !name.starts_with("mmproj") && !IsLaterPart(name) &&
         fs::is_regular_file(path, error);
}

bool IsSafetensors(const fs::path& path) { return path.filename().string().find(".safetensors") != std::string::npos; }

bool IsModelFolder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error) && fs::exists(path / "config.json", error);
}

std::string Listed(std::vector<std::string> names) {
  const size_t more = names.size() > kMostNamed ? names.size() - kMostNamed : 0;
  names.resize(names.size() - more);
  for (std::string& name : names) name = Printable(name);
  return Cat(absl::StrJoin(names, ", "), more > 0 ? Cat(" and ", more, " more") : "");
}

// Paths beside a missing one that differ from it by little, or by the ending alone; the nearest first.
std::vector<std::string> NearPaths(const fs::path& parent, const std::string& missing, const fs::path& rest) {
  std::vector<std::pair<int, std::string>> near;
  const auto lower = [](const std::string& text) { return absl::AsciiStrToLower(text); };
  for (const std::string& name : Names(parent.empty() ? "." : parent, [](const fs::path&) { return true; })) {
    const fs::path whole = rest.empty() ? parent / name : parent / name / rest;
    std::error_code error;
    const bool target = fs::is_directory(whole, error) || IsYaml(whole.string()) || whole.extension() == ".gguf";
    if (!target || !fs::exists(whole, error)) continue;
    const bool alike = lower(fs::path(name).stem().string()) == lower(fs::path(missing).stem().string());
    const int distance = alike ? 0 : EditDistance(lower(name), lower(missing));
    if (3 * distance <= static_cast<int>(missing.size())) near.emplace_back(distance, Printable(whole.string()));
  }
  std::sort(near.begin(), near.end());
  std::vector<std::string> paths;
  for (size_t i = 0; i < std::min<size_t>(near.size(), 3); ++i) paths.push_back(std::move(near[i].second));
  return paths;
}

// "org/model", "llama3:8b", "hf.co/org/model": what other programs fetch models by.
bool IsModelName(const std::string& path) {
  if (path.size() >= 256 || path.starts_with(".") || IsYaml(path) || path.ends_with(".gguf")) return false;
  std::string_view rest = path;
  for (const std::string_view host : {"hf.co/", "huggingface.co/"}) {
    if (rest.starts_with(host)) rest.remove_prefix(host.size());
  }
  const auto word = [](std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](unsigned char c) {
      return absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '-';
    });
  };
  if (const size_t slash = rest.find('/'); slash != rest.npos) {
    if (!word(rest.substr(0, slash))) return false;
    rest.remove_prefix(slash + 1);
  }
  const size_t colon = rest.find(':');
  return word(rest.substr(0, colon)) && (colon == rest.npos || word(rest.substr(colon + 1)));
}

}  // namespace

std::string MissingText(const std::string& path) {
  const std::string shown = Printable(path);
  if (path.find("://") != path.npos) return Cat(shown, ": this is an address, and ", kLocalFiles);
  std::error_code error;
  fs::path parent = fs::path(path).lexically_normal(), rest;
  if (!parent.has_filename()) parent = parent.parent_path();  // "folder/"
  std::string missing = parent.filename().string();
  for (parent = parent.parent_path(); !parent.empty() && !fs::exists(parent, error); parent = parent.parent_path()) {
    rest = rest.empty() ? fs::path(missing) : missing / rest;
    missing = parent.filename().string();
    if (parent == parent.parent_path()) break;
  }
  std::string text = Cat(shown, ": no such file or folder");
  const bool name = IsModelName(path) && (!rest.empty() || path.find('/') == path.npos);
  if (!rest.empty() && !name) Append(text, " (there is no ", Printable((parent / missing).string()), ")");
  const std::vector<std::string> near = NearPaths(parent, missing, rest);
  if (!near.empty()) Append(text, "; did you mean ", absl::StrJoin(near, " or "), "?");
  if (name) Append(text, near.empty() ? "; " : " Otherwise: ", kLocalFiles);
  return text;
}

absl::StatusOr<std::string> FindModel(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::status_known(status)) return absl::InvalidArgumentError(Cat(Printable(path), ": ", error.message()));
  if (!fs::exists(status)) return absl::NotFoundError(MissingText(path));
  if (!fs::is_directory(status)) return path;
  const std::vector<std::string> files = Names(path, IsModelFile);
  // Folders of GGUF files often come with the config.json of the model that they were made from.
  if (IsModelFolder(path) && (files.empty() || !Names(path, IsSafetensors).empty())) return path;
  if (files.size() == 1) return (fs::path(path) / files[0]).string();
  const std::string shown = Printable(path);
  if (!files.empty())
    return absl::InvalidArgumentError(
        Cat(shown, ": this folder has several models; give one of them: ", Listed(files)));
  std::string text = Cat(shown, ": this folder has neither a config.json nor a .gguf file");
  const auto folders = Names(path, IsModelFolder);
  if (!folders.empty()) Append(text, "; these folders in it have one: ", Listed(folders));
  const auto yaml = Names(path, [](const fs::path& p) { return IsYaml(p.string()); });
  if (!yaml.empty()) Append(text, "; give one of its deployment files: ", Listed(yaml));
  return absl::NotFoundError(text);
}

std::string DefaultName(const std::string& model) {
  fs::path path = fs::path(model).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "folder/"
  std::string name = path.filename().string();
  if (name == "." || name == "..") {
    std::error_code error;
    name = fs::weakly_canonical(path, error).filename().string();
  }
  if (name.ends_with(".gguf")) name.resize(name.size() - 5);
  return name;
}

}  // namespace pangea
