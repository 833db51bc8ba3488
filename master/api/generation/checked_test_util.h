// Test only. Bodies through parser and checks.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "master/api/generation/checked.h"
#include "master/api/generation/context_test_util.h"
#include "master/api/openai/api_error.h"
#include "master/api/openai/request.h"
#include "nlohmann/json.hpp"

namespace pangea {

using Json = nlohmann::json;

class CheckedTest : public testing::Test {
 protected:
  template <class M>
  absl::StatusOr<CheckedRequest> Run(const std::string& body) {
    M message;
    ignored.clear();
    if (auto s = ParseOpenAi(body, {64}, &message, &ignored); !s.ok()) return s;
    return Check(message, server.context);
  }
  // `change` over a good body; the text of change is JSON.
  absl::StatusOr<CheckedRequest> Chat(const std::string& change) {
    Json body = {{"model", "fake"}, {"messages", {{{"role", "user"}, {"content", "hi"}}}}};
    body.update(Json::parse(change));
    return Run<v1::ChatCompletionRequest>(body.dump());
  }
  absl::StatusOr<CheckedRequest> Completion(const std::string& change) {
    Json body = {{"model", "fake"}, {"prompt", "hi"}};
    body.update(Json::parse(change));
    return Run<v1::CompletionRequest>(body.dump());
  }
  static std::string Param(const absl::StatusOr<CheckedRequest>& result) {
    return ToErrorAnswer(result.status()).param;
  }

  TestServer server;
  std::vector<std::string> ignored;
};

}  // namespace pangea
