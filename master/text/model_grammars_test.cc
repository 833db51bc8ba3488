// Grammars over ids, by the library: what may come next, and what is refused.
#include "master/text/model_grammars.h"

#include <functional>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "master/text/fake_text.h"
#include "nlohmann/json.hpp"

namespace pangea {
namespace {

using nlohmann::json;

constexpr int kVocab = 300;  // the model has more rows than the text has ids

bool Allows(const AllowedIds& allowed, int32_t id) { return allowed.Contains(id); }

class ModelGrammarsTest : public testing::Test {
 protected:
  std::unique_ptr<Guide> Start(GrammarKind kind, const std::string& text) {
    auto guide = grammars_.Start({kind, text});
    EXPECT_TRUE(guide.ok()) << guide.status();
    return guide.ok() ? *std::move(guide) : nullptr;
  }
  std::string Refusal(GrammarKind kind, const std::string& text) {
    const auto guide = grammars_.Start({kind, text});
    EXPECT_TRUE(absl::IsInvalidArgument(guide.status())) << guide.status();
    return std::string(guide.status().message());
  }
  // The bytes of the answer, one an id, each of which must be allowed; then an end must be, too.
  static void ExpectTakes(Guide* guide, const std::string& answer) {
    for (size_t i = 0; i < answer.size(); ++i) {
      const auto mask = guide->Mask();
      ASSERT_TRUE(mask.ok()) << mask.status();
      const auto id = static_cast<unsigned char>(answer[i]);
      ASSERT_TRUE(Allows(*mask, id)) << answer.substr(0, i) << " then " << answer[i];
      ASSERT_TRUE(guide->Take(id).ok());
    }
    EXPECT_TRUE(Allows(*guide->Mask(), kFakeEnd));
  }

  FakeText text_;
  ModelGrammars grammars_{text_, {kFakeEnd}, kVocab};
};

constexpr char kPerson[] =
    R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"],"additionalProperties":false})";

TEST_F(ModelGrammarsTest, AnAnswerFollowsItsSchema) {
  ExpectTakes(Start(GrammarKind::kSchema, kPerson).get(), R"({"name": "Ada", "age": 36})");
  auto guide = Start(GrammarKind::kSchema, kPerson);
  for (const char c : std::string_view(R"({"name":"a","age":)")) ASSERT_TRUE(guide->Take(c).ok());
  const auto mask = guide->Mask();
  EXPECT_TRUE(Allows(*mask, '7'));
  EXPECT_FALSE(Allows(*mask, '"'));
  EXPECT_FALSE(Allows(*mask, kFakeEnd));
  EXPECT_FALSE(Allows(*mask, kFakeBos));
  EXPECT_FALSE(Allows(*mask, 299)) << "an id of the model's alone";
  EXPECT_FALSE(guide->Take('"').ok()) << "what is not allowed cannot be taken";
}

TEST_F(ModelGrammarsTest, IdsOfSeveralBytesAreAllowedWhereTheirBytesAre) {
  auto guide = Start(GrammarKind::kRegex, "abc|abd|x");
  const auto mask = guide->Mask();
  EXPECT_TRUE(Allows(*mask, 258)) << "ab";
  EXPECT_TRUE(Allows(*mask, 'a'));
  EXPECT_TRUE(Allows(*mask, 'x'));
  EXPECT_FALSE(Allows(*mask, 'b'));
  ASSERT_TRUE(guide->Take(258).ok());
  EXPECT_TRUE(Allows(*guide->Mask(), 'd'));
  auto open = Start(GrammarKind::kRegex, "(.|\\n)*");
  EXPECT_TRUE(Allows(*open->Mask(), 259)) << "é";
}

TEST_F(ModelGrammarsTest, SpaceIsWhatPrintersWrite) {
  for (const char* answer :
       {"{\"name\":\"\",\"age\":1}", "{\n  \"name\": \"\",\n  \"age\": 1\n}", "{\r\n\t\"name\" :\"\", \"age\":1 }"})
    ExpectTakes(Start(GrammarKind::kSchema, kPerson).get(), answer);
  auto guide = Start(GrammarKind::kSchema, kPerson);
  for (const char c : std::string_view("{\n ")) ASSERT_TRUE(guide->Take(c).ok());
  EXPECT_TRUE(Allows(*guide->Mask(), ' '));
  EXPECT_FALSE(Allows(*guide->Mask(), '\n')) << "no end of it";
}

TEST_F(ModelGrammarsTest, StringsMayHaveEscapes) {
  ExpectTakes(Start(GrammarKind::kSchema, R"({"type":"string"})").get(), R"("\u00e9\ud83d\ude00\n é")");
}

TEST_F(ModelGrammarsTest, ChoicesAreTakenLetterByLetter) {
  const json words = {"yes", "no \"x\"\n", "é/\\", "a | b", "\x7f"};
  for (const std::string word : words) ExpectTakes(Start(GrammarKind::kChoice, words.dump()).get(), word);
}

TEST_F(ModelGrammarsTest, LarkGrammars) {
  ExpectTakes(Start(GrammarKind::kLark, "start: \"(\" start \")\" | \"x\"").get(), "((x))");
}

// A copy, and the next answer of the same grammar, know nothing of this one's ids.
TEST_F(ModelGrammarsTest, AnswersOfOneGrammarAreApart) {
  auto first = Start(GrammarKind::kRegex, "abc");
  auto copy = first->Copy();
  ASSERT_TRUE(first->Take('a').ok());
  ExpectTakes(copy.get(), "abc");
  ExpectTakes(Start(GrammarKind::kRegex, "abc").get(), "abc");
  ExpectTakes(Start(GrammarKind::kChoice, R"(["abc"])").get(), "abc");
}

TEST_F(ModelGrammarsTest, WhatCannotBeHonouredIsRefusedByName) {
  using enum GrammarKind;
  const struct {
    GrammarKind kind;
    const char *text, *named;
  } refused[] = {
      {kSchema, R"({"type":"array","uniqueItems":true})", "uniqueItems"},
      {kSchema, R"({"properties":{"a":{"not":{}}}})", "\"not\""},
      {kSchema, R"({"type":"strin"})", "strin"},
      {kSchema, R"({"x-guidance":{"lenient":true}})", "x-guidance"},
      {kSchema, R"({"$ref":"#/$defs/a"})", "$defs/a"},
      {kSchema, R"({"$ref":"http://elsewhere/x.json"})", "elsewhere"},
      {kSchema, R"({"const":9007199254740993})", "9007199254740993"},
      {kSchema, R"({"allOf":[{"type":"integer","multipleOf":65537},{"multipleOf":65539}]})", "overflow"},
      {kSchema, "false", "false"},
      {kSchema, "3", "object"},
      {kSchema, "{", "EOF"},
      {kRegex, "(a", "unclosed"},
      {kRegex, "(?=a)b", "look"},
      {kRegex, "a\\", "escape"},
      {kRegex, "a(?P<stop>b)", "stop"},
      {kChoice, "[]", "at least one"},
      {kChoice, R"([""])", "empty"},
      {kLark, "start: nothing", "nothing"},
      {kLark, "start: %json {\"x-guidance\":{\"lenient\":true}}", "x-guidance"},
      {kLark, "root ::= \"a\"", "Expected"},  // another grammar's syntax
  };
  for (const auto& [kind, text, named] : refused) {
    const std::string told = Refusal(kind, text);
    EXPECT_NE(told.find(named), std::string::npos) << text << ": " << told;
    EXPECT_EQ(told.find("backtrace"), std::string::npos) << told;
  }
}

json Numbered(int n, const std::function<std::pair<std::string, json>(int)>& member) {
  json object = json::object();
  for (int i = 0; i < n; ++i) {
    auto [name, value] = member(i);
    object[name] = std::move(value);
  }
  return object;
}

// A request may have a form of a quarter megabyte: none overflows a stack, and what would take long is refused.
TEST_F(ModelGrammarsTest, LargeFormsAreCompiledOrRefused) {
  using enum GrammarKind;
  const auto word = [](int i) { return "word-" + std::to_string(i); };
  const json integer = {{"type", "integer"}};
  json words = json::array(), any = words, all = words, deep = integer;
  std::string terminals = "start: \"x\"", rules = "start: a0\n";
  for (int i = 0; i < 18000; ++i) words.push_back(word(i));
  for (int i = 0; i < 10; ++i) any.push_back({{"properties", {{word(i), integer}}}});
  for (int i = 0; i < 9; ++i) all.push_back({{"anyOf", any}});
  for (int i = 0; i < 60; ++i) deep = {{"type", "array"}, {"items", deep}};
  for (int i = 0; i < 12000; ++i) terminals += " | \"" + word(i) + "\"";
  for (int i = 0; i < 9999; ++i) rules += absl::StrCat("a", i, ": a", i + 1, "\n");
  const json properties = Numbered(1000, [&](int i) { return std::pair(word(i), json{{"type", "string"}}); });
  const json more = Numbered(1001, [&](int i) { return std::pair(word(i), json::object()); });
  const auto patterns = [&](int n) {
    return Numbered(n, [&](int i) { return std::pair(absl::StrCat("^k", i, "$"), integer); });
  };
  const json links = Numbered(900, [&](int i) {
    return std::pair(word(i), i < 899 ? json{{"$ref", absl::StrCat("#/$defs/", word(i + 1))}} : integer);
  });
  const std::string brackets(100000, '(');
  const struct {
    GrammarKind kind;
    std::string text, refused;  // what is said; empty: compiled
  } forms[] = {
      {kChoice, words.dump(), ""},
      {kSchema, json{{"enum", words}}.dump(), ""},
      {kSchema, json{{"properties", properties}}.dump(), ""},
      {kSchema, json{{"items", {{"properties", more}}}}.dump(), "an object of 1001, more than 1000"},
      {kSchema, json{{"patternProperties", patterns(32)}}.dump(), ""},
      {kSchema, json{{"patternProperties", patterns(33)}}.dump(), "an object of 33, more than 32"},
      {kSchema, json{{"oneOf", json(129, integer)}}.dump(), "'oneOf' of 129, more than 128"},
      {kSchema, json{{"allOf", all}}.dump(), "too large"},  // a billion ways
      {kSchema, json{{"$ref", "#/$defs/word-0"}, {"$defs", links}}.dump(), ""},
      {kSchema, deep.dump(), ""},
      {kSchema, json{{"pattern", std::string(16385, 'x')}}.dump(), "'pattern' of 16385"},
      {kRegex, "(a|b)*a(a|b){200}", ""},
      {kRegex, brackets, "more than 16384"},
      {kLark, terminals, ""},
      {kLark, rules + "a9999: \"x\"", ""},
      {kLark, "start: " + brackets + "\"a\"" + std::string(brackets.size(), ')'), "nested"},
      {kLark,
       "start: \"a\" %if " + ReplaceAll(brackets.substr(0, 30000), "(", "not(") + "is_zeros([0:1]" +
           std::string(30001, ')'),
       "*"},
  };
  for (const auto& [kind, text, refused] : forms) {
    SCOPED_TRACE(text.substr(0, 80));
    const auto guide = grammars_.Start({kind, text});
    if (refused == "*") continue;  // either will do
    if (refused.empty()) {
      ASSERT_TRUE(guide.ok()) << guide.status();
      EXPECT_TRUE((*guide)->Mask().ok());
    } else {
      EXPECT_TRUE(absl::IsInvalidArgument(guide.status())) << guide.status();
      EXPECT_NE(guide.status().message().find(refused), std::string::npos) << guide.status();
    }
  }
}

// An id that ends an answer is no text, whatever its bytes: inside a string it would end the answer there.
TEST(ModelGrammars, EndsAreNoText) {
  FakeText text;
  ModelGrammars grammars(text, {258}, kVocab);  // "ab"
  auto guide = *grammars.Start({GrammarKind::kRegex, "ab"});
  EXPECT_FALSE(guide->Mask()->Contains(258));
  ASSERT_TRUE(guide->Take('a').ok());
  ASSERT_TRUE(guide->Take('b').ok());
  EXPECT_TRUE(guide->Mask()->Contains(258));
}

TEST(AllowedFrom, KeepsTheWordsThatDifferFromMost) {
  const uint64_t all = ~uint64_t{0};
  const auto few = AllowedFrom({0, 5, 0});
  EXPECT_FALSE(few.others);
  EXPECT_EQ(few.words, (std::vector<std::pair<int32_t, uint64_t>>{{1, 5}}));
  const auto many = AllowedFrom({all, all, 7, all, 0});
  EXPECT_TRUE(many.others);
  EXPECT_EQ(many.words, (std::vector<std::pair<int32_t, uint64_t>>{{2, 7}, {4, 0}}));
}

TEST(ModelGrammars, NeedsAnIdThatEndsAnAnswer) {
  FakeText text;
  ModelGrammars grammars(text, {}, kVocab);
  EXPECT_TRUE(absl::IsInvalidArgument(grammars.Start({GrammarKind::kRegex, "a"}).status()));
}

}  // namespace
}  // namespace pangea
