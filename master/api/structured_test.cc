// Answers that follow a form, through REST's door: the engine is told what may come next, id by id.
#include <bit>

#include "master/api/doors_test_util.h"

namespace pangea {
namespace {

using StructuredTest = DoorsTest;

std::string Body(const std::string& answer, const Json& change = Json::object()) {
  Json more = change;
  more["guided_regex"] = answer;  // FakeGrammars: the one answer that follows it
  return ChatBody(more);
}

int32_t OnlyId(const AllowedIds& allowed) {
  EXPECT_FALSE(allowed.others);
  EXPECT_EQ(allowed.words.size(), 1u);
  if (allowed.words.size() != 1) return -1;
  return allowed.words[0].first * 64 + std::countr_zero(allowed.words[0].second);
}

TEST_F(StructuredTest, EachIdIsDrawnUnderTheMaskOfThoseBeforeIt) {
  Open();
  Socket s(doors->rest_url());
  ASSERT_TRUE(s.Send(Post(kChat, Body("ab"))));
  const SequenceRequest request = server.engine.WaitSubmitted(1);
  EXPECT_TRUE(request.masked);
  const std::string answer = "ab";
  for (int i = 0; i <= 2; ++i) {
    const auto mask = server.engine.WaitMasked(i + 1);
    EXPECT_EQ(mask.request, request.request);
    EXPECT_EQ(mask.choice, 0);
    EXPECT_EQ(mask.index, i);
    EXPECT_EQ(OnlyId(mask.allowed), i < 2 ? answer[i] : kFakeEnd);
    if (i < 2) doors->Deliver({Ids(request.request, 0, answer.substr(i, 1))});
  }
  doors->Deliver({IdList(request.request, 0, {kFakeEnd}, FinishReason::kStop)});
  const Reply reply = TakeReply(s);
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.json()["choices"][0]["message"]["content"], "ab");
  EXPECT_EQ(reply.json()["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(server.engine.masks.size(), 3u) << "none behind the end";
}

TEST_F(StructuredTest, ChoicesGoTheirOwnWays) {
  Open();
  Socket s(doors->rest_url());
  ASSERT_TRUE(s.Send(Post(kChat, Body("ab", {{"n", 2}}))));
  const uint64_t request = server.engine.WaitSubmitted(1).request;
  for (int i = 0; i < 2; ++i) EXPECT_EQ(OnlyId(server.engine.WaitMasked(i + 1).allowed), 'a');
  doors->Deliver({Ids(request, 1, "a")});
  const auto mask = server.engine.WaitMasked(3);
  EXPECT_EQ(mask.choice, 1);
  EXPECT_EQ(mask.index, 1);
  EXPECT_EQ(OnlyId(mask.allowed), 'b');
}

TEST_F(StructuredTest, WhatIsNoGrammarIsRefusedBeforeAnythingIsBegun) {
  Open();
  Socket s(doors->rest_url());
  ASSERT_TRUE(s.Send(Post(kChat, Body("?"))));
  const Reply reply = TakeReply(s);
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["param"], "guided_regex");
  EXPECT_EQ(reply.json()["error"]["message"], "'guided_regex': no grammar");
  EXPECT_TRUE(server.engine.submitted.empty());
}

// A grammar that takes too much on its way ends the request; it never goes on without.
TEST_F(StructuredTest, AMaskThatCannotBeMadeEndsTheRequest) {
  Open();
  Socket s(doors->rest_url());
  ASSERT_TRUE(s.Send(Post(kChat, Body("a!"))));
  const uint64_t request = server.engine.WaitSubmitted(1).request;
  server.engine.WaitMasked(1);
  doors->Deliver({Ids(request, 0, "a")});
  const Reply reply = TakeReply(s);
  EXPECT_EQ(reply.status, 400) << reply.body;
  EXPECT_EQ(reply.json()["error"]["param"], "guided_regex");
  EXPECT_TRUE(server.engine.WaitCancelled(request));
  EXPECT_EQ(server.engine.masks.size(), 1u);
}

}  // namespace
}  // namespace pangea
