// What must be true of a YAML text before a parser may see it. yaml-cpp recurses per nesting level and expands aliases,
// and has had tag-driven crashes (CVE-2017-11692), so size, depth, anchors, aliases, tags, merge keys, block scalars,
// tabs and control characters are judged here, by a scanner that allocates nothing but its faults and never recurses.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace pangea {

inline constexpr size_t kMaxYamlBytes = 1 << 20;
inline constexpr int kMaxYamlDepth = 32;  // flow brackets open at once
inline constexpr int kMaxYamlIndent =
    64;  // columns before the first character of a line's content; bounds block nesting
inline constexpr size_t kMaxYamlFaults = 100;

struct YamlFault {
  int line = 0, column = 0;  // from 1; line 0: the text as a whole
  std::string what;
};

// Every fault in order of place (at most kMaxYamlFaults). Empty: the text may be parsed. Linear time.
std::vector<YamlFault> GuardYaml(std::string_view text);

}  // namespace pangea
