#include "clients/client.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <future>
#include <thread>

#include "clients/fake_http_server.h"
#include "clients/rest_client.h"
#include "clients/tls.h"
#include "grpcpp/grpcpp.h"
#include "nlohmann/json.hpp"
#include "protos/generation.grpc.pb.h"

namespace pangea::clients {
namespace {

using nlohmann::json;
using Connection = FakeHttpServer::Connection;

GenerateRequest ChatRequest() {
  GenerateRequest request;
  request.model = "m";
  request.messages = {{"system", "be brief"}, {"user", "größe"}};
  request.sampling.max_tokens = 5;
  request.sampling.temperature = 0;
  request.sampling.seed = -3;
  request.sampling.stop = {"x", "y"};
  request.timeout_seconds = 30;
  return request;
}

void StreamChat(Connection& connection) {
  connection.Write(Connection::kEventStream);
  connection.Event(
      R"({"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]})");
  connection.Chunk(": ping\n\n");
  // One event in two chunks, and two events in one.
  connection.Chunk("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel");
  connection.Chunk("lo\"}}]}\n\n");
  connection.Chunk(
      "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" you\"}}]}\n\n"
      "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n");
  connection.Event(
      R"({"system_fingerprint":"f","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}})");
  connection.Event("[DONE]");
  connection.Chunk("");
}

// --- the same behaviour over both transports ---

struct FakeGeneration : v1::Generation::Service {
  v1::ChatCompletionRequest chat;
  v1::CompletionRequest completion;
  std::string authorization;
  std::promise<void> cancelled;

  void Note(grpc::ServerContext* context) {
    const auto at = context->client_metadata().find("authorization");
    if (at != context->client_metadata().end()) authorization = std::string(at->second.data(), at->second.size());
  }
  static grpc::Status Full(grpc::ServerContext* context) {
    context->AddTrailingMetadata("error-code", "context_length_exceeded");
    return {grpc::StatusCode::INVALID_ARGUMENT, "too much"};
  }
  grpc::Status ChatCompletion(grpc::ServerContext* context, const v1::ChatCompletionRequest* request,
                              v1::ChatCompletionResponse* response) override {
    Note(context);
    chat = *request;
    if (request->model() == "none") return {grpc::StatusCode::NOT_FOUND, "no such model"};
    if (request->model() == "full") return Full(context);
    response->set_model("m");
    response->set_system_fingerprint("f");
    v1::ChatChoice* choice = response->add_choices();
    choice->mutable_message()->set_content("Hello you");
    choice->set_finish_reason("length");
    response->mutable_usage()->set_prompt_tokens(7);
    response->mutable_usage()->set_completion_tokens(2);
    return grpc::Status::OK;
  }
  grpc::Status ChatCompletionStream(grpc::ServerContext* context, const v1::ChatCompletionRequest* request,
                                    grpc::ServerWriter<v1::ChatCompletionChunk>* writer) override {
    Note(context);
    chat = *request;
    if (request->model() == "full") return Full(context);
    auto text = [&](const char* piece, const char* reason) {
      v1::ChatCompletionChunk chunk;
      chunk.set_model("m");
      chunk.set_system_fingerprint("f");
      v1::ChatChunkChoice* choice = chunk.add_choices();
      if (piece != nullptr) choice->mutable_delta()->set_content(piece);
      if (reason != nullptr) choice->set_finish_reason(reason);
      writer->Write(chunk);
    };
    text("Hello", nullptr);
    if (request->model() == "endless") {
      while (writer->Write(v1::ChatCompletionChunk())) std::this_thread::yield();
      cancelled.set_value();
      return {grpc::StatusCode::CANCELLED, ""};
    }
    if (request->model() == "failing") return {grpc::StatusCode::UNAVAILABLE, "agent 1 died"};
    text(" you", nullptr);
    text(nullptr, "length");
    v1::ChatCompletionChunk last;
    last.mutable_usage()->set_prompt_tokens(7);
    last.mutable_usage()->set_completion_tokens(2);
    writer->Write(last);
    return grpc::Status::OK;
  }
  grpc::Status Completion(grpc::ServerContext*, const v1::CompletionRequest* request,
                          v1::CompletionResponse* response) override {
    completion = *request;
    response->add_choices()->set_text("once");
    return grpc::Status::OK;
  }
  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                          v1::ListModelsResponse* response) override {
    response->add_data()->set_id("first");
    response->add_data()->set_id("second");
    return grpc::Status::OK;
  }
};

class GrpcTest : public testing::Test {
 protected:
  GrpcTest() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    Endpoint endpoint;
    endpoint.grpc = "127.0.0.1:" + std::to_string(port);
    endpoint.api_key = "key";
    client_ = *Client::Create(endpoint);
  }
  ~GrpcTest() override { server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5)); }
  FakeGeneration service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Client> client_;
};

void ExpectHelloYou(const Answer& answer) {
  EXPECT_EQ(answer.text, "Hello you");
  EXPECT_EQ(answer.finish_reason, "length");
  EXPECT_EQ(answer.prompt_tokens, 7);
  EXPECT_EQ(answer.completion_tokens, 2);
  EXPECT_EQ(answer.model, "m");
  EXPECT_EQ(answer.fingerprint, "f");
}

TEST_F(GrpcTest, StreamsAChat) {
  std::vector<std::string> pieces;
  const auto answer = client_->Generate(ChatRequest(), [&](const std::string& piece) { pieces.push_back(piece); });
  ASSERT_TRUE(answer.ok()) << answer.status();
  ExpectHelloYou(*answer);
  EXPECT_EQ(pieces, (std::vector<std::string>{"Hello", " you"}));
  EXPECT_EQ(service_.authorization, "Bearer key");
  EXPECT_TRUE(service_.chat.stream_options().include_usage());
  ASSERT_EQ(service_.chat.messages_size(), 2);
  EXPECT_EQ(service_.chat.messages(1).content().string_value(), "größe");
  EXPECT_EQ(service_.chat.max_tokens(), 5);
  EXPECT_TRUE(service_.chat.has_temperature());
  EXPECT_EQ(service_.chat.seed(), -3);
  EXPECT_FALSE(service_.chat.has_top_p()) << "what was not asked for is left to the server";
  EXPECT_EQ(service_.chat.stop().list_value().values(1).string_value(), "y");
}

TEST_F(GrpcTest, UnaryChatAndCompletion) {
  const auto answer = client_->Generate(ChatRequest());
  ASSERT_TRUE(answer.ok()) << answer.status();
  ExpectHelloYou(*answer);
  GenerateRequest request;
  request.prompt_ids = {5, 6};
  EXPECT_EQ(client_->Generate(request)->text, "once");
  EXPECT_EQ(service_.completion.prompt().list_value().values(1).number_value(), 6);
  request.prompt_ids.clear();
  request.prompt = "p";
  EXPECT_EQ(client_->Generate(request)->text, "once");
  EXPECT_EQ(service_.completion.prompt().string_value(), "p");
}

TEST_F(GrpcTest, ErrorsKeepTheirCodeAndText) {
  GenerateRequest request = ChatRequest();
  request.model = "none";
  EXPECT_EQ(client_->Generate(request).status(), absl::NotFoundError("no such model"));
  request.model = "failing";
  std::string text;
  EXPECT_EQ(client_->Generate(request, [&](const std::string& piece) { text += piece; }).status(),
            absl::UnavailableError("agent 1 died"));
  EXPECT_EQ(text, "Hello");
  request.prompt = "\xff";
  EXPECT_EQ(client_->Generate(request).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GrpcTest, AFullContextIsKnownByItsCode) {
  GenerateRequest request = ChatRequest();
  request.model = "full";
  const absl::Status whole = client_->Generate(request).status();
  EXPECT_EQ(whole.message(), "too much");
  EXPECT_TRUE(IsContextFull(whole));
  EXPECT_TRUE(IsContextFull(client_->Generate(request, [](const std::string&) {}).status()));
  request.model = "none";
  EXPECT_FALSE(IsContextFull(client_->Generate(request).status()));
}

TEST_F(GrpcTest, CancelEndsTheCallOnBothSides) {
  GenerateRequest request = ChatRequest();
  request.model = "endless";
  Canceller canceller;
  // From the callback's own thread, which is also where a hook must not lock itself out.
  const auto answer = client_->Generate(request, [&](const std::string&) { canceller.Cancel(); }, &canceller);
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(service_.cancelled.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
}

TEST_F(GrpcTest, CancelledBeforeTheCall) {
  Canceller canceller;
  canceller.Cancel();
  EXPECT_EQ(client_->Generate(ChatRequest(), nullptr, &canceller).status().code(), absl::StatusCode::kCancelled);
  canceller.Reset();
  EXPECT_TRUE(client_->Generate(ChatRequest(), nullptr, &canceller).ok());
}

TEST_F(GrpcTest, DeadlineEndsTheCall) {
  GenerateRequest request = ChatRequest();
  request.model = "endless";
  request.timeout_seconds = 0.1;
  EXPECT_EQ(client_->Generate(request, [](const std::string&) {}).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(GrpcTest, TheFirstModelIsTheDefault) {
  EXPECT_EQ(*client_->Model(""), "first");
  EXPECT_EQ(*client_->Model("second"), "second");
  EXPECT_EQ(client_->Model("other").status(),
            absl::NotFoundError("the server has no model 'other'; it serves first, second"));
}

TEST(Grpc, NobodyThere) {
  FakeHttpServer taken([](const FakeHttpServer::Request&, Connection&) {});  // speaks no HTTP/2
  Endpoint endpoint;
  endpoint.grpc = "127.0.0.1:" + std::to_string(taken.port());
  GenerateRequest request = ChatRequest();
  request.timeout_seconds = 5;
  EXPECT_FALSE((*Client::Create(endpoint))->Generate(request).ok());
}

TEST(Grpc, AddressesThatAreNone) {
  Endpoint endpoint;
  for (const char* url : {"http://h:8001", "https://h:8001/", "http://h:8001/v1"}) {
    endpoint.grpc = url;
    const absl::Status status = Client::Create(endpoint).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << url;
    EXPECT_NE(std::string(status.message()).find("write --grpc h:8001, or --rest " + std::string(url)),
              std::string::npos)
        << status;
  }
  endpoint.grpc = "grpc://h:8001";
  EXPECT_EQ(Client::Create(endpoint).status().message(), "a gRPC address has no grpc://; write --grpc h:8001");
  endpoint.grpc = "host";
  EXPECT_FALSE(Client::Create(endpoint).ok());
  endpoint.grpc = "dns:///h:8001";  // a name as gRPC itself writes it
  EXPECT_TRUE(Client::Create(endpoint).ok());
}

std::unique_ptr<Client> RestClientOf(const std::string& url) {
  Endpoint endpoint;
  endpoint.rest = url;
  endpoint.api_key = "key";
  return *Client::Create(endpoint);
}

TEST(Rest, StreamsAChat) {
  FakeHttpServer server([](const FakeHttpServer::Request&, Connection& connection) { StreamChat(connection); });
  std::vector<std::string> pieces;
  const auto answer =
      RestClientOf(server.url())->Generate(ChatRequest(), [&](const std::string& piece) { pieces.push_back(piece); });
  ASSERT_TRUE(answer.ok()) << answer.status();
  ExpectHelloYou(*answer);
  EXPECT_EQ(pieces, (std::vector<std::string>{"Hello", " you"}));
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_TRUE(requests[0].head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n")) << requests[0].head;
  EXPECT_NE(requests[0].head.find("Authorization: Bearer key"), std::string::npos);
  EXPECT_EQ(
      json::parse(requests[0].body),
      json::parse(
          R"({"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"größe"}],"max_tokens":5,
                            "temperature":0.0,"seed":-3,"stop":["x","y"],"stream":true,"stream_options":{"include_usage":true}})"));
}

TEST(Rest, UnaryCompletionUnderAPathPrefix) {
  FakeHttpServer server([](const FakeHttpServer::Request&, Connection& connection) {
    connection.Write(FakeHttpServer::Json(
        200,
        R"({"model":"m","system_fingerprint":"f","choices":[{"text":"Hello you","finish_reason":"length"}],"usage":{"prompt_tokens":7,"completion_tokens":2}})"));
  });
  GenerateRequest request;
  request.model = "m";
  request.prompt = "p";
  request.sampling.ignore_eos = true;
  const auto answer = RestClientOf(server.url() + "/base/")->Generate(request);
  ASSERT_TRUE(answer.ok()) << answer.status();
  ExpectHelloYou(*answer);
  EXPECT_TRUE(server.requests()[0].head.starts_with("POST /base/v1/completions HTTP/1.1\r\n"));
  EXPECT_EQ(json::parse(server.requests()[0].body), json::parse(R"({"model":"m","prompt":"p","ignore_eos":true})"));
}

TEST(Rest, Failures) {
  const std::string error =
      R"({"error":{"message":"too warm","type":"invalid_request_error","param":"temperature","code":null}})";
  const struct {
    const char* name;
    FakeHttpServer::Script script;
    absl::Status status;
  } kCases[] = {
      {"400", [&](const auto&, Connection& c) { c.Write(FakeHttpServer::Json(400, error)); },
       absl::InvalidArgumentError("too warm (temperature)")},
      {"429",
       [&](const auto&, Connection& c) { c.Write(FakeHttpServer::Json(429, R"({"error":{"message":"full"}})")); },
       absl::ResourceExhaustedError("full")},
      {"500, no JSON", [&](const auto&, Connection& c) { c.Write(FakeHttpServer::Json(500, "oops")); },
       absl::InternalError("HTTP 500: oops")},
      {"error event",
       [&](const auto&, Connection& c) {
         c.Write(Connection::kEventStream);
         c.Event(R"({"choices":[{"delta":{"content":"Hel"}}]})");
         c.Event(R"({"error":{"message":"agent 1 died","type":"server_error","param":null,"code":null}})");
         c.Chunk("");
       },
       absl::InternalError("agent 1 died")},
      {"no [DONE]",
       [&](const auto&, Connection& c) {
         c.Write(Connection::kEventStream);
         c.Event(R"({"choices":[{"delta":{"content":"Hel"}}]})");
         c.Chunk("");
       },
       absl::UnavailableError("the stream ended before [DONE]")},
      {"not JSON", [&](const auto&, Connection& c) { c.Write(Connection::kEventStream), c.Event("{"), c.Chunk(""); },
       absl::InternalError("the server sent an event that is not JSON")},
  };
  for (const auto& c : kCases) {
    FakeHttpServer server(c.script);
    EXPECT_EQ(RestClientOf(server.url())->Generate(ChatRequest(), [](const std::string&) {}).status(), c.status)
        << c.name;
  }
}

TEST(Rest, ConnectionsThatBreak) {
  FakeHttpServer broken(
      [](const FakeHttpServer::Request&, Connection& c) { c.Write(Connection::kEventStream), c.Write("5\r\nda"); });
  EXPECT_EQ(RestClientOf(broken.url())->Generate(ChatRequest(), [](const std::string&) {}).status().code(),
            absl::StatusCode::kUnavailable);
  FakeHttpServer garbage([](const FakeHttpServer::Request&, Connection& c) { c.Write("SSH-2.0\r\n\r\n"); });
  EXPECT_EQ(RestClientOf(garbage.url())->Generate(ChatRequest()).status().code(), absl::StatusCode::kUnavailable);
}

TEST(Rest, AnotherProtocolIsNamed) {
  using namespace std::string_literals;
  const std::pair<std::string, const char*> kCases[] = {
      {"\0\0\x12\x04\0\0\0\0\0"s + std::string(18, '\0'), "is a gRPC port"},  // HTTP/2's SETTINGS
      {"\0\0\0\x04\0\0\0\0\0"s, "is a gRPC port"},
      {"\x15\x03\x01\0\x02\x02\x46"s, "speaks TLS; write https://"}};
  for (const auto& [bytes, said] : kCases) {
    FakeHttpServer server([&](const FakeHttpServer::Request&, Connection& c) { c.Write(bytes); });
    const std::string message(RestClientOf(server.url())->Generate(ChatRequest()).status().message());
    EXPECT_NE(message.find(said), std::string::npos) << message;
  }
}

TEST(Rest, CancelAndDeadlineHangUp) {
  FakeHttpServer server([](const FakeHttpServer::Request&, Connection& c) {
    c.Write(Connection::kEventStream);
    c.Event(R"({"choices":[{"delta":{"content":"Hello"}}]})");
    c.WaitForClose();
  });
  Canceller canceller;
  EXPECT_EQ(RestClientOf(server.url())
                ->Generate(
                    ChatRequest(), [&](const std::string&) { canceller.Cancel(); }, &canceller)
                .status()
                .code(),
            absl::StatusCode::kCancelled);
  GenerateRequest request = ChatRequest();
  request.timeout_seconds = 0.2;
  EXPECT_EQ(RestClientOf(server.url())->Generate(request, [](const std::string&) {}).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(Rest, Models) {
  FakeHttpServer server([](const FakeHttpServer::Request& request, Connection& c) {
    c.Write(FakeHttpServer::Json(200, request.head.starts_with("GET /v1/models ")
                                          ? R"({"object":"list","data":[{"id":"a"},{"id":"b"}]})"
                                          : "{}"));
  });
  EXPECT_EQ(*RestClientOf(server.url())->Model(""), "a");
}

TEST(Rest, ModelsMayBeListedByLongerNames) {
  FakeHttpServer server([](const FakeHttpServer::Request&, Connection& c) {
    c.Write(FakeHttpServer::Json(200, R"({"data":[{"id":"llama3:latest"},{"id":"models/gemini-2.0"},{"id":"tiny"}]})"));
  });
  const auto client = RestClientOf(server.url());
  for (const char* taken :
       {"llama3", "llama3:latest", "gemini-2.0", "models/gemini-2.0", "tiny", "tiny:latest", "o/tiny"})
    EXPECT_EQ(client->Model(taken).value_or("refused"), taken);
  for (const char* refused : {"llama", "llama3:8b", "gemini", "emini-2.0", "odels/gemini-2.0", "other/gemini-2.0", "/"})
    EXPECT_EQ(client->Model(refused).status().code(), absl::StatusCode::kNotFound) << refused;
}

TEST(Rest, AServerWithoutAListOfModelsIsBelieved) {
  FakeHttpServer server(
      [](const FakeHttpServer::Request&, Connection& c) { c.Write(FakeHttpServer::Json(404, R"({"error":"no"})")); });
  EXPECT_EQ(*RestClientOf(server.url())->Model("mine"), "mine");
  EXPECT_EQ(RestClientOf(server.url())->Model("").status().code(), absl::StatusCode::kNotFound);
  for (const int status : {405, 501}) {
    FakeHttpServer other(
        [&](const FakeHttpServer::Request&, Connection& c) { c.Write(FakeHttpServer::Json(status, "")); });
    EXPECT_EQ(RestClientOf(other.url())->Model("mine").value_or("refused"), "mine") << status;
  }
  FakeHttpServer locked(
      [](const FakeHttpServer::Request&, Connection& c) { c.Write(FakeHttpServer::Json(401, R"({"error":"key"})")); });
  EXPECT_EQ(RestClientOf(locked.url())->Model("mine").status(), absl::UnauthenticatedError("key"));
}

TEST(Rest, ReasoningThatIsNotStreamedIsCounted) {
  constexpr char kUsage[] =
      R"({"choices":[],"usage":{"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":6}}})";
  RestStream hidden, shown;
  for (RestStream* stream : {&hidden, &shown}) {
    if (stream == &shown) {
      EXPECT_EQ(*stream->Push(R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})"), "");
    }
    ASSERT_EQ(*stream->Push(R"({"choices":[{"delta":{"content":"a"}}]})"), "a");
    EXPECT_EQ(stream->answer().seconds > 0, stream == &shown) << "from the first event on";
    ASSERT_TRUE(stream->Push(kUsage).ok());
  }
  EXPECT_EQ(hidden.answer().hidden_tokens, 6);
  EXPECT_EQ(shown.answer().hidden_tokens, 0);
}

TEST(Tls, ACertificateForAPartOfALabelIsNotTaken) {  // f*.example.org
  auto context = MakeTlsContext("");
  ASSERT_TRUE(context.ok());
  SSL* ssl = SSL_new(context->native_handle());
  ASSERT_TRUE(ExpectHost(ssl, "f.example.org").ok());
  EXPECT_TRUE(X509_VERIFY_PARAM_get_hostflags(SSL_get0_param(ssl)) & X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  SSL_free(ssl);
}

TEST(Url, TheHostHeaderLeavesTheSchemesPortOut) {
  const std::pair<const char*, const char*> kCases[] = {
      {"http://h", "h"},           {"http://h:80/v1", "h"},      {"http://h:443", "h:443"},
      {"https://h", "h"},          {"https://h:443", "h"},       {"https://h:80", "h:80"},
      {"http://h:8000", "h:8000"}, {"http://[::1]:80", "[::1]"}, {"https://[::1]:8443", "[::1]:8443"}};
  for (const auto& [url, host] : kCases) EXPECT_EQ(HostHeader(*ParseHttpUrl(url)), host) << url;
}

TEST(Url, AcceptsAndRefuses) {
  const auto url = ParseHttpUrl("http://host:81/a/b/");
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(url->host, "host");
  EXPECT_EQ(url->port, "81");
  EXPECT_EQ(url->path, "/a/b");
  EXPECT_EQ(ParseHttpUrl("http://[::1]:8000")->host, "::1");
  EXPECT_EQ(ParseHttpUrl("http://h")->port, "80");
  EXPECT_FALSE(ParseHttpUrl("http://h")->tls);
  EXPECT_TRUE(ParseHttpUrl("https://h/")->tls);
  EXPECT_TRUE(ParseHttpUrl("Https://h/")->tls);
  EXPECT_EQ(ParseHttpUrl("https://h")->port, "443");
  EXPECT_EQ(ParseHttpUrl("https://h:8443/v1")->port, "8443");
  const std::pair<const char*, const char*> kPaths[] = {{"http://h", ""},
                                                        {"http://h/", ""},
                                                        {"http://h/v1", ""},
                                                        {"http://h/v1/", ""},
                                                        {"http://h//v1//", ""},
                                                        {"http://h/a/v1", "/a"},
                                                        {"http://h/v1/a", "/v1/a"},
                                                        {"http://h/av1", "/av1"},
                                                        {"http://h/a/v1/v1", "/a/v1"},
                                                        {"http://h/v1/chat/completions", ""},
                                                        {"http://h/a/v1/completions/", "/a"},
                                                        {"HTTP://h/v1", ""}};
  for (const auto& [address, path] : kPaths) EXPECT_EQ(ParseHttpUrl(address)->path, path) << address;
  for (const char* bad : {"", "h", "h:80", "https://", "ftp://h", "http://", "http://u:p@h", "http://h/?q=1",
                          "http://h/#f", "http://h:99999", "http://h:0", "http://h:x", "http://h:", "http://[::1",
                          "http://[::1]x", "http://[x]", "http://h:80:80", "http://h\\\\@x/", "http://a b/"}) {
    EXPECT_FALSE(ParseHttpUrl(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace pangea::clients
