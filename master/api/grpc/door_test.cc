// The gRPC door, spoken to through its own stubs.
#include <grpcpp/grpcpp.h>

#include <thread>

#include "master/api/doors_test_util.h"
#include "master/api/grpc/health.grpc.pb.h"
#include "protos/generation.grpc.pb.h"

namespace pangea {
namespace {

class GrpcTest : public DoorsTest {
 protected:
  void Connect() {
    Open();
    channel = grpc::CreateChannel(doors->grpc_address(), grpc::InsecureChannelCredentials());
    stub = v1::Generation::NewStub(channel);
  }
  static v1::ChatCompletionRequest Request() {
    v1::ChatCompletionRequest request;
    request.set_model("fake");
    auto* message = request.add_messages();
    message->set_role("user");
    message->mutable_content()->set_string_value("hi");
    return request;
  }
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Generation::Stub> stub;
};

TEST_F(GrpcTest, UnaryAndStream) {
  Connect();
  Answering("hello");
  grpc::ClientContext context;
  v1::ChatCompletionResponse response;
  ASSERT_TRUE(stub->ChatCompletion(&context, Request(), &response).ok());
  EXPECT_EQ(response.choices(0).message().content(), "hello");
  EXPECT_EQ(response.usage().completion_tokens(), 5);
  grpc::ClientContext streaming;
  auto request = Request();
  request.mutable_stream_options()->set_include_usage(true);
  auto reader = stub->ChatCompletionStream(&streaming, request);
  v1::ChatCompletionChunk chunk;
  std::string text, finish;
  int64_t usage = 0;
  while (reader->Read(&chunk)) {
    for (const auto& choice : chunk.choices()) {
      text += choice.delta().content();
      finish += choice.finish_reason();
    }
    usage += chunk.usage().completion_tokens();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "hello");
  EXPECT_EQ(finish, "length");
  EXPECT_EQ(usage, 5);
}

TEST_F(GrpcTest, ErrorsAreTheSameAsOverRest) {
  Connect();
  const auto same = [&](v1::ChatCompletionRequest request, const Json& change, grpc::StatusCode code) {
    grpc::ClientContext context;
    v1::ChatCompletionResponse response;
    const auto status = stub->ChatCompletion(&context, request, &response);
    EXPECT_EQ(status.error_code(), code);
    const Json error = Call(Post(kChat, ChatBody(change))).json()["error"];
    EXPECT_EQ(status.error_message(), error["message"]);
    const auto& metadata = context.GetServerTrailingMetadata();
    const auto sent = metadata.find("error-code");
    const Json named = sent == metadata.end() ? Json() : Json(std::string(sent->second.data(), sent->second.size()));
    EXPECT_EQ(named, error["code"]);
  };
  auto hot = Request(), unknown = Request(), empty = Request();
  hot.set_temperature(9);
  unknown.set_model("nope");
  empty.clear_messages();
  same(hot, {{"temperature", 9}}, grpc::StatusCode::INVALID_ARGUMENT);
  same(unknown, {{"model", "nope"}}, grpc::StatusCode::NOT_FOUND);
  same(empty, {{"messages", Json::array()}}, grpc::StatusCode::INVALID_ARGUMENT);
  auto endless = Request();
  endless.set_max_tokens(1 << 20);
  same(endless, {{"max_tokens", 1 << 20}}, grpc::StatusCode::INVALID_ARGUMENT);
  server.engine.on_submit = [](const SequenceRequest&) { return absl::ResourceExhaustedError("full"); };
  same(Request(), Json::object(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  server.context.health = Health::kLoading;
  same(Request(), Json::object(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(GrpcTest, DeadlineAndCancellationReachTheEngine) {
  Connect();
  grpc::ClientContext late;
  late.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  v1::ChatCompletionResponse response;
  EXPECT_EQ(stub->ChatCompletion(&late, Request(), &response).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(server.engine.WaitCancelled(server.engine.WaitSubmitted(1).request));
  grpc::ClientContext cancelled;
  auto reader = stub->ChatCompletionStream(&cancelled, Request());
  const uint64_t id = server.engine.WaitSubmitted(2).request;
  doors->Deliver({Ids(id, 0, "x")});
  v1::ChatCompletionChunk chunk;
  EXPECT_TRUE(reader->Read(&chunk));
  cancelled.TryCancel();
  EXPECT_TRUE(server.engine.WaitCancelled(id));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(GrpcTest, HealthFollowsTheStateOfTheServer) {
  server.context.health = Health::kLoading;
  Connect();
  auto health = grpc::health::v1::Health::NewStub(channel);
  const auto check = [&](const std::string& service) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    grpc::health::v1::HealthCheckResponse response;
    const auto status = health->Check(&context, request, &response);
    return status.ok() ? static_cast<int>(response.status()) : -status.error_code();
  };
  EXPECT_EQ(check(""), 2);
  server.context.health = Health::kReady;
  EXPECT_EQ(check(""), 1);
  EXPECT_EQ(check("pangea.v1.Generation"), 1);
  EXPECT_EQ(check("nope"), -static_cast<int>(grpc::StatusCode::NOT_FOUND));
  grpc::ClientContext context;
  auto watch = health->Watch(&context, {});
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), 1);
  server.context.health = Health::kDraining;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), 2);
  context.TryCancel();
  watch->Finish();
}

TEST_F(GrpcTest, TextCallsAndModels) {
  Connect();
  grpc::ClientContext a, b, c;
  v1::TokenizeRequest tokenize;
  tokenize.set_prompt("ab");
  v1::TokenizeResponse tokens;
  ASSERT_TRUE(stub->Tokenize(&a, tokenize, &tokens).ok());
  EXPECT_EQ(tokens.count(), 3);
  v1::DetokenizeRequest detokenize;
  detokenize.add_tokens('a');
  v1::DetokenizeResponse text;
  ASSERT_TRUE(stub->Detokenize(&b, detokenize, &text).ok());
  EXPECT_EQ(text.prompt(), "a");
  v1::ListModelsResponse models;
  ASSERT_TRUE(stub->ListModels(&c, {}, &models).ok());
  EXPECT_EQ(models.data(0).id(), "fake");
}

// Clients that ask every so often whether the server is there, as behind firewalls they must, keep their silent calls.
TEST_F(GrpcTest, PingsDoNotEndASilentCall) {
  Open();
  grpc::ChannelArguments pings;
  pings.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 1100);
  pings.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  pings.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  auto pinging = grpc::CreateCustomChannel(doors->grpc_address(), grpc::InsecureChannelCredentials(), pings);
  stub = v1::Generation::NewStub(pinging);
  std::thread answer([&] {
    const uint64_t id = server.engine.WaitSubmitted(1).request;
    std::this_thread::sleep_for(std::chrono::milliseconds(6500));  // five of them
    doors->Deliver({Ids(id, 0, "late", FinishReason::kLength)});
  });
  grpc::ClientContext context;
  v1::ChatCompletionResponse response;
  const auto status = stub->ChatCompletion(&context, Request(), &response);
  answer.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.choices(0).message().content(), "late");
}

TEST_F(GrpcTest, StarListensOnEveryAddress) {
  server.deployment.grpc.listen = "*:0";
  Connect();
  Answering("hello");
  grpc::ClientContext context;
  v1::ChatCompletionResponse response;
  EXPECT_TRUE(stub->ChatCompletion(&context, Request(), &response).ok()) << doors->grpc_address();
}

TEST_F(GrpcTest, DrainEndsAStream) {
  Connect();
  grpc::ClientContext context;
  auto reader = stub->ChatCompletionStream(&context, Request());
  doors->Deliver({Ids(server.engine.WaitSubmitted(1).request, 0, "x")});
  v1::ChatCompletionChunk chunk;
  EXPECT_TRUE(reader->Read(&chunk));
  doors->Drain(0, absl::UnavailableError("shutting down now"));
  while (reader->Read(&chunk)) {
  }
  const auto status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "shutting down now");
}

}  // namespace
}  // namespace pangea
