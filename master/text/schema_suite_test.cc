// Grammars of schemas against JSON-Schema-Test-Suite (drafts 7 and 2020-12), an instance a byte at a time: every valid
// one is let through, every invalid one stopped, or the schema is refused with a reason. Its format.json is left out:
// it has formats as notes, here they are followed.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "gtest/gtest.h"
#include "master/text/fake_text.h"
#include "master/text/model_grammars.h"
#include "nlohmann/json.hpp"

namespace pangea {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Names of an object's members in the order in which its answers have them.
void Names(const Json& schema, std::vector<std::string>* names) {
  if (!schema.is_object()) return;
  if (schema.contains("properties")) {
    for (const auto& member : schema["properties"].items()) names->push_back(member.key());
  }
  if (!schema.contains("allOf")) return;
  for (const Json& part : schema["allOf"]) Names(part, names);
}

Json Whole(const Json& value) {
  const bool whole = value.is_number_float() && std::floor(value.get<double>()) == value.get<double>();
  return whole && std::fabs(value.get<double>()) < 1e15 ? Json(static_cast<int64_t>(value.get<double>())) : value;
}

// The same value as an answer would write it: of a const or an enum as the schema does, a whole number without a point,
// members in order.
Json AsWritten(const Json& schema, const Json& value) {
  Json same = Json::array();
  if (schema.is_object() && schema.contains("enum")) same = schema["enum"];
  if (schema.is_object() && schema.contains("const")) same.push_back(schema["const"]);
  for (const Json& one : same) {
    if (nlohmann::json::parse(one.dump()) == nlohmann::json::parse(value.dump())) return Whole(one);
  }
  if (!value.is_object()) return Whole(value);
  std::vector<std::string> names;
  Names(schema, &names);
  Json written = Json::object();
  for (const std::string& name : names) {
    if (value.contains(name)) written[name] = value[name];
  }
  for (const auto& [name, member] : value.items()) {
    if (!written.contains(name)) written[name] = member;
  }
  return written;
}

// In draft 7 what stands beside a $ref says nothing; it is followed here as in the drafts after it.
constexpr char kStricter[] = "ref valid, maxItems ignored";

bool LetThrough(Guide* guide, const std::string& text) {
  for (const char c : text) {
    const auto mask = guide->Mask();
    const auto id = static_cast<unsigned char>(c);
    if (!mask.ok() || !mask->Contains(id)) return false;
    if (!guide->Take(id).ok()) return false;
  }
  const auto mask = guide->Mask();
  return mask.ok() && mask->Contains(kFakeEnd);
}

class SchemaSuite : public testing::TestWithParam<const char*> {};

TEST_P(SchemaSuite, NoInstanceIsJudgedWrong) {
  const std::string draft = GetParam();
  FakeText text;
  ModelGrammars grammars(text, {kFakeEnd}, 300);
  int followed = 0, refused = 0, instances = 0;
  std::map<std::string, int> why;
  for (const fs::directory_entry& file :
       fs::directory_iterator(fs::path(PANGEA_SOURCE_DIR "/master/text/testdata/JSON-Schema-Test-Suite") / draft)) {
    for (const Json& group : Json::parse(std::ifstream(file.path()))) {
      Json schema = group["schema"];
      if (schema.is_object() && !schema.contains("$schema") && draft == "draft7")
        schema["$schema"] = "http://json-schema.org/draft-07/schema#";
      const auto start = grammars.Start({GrammarKind::kSchema, schema.dump()});
      if (!start.ok()) {
        EXPECT_TRUE(absl::IsInvalidArgument(start.status())) << start.status();
        EXPECT_FALSE(start.status().message().empty());
        ++refused;
        ++why[std::string(start.status().message()).substr(0, 60)];
        continue;
      }
      ++followed;
      for (const Json& test : group["tests"]) {
        if (test["description"] == kStricter) continue;
        ++instances;
        const std::string instance = AsWritten(schema, test["data"]).dump();
        EXPECT_EQ(LetThrough((*start)->Copy().get(), instance), test["valid"].get<bool>())
            << file.path().stem() << ": " << group["description"] << ": " << test["description"] << "\n"
            << schema.dump().substr(0, 500) << "\n"
            << instance.substr(0, 200);
      }
    }
  }
  EXPECT_GT(instances, 500) << "schemas that could be followed are refused";
  std::printf("%s: %d schemas followed with %d instances, %d refused\n", draft.c_str(), followed, instances, refused);
  for (const auto& [reason, n] : why) std::printf("%5d  %s\n", n, reason.c_str());
}

INSTANTIATE_TEST_SUITE_P(Drafts, SchemaSuite, testing::Values("draft7", "draft2020-12"));

}  // namespace
}  // namespace pangea
