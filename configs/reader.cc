#include "configs/reader.h"

#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "configs/cat.h"
#include "configs/keys.h"
#include "configs/values.h"

namespace pangea {
namespace {

constexpr std::string_view kLog = "log";

// Names from outside are echoed in errors: bounded, and quoted where they are not plain words.
std::string Shown(std::string_view name) {
  std::string text(name.substr(0, 80));
  for (char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return QuoteYaml(text);
  }
  return name.size() > 80 ? text + "…" : text;
}

// Keys and sections.
std::vector<std::string> KnownNames() {
  std::vector<std::string> names = KeyNames();
  for (const ConfigKey& key : ConfigKeys()) {
    if (!key.section().empty()) names.emplace_back(key.section());
  }
  return names;
}

class Reader {
 public:
  explicit Reader(bool expand) : expand_(expand) {}

  ReadResult Run(const YamlNode& root) {
    if (root.kind == YamlNode::Kind::kNull)
      return std::move(result_);  // an empty file: validation says what is missing
    if (root.kind != YamlNode::Kind::kMap) {
      result_.faults.push_back(Cat(root.place.Text(), ": a deployment is a map of keys, not ", KindName(root.kind)));
      return std::move(result_);
    }
    Map(root, "", "", result_.deployment.agents);
    return std::move(result_);
  }

 private:
  void Fault(const YamlPlace& place, const std::string& shown, std::string_view what) {
    result_.faulty.insert(shown);
    if (result_.faults.size() < kMaxYamlFaults)
      result_.faults.push_back(Cat(place.Text(), ": ", Shown(shown), ": ", what));
  }

  // section: "" or "cache"; shown: how the user would write it, "agents[1]" for a list's entry.
  void Map(const YamlNode& node, const std::string& section, const std::string& shown, AgentConfig& agent) {
    std::set<std::string_view> seen;
    for (const YamlNode::Entry& entry : node.entries) {
      const std::string dot = section.empty() ? "" : ".";
      const std::string name = Cat(section, dot, entry.name);
      const std::string here = Cat(shown, dot, entry.name);
      if (!seen.insert(entry.name).second) {
        Fault(entry.place, here, "is given twice");
      } else if (section.empty() && name == "agents" && entry.value.kind == YamlNode::Kind::kList) {
        AgentList(entry.value, entry.place);
      } else if (section.empty() && IsSection(name)) {
        Section(entry, name);
      } else if (const ConfigKey* key = FindKey(name); key != nullptr && key->section() == section) {
        Key(entry, *key, here, agent);
      } else {
        // Past the cap nobody reads it, and the search is the slow part of a hostile file.
        const bool told = result_.faults.size() < kMaxYamlFaults;
        Fault(entry.place, here,
              told ? Cat("unknown key; the nearest known key is ", Nearest(Shown(name), KnownNames())) : "unknown key");
      }
    }
  }

  void Section(const YamlNode::Entry& entry, const std::string& name) {
    if (entry.value.kind == YamlNode::Kind::kNull) return;              // a section whose keys are all commented out
    if (name == kLog && entry.value.kind == YamlNode::Kind::kScalar) {  // `log: debug` is `log: {level: debug}`
      return Key(entry, *FindKey("log.level"), "log.level", result_.deployment.agents);
    }
    if (entry.value.kind != YamlNode::Kind::kMap) {
      return Fault(entry.place, name,
                   Cat("expected a map", name == "agents" ? " or a list" : "", ", not ", KindName(entry.value.kind)));
    }
    Map(entry.value, name, name, result_.deployment.agents);
  }

  void AgentList(const YamlNode& list, const YamlPlace& place) {
    result_.places["agents"] = place;
    if (list.items.empty()) return Fault(place, "agents", "the list is empty; one entry an agent is needed");
    if (list.items.size() > kMaxAgents) return Fault(place, "agents", Cat("more than ", kMaxAgents, " entries"));
    result_.deployment.agent_list.resize(list.items.size());
    for (size_t i = 0; i < list.items.size(); ++i) {
      const std::string shown = Cat("agents[", i, "]");
      result_.places[shown] = list.items[i].place;
      if (list.items[i].kind == YamlNode::Kind::kMap) {
        Map(list.items[i], "agents", shown, result_.deployment.agent_list[i]);
      } else {
        Fault(list.items[i].place, shown, Cat("expected a map, not ", KindName(list.items[i].kind)));
      }
    }
  }

  void Key(const YamlNode::Entry& entry, const ConfigKey& key, const std::string& shown, AgentConfig& agent) {
    const YamlNode& value = entry.value;
    result_.places[shown] = value.place;
    if (value.kind == YamlNode::Kind::kNull) return Fault(entry.place, shown, "has no value");
    const KeyField field = key.field(result_.deployment, agent);
    if (key.kind != KeyKind::kTexts || value.kind != YamlNode::Kind::kList) return Scalar(value, key, shown, field);
    for (const YamlNode& item : value.items) Scalar(item, key, shown, field);
  }

  void Scalar(const YamlNode& value, const ConfigKey& key, const std::string& shown, KeyField field) {
    if (value.kind != YamlNode::Kind::kScalar) {
      return Fault(value.place, shown, Cat("expected ", RangeText(key), ", not ", KindName(value.kind)));
    }
    std::string text = value.text;
    bool quoted = value.quoted;
    if (expand_) {
      auto expanded = ExpandEnvironment(text);
      if (!expanded.ok()) return Fault(value.place, shown, std::string(expanded.status().message()));
      // Inside {…} a variable must stand in quotes; its value may still be a number.
      if (*expanded != text) quoted = quoted && key.kind != KeyKind::kInteger && key.kind != KeyKind::kBoolean;
      text = *std::move(expanded);
    }
    const absl::Status status = SetKey(key, text, quoted, field);
    if (!status.ok()) Fault(value.place, shown, std::string(status.message()));
  }

  bool expand_;
  ReadResult result_;
};

void Merge(YamlNode& into, YamlNode value) {
  if (into.kind != YamlNode::Kind::kMap || value.kind != YamlNode::Kind::kMap) {
    into = std::move(value);
    return;
  }
  const size_t old_size = into.entries.size();  // a name given twice in the value stays twice, for the reader to refuse
  for (YamlNode::Entry& entry : value.entries) {
    size_t i = 0;
    while (i < old_size && into.entries[i].name != entry.name) ++i;
    if (i < old_size) {
      Merge(into.entries[i].value, std::move(entry.value));
    } else {
      into.entries.push_back(std::move(entry));
    }
  }
}

}  // namespace

ReadResult ReadDeployment(const YamlNode& root, bool expand_environment) {
  return Reader(expand_environment).Run(root);
}

std::string ApplySetting(YamlNode& root, const std::string& path, YamlNode value) {
  if (path == kLog && value.kind == YamlNode::Kind::kScalar) return ApplySetting(root, "log.level", std::move(value));
  if (YamlNode* log = root.Find(kLog); log != nullptr && log->kind == YamlNode::Kind::kScalar) {
    YamlNode map{.kind = YamlNode::Kind::kMap, .place = log->place};
    map.entries.push_back({"level", log->place, std::move(*log)});
    *log = std::move(map);
  }
  const std::vector<std::string> parts = absl::StrSplit(path, '.');
  std::string name;  // as the table spells it: "agents.0.threads" is agents.threads
  for (const std::string& part : parts) {
    uint32_t index = 0;
    if (name == "agents" && absl::SimpleAtoi(part, &index)) continue;
    Append(name, name.empty() ? "" : ".", part);
  }
  if (FindKey(name) == nullptr && !IsSection(name)) {
    return Cat("unknown key; the nearest known key is ", Nearest(Shown(name), KnownNames()));
  }
  YamlNode* node = &root;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (node->kind == YamlNode::Kind::kList) {
      uint32_t index = 0;
      if (!absl::SimpleAtoi(parts[i], &index))
        return "agents is a list in the file: name an entry by its number, such as agents.0.threads";
      if (index >= node->items.size()) return Cat("there is no entry ", index, ": the list has ", node->items.size());
      node = &node->items[index];
      continue;
    }
    if (node->kind == YamlNode::Kind::kScalar)
      return Cat("what is before \"", Shown(parts[i]), "\" is a single value, not a map");
    if (node->kind == YamlNode::Kind::kNull) node->kind = YamlNode::Kind::kMap;
    YamlNode* next = node->Find(parts[i]);
    if (next == nullptr) {
      node->entries.push_back({parts[i], value.place, {}});
      next = &node->entries.back().value;
      next->place = value.place;
    }
    node = next;
  }
  Merge(*node, std::move(value));
  return "";
}

}  // namespace pangea
