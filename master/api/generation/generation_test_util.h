// Generations of requests as clients write them, over fakes, for tests that play the engine.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "master/api/generation/answers.h"
#include "master/api/generation/context_test_util.h"
#include "master/api/generation/generation.h"
#include "master/api/openai/request.h"
#include "master/api/openai/response.h"

namespace pangea {

using Json = nlohmann::json;

class GenerationTest : public testing::Test {
 protected:
  template <class M>
  std::unique_ptr<Generation> Make(const Json& body) {
    M message;
    std::vector<std::string> ignored;
    status = ParseOpenAi(body.dump(), {}, &message, &ignored);
    if (!status.ok()) return nullptr;
    auto checked = Check(message, server.context);
    status = checked.status();
    if (!status.ok()) return nullptr;
    auto prompts = EncodePrompts(*checked, server.context);
    status = prompts.status();
    if (!status.ok()) return nullptr;
    return std::make_unique<Generation>(*std::move(checked), *std::move(prompts), server.context, 10);
  }
  std::unique_ptr<Generation> Completion(Json change) {
    Json body = {{"model", "fake"}, {"prompt", "hi"}};
    if (!change.is_null()) body.update(change);
    return Make<v1::CompletionRequest>(body);
  }
  std::unique_ptr<Generation> Chat(Json change) {
    Json body = {{"model", "fake"}, {"messages", {{{"role", "user"}, {"content", "hi"}}}}};
    if (!change.is_null()) body.update(change);
    return Make<v1::ChatCompletionRequest>(body);
  }
  static Json Collect(Generation& g) {
    CompletionCollector collector(g);
    while (auto piece = g.Next()) collector.Add(CompletionChunk(g, *piece));
    return Json::parse(ToOpenAi(collector.Take(g), {g.request().return_token_ids, false}, false));
  }
  static Json CollectChat(Generation& g) {
    ChatCollector collector(g);
    while (auto piece = g.Next()) collector.Add(ChatChunk(g, *piece));
    return Json::parse(ToOpenAi(collector.Take(g), {g.request().return_token_ids, false}));
  }

  TestServer server;
  absl::Status status;
};

}  // namespace pangea
