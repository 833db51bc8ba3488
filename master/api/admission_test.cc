// Who comes in and who is sent away before any work is done, through both doors.
#include <grpcpp/grpcpp.h>

#include "master/api/doors_test_util.h"
#include "master/api/generation/gate.h"
#include "protos/generation.grpc.pb.h"

namespace pangea {
namespace {

// The SHA-256 of "abc" and of "".
constexpr char kKeys[] =
    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad alice 3\n"
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 nobody\n";
constexpr char kAlice[] = "Authorization: Bearer abc\r\n";

class AdmissionTest : public DoorsTest {
 protected:
  void UseKeys() {
    std::vector<std::string> faults;
    keys = KeyRing::Parse(kKeys, "keys", &faults);
    ASSERT_TRUE(faults.empty());
    server.context.keys = &keys;
  }
  void Queued(int count) {
    std::lock_guard lock(server.engine.mutex);
    server.engine.published.queued = count;
  }
  // The head of a chat request whose body does not come.
  static std::string HeadOnly(const std::string& headers, size_t length = 1000) {
    return absl::StrCat("POST ", kChat, " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n", headers,
                        "Content-Length: ", length, "\r\n\r\n");
  }
  grpc::Status Ask(const std::string& authorization, grpc::ClientContext* context) {
    auto stub = v1::Generation::NewStub(grpc::CreateChannel(doors->grpc_address(), grpc::InsecureChannelCredentials()));
    v1::ChatCompletionRequest request;
    auto* message = request.add_messages();
    message->set_role("user");
    message->mutable_content()->set_string_value("hi");
    request.set_model("fake");
    v1::ChatCompletionResponse response;
    if (!authorization.empty()) context->AddMetadata("authorization", authorization);
    return stub->ChatCompletion(context, request, &response);
  }
  KeyRing keys;
};

TEST_F(AdmissionTest, WrongKeyIsRefusedBeforeTheBodyIsSent) {
  UseKeys();
  Open();
  for (const char* headers : {"", "Authorization: Bearer abd\r\n", "Authorization: Basic abc\r\n"}) {
    const Reply reply = Call(HeadOnly(headers));  // waits for the answer alone
    EXPECT_EQ(reply.status, 401) << headers;
    EXPECT_NE(reply.head.find("WWW-Authenticate: Bearer\r\n"), std::string::npos) << reply.head;
    const Json error = reply.json()["error"];
    EXPECT_EQ(error["type"], "invalid_request_error");
    EXPECT_EQ(error["code"], "invalid_api_key");
    EXPECT_EQ(error["param"], Json());
    EXPECT_EQ(reply.body.find("abd"), std::string::npos);
  }
  EXPECT_TRUE(server.engine.submitted.empty());
}

TEST_F(AdmissionTest, TheKeyReachesTheEngineWithItsWeight) {
  UseKeys();
  Open();
  Answering("hello");
  EXPECT_EQ(Call(Post(kChat, ChatBody(), kAlice)).status, 200);
  const SequenceRequest request = server.engine.WaitSubmitted(1);
  EXPECT_EQ(request.account, 1u);
  EXPECT_EQ(request.weight, 3);
  grpc::ClientContext right, wrong, none;
  EXPECT_TRUE(Ask("Bearer abc", &right).ok());
  EXPECT_EQ(server.engine.WaitSubmitted(2).account, 1u);
  EXPECT_EQ(Ask("Bearer abd", &wrong).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Ask("", &none).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(server.engine.submitted.size(), 2u);
}

TEST_F(AdmissionTest, HealthVersionAndMetricsNeedNoKey) {
  UseKeys();
  Open();
  const auto get = [&](const std::string& path, const std::string& headers = "") {
    return Call(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n", headers, "\r\n")).status;
  };
  for (const char* path : {"/health", "/health/live", "/health/ready", "/version"}) EXPECT_EQ(get(path), 200) << path;
  EXPECT_EQ(get("/nothing"), 404);
  for (const char* path : {"/v1/models", "/v1/models/fake"}) {
    EXPECT_EQ(get(path), 401) << path;
    EXPECT_EQ(get(path, kAlice), 200) << path;
  }
  EXPECT_EQ(Call(Post("/tokenize", R"({"prompt":"ab"})")).status, 401);
  EXPECT_EQ(Call(Post("/tokenize", R"({"prompt":"ab"})", kAlice)).status, 200);
}

TEST_F(AdmissionTest, FullQueueIsRefusedBeforeTheBodyIsSent) {
  server.deployment.limits.queue = 8;
  Open();
  Answering("canary");
  Queued(8);
  const Reply full = Call(HeadOnly(""));
  EXPECT_EQ(full.status, 429);
  EXPECT_NE(full.head.find("Retry-After: 1\r\n"), std::string::npos) << full.head;
  EXPECT_EQ(Call(Post("/tokenize", R"({"prompt":"ab"})")).status, 200) << "needs no place in the queue";
  grpc::ClientContext context;
  EXPECT_EQ(Ask("", &context).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const auto& trailing = context.GetServerTrailingMetadata();
  ASSERT_NE(trailing.find("retry-after"), trailing.end());
  EXPECT_EQ(trailing.find("grpc-retry-pushback-ms")->second, "1000");
  EXPECT_TRUE(server.engine.submitted.empty());
  Queued(7);
  Canary();
}

TEST_F(AdmissionTest, RequestWithManyPromptsTakesOnePlaceInTheQueue) {
  server.deployment.limits.queue = 1;
  Open();
  int refused = 0;
  server.engine.on_submit = [&](const SequenceRequest& request) {
    if (!request.follows && std::exchange(refused, 1) > 0) return absl::ResourceExhaustedError("the queue is full");
    doors->Deliver({Ids(request.request, 0, "x", FinishReason::kLength)});
    return absl::OkStatus();
  };
  const Json body = {{"prompt", {"a", "b", "c", "d"}}, {"max_tokens", 1}};
  const Reply reply = Call(Post(kCompletion, body.dump()));
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.json()["choices"].size(), 4u);
  EXPECT_EQ(Call(Post(kCompletion, body.dump())).status, 429);
  EXPECT_EQ(server.engine.submitted.size(), 5u) << "nothing of a request is begun that is refused";
}

// The context may be longer than the cache.
TEST_F(AdmissionTest, APromptThatTheCacheCannotHoldIsAnOverflow) {
  Open();
  server.engine.on_submit = [](const SequenceRequest&) {
    return absl::InvalidArgumentError("no room in the KV cache");
  };
  const Reply reply = Call(Post(kChat, ChatBody()));
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["code"], "context_length_exceeded");
  EXPECT_EQ(reply.json()["error"]["param"], "messages");
  EXPECT_EQ(reply.json()["error"]["message"].get<std::string>().find("This model's maximum context length is 128 tok"),
            0u);
}

TEST_F(AdmissionTest, ALimitOfRequestsUnderOneKey) {
  server.deployment.limits.requests_per_key = 1;
  UseKeys();
  Open();
  Socket first(doors->rest_url());
  first.Send(Post(kChat, ChatBody(), kAlice));
  const uint64_t id = server.engine.WaitSubmitted(1).request;
  const Reply second = Call(HeadOnly(kAlice));
  EXPECT_EQ(second.status, 429);
  EXPECT_NE(second.head.find("Retry-After: "), std::string::npos);
  doors->Deliver({Ids(id, 0, "x", FinishReason::kLength)});
  EXPECT_EQ(TakeReply(first).status, 200);
  Answering("canary");
  EXPECT_EQ(Call(Post(kChat, ChatBody(), kAlice)).status, 200);
}

TEST_F(AdmissionTest, BodiesCountAgainstTheBudgetUntilTheirRequestsEnd) {
  server.deployment.limits.bodies = server.deployment.limits.body = 10000;
  Open();
  const std::string large = ChatBody({{"user", std::string(6000, 'x')}});
  Socket first(doors->rest_url());
  first.Send(Post(kChat, large));
  const uint64_t id = server.engine.WaitSubmitted(1).request;
  EXPECT_EQ(Call(HeadOnly("", large.size())).status, 429) << "told by its length alone";
  const std::string chunked =
      absl::StrCat("POST ", kChat, " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n",
                   "Transfer-Encoding: chunked\r\n\r\n1388\r\n", std::string(5000, ' '), "\r\n");
  const Reply counted = Call(chunked);
  EXPECT_EQ(counted.status, 429) << "its length is known only when it is read";
  EXPECT_NE(counted.head.find("Retry-After: "), std::string::npos);
  doors->Deliver({Ids(id, 0, "x", FinishReason::kLength)});
  EXPECT_EQ(TakeReply(first).status, 200);
  Answering("canary");
  EXPECT_EQ(Call(Post(kChat, large)).status, 200);
}

TEST_F(AdmissionTest, DeadlinesReachTheEngineAndEndTheRequest) {
  server.deployment.limits.request_seconds = 100;
  Open();
  const auto left = [](const SequenceRequest& request) {
    return request.deadline - std::chrono::duration<double>(Caller::Clock::now().time_since_epoch()).count();
  };
  const Reply late = Call(Post(kChat, ChatBody(), "X-Request-Timeout: 0.2\r\n"));
  EXPECT_EQ(late.status, 504);
  EXPECT_EQ(late.json()["error"]["code"], "timeout");
  const SequenceRequest request = server.engine.WaitSubmitted(1);
  EXPECT_LE(left(request), 0);
  EXPECT_TRUE(server.engine.WaitCancelled(request.request));
  for (const char* bad : {"soon", "-1", "0", "nan"})
    EXPECT_EQ(Call(HeadOnly(absl::StrCat("X-Request-Timeout: ", bad, "\r\n"))).status, 400) << bad;
  Answering("canary");
  Canary();
  EXPECT_GT(left(server.engine.WaitSubmitted(2)), 50) << "without one, the server's own";
  EXPECT_LE(left(server.engine.WaitSubmitted(2)), 100);
  EXPECT_EQ(Call(Post(kChat, ChatBody(), "X-Request-Timeout: 1e9\r\n")).status, 200);
  EXPECT_LE(left(server.engine.WaitSubmitted(3)), 100) << "nobody may stay longer than the server allows";
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  EXPECT_TRUE(Ask("", &context).ok());
  EXPECT_LE(left(server.engine.WaitSubmitted(4)), 20.1) << "gRPC rounds what is left up";
}

}  // namespace
}  // namespace pangea
