// Scalars of a deployment file: text -> value and back. Every parser is strict (the whole text, no sign tricks, no
// overflow) and its error says what is expected.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pangea {

absl::StatusOr<int64_t> ParseInteger(std::string_view text);
absl::StatusOr<bool> ParseBoolean(std::string_view text);  // true, false
// Bytes: "268435456", "256MiB", "1GB", "1.5GiB"; KB/MB/GB/TB are powers of 1000, KiB/MiB/GiB/TiB of 1024.
absl::StatusOr<uint64_t> ParseBytes(std::string_view text);
// Seconds: "30", "0.5", "30s", "500ms", "20us", "2m", "1h".
absl::StatusOr<double> ParseSeconds(std::string_view text);

absl::StatusOr<double> ParseNumber(std::string_view text);  // "2", "1.5"

std::string FormatBytes(uint64_t bytes);       // shortest exact: "256MiB", "1000"
std::string FormatSeconds(double seconds);     // shortest text that reads back to the same double
std::string QuoteYaml(std::string_view text);  // double-quoted YAML scalar

// Bytes of the well-formed UTF-8 sequence at the start of text; 0: there is none (overlong forms and surrogates too).
size_t Utf8Length(std::string_view text);
bool WellFormedUtf8(std::string_view text);
// The text with `\xNN` for every byte that is no UTF-8 or could end a line or act on a terminal: control characters,
// Unicode's line ends, and the characters that change the direction of writing.
std::string Printable(std::string_view text);

// ${NAME} -> the environment's value, $$ -> $. A lone $ stands for itself. NotFound names the first missing variable.
absl::StatusOr<std::string> ExpandEnvironment(std::string_view text);

int EditDistance(std::string_view a, std::string_view b);  // Levenshtein, both cut at 64 characters
// The candidate nearest to `name`, also compared by its last dotted part. REQUIRES candidates not empty.
std::string Nearest(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace pangea
