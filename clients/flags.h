// Command-line flags of the client subcommands: one table per command drives parsing and --help, so that the help is
// complete.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pangea::clients {

class Flags {
 public:
  // usage: what follows "Usage: "; intro: one paragraph.
  Flags(std::string usage, std::string intro) : usage_(std::move(usage)), intro_(std::move(intro)) {}

  struct Range {
    double min, max;  // inclusive
  };
  // Each must outlive Parse. placeholder is what --help shows for the value, and the range of numbers is added to the
  // help.
  void Switch(std::string name, std::string help, bool* out);
  void Text(std::string name, std::string placeholder, std::string help, std::string* out);
  void List(std::string name, std::string placeholder, std::string help,
            std::vector<std::string>* out);  // may be repeated
  void Integer(std::string name, std::string help, Range range, int64_t* out);
  void Integer(std::string name, std::string help, Range range, std::optional<int64_t>* out);
  void Real(std::string name, std::string help, Range range, double* out);
  void Real(std::string name, std::string help, Range range, std::optional<double>* out);

  // argv[0] is skipped. Both "--name value" and "--name=value"; what follows "--" is positional. Stops at --help.
  // InvalidArgument names the word that is wrong.
  absl::StatusOr<std::vector<std::string>> Parse(int argc, const char* const* argv);
  bool help() const { return help_; }
  std::string Help() const;

 private:
  struct Flag {
    std::string name, placeholder, help;  // placeholder empty: a switch
    std::function<absl::Status(const std::string&)> set;
  };
  std::string usage_, intro_;
  std::vector<Flag> flags_;
  bool help_ = false;
};

inline constexpr int kExitUsage = 64;       // EX_USAGE
inline constexpr int kExitCancelled = 130;  // as a shell reports SIGINT

}  // namespace pangea::clients
