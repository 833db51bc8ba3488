// The form that answers are to have: from a request, by whatever name, to a grammar, or refused by name.
#include "absl/strings/str_cat.h"
#include "master/api/generation/checked_test_util.h"

namespace pangea {
namespace {

class StructuredInputTest : public CheckedTest {
 protected:
  // Of a chat request with these members, as they are written: KIND TEXT, "none", or why not.
  std::string Form(const std::string& members) {
    return Tell(Run<v1::ChatCompletionRequest>(
        absl::StrCat(R"({"model":"fake","messages":[{"role":"user","content":"hi"}],)", members, "}")));
  }
  static std::string Tell(const absl::StatusOr<CheckedRequest>& r) {
    if (!r.ok()) return absl::StrCat("refused ", Param(r), ": ", r.status().message());
    if (!r->form) return "none";
    constexpr const char* kKinds[] = {"schema", "regex", "choice", "lark"};
    return absl::StrCat(kKinds[static_cast<int>(r->form->grammar.kind)], " ", r->form->grammar.text);
  }
};

TEST_F(StructuredInputTest, SchemasKeepTheOrderOfTheirMembers) {
  const std::string schema = R"({"type": "object", "properties": {"z": {}, "a": {"minimum": 1.0}}})";
  EXPECT_EQ(Form(absl::StrCat(R"("response_format":{"json_schema":{"name":"x","strict":true,"schema":)", schema,
                              R"(},"type":"json_schema"})")),
            "schema " + schema);
  EXPECT_EQ(Form(absl::StrCat(R"("structured_outputs":{"json":)", schema, "}")), "schema " + schema);
  EXPECT_EQ(Form(absl::StrCat(R"("guided_json":)", schema)), "schema " + schema);
  EXPECT_EQ(Form(absl::StrCat(R"("guided_json":)", Json(schema).dump())), "schema " + schema) << "as a text";
  EXPECT_EQ(Form(absl::StrCat(R"("structured_outputs":{"json":)", Json(schema).dump(), "}")), "schema " + schema);
  const auto completion = Run<v1::CompletionRequest>(absl::StrCat(R"({"prompt":"p","guided_json":)", schema, "}"));
  EXPECT_EQ(Tell(completion), "schema " + schema);
}

TEST_F(StructuredInputTest, EveryForm) {
  EXPECT_EQ(Form(R"("response_format":{"type":"text"})"), "none");
  EXPECT_EQ(Form(R"("response_format":null,"structured_outputs":null,"guided_json":null,"guided_choice":null)"),
            "none");
  EXPECT_EQ(Form(R"("response_format":{},"structured_outputs":{},"guided_regex":"","guided_grammar":"")"), "none");
  EXPECT_EQ(Form(R"("response_format":{"type":"json_object"})"), R"(schema {"type":"object"})");
  EXPECT_EQ(Form(R"("structured_outputs":{"json_object":true,"disable_fallback":true})"),
            R"(schema {"type":"object"})");
  EXPECT_EQ(Form(R"("structured_outputs":{"regex":"a+","json":null,"disable_any_whitespace":false})"), "regex a+");
  EXPECT_EQ(Form(R"("guided_regex":"a+","guided_decoding_backend":"xgrammar")"), "regex a+");
  EXPECT_EQ(Form(R"("structured_outputs":{"choice":["b", "a"]})"), R"(choice ["b","a"])");
  EXPECT_EQ(Form(R"("guided_choice":["b","é"])"), R"(choice ["b","é"])");
  EXPECT_EQ(Form(R"("structured_outputs":{"grammar":"start: A"})"), "lark start: A");
  EXPECT_EQ(Form(R"("guided_grammar":"start: A")"), "lark start: A");
}

TEST_F(StructuredInputTest, WhatIsNoFormIsRefusedByName) {
  const auto param = [&](const std::string& members) {
    const std::string told = Form(members);
    return told.starts_with("refused ") ? told.substr(8, told.find(':') - 8) : told;
  };
  EXPECT_EQ(param(R"("response_format":"json")"), "response_format");
  EXPECT_EQ(param(R"("response_format":{"type":"xml"})"), "response_format.type");
  EXPECT_EQ(param(R"("response_format":{"type":"json_object","x":1})"), "response_format.x");
  EXPECT_EQ(param(R"("response_format":{"type":"json_object","json_schema":{}})"), "response_format.json_schema");
  EXPECT_EQ(param(R"("response_format":{"type":"json_schema"})"), "response_format.json_schema");
  EXPECT_EQ(param(R"("response_format":{"type":"json_schema","json_schema":{"name":"x"}})"),
            "response_format.json_schema.schema");
  EXPECT_EQ(param(R"("response_format":{"type":"json_schema","json_schema":{"name":1,"schema":{}}})"),
            "response_format.json_schema.name");
  EXPECT_EQ(param(R"("structured_outputs":{"regex":null})"), "structured_outputs");
  EXPECT_EQ(param(R"("structured_outputs":{"regex":false})"), "structured_outputs.regex");
  EXPECT_EQ(param(R"("structured_outputs":{"structural_tag":"x"})"), "structured_outputs.structural_tag");
  EXPECT_EQ(param(R"("structured_outputs":{"json":3})"), "structured_outputs.json");
  EXPECT_EQ(param(R"("structured_outputs":{"regex":"a","choice":["a"]})"), "structured_outputs.regex")
      << "one form, not two";
  EXPECT_EQ(param(R"("response_format":{"type":"json_object"},"guided_regex":"a")"), "guided_regex");
  EXPECT_EQ(param(R"("guided_choice":[])"), "guided_choice");
  EXPECT_EQ(param(R"("guided_choice":["a",1])"), "guided_choice");
  EXPECT_EQ(param(R"("guided_choice":[""])"), "guided_choice");
  EXPECT_EQ(param(R"("guided_whitespace_pattern":"x")"), "guided_whitespace_pattern");
  EXPECT_EQ(param(R"("guided_regex":"a","ignore_eos":true)"), "ignore_eos");
  EXPECT_EQ(param(R"("response_format":{"type":"text"},"response_format_json":"{}")"), "response_format");
  EXPECT_EQ(param(R"("response_format_json":"{")"), "response_format");
}

TEST_F(StructuredInputTest, LargeFormsAreRefusedWithTheLimit) {
  server.deployment.limits.grammar_bytes = 4;
  EXPECT_EQ(Form(R"("guided_regex":"aaaa")"), "regex aaaa");
  EXPECT_EQ(Form(R"("guided_regex":"aaaaa")"), "refused guided_regex: 'guided_regex' may have at most 4 bytes, not 5");
}

// gRPC's Struct, which has no order.
TEST_F(StructuredInputTest, AStructIsAFormToo) {
  v1::ChatCompletionRequest request;
  auto* message = request.add_messages();
  message->set_role("user");
  message->mutable_content()->set_string_value("hi");
  auto& fields = *request.mutable_response_format()->mutable_fields();
  fields["type"].set_string_value("json_schema");
  auto& schema = (*fields["json_schema"].mutable_struct_value()->mutable_fields())["schema"];
  (*schema.mutable_struct_value()->mutable_fields())["maxLength"].set_number_value(3);
  EXPECT_EQ(Tell(Check(request, server.context)), R"(schema {"maxLength":3})");
}

}  // namespace
}  // namespace pangea
