// The command line of a subcommand: one table drives reading and --help, so that the help is complete and all
// subcommands take words alike. "--name value" and "--name=value"; what follows "--" is no option, nor is "-".
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pangea {

inline constexpr int kUsageExitCode = 64;  // EX_USAGE

class CommandLine {
 public:
  // The help begins "Usage: pangea NAME WORDS"; then comes the intro, as it stands.
  CommandLine(std::string name, std::string words, std::string intro)
      : name_(std::move(name)), words_(std::move(words)), intro_(std::move(intro)) {}

  struct Range {
    double min, max;  // inclusive
  };
  using Setter = std::function<absl::Status(const std::string&)>;

  // Options; `out` must outlive Parse. The placeholder stands for the value in the help, to which a number's range is
  // added. An option without a text of help is not shown. No option may be given twice but for lists.
  void Switch(std::string name, std::string help, bool* out);
  void Text(std::string name, std::string placeholder, std::string help, std::string* out);
  void List(std::string name, std::string placeholder, std::string help, std::vector<std::string>* out);
  void Choice(std::string name, std::string choices, std::string help, std::string* out);  // choices: "a, b"
  template <typename T>  // int, int64_t, uint64_t, double, or an optional of one
  void Number(std::string name, std::string help, Range range, T* out);
  void Value(std::string name, std::string placeholder, std::string help, Setter set, bool repeats = false);
  // Lines of the help alone: of a word that is no option; and without indentation, before what follows.
  void Word(std::string name, std::string help);
  void Heading(std::string text);

  // argv[0] is skipped; returns the words that are no options. Stops at --help and -h. InvalidArgument begins with the
  // option that is wrong, or says which word is unknown. An empty value is none.
  absl::StatusOr<std::vector<std::string>> Parse(int argc, const char* const* argv);
  // The same, of a subcommand that takes so many words at most.
  absl::StatusOr<std::vector<std::string>> Parse(int argc, const char* const* argv, size_t most_words);
  bool help() const { return help_; }
  bool given(const std::string& name) const;  // an option, after Parse
  std::string Help() const;
  // Says on standard error what was wrong, or on standard output the help that was asked for; the exit status then.
  // nullopt: neither.
  std::optional<int> Exit(const absl::Status& parsed) const;

 private:
  enum class Kind : uint8_t { kSwitch, kValue, kList, kWord, kHeading };
  struct Row {
    Kind kind;
    std::string name, placeholder, help;
    Setter set = {};
    bool given = false;
    bool option() const { return kind <= Kind::kList; }
  };
  std::string Unknown(const std::string& name) const;
  absl::Status Take(Row& row, const std::string* value);

  std::string name_, words_, intro_;
  std::vector<Row> rows_;
  bool help_ = false;
};

}  // namespace pangea
