#include "pipeline/checkpoint/sampling.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "pipeline/checkpoint/fields.h"

namespace pangea {
namespace {

using nlohmann::json;

constexpr double kMostInt = std::numeric_limits<int>::max();

// A key of a model's file, what it is called in a request, and what a request may give.
struct Row {
  const char* key;
  const char* name;
  double low, high;
  bool whole = false;
};
constexpr Row kGenerationConfig[] = {
    {"temperature", "temperature", 0, 2},
    {"top_p", "top_p", 0, 1},
    {"top_k", "top_k", -1, kMostInt, true},
    {"min_p", "min_p", 0, 1},
    {"repetition_penalty", "repetition_penalty", 0.01, 100},
    {"max_new_tokens", "max_tokens", 1, kMostInt, true},
};
constexpr Row kGguf[] = {
    {"general.sampling.temp", "temperature", 0, 2},
    {"general.sampling.top_p", "top_p", 0, 1},
    {"general.sampling.top_k", "top_k", -1, kMostInt, true},
    {"general.sampling.min_p", "min_p", 0, 1},
    {"general.sampling.penalty_repeat", "repetition_penalty", 0.01, 100},
};
// Samplers that are not served; 0 turns them off.
constexpr const char* kUnserved[] = {"general.sampling.mirostat", "general.sampling.xtc_probability"};

std::string Shown(const json& value) {
  return value.is_structured() ? "no number" : value.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 80);
}

void Take(const Row& row, const json& value, const std::string& file, CheckpointHeader* header) {
  const double number = value.is_number() ? value.get<double>() : std::nan("");
  const bool fits = number >= row.low && number <= row.high && (!row.whole || number == std::floor(number));
  if (fits) {
    header->sampling[row.name] = number;
    return;
  }
  header->warnings.push_back(absl::StrCat(file, ": ", row.key, ": is ", Shown(value), ", must be a ",
                                          row.whole ? "whole " : "", "number from ", row.low, " to ", row.high,
                                          "; it is ignored"));
}

// GGUF has float32: 0.6 is to be shown as 0.6, not as the double that is nearest to the float. Texts are read too, as
// llama.cpp does.
json Number(const GgufValue& stored) {
  if (const auto* d = std::get_if<double>(&stored.value)) {
    const float single = static_cast<float>(*d);
    if (!std::isfinite(*d)) return std::isnan(*d) ? "nan" : "infinite";
    if (static_cast<double>(single) != *d) return *d;
    char text[64];
    const auto end = std::to_chars(text, text + sizeof text, single).ptr;
    double value = *d;
    std::from_chars(text, end, value);
    return value;
  }
  if (const auto* i = std::get_if<int64_t>(&stored.value)) return *i;
  if (const auto* u = std::get_if<uint64_t>(&stored.value)) return *u;
  if (const auto* text = std::get_if<std::string>(&stored.value)) {
    double value = 0;
    return absl::SimpleAtod(*text, &value) && std::isfinite(value) ? json(value) : json(*text);
  }
  return json::array();
}

}  // namespace

absl::Status ReadGenerationConfig(std::string_view text, CheckpointHeader* header) {
  const std::string name = "generation_config.json", file = absl::StrCat(header->path, ": ", name);
  const auto parsed = ParseJson(text, name, 32);
  if (!parsed.ok()) return parsed.status();
  if (!parsed->is_object()) return absl::InvalidArgumentError(name + ": must be an object");
  for (const Row& row : kGenerationConfig) {
    const auto found = parsed->find(row.key);
    if (found != parsed->end() && !found->is_null()) Take(row, *found, file, header);
  }
  return absl::OkStatus();
}

void ReadGgufSampling(CheckpointHeader* header) {
  for (const Row& row : kGguf) {
    const auto found = header->metadata.find(row.key);
    if (found != header->metadata.end()) Take(row, Number(found->second), header->path, header);
  }
  for (const char* key : kUnserved) {
    const auto found = header->metadata.find(key);
    if (found == header->metadata.end() || Number(found->second) == 0) continue;
    header->warnings.push_back(absl::StrCat(header->path, ": ", key, ": is ", Shown(Number(found->second)),
                                            ", but this sampler is not served; it is ignored"));
  }
}

}  // namespace pangea
