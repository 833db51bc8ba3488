// What the log and the counters say of requests.
#include "master/api/generation/request_log.h"

#include <grpcpp/grpcpp.h>

#include "absl/strings/match.h"
#include "configs/log_test_util.h"
#include "master/api/doors_test_util.h"
#include "master/api/openai/api_error.h"
#include "protos/generation.grpc.pb.h"

namespace pangea {
namespace {

using Clock = RequestRecord::Clock;

TEST(RequestText, SaysWhatTheRequestTookAndGave) {
  const auto begun = Clock::now();
  RequestRecord record{.what = "POST /v1/completions", .status = "200", .id = "abc-1", .begun = begun};
  const auto later = begun + std::chrono::milliseconds(1250);
  EXPECT_EQ(RequestText(record, "alice", later), "POST /v1/completions 200 id=abc-1 key=alice duration=1.250s");
  record.use = {.prompt = 37, .cached = 16, .generated = 8, .first_token = 0.0414, .end = "stop"};
  EXPECT_EQ(RequestText(record, "alice", later),
            "POST /v1/completions 200 id=abc-1 key=alice prompt=37 cached=16 generated=8 first_token=0.041s "
            "duration=1.250s end=stop");
  record.use->first_token.reset();
  record.use->end = "error";
  record.reason = "no numbers";
  EXPECT_EQ(RequestText(record, "-", later),
            "POST /v1/completions 200 id=abc-1 key=- prompt=37 cached=16 generated=8 duration=1.250s end=error: no "
            "numbers");
}

TEST(RequestText, IdsThatCouldForgeALineAreReplaced) {
  EXPECT_EQ(RequestId("abc-1"), "abc-1");
  for (const std::string& bad : {std::string(), std::string("a b"), std::string("a\nb"), std::string("\x1b[2J"),
                                 std::string("é"), std::string(129, 'a')})
    EXPECT_TRUE(absl::StartsWith(RequestId(bad), "req-")) << bad;
}

// A chat template may refuse a conversation by quoting it.
TEST(RequestText, TemplateErrorsAreNotLoggedWordForWord) {
  EXPECT_EQ(LogReason(BadParam("temperature", "'temperature' is too hot")), "'temperature' is too hot");
  EXPECT_EQ(LogReason(Unlogged(BadParam("messages", "I will not talk of \"my secret\""))),
            "'messages' was refused by the model's chat template or tokenizer");
}

TEST(Throughput, ALineEveryTenSecondsOfWork) {
  Throughput throughput;
  const auto at = [](double seconds) {
    return Clock::time_point(std::chrono::hours(1)) +
           std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  };
  EngineStats idle, busy;
  busy.running = 3, busy.waiting = 1, busy.blocks = 200, busy.blocks_free = 150;
  for (int s = 0; s < 100; ++s) EXPECT_EQ(throughput.Look(at(s), 0, 0, idle), std::nullopt) << "nothing is done";
  for (int s = 100; s < 109; ++s) EXPECT_EQ(throughput.Look(at(s), 40, 5, busy), std::nullopt) << s;
  EXPECT_EQ(throughput.Look(at(109), 1000, 5000, busy),
            "throughput: prompt 100.0 tok/s, generation 500.0 tok/s; running 3, waiting 1; KV use 25.0 %");
  for (int s = 110; s < 119; ++s) EXPECT_EQ(throughput.Look(at(s), 1000, 5100, idle), std::nullopt) << s;
  EXPECT_EQ(throughput.Look(at(119), 1000, 5100, idle),
            "throughput: prompt 0.0 tok/s, generation 10.0 tok/s; running 0, waiting 0; KV use 0.0 %")
      << "the end of the work is told too";
  for (int s = 120; s < 200; ++s) EXPECT_EQ(throughput.Look(at(s), 1000, 5100, idle), std::nullopt) << s;
}

class RequestLogTest : public DoorsTest {
 protected:
  void SetUp() override {
    DoorsTest::SetUp();
    server.deployment.log.requests = true;
  }
  CapturedLog log;
};

TEST_F(RequestLogTest, OneLineARequest) {
  std::vector<std::string> faults;
  const KeyRing keys = KeyRing::Parse("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad alice\n",
                                      "keys", &faults);
  server.context.keys = &keys;
  Open();
  EXPECT_NE(log.WaitLine("REST at " + doors->rest_url() + ", gRPC at " + doors->grpc_address()), "");
  Answering("hello");
  const std::string alice = "Authorization: Bearer abc\r\n";
  Call(Post(kChat, ChatBody(), alice + "X-Request-Id: mine\r\n"));
  const std::string line = log.WaitLine("id=mine");
  EXPECT_NE(
      line.find("] POST /v1/chat/completions 200 id=mine key=alice prompt=10 cached=0 generated=5 first_token=0."),
      std::string::npos)
      << line;
  EXPECT_TRUE(absl::EndsWith(line, "s end=length")) << line;
  Call(Post(kChat, ChatBody({{"temperature", 9}}), alice));
  const std::string refused = log.WaitLine(" 400 ");
  EXPECT_NE(refused.find(": 'temperature' must be between 0 and 2"), std::string::npos) << refused;
  Call(Post(kChat, ChatBody()));
  EXPECT_NE(log.WaitLine(" 401 ").find("key=- duration="), std::string::npos);
  Call(Get("/v1/modells%20200%20id=forged?key=secret", alice));
  const std::string none = log.WaitLine("modells");
  EXPECT_NE(none.find("] GET /v1/modells%20200%20id=forged 404 id=req-"), std::string::npos) << none;
  EXPECT_EQ(none.find("secret"), std::string::npos) << none;
  Call(Get("/v1/models/fake", alice));
  EXPECT_NE(log.WaitLine("GET /v1/models/{id} 200 "), "");
  Call("GET /\x01 HTTP/1.1\r\n\r\n");
  EXPECT_NE(log.WaitLine("HTTP 400 "), "") << "what is no request";
}

TEST_F(RequestLogTest, NeverAPromptOrAnAnswer) {
  Open();
  Answering("my answer");
  const Json secret = {{{"role", "user"}, {"content", "my secret"}}};
  Call(Post(kChat, ChatBody({{"messages", secret}})));
  Call(Post(kChat, ChatBody({{"messages", secret}, {"temperature", 9}})));
  Call(Post(kChat, ChatBody({{"messages", secret}, {"chat_template_kwargs", {{"refuse", 1}}}})));
  Call(Post(kCompletion, R"({"model":"fake","prompt":"my secret"})"));
  Call(Post(kCompletion, R"({"model":"fake","prompt":"my secret"},)"));
  Call(Post("/tokenize", R"({"prompt":"my secret","model":"none"})"));
  Call(Get("/version", "X-Request-Id: last\r\n"));
  std::string line, all;
  while (!absl::StrContains(line, "id=last") && !(line = log.WaitLine("] ")).empty()) all += line + "\n";
  EXPECT_TRUE(absl::StrContains(all, "'messages' was refused by the model's chat template")) << all;
  EXPECT_FALSE(absl::StrContains(all, "secret")) << all;
  EXPECT_FALSE(absl::StrContains(all, "answer")) << all;
}

TEST_F(RequestLogTest, GoneClientsAndFailedStreamsAreTold) {
  Open();
  Socket gone(doors->rest_url()), left(doors->rest_url()), failed(doors->rest_url());
  gone.Send(Post(kChat, ChatBody(), "X-Request-Id: gone\r\n"));
  server.engine.WaitSubmitted(1);
  gone.Close();
  std::string line = log.WaitLine("id=gone");
  EXPECT_NE(line.find(" 499 id=gone key=- "), std::string::npos) << line;
  EXPECT_TRUE(absl::EndsWith(line, ": the client has gone")) << line;
  const auto begin = [&](Socket& s, size_t count, const std::string& id) {
    s.Send(Post(kChat, ChatBody({{"stream", true}}), "X-Request-Id: " + id + "\r\n"));
    const uint64_t request = server.engine.WaitSubmitted(count).request;
    doors->Deliver({Ids(request, 0, "some")});
    EXPECT_TRUE(s.ReadUntil("some"));
    return request;
  };
  begin(left, 2, "left");
  left.Close();
  line = log.WaitLine("id=left");
  EXPECT_NE(line.find(" 200 id=left key=- prompt=10 cached=0 generated=4 first_token="), std::string::npos) << line;
  EXPECT_TRUE(absl::EndsWith(line, " end=abort")) << line;
  Output error;
  error.request = begin(failed, 3, "failed");
  error.error = absl::InternalError("no numbers");
  doors->Deliver({error});
  line = log.WaitLine("id=failed");
  EXPECT_NE(line.find(" 200 id=failed key=- prompt=10 cached=0 generated=4 first_token="), std::string::npos) << line;
  EXPECT_TRUE(absl::EndsWith(line, " end=error: no numbers")) << line;
}

TEST_F(RequestLogTest, TheGrpcDoorLogsLikewise) {
  Open();
  Answering("hello");
  auto stub = v1::Generation::NewStub(grpc::CreateChannel(doors->grpc_address(), grpc::InsecureChannelCredentials()));
  v1::ChatCompletionRequest request;
  request.set_model("fake");
  auto* message = request.add_messages();
  message->set_role("user");
  message->mutable_content()->set_string_value("hi");
  const auto ask = [&](const char* id) {
    grpc::ClientContext context;
    context.AddMetadata("x-request-id", id);
    v1::ChatCompletionResponse response;
    const auto status = stub->ChatCompletion(&context, request, &response);
    const auto& trailing = context.GetServerTrailingMetadata();
    const auto sent = trailing.find("x-request-id");
    EXPECT_TRUE(sent != trailing.end() && sent->second == id);
    return status.error_code();
  };
  EXPECT_EQ(ask("one"), grpc::StatusCode::OK);
  const std::string line = log.WaitLine("id=one");
  EXPECT_NE(line.find("] gRPC ChatCompletion OK id=one key=- prompt=10 cached=0 generated=5 first_token="),
            std::string::npos)
      << line;
  EXPECT_TRUE(absl::EndsWith(line, "s end=length")) << line;
  request.set_temperature(9);
  EXPECT_EQ(ask("two"), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(log.WaitLine("gRPC ChatCompletion INVALID_ARGUMENT id=two").find(": 'temperature' must be between 0 and 2"),
            std::string::npos);
  grpc::ClientContext context;
  v1::TokenizeRequest text;
  text.set_prompt("ab");
  v1::TokenizeResponse tokens;
  EXPECT_TRUE(stub->Tokenize(&context, text, &tokens).ok());
  EXPECT_NE(log.WaitLine("gRPC Tokenize OK"), "");
}

TEST_F(RequestLogTest, HealthChecksAreOnlyLoggedAtDebugAndLogRequestsSilences) {
  Open();
  for (const char* path : {"/health", "/metrics", "/health/live"}) Call(Get(path));
  Call(Get("/version", "X-Request-Id: told\r\n"));
  const std::string line = log.WaitLine("id=");
  EXPECT_NE(line.find("GET /version 200 id=told"), std::string::npos) << "told at debug alone: " << line;
  doors.reset();
  server.deployment.log.requests = false;
  Open();
  Call(Get("/version", "X-Request-Id: untold\r\n"));
  Call(Get("/nope"));
  doors.reset();
  EXPECT_FALSE(absl::StrContains(log.Take(), "id="));
}

TEST_F(RequestLogTest, AnswersAreCountedByRouteAndStatus) {
  Open();
  Answering("hello");
  Call(Post(kChat, ChatBody()));
  Call(Post(kChat, ChatBody()));
  Call(Post(kChat, ChatBody({{"temperature", 9}})));
  Call(Get("/v1/models/fake"));
  Call(Get("/v1/models/nope"));
  for (const char* path : {"/nope", "/a", "/b"}) Call(Get(path));  // whatever a client makes up is one label
  Call("nonsense\r\n\r\n");
  const std::string page = Call(Get("/metrics")).body;
  for (const char* line :
       {"{route=\"/v1/chat/completions\",status=\"200\"} 2\n", "{route=\"/v1/chat/completions\",status=\"400\"} 1\n",
        "{route=\"/v1/models/{id}\",status=\"200\"} 1\n", "{route=\"/v1/models/{id}\",status=\"404\"} 1\n",
        "{route=\"other\",status=\"404\"} 3\n", "{route=\"other\",status=\"400\"} 1\n"})
    EXPECT_TRUE(absl::StrContains(page, absl::StrCat("pangea_http_responses_total", line))) << line << page;
}

}  // namespace
}  // namespace pangea
