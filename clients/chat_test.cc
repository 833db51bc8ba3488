// Conversations, apart from the terminal: history, commands, what is told after an answer, files.
#include "clients/chat.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "clients/conversation.h"
#include "clients/fake_http_server.h"
#include "nlohmann/json.hpp"

namespace pangea::clients {
namespace {

using nlohmann::json;
using Connection = FakeHttpServer::Connection;

// A place in the temporary folder that other runs of this test do not use.
std::string Temp(const std::string& name) {
  return testing::TempDir() + "/chat_test_" + std::to_string(getpid()) + "_" + name;
}

// A server that answers a chat with the number of messages it was sent and the last one's text. It fails for the
// message "fail" and the seed 13.
void Echo(const FakeHttpServer::Request& request, Connection& connection) {
  const json body = json::parse(request.body);
  const std::string last = body["messages"].back()["content"];
  const std::string first = body["messages"].front()["content"];
  if (first.starts_with("at most ") && body["messages"].size() > std::stoul(first.substr(8))) {
    const char* error = R"({"error":{"message":"too long","param":"messages","code":"context_length_exceeded"}})";
    connection.Write(FakeHttpServer::Json(400, error));
    return;
  }
  if (last == "fail" || body.value("seed", 0) == 13) {
    connection.Write(FakeHttpServer::Json(400, R"({"error":{"message":"no \u001b[2J"}})"));
    return;
  }
  connection.Write(Connection::kEventStream);
  const std::string text = std::to_string(body["messages"].size()) + ":" + last;
  if (last != "say nothing") connection.Event(json({{"choices", {{{"delta", {{"content", text}}}}}}}).dump());
  if (last == "wait") connection.WaitForClose();
  connection.Event("[DONE]");
  connection.Chunk("");
}

struct ChatRun {
  int status = 0;
  std::string out, err;
  std::vector<Message> history;
  size_t requests = 0;
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
  run.requests = server.requests().size();
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

TEST(Chat, WhatWasDroppedIsToldAlsoWhenTheAnswerIsEmpty) {
  const ChatRun run = Talk("a\nsay nothing\n", {.system = "at most 3", .interactive = false, .terminal = false});
  EXPECT_EQ(run.out, "2:a\n\n");
  EXPECT_EQ(run.err, "[the context is full: the oldest turn was dropped]\n");
}

TEST(Chat, ALongConversationIsDroppedInFewRequests) {
  const std::string file = Temp("long_conversation.json");
  std::vector<Message> messages = {{"system", "at most 20"}};
  for (int i = 0; i < 100; ++i) {
    messages.push_back({"user", "question " + std::to_string(i)});
    messages.push_back({"assistant", "answer"});
  }
  ASSERT_TRUE(SaveConversation(file, "m", messages).ok());
  const ChatRun run = Talk("/load " + file + "\nlast\n", {.interactive = true, .terminal = false});
  // 1, 2, 4, 8, 16 and 32 turns go, then half of the 37 that are left, of 19, of 10: five can stay.
  EXPECT_EQ(run.requests, 10u);
  EXPECT_NE(run.err.find("[the context is full: the oldest 95 turns were dropped]"), std::string::npos) << run.err;
  ASSERT_EQ(run.history.size(), 13u);
  EXPECT_EQ(run.history[0].content, "at most 20") << "the system message stays";
  EXPECT_EQ(run.history[1].content, "question 95");
  EXPECT_EQ(run.history[12].content, "12:last");
  std::remove(file.c_str());
}

TEST(Chat, OverflowIsRecognisedInTheWordsOfOtherServers) {
  const char* const kFull[] = {
      "This model's maximum context length is 8192 tokens, but the request has 9031",  // vLLM, OpenAI, Pangea
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

TEST(Chat, ARetryThatFailsLosesNothing) {
  const ChatRun run = Talk("a\n/set seed 13\n/retry\n/set seed default\nb\n/retry\n", {.terminal = false});
  EXPECT_EQ(run.out, "1:a\n3:b\n3:b\n");
  EXPECT_EQ(Contents(run.history), (Texts{"a", "1:a", "b", "3:b"}));
}

TEST(Chat, ARetryOfWhatFailedKeepsAnEarlierTurnOfTheSameText) {
  const ChatRun run = Talk("a\n/set seed 13\na\n/set seed default\n/retry\n", {.terminal = false});
  EXPECT_EQ(run.out, "1:a\n3:a\n");
  EXPECT_EQ(Contents(run.history), (Texts{"a", "1:a", "a", "3:a"}));
}

TEST(Chat, ALoadedConversationThatEndsInAQuestionIsRetried) {
  const std::string file = Temp("question.json");
  std::ofstream(file) << R"([{"role":"user","content":"q"}])";
  const ChatRun run = Talk("/load " + file + "\n/retry\n/retry\n", {.terminal = false});
  EXPECT_EQ(run.out, "1:q\n1:q\n");
  EXPECT_EQ(Contents(run.history), (Texts{"q", "1:q"}));
  std::remove(file.c_str());
}

TEST(Chat, AReadThatFailsIsAnError) {
  Chat chat(nullptr, {}, {});
  std::ostringstream out, err;
  Canceller canceller;
  EXPECT_EQ(chat.Run([](std::string&) { return LineRead::kFailed; }, out, err, &canceller), 1);
  EXPECT_EQ(err.str(), "error: no more can be read from the terminal\n");
}

TEST(Chat, WhatIsToldAfterAnAnswer) {
  const auto answer = [](int64_t tokens, double seconds, const char* reason, int64_t hidden = 0) {
    return Answer{.finish_reason = reason, .completion_tokens = tokens, .hidden_tokens = hidden, .seconds = seconds};
  };
  constexpr char kServer[] = "cut off by length: the server's limit, or the context is full";
  const struct {
    Answer answer;
    std::optional<int64_t> max_tokens;
    std::string said;
  } kCases[] = {
      {answer(0, 0, ""), std::nullopt, ""},
      {answer(0, 2, "stop"), 5, ""},
      {answer(1, 0, "stop"), std::nullopt, "[1 token]"},
      {answer(11, 2, "stop"), std::nullopt, "[11 tokens, 5.0 tokens/s]"},
      {answer(11, 0, "stop"), std::nullopt, "[11 tokens]"},            // it came whole
      {answer(1011, 2, "stop", 1000), std::nullopt, "[1011 tokens]"},  // most of them before the first event
      {answer(11, 2, "length"), 11, "[11 tokens, 5.0 tokens/s, cut off by length: max_tokens = 11]"},
      {answer(11, 2, "length"), 20, std::string("[11 tokens, 5.0 tokens/s, ") + kServer + "]"},
      {answer(11, 2, "length"), std::nullopt, std::string("[11 tokens, 5.0 tokens/s, ") + kServer + "]"},
      {answer(0, 2, "length"), 20, "[cut off by length: max_tokens = 20]"},  // a server that counts nothing
      {answer(0, 2, "length"), std::nullopt, std::string("[") + kServer + "]"},
  };
  for (const auto& c : kCases) EXPECT_EQ(Ending(c.answer, c.max_tokens), c.said);
}

TEST(Chat, HelpGoesToTheTerminalAlone) {
  const ChatRun run = Talk("/help\n", {.interactive = true, .terminal = false});
  EXPECT_EQ(run.out, "");
  EXPECT_NE(run.err.find("/retry"), std::string::npos);
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
  const std::string file = Temp("conversation.json");
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

TEST(Conversation, WhatIsNoFileOfAConversationIsRefused) {
  const std::string folder = Temp("folder");
  std::filesystem::create_directory(folder);
  EXPECT_EQ(LoadConversation(folder).status(), absl::NotFoundError("cannot read " + folder + ": Is a directory"));
  EXPECT_EQ(SaveConversation(folder, "m", {}), absl::UnavailableError("cannot write " + folder + ": Is a directory"));
  const std::string file = folder + "/large.json";
  std::ofstream(file) << "[]";
  EXPECT_TRUE(LoadConversation(file).ok());
  constexpr size_t kDeep = 4 << 20;  // lists within lists
  std::ofstream(file) << "{\"messages\":" << std::string(kDeep, '[') << std::string(kDeep, ']') << "}";
  EXPECT_EQ(LoadConversation(file).status().code(), absl::StatusCode::kInvalidArgument);
  std::ofstream(file) << "[]";
  std::ofstream(file, std::ios::app) << std::string((64 << 20) - 1, ' ');  // one byte too many
  EXPECT_EQ(LoadConversation(file).status(), absl::InvalidArgumentError(file + " is larger than 64 MiB"));
  std::filesystem::remove_all(folder);
}

TEST(Conversation, OnlyConversationsAreReplaced) {
  const std::filesystem::path folder = std::filesystem::path(Temp("only_conversations"));
  std::filesystem::create_directory(folder);
  const std::string file = folder / "file", link = folder / "link";
  const std::vector<Message> messages = {{"user", "a"}};
  const auto read = [](const std::string& name) {
    std::ifstream in(name);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  std::ofstream(file) << "precious";
  EXPECT_EQ(SaveConversation(file, "m", messages).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(read(file), "precious");
  EXPECT_EQ(SaveConversation("/dev/null", "m", messages).code(), absl::StatusCode::kFailedPrecondition);
  std::ofstream(file).close();  // empty
  ASSERT_TRUE(SaveConversation(file, "m", messages).ok());
  ASSERT_EQ(symlink("file", link.c_str()), 0);
  ASSERT_TRUE(SaveConversation(link, "m", {{"user", "b"}}).ok());
  EXPECT_EQ(Contents(*LoadConversation(file)), Texts{"b"});
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  struct stat status;
  ASSERT_EQ(stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u) << "what was said is nobody else's business";
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files += !entry.path().empty();
  EXPECT_EQ(files, 2u) << "nothing half written is left";
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace pangea::clients
