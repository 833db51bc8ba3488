// What somebody meant by the path of a model.
#pragma once
#include <string>

#include "absl/status/statusor.h"

namespace pangea {

// The path itself when it is a file or a folder in the Hugging Face layout; of another folder, the only .gguf file in
// it (a split model counts once and is its first part; projectors, mmproj*, are passed over). Otherwise what is there
// instead, and what was probably meant.
absl::StatusOr<std::string> FindModel(const std::string& path);

// Of a path that does not exist: says so, and names what is near it, or says that models are not fetched when it looks
// like an address or a name of one.
std::string MissingText(const std::string& path);

// The model's name where none is given: the file's less .gguf, or the folder's.
std::string DefaultName(const std::string& model);

}  // namespace pangea
