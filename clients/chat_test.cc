// Conversations, apart from the terminal: history, commands, what is told after an answer, files.
#include "clients/chat.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "clients/conversation.h"
#include "clients/fake_http_server.h"
#include "nlohmann/json.hpp"

namespace pangea::clients {
namespace {

using nlohmann::json;
using Connection = FakeHttpServer::Connection;

// A server that answers a chat with the number of messages it was sent and the last one's text.
void Echo(const FakeHttpServer::Request& request, Connection& connection) {
  const json body = json::parse(request.body);
  const std::string last = body["messages"].back()["content"];
  const std::string first = body["messages"].front()["content"];
  if (first.starts_with("at most ") && body["messages"].size() > std::stoul(first.substr(8))) {
    const char* error = R"({"error":{"message":"too long","param":"messages","code":"context_length_exceeded"}})";
    connection.Write(FakeHttpServer::Json(400, error));
    return;
  }
  if (last == "fail") {
    connection.Write(FakeHttpServer::Json(400, R"({"error":{"message":"no \u001b[2J"}})"));
    return;
  }
  connection.Write(Connection::kEventStream);
  const std::string text = std::to_string(body["messages"].size()) + ":" + last;
  connection.Event(json({{"choices", {{{"delta", {{"content", text}}}}}}}).dump());
  if (last == "wait") connection.WaitForClose();
  connection.Event("[DONE]");
  connection.Chunk("");
}

struct ChatRun {
  int status = 0;
  std::string out, err;
  std::vector<Message> history;
};
ChatRun Talk(const std::string& lines, ChatOptions options) {
  FakeHttpServer server(Echo);
  Endpoint endpoint;
  endpoint.rest = server.url();
  const auto client = *Client::Create(endpoint);
  GenerateRequest request;
  request.model = "m";
  request.timeout_seconds = 60;
  Chat chat(client.get(), request, options);
  std::istringstream in(lines);
  std::ostringstream out, err;
  Canceller canceller;
  ChatRun run;
  run.status = chat.Run(LinesOf(in), out, err, &canceller);
  run.out = out.str(), run.err = err.str(), run.history = chat.history();
  EXPECT_FALSE(chat.answering());
  return run;
}

TEST(Chat, KeepsItsHistory) {
  const ChatRun run = Talk("hi\n\nyou\r\n", {.system = "s", .interactive = false, .terminal = false});
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(run.out, "2:hi\n4:you\n");
  EXPECT_EQ(run.err, "");
  ASSERT_EQ(run.history.size(), 5u);
  EXPECT_EQ(run.history[4].role, "assistant");
  EXPECT_EQ(run.history[4].content, "4:you");
}

TEST(Chat, AFailedTurnIsForgotten) {
  const ChatRun piped = Talk("hi\nfail\nyou\n", {.interactive = false, .terminal = false});
  EXPECT_EQ(piped.status, 1);
  EXPECT_EQ(piped.out, "1:hi\n");
  EXPECT_EQ(piped.err, "error: no \uFFFD[2J\n");
  const ChatRun typed = Talk("hi\nfail\nyou\n", {.interactive = true, .terminal = true});
  EXPECT_EQ(typed.status, 0);
  EXPECT_EQ(typed.out, "1:hi\n3:you\n");
}

TEST(Chat, CommandsAreForTerminals) {
  const ChatRun typed = Talk("a\n/reset\nb\n/help\n/exit\nc\n", {.interactive = true, .terminal = true});
  EXPECT_NE(typed.out.find("1:a"), std::string::npos);
  EXPECT_NE(typed.out.find("1:b"), std::string::npos);
  EXPECT_EQ(typed.out.find(":c"), std::string::npos);
  EXPECT_EQ(Talk("/reset\n", {.interactive = false, .terminal = false}).out, "1:/reset\n");
}

TEST(Chat, CancelKeepsWhatWasSaid) {
  FakeHttpServer server(Echo);
  Endpoint endpoint;
  endpoint.rest = server.url();
  const auto client = *Client::Create(endpoint);
  GenerateRequest request;
  request.model = "m";
  Canceller canceller;
  // An output that interrupts when the answer's first text arrives.
  struct Interrupting : std::stringbuf {
    Canceller* canceller = nullptr;
    std::streamsize xsputn(const char* s, std::streamsize n) override {
      if (std::string_view(s, static_cast<size_t>(n)).find("wait") != std::string_view::npos) canceller->Cancel();
      return std::stringbuf::xsputn(s, n);
    }
  } buffer;
  buffer.canceller = &canceller;
  std::ostream out(&buffer);
  std::ostringstream err;
  std::istringstream in("wait\nnext\n");
  Chat chat(client.get(), request, {.interactive = true, .terminal = false});
  EXPECT_EQ(chat.Run(LinesOf(in), out, err, &canceller), 0);
  EXPECT_NE(buffer.str().find("3:next"), std::string::npos) << buffer.str();
  EXPECT_EQ(chat.history()[1].content, "1:wait");
  EXPECT_EQ(err.str(), "[stopped]\n");
}

std::vector<std::string> Contents(const std::vector<Message>& messages) {
  std::vector<std::string> out;
  for (const Message& message : messages) out.push_back(message.content);
  return out;
}
using Texts = std::vector<std::string>;

TEST(Chat, TheOldestTurnsGoWhenTheContextIsFull) {
  const ChatRun run = Talk("a\nb\nc\n", {.system = "at most 4", .interactive = false, .terminal = false});
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(run.err, "[the context is full: the oldest turn was dropped]\n");
  EXPECT_EQ(Contents(run.history), (Texts{"at most 4", "b", "4:b", "c", "4:c"}));
  // One message alone is too much: an error, and nothing is forgotten for it.
  const ChatRun none = Talk("a\n", {.system = "at most 1", .interactive = false, .terminal = false});
  EXPECT_EQ(none.status, 1);
  EXPECT_EQ(none.err, "error: too long (messages)\n");
  EXPECT_EQ(Contents(none.history), Texts{"at most 1"});
}

TEST(Chat, OverflowIsRecognisedInTheWordsOfOtherServers) {
  const char* const kFull[] = {
      "This model's maximum context length is 8192 tokens, but the request has 9031",  // vLLM, OpenAI
      "the request exceeds the available context size",                                // llama-server
  };
  for (const char* text : kFull) {
    EXPECT_TRUE(IsContextFull(absl::InvalidArgumentError(text))) << text;
    EXPECT_FALSE(IsContextFull(absl::UnavailableError(text))) << text;
  }
  EXPECT_FALSE(IsContextFull(absl::InvalidArgumentError("temperature is too high")));
  EXPECT_FALSE(IsContextFull(absl::OkStatus()));
}

TEST(Chat, RetryAsksAgainWithoutTheAnswer) {
  const ChatRun run = Talk("a\nb\n/retry\n", {.interactive = true, .terminal = false});
  EXPECT_EQ(run.out, "1:a\n3:b\n3:b\n");
  EXPECT_EQ(Contents(run.history), (Texts{"a", "1:a", "b", "3:b"}));
  EXPECT_EQ(Talk("/retry\n", {.interactive = true}).err, "nothing was asked yet\n");
  const ChatRun failed = Talk("fail\n/retry\n", {.interactive = true});
  EXPECT_EQ(failed.err, "error: no \uFFFD[2J\nerror: no \uFFFD[2J\n") << "what failed can be tried again too";
}

TEST(Chat, TheSystemMessageIsSetAndTakenAway) {
  const ChatRun run =
      Talk("a\n/system one\nb\n/system two\n/reset\nc\n/system -\nd\n", {.system = "", .terminal = false});
  EXPECT_EQ(run.out, "1:a\n4:b\n2:c\n3:d\n");
  EXPECT_EQ(Contents(run.history), (Texts{"c", "2:c", "d", "3:d"}));
}

TEST(Chat, SlashesThatAreNoCommands) {
  const ChatRun run = Talk("//x\n///y\n/nope\n/exit now\nz\n", {.terminal = false});
  EXPECT_EQ(run.out, "1:/x\n3://y\n5:z\n");
  EXPECT_NE(run.err.find("unknown command /nope"), std::string::npos) << run.err;
  EXPECT_NE(run.err.find("/exit takes nothing after it"), std::string::npos) << run.err;
}

TEST(Conversation, WhatIsSavedIsLoaded) {
  const std::string file = testing::TempDir() + "/conversation.json";
  const std::vector<Message> messages = {{"system", "s"}, {"user", "two\nlines \"quoted\" größe"}, {"assistant", ""}};
  ASSERT_TRUE(SaveConversation(file, "m", messages).ok());
  const auto loaded = LoadConversation(file);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(Contents(*loaded), Contents(messages));
  EXPECT_EQ((*loaded)[1].role, "user");
  EXPECT_FALSE(SaveConversation("/no/such/folder/file", "m", messages).ok());
  EXPECT_EQ(LoadConversation("/no/such/file").status().code(), absl::StatusCode::kNotFound);
  const struct {
    const char* text;
    size_t messages;  // 0: refused
  } kFiles[] = {{R"([{"role":"user","content":"a"}])", 1},
                {R"({"messages":[{"role":"user","content":"a"}]})", 1},
                {"{}", 0},
                {"", 0},
                {"[1]", 0},
                {R"([{"role":"user"}])", 0},
                {R"([{"role":"user","content":[]}])", 0},
                {R"({"messages":3})", 0}};
  for (const auto& f : kFiles) {
    std::ofstream(file) << f.text;
    const auto read = LoadConversation(file);
    EXPECT_EQ(read.ok() ? read->size() : 0, f.messages) << f.text;
  }
  std::remove(file.c_str());
}

}  // namespace
}  // namespace pangea::clients
