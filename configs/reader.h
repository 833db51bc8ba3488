// YAML tree -> Deployment, by the table of keys.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "configs/deployment.h"
#include "configs/yaml_tree.h"

namespace pangea {

struct ReadResult {
  Deployment deployment;
  std::vector<std::string> faults;          // "PLACE: key: what"
  std::map<std::string, YamlPlace> places;  // of every key that was set: "cache.memory", "agents[1].threads"
  std::set<std::string> faulty;             // keys (or sections) that have a fault already
};

ReadResult ReadDeployment(const YamlNode& root, bool expand_environment);

// Puts a setting's value at its dotted path in the tree ("agents.threads", "agents.1.threads"); maps are merged,
// everything else is replaced. "" or what is wrong.
std::string ApplySetting(YamlNode& root, const std::string& path, YamlNode value);

}  // namespace pangea
