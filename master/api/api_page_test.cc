// docs/api.md against the tables that the doors read: a row more or less in the code fails here, and the message holds
// the rows as they should be.
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "master/api/http/rest.h"
#include "master/api/openai/api_error.h"
#include "master/api/openai/request_fields.h"
#include "protos/generation.pb.h"

namespace pangea {
namespace {

namespace pb = google::protobuf;
using nlohmann::json;

// The rows of the table that follows the line "<!-- NAME -->", without its two head lines.
std::vector<std::string> TableOf(const std::string& name) {
  std::ifstream file(PANGEA_SOURCE_DIR "/docs/api.md");
  std::vector<std::string> rows;
  bool found = false;
  for (std::string line; std::getline(file, line);) {
    if (found && !line.starts_with("|")) break;
    if (found) rows.push_back(line);
    found |= line == absl::StrCat("<!-- ", name, " -->");
  }
  EXPECT_GE(rows.size(), 3u) << "docs/api.md has no table " << name;
  if (rows.size() >= 2) rows.erase(rows.begin(), rows.begin() + 2);
  return rows;
}

void ExpectRows(const std::string& name, const std::vector<std::string>& want) {
  EXPECT_EQ(TableOf(name), want) << "docs/api.md should have below <!-- " << name << " -->:\n"
                                 << absl::StrJoin(want, "\n");
}

TEST(ApiPage, Routes) {
  std::vector<std::string> want;
  const auto add = [&](std::string_view path) {
    const RouteMatch match = FindRoute(path);
    want.push_back(absl::StrCat("| `", match.post ? "POST" : "GET", " ", std::string(match.label), "` | ",
                                NeedsKey(match.route) ? "yes" : "no", " |"));
  };
  for (const RouteRow& row : Routes()) {
    add(row.path);
    if (row.route == Route::kModels) add("/v1/models/x");
  }
  std::vector<std::string> have;
  for (const std::string& row : TableOf("routes")) {  // the last column is prose
    const std::vector<std::string> cells = absl::StrSplit(row, " | ");
    ASSERT_GE(cells.size(), 3u) << row;
    have.push_back(absl::StrCat(cells[0], " | ", cells[1], " |"));
  }
  EXPECT_EQ(have, want) << absl::StrJoin(want, "\n");
}

std::string TypeOf(const pb::FieldDescriptor* field) {
  if (field->is_map()) return "object of numbers";
  std::string type;
  switch (field->cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_STRING:
      type = "string";
      break;
    case pb::FieldDescriptor::CPPTYPE_BOOL:
      type = "boolean";
      break;
    case pb::FieldDescriptor::CPPTYPE_DOUBLE:
      type = "number";
      break;
    case pb::FieldDescriptor::CPPTYPE_INT64:
      type = "integer";
      break;
    default:
      type = field->message_type()->full_name() == "google.protobuf.Value" ? "several" : "object";
  }
  return field->is_repeated() ? absl::StrCat("list of ", type, "s") : type;
}

TEST(ApiPage, FieldsThatAreServed) {
  for (const pb::Descriptor* message :
       {v1::ChatCompletionRequest::descriptor(), v1::CompletionRequest::descriptor(), v1::ChatMessage::descriptor(),
        v1::StreamOptions::descriptor(), v1::TokenizeRequest::descriptor(), v1::DetokenizeRequest::descriptor()}) {
    std::vector<std::string> want, have;
    for (int i = 0; i < message->field_count(); ++i)
      want.push_back(absl::StrCat("| `", message->field(i)->name(), "` | ", TypeOf(message->field(i)), " |"));
    for (const std::string& row : TableOf(std::string(message->name()))) {
      const std::vector<std::string> cells = absl::StrSplit(row, " | ");
      ASSERT_GE(cells.size(), 3u) << row;
      have.push_back(absl::StrCat(cells[0], " | ", cells[1], " |"));
    }
    EXPECT_EQ(have, want) << message->name() << "\n" << absl::StrJoin(want, "\n");
  }
}

TEST(ApiPage, FieldsThatAreRefused) {
  std::vector<std::string> want;
  for (const RefusedField& field : RefusedFields()) {
    std::vector<std::string> accepted = {"null"};
    for (const json& value : json::parse(field.neutral)) accepted.push_back(value.dump());
    if (field.empty_is_neutral) accepted.push_back("what is empty or false");
    want.push_back(absl::StrCat("| `", std::string(field.name), "`", field.in_messages ? ", also in a message" : "",
                                " | ", absl::StrJoin(accepted, ", "), " |"));
  }
  ExpectRows("refused", want);
}

TEST(ApiPage, FieldsThatAreIgnored) {
  std::vector<std::string> want;
  for (const HarmlessField& field : HarmlessFields())
    want.push_back(absl::StrCat("| `", std::string(field.name), "` | ", std::string(field.why), " |"));
  ExpectRows("ignored", want);
}

TEST(ApiPage, Errors) {
  const char* const grpc_names[] = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  std::vector<std::string> want;
  for (const absl::StatusCode code :
       {absl::StatusCode::kInvalidArgument, absl::StatusCode::kUnauthenticated, absl::StatusCode::kNotFound,
        absl::StatusCode::kResourceExhausted, absl::StatusCode::kCancelled, absl::StatusCode::kInternal,
        absl::StatusCode::kUnavailable, absl::StatusCode::kDeadlineExceeded}) {
    const absl::Status status(code, "x");
    const ErrorAnswer answer = ToErrorAnswer(status);
    want.push_back(absl::StrCat("| ", answer.http, " | ", grpc_names[GrpcCode(status)], " | `", answer.type, "` | ",
                                answer.code.empty() ? "" : absl::StrCat("`", answer.code, "`"), " | ",
                                answer.retry_after > 0 ? "yes, `Retry-After`"
                                : answer.never_retry   ? "no, `x-should-retry: false`"
                                                       : "no",
                                " |"));
  }
  std::vector<std::string> have;
  for (const std::string& row : TableOf("errors"))
    have.push_back(row.substr(0, row.rfind(" | ") + 2));  // but its prose
  EXPECT_EQ(have, want) << absl::StrJoin(want, "\n");
}

}  // namespace
}  // namespace pangea
