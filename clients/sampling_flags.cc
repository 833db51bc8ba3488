#include "clients/sampling_flags.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <variant>

#include "absl/strings/str_cat.h"

namespace pangea::clients {
namespace {

using IntegerMember = std::optional<int64_t> SamplingOptions::*;
using RealMember = std::optional<double> SamplingOptions::*;
struct Setting {
  const char* name;
  const char* help;
  CommandLine::Range range;
  std::variant<IntegerMember, RealMember> member;
};
using S = SamplingOptions;
const Setting kSettings[] = {
    {"max_tokens", "tokens to generate at most", {1, 1 << 24}, &S::max_tokens},
    {"min_tokens", "tokens before an end token may come", {0, 1 << 24}, &S::min_tokens},
    {"temperature", "0 is greedy", {0, 100}, &S::temperature},
    {"top_p", "nucleus sampling", {0, 1}, &S::top_p},
    {"top_k", "sample among the best k; 0 is off", {0, 1 << 24}, &S::top_k},
    {"min_p", "least probability, as a share of the best", {0, 1}, &S::min_p},
    {"seed", "the same seed gives the same text", {-9.2e18, 9.2e18}, &S::seed},
    {"presence_penalty", "for tokens already generated", {-2, 2}, &S::presence_penalty},
    {"frequency_penalty", "for each time a token was generated", {-2, 2}, &S::frequency_penalty},
    {"repetition_penalty", "for tokens of prompt and answer", {1e-2, 100}, &S::repetition_penalty},
};
constexpr char kStop[] = "stop";  // the one that is a list of texts

std::string FlagOf(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return "--" + name;
}

}  // namespace

void AddEndpointFlags(CommandLine& line, Endpoint* endpoint) {
  line.Text("--grpc", "HOST:PORT", "gRPC server (default " + endpoint->grpc + ")", &endpoint->grpc);
  line.Text("--rest", "URL", "REST server instead, such as http://127.0.0.1:8000 or https://example.org/v1",
            &endpoint->rest);
  AddCaFileFlag(line, &endpoint->ca_file);
}

void AddCaFileFlag(CommandLine& line, std::string* file) {
  line.Text("--ca-file", "FILE", "certificates (PEM) to trust for https (default: the system's)", file);
}

void AddSamplingFlags(CommandLine& line, SamplingOptions* sampling) {
  for (const Setting& setting : kSettings) {
    const std::string flag = FlagOf(setting.name);
    std::visit([&](auto member) { line.Number(flag, setting.help, setting.range, &(sampling->*member)); },
               setting.member);
  }
  line.List(FlagOf(kStop), "TEXT", "end before this text; may be repeated", &sampling->stop);
}

std::vector<std::string> SettingNames() {
  std::vector<std::string> names;
  for (const Setting& setting : kSettings) names.push_back(setting.name);
  names.push_back(kStop);
  return names;
}

absl::Status ChangeSetting(const std::string& name, const std::string& value, SamplingOptions* sampling) {
  const std::vector<std::string> names = SettingNames();
  if (std::find(names.begin(), names.end(), name) == names.end()) return absl::NotFoundError("no setting " + name);
  if (name == kStop) sampling->stop.clear();
  if (value != "default") {
    CommandLine line("", "", "");
    AddSamplingFlags(line, sampling);
    const std::string flag = FlagOf(name);
    const char* words[] = {"", flag.c_str(), value.c_str()};
    const auto parsed = line.Parse(3, words);
    if (parsed.ok()) return absl::OkStatus();
    return absl::InvalidArgumentError(name + std::string(parsed.status().message().substr(flag.size())));
  }
  for (const Setting& setting : kSettings) {
    if (setting.name == name) std::visit([&](auto member) { (sampling->*member).reset(); }, setting.member);
  }
  return absl::OkStatus();
}

std::string Settings(const SamplingOptions& sampling) {
  std::string out;
  for (const Setting& setting : kSettings) {
    const auto show = [&](auto member) {
      if (sampling.*member) absl::StrAppend(&out, setting.name, " = ", *(sampling.*member), "\n");
    };
    std::visit(show, setting.member);
  }
  for (const std::string& text : sampling.stop) absl::StrAppend(&out, kStop, " = ", text, "\n");
  return out;
}

void KeyFlags::Add(CommandLine& line) {
  line.Text("--api-key", "KEY", "bearer token; other users see it, --api-key-file's they do not", &key);
  line.Text("--api-key-file", "FILE",
            "holds the bearer token (default: the environment variable PANGEA_API_KEY, or OPENAI_API_KEY)", &file);
}

absl::StatusOr<std::string> KeyFlags::Get() const {
  if (!key.empty()) return key;
  if (file.empty()) {
    for (const char* name : {"PANGEA_API_KEY", "OPENAI_API_KEY"}) {
      if (const char* value = std::getenv(name); value != nullptr && *value != '\0') return std::string(value);
    }
    return "";
  }
  std::ifstream stream(file);
  std::string first;
  if (!std::getline(stream, first)) return absl::NotFoundError("--api-key-file: cannot read a key from " + file);
  while (!first.empty() && (first.back() == '\r' || first.back() == ' ')) first.pop_back();
  const auto odd = [](unsigned char c) { return c <= 0x20 || c >= 0x7f; };
  if (first.empty() || first.size() > 4096 || std::any_of(first.begin(), first.end(), odd))
    return absl::InvalidArgumentError("--api-key-file: the first line of " + file + " is no key");
  return first;
}

}  // namespace pangea::clients
