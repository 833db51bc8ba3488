// A guarded YAML text as a small tree with places. No anchors, no tags, one document.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "configs/yaml_guard.h"

namespace pangea {

// Where something was written: "FILE:LINE:COLUMN", or a label alone for a command-line setting.
struct YamlPlace {
  std::shared_ptr<const std::string> source;
  int line = 0, column = 0;
  std::string Text() const;
};

struct YamlNode {
  enum class Kind { kNull, kScalar, kMap, kList };
  struct Entry;
  Kind kind = Kind::kNull;
  YamlPlace place;
  std::string text;             // kScalar
  bool quoted = false;          // kScalar: written in quotes
  std::vector<Entry> entries;   // kMap, in order; names may repeat (the reader refuses that)
  std::vector<YamlNode> items;  // kList
  YamlNode* Find(std::string_view name);
};
struct YamlNode::Entry {
  std::string name;
  YamlPlace place;  // of the name
  YamlNode value;
};
std::string_view KindName(YamlNode::Kind kind);  // "a map", …

struct YamlResult {
  YamlNode root;                    // kNull for an empty text
  std::vector<std::string> faults;  // "PLACE: what"; not empty: root is meaningless
};
// place_in_text false: places are the source alone (a setting is one line that the user sees anyway).
YamlResult ParseYaml(std::string_view text, const std::string& source, bool place_in_text = true);

}  // namespace pangea
