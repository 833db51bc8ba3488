// What the REST door answers before it reads a body, to whom, and when it finds that nobody waits for the answer.
#include <atomic>
#include <mutex>
#include <thread>

#include "master/api/doors_test_util.h"
#include "master/api/http/rest.h"

namespace pangea {
namespace {

// The SHA-256 of "abc".
constexpr char kKeys[] = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad alice 3\n";
constexpr char kAlice[] = "Authorization: Bearer abc\r\n";

std::string Head(const std::string& method, const std::string& path, const std::string& headers) {
  return absl::StrCat(method, " ", path, " HTTP/1.1\r\nHost: x\r\n", headers, "\r\n");
}

class HttpAnswers : public DoorsTest {
 protected:
  void UseKeys() {
    std::vector<std::string> faults;
    keys = KeyRing::Parse(kKeys, "keys", &faults);
    server.context.keys = &keys;
  }
  std::string Metrics() { return Call(Get("/metrics")).body; }
  KeyRing keys;
};

struct EarlyCase {
  std::string method, path, headers;
  int status;
};
std::vector<EarlyCase> EarlyCases() {
  const std::string json = "Content-Type: application/json\r\n";
  return {
      {"POST", "/nope", json, 404},
      {"PUT", "/v1/nope", json + kAlice, 404},
      {"POST", "/health", json, 405},
      {"GET", "/metrics", json, 200},
      {"GET", "/v1/models", json + kAlice, 200},
      {"GET", "/v1/models", json, 401},
      {"POST", "/v1/models", json + kAlice, 405},
      {"OPTIONS", "/v1/completions", json, 204},
      {"OPTIONS", "*", json, 204},
      {"PUT", kChat, json + kAlice, 405},
      {"GET", "/tokenize", json + kAlice, 405},
      {"POST", "/%zz", json, 400},
      {"POST", kChat, "Content-Type: text/plain\r\n" + std::string(kAlice), 415},
      {"POST", kChat, kAlice, 415},
      {"POST", kChat, json + kAlice + "Content-Encoding: gzip\r\n", 415},
      {"POST", "/tokenize", "Content-Type: multipart/form-data\r\n" + std::string(kAlice), 415},
      {"POST", kChat, json, 401},
      {"POST", kChat, json + kAlice + "X-Request-Timeout: soon\r\n", 400},
  };
}

// None of these bodies is waited for, asked for (100 Continue) or charged to limits.bodies: all of these connections
// stay open, and a request that needs nearly the whole of limits.bodies still gets in.
TEST_F(HttpAnswers, WhatTheHeadDecidesIsAnsweredBeforeTheBody) {
  server.deployment.limits.bodies = server.deployment.limits.body = 10000;
  server.deployment.limits.connections = 1000;
  UseKeys();
  Open();
  Answering("canary");
  std::vector<std::unique_ptr<Socket>> open;
  for (const EarlyCase& c : EarlyCases()) {
    for (const std::string framing : {"Content-Length: 9000\r\n", "Transfer-Encoding: chunked\r\n"}) {
      for (const std::string expect : {"", "Expect: 100-continue\r\n"}) {
        open.push_back(std::make_unique<Socket>(doors->rest_url()));
        Socket& s = *open.back();
        const bool chunked = framing[0] == 'T';
        s.Send(Head(c.method, c.path, c.headers + framing + expect));
        s.Send((chunked ? "2327\r\n" : "") + std::string(8999, 'x'));
        const Reply reply = TakeReply(s);
        EXPECT_EQ(reply.status, c.status) << c.method << c.path << c.headers << framing << expect;
        EXPECT_NE(reply.head.find("Connection: close\r\n"), std::string::npos) << "what follows is no request";
      }
    }
  }
  EXPECT_EQ(Call(Post(kChat, ChatBody({{"user", std::string(9000, 'u')}}), kAlice)).status, 200);
}

TEST_F(HttpAnswers, ConnectionStaysOpenAfterAnErrorWithoutABody) {
  UseKeys();
  Open();
  Socket s(doors->rest_url());
  for (const EarlyCase& c : EarlyCases()) {
    if (c.method == "POST") continue;  // which has a body, if an empty one
    s.Send(Head(c.method, c.path, c.headers));
    EXPECT_EQ(TakeReply(s).status, c.status) << c.method << c.path;
  }
  s.Send(Head("POST", "/nope", "Content-Length: 0\r\n"));
  EXPECT_EQ(TakeReply(s).status, 404);
  s.Send(Get("/version"));
  EXPECT_EQ(TakeReply(s).status, 200);
}

TEST_F(HttpAnswers, BodySizeIsCheckedAfterPathAndKey) {
  UseKeys();
  Open();
  // Also one that limits.bodies could never hold: 429 would be tried again for ever.
  for (const char* bytes : {"209715200", "1073741824", "1099511627776"}) {
    const std::string large = absl::StrCat("Content-Type: application/json\r\nContent-Length: ", bytes, "\r\n");
    EXPECT_EQ(Call(Head("POST", kChat, large)).status, 401) << bytes;
    EXPECT_EQ(Call(Head("POST", kChat, large + kAlice)).status, 413) << bytes;
    EXPECT_EQ(Call(Head("POST", "/nope", large)).status, 404) << bytes;
  }
}

// RFC 9110, 10.1.1: "a server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore it".
TEST_F(HttpAnswers, ExpectHeaderIsIgnoredInHttp10) {
  Open();
  Answering("canary");
  for (const char* expect : {"100-continue", "magic"}) {
    Socket s(doors->rest_url());
    s.Send(absl::StrCat("POST ", kChat, " HTTP/1.0\r\nContent-Type: application/json\r\nExpect: ", expect,
                        "\r\nContent-Length: ", ChatBody().size(), "\r\n\r\n", ChatBody()));
    const std::string all = s.ReadAll();
    EXPECT_EQ(all.substr(0, 15), "HTTP/1.1 200 OK") << all;
  }
}

TEST_F(HttpAnswers, UnknownPathsNameTheNearestRoute) {
  Open();
  const auto message = [&](const std::string& path) {
    const Reply reply = Call(Get(path));
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_EQ(reply.json()["error"]["code"], "not_found");
    return reply.json()["error"]["message"].get<std::string>();
  };
  const std::pair<const char*, const char*> kNear[] = {
      {"/v1/chat/completion", "/v1/chat/completions"},
      {"/chat/completions", "/v1/chat/completions"},
      {"/completions", "/v1/completions"},
      {"/v1/v1/chat/completions", "/v1/chat/completions"},
      {"/api/v1/models", "/v1/models"},
      {"/models", "/v1/models"},
      {"/models/fake", "/v1/models/fake"},
      {"//v1/models", "/v1/models"},
      {"/V1/Models", "/v1/models"},
      {"/v1/model", "/v1/models"},
      {"/v1/chat", "/v1/chat/completions"},
      {"/v1/tokenize", "/tokenize"},
      {"/tokenise", "/tokenize"},
      {"/v1/health", "/health"},
      {"/healthz", "/health"},
      {"/ready", "/health/ready"},
  };
  for (const auto& [path, near] : kNear)
    EXPECT_EQ(message(path), absl::StrCat("no such path: ", path, "; did you mean ", near, "?"));
  // What other servers have is told what there is.
  for (const char* path : {"/", "/v1/embeddings", "/v1/messages", "/api/tags", "/docs"}) {
    const std::string text = message(path);
    EXPECT_EQ(text.find(absl::StrCat("no such path: ", path, "; this server has /v1/chat/completions, ")), 0u) << text;
    EXPECT_NE(text.find("/metrics"), std::string::npos);
  }
  EXPECT_LT(message("/" + std::string(5000, 'a')).size(), 500u);
}

TEST_F(HttpAnswers, TrailingSlashesAreIgnored) {
  Open();
  Answering("canary");
  for (const char* path : {"/v1/models", "/v1/models/", "/v1/models//"})
    EXPECT_EQ(Call(Get(path)).json()["data"][0]["id"], "fake") << path;
  EXPECT_EQ(Call(Get("/v1/models/fake/")).json()["id"], "fake");
  EXPECT_EQ(Call(Get("/health/")).status, 200);
  EXPECT_EQ(Call(Post("/v1/chat/completions/", ChatBody())).status, 200);
}

TEST_F(HttpAnswers, WrongMethodIsToldTheAllowedOnes) {
  Open();
  const Reply chat = Call(Get(kChat)), models = Call(Post("/v1/models", "{}"));
  EXPECT_EQ(chat.status, 405);
  EXPECT_NE(chat.head.find("Allow: POST, OPTIONS\r\n"), std::string::npos);
  EXPECT_EQ(chat.json()["error"]["message"], "/v1/chat/completions does not take GET, but POST, OPTIONS");
  EXPECT_EQ(models.json()["error"]["message"], "/v1/models does not take POST, but GET, HEAD, OPTIONS");
}

TEST_F(HttpAnswers, TokenizerInfoNeedsAKey) {
  UseKeys();
  Open();
  EXPECT_EQ(Call(Get("/tokenizer_info")).status, 401);
  EXPECT_EQ(Call(Get("/tokenizer_info", kAlice)).json()["eos_token"], "<|end|>");
}

// Without keys, whoever reaches the server may ask, but not every web page that a user happens to look at.
TEST_F(HttpAnswers, WithoutKeysForeignPagesAreRefused) {
  Open();
  Answering("canary");
  const auto ask = [&](const std::string& origin, const std::string& host = "x") {
    const std::string body = ChatBody(), header = origin.empty() ? "" : "Origin: " + origin + "\r\n";
    return Call(absl::StrCat("POST ", kChat, " HTTP/1.1\r\nHost: ", host, "\r\nContent-Type: application/json\r\n",
                             header, "Content-Length: ", body.size(), "\r\n\r\n", body));
  };
  for (const char* foreign :
       {"https://evil.example", "http://evil.example:8000", "null", "http://localhost.evil.example"}) {
    const Reply reply = ask(foreign, "evil.example:8000");
    EXPECT_EQ(reply.status, 403) << foreign;
    EXPECT_EQ(reply.json()["error"]["code"], "origin_not_allowed");
    EXPECT_NE(reply.body.find("rest.allowed_origins"), std::string::npos) << reply.body;
    EXPECT_EQ(reply.head.find("Access-Control"), std::string::npos) << reply.head;
  }
  EXPECT_EQ(Call(Get("/v1/models", "Origin: https://evil.example\r\n")).status, 403);
  EXPECT_EQ(
      Call(Get(kChat, "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n", "OPTIONS")).status,
      403);
  EXPECT_TRUE(server.engine.submitted.empty());
  for (const char* host : {"x", "llm.example.com", "evil.example:8000", "10.0.0.7"})
    EXPECT_EQ(ask("", host).status, 200) << "without an origin, proxies and programs may name any host: " << host;
  for (const char* home : {"http://localhost:3000", "http://127.0.0.1:8000", "http://[::1]:5173"}) {
    const Reply reply = ask(home);
    EXPECT_EQ(reply.status, 200) << home;
    EXPECT_EQ(reply.head.find("Access-Control"), std::string::npos) << "none are allowed by default: " << reply.head;
  }
}

// A page without a key gets 401, and without CORS headers its browser hides every answer from it.
TEST_F(HttpAnswers, WithKeysForeignPagesAreNotRefused) {
  UseKeys();
  Open();
  Answering("canary");
  const Reply with = Call(Post(kChat, ChatBody(), "Origin: https://app.example\r\n" + std::string(kAlice)));
  EXPECT_EQ(with.status, 200);
  EXPECT_EQ(with.head.find("Access-Control"), std::string::npos);
  EXPECT_EQ(Call(Post(kChat, ChatBody(), "Origin: https://app.example\r\n")).status, 401);
  EXPECT_EQ(Call(Get(kChat, "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n", "OPTIONS"))
                .head.find("Access-Control"),
            std::string::npos);
}

TEST_F(HttpAnswers, AllowedOriginsGetCorsHeadersOnEveryAnswer) {
  server.deployment.rest.allowed_origins = {"https://app.example"};
  Open();
  Answering("canary");
  const std::string origin = "Origin: https://app.example\r\n";
  const std::string expected = "Access-Control-Allow-Origin: https://app.example\r\n";
  const auto look = [&](const Reply& reply, int status) {
    EXPECT_EQ(reply.status, status) << reply.head;
    EXPECT_NE(reply.head.find(expected), std::string::npos) << reply.head;
    EXPECT_NE(reply.head.find("Vary: Origin\r\n"), std::string::npos) << reply.head;
    EXPECT_NE(reply.head.find("Access-Control-Expose-Headers: x-request-id, "), std::string::npos) << reply.head;
  };
  look(Call(Post(kChat, ChatBody(), origin)), 200);
  look(Call(Post(kChat, ChatBody({{"temperature", 9}}), origin)), 400);
  look(Call(Post("/nope", "{}", origin)), 404);
  look(Call(Get("/v1/models", origin)), 200);
  Socket stream(doors->rest_url());
  stream.Send(Post(kChat, ChatBody({{"stream", true}}), origin));
  ASSERT_TRUE(stream.ReadUntil("[DONE]"));
  EXPECT_NE(stream.input.find(expected), std::string::npos);
  // Caches must not give one page another's answer.
  EXPECT_NE(Call(Get("/v1/models")).head.find("Vary: Origin\r\n"), std::string::npos);
  EXPECT_EQ(Call(Get("/v1/models", "Origin: https://other.example\r\n")).status, 403);
}

TEST_F(HttpAnswers, PreflightRequestsOfAllowedOrigins) {
  server.deployment.rest.allowed_origins = {"https://app.example"};
  UseKeys();
  Open();
  const std::string ask =
      "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n"
      "Access-Control-Request-Headers: authorization,content-type,x-stainless-lang\r\n";
  for (const char* path : {kChat, "/nope"}) {  // also there, so that the page can read the 404
    const Reply reply = Call(Get(path, ask + "Access-Control-Request-Private-Network: true\r\n", "OPTIONS"));
    EXPECT_EQ(reply.status, 204);
    for (const char* line : {"Access-Control-Allow-Origin: https://app.example\r\n",
                             "Access-Control-Allow-Headers: authorization,content-type,x-stainless-lang\r\n",
                             "Access-Control-Allow-Private-Network: true\r\n", "Access-Control-Max-Age: "})
      EXPECT_NE(reply.head.find(line), std::string::npos) << reply.head;
    const size_t at = reply.head.find("Access-Control-Allow-Methods: ");
    ASSERT_NE(at, std::string::npos);
    EXPECT_NE(reply.head.substr(at, 60).find("POST"), std::string::npos);
  }
  EXPECT_EQ(Call(Get(kChat, ask, "OPTIONS")).head.find("Private-Network"), std::string::npos) << "it was not asked";
  EXPECT_EQ(Call(Get("/nope", "Origin: https://app.example\r\n", "OPTIONS")).status, 404) << "no browser's question";
}

TEST_F(HttpAnswers, StarAllowsEveryOrigin) {
  server.deployment.rest.allowed_origins = {"*"};
  Open();
  Answering("canary");
  for (const char* origin : {"https://app.example", "null", "http://localhost:1"}) {
    const Reply reply = Call(Post(kChat, ChatBody(), absl::StrCat("Origin: ", origin, "\r\n")));
    EXPECT_EQ(reply.status, 200);
    EXPECT_NE(reply.head.find("Access-Control-Allow-Origin: *\r\n"), std::string::npos) << reply.head;
  }
}

// However much input is unread behind the request: many small requests, one with a large body, or rubbish beyond every
// limit.
TEST_F(HttpAnswers, ClientThatIsGoneIsNoticedBehindUnreadInput) {
  Open();
  std::string requests;
  while (requests.size() < 300'000) requests += Get("/version");
  const std::string bodies[] = {requests, Post(kChat, std::string(900'000, ' ')), std::string(8'000'000, 'x')};
  size_t count = 0;
  for (const std::string& ahead : bodies) {
    for (const bool stream : {false, true}) {
      for (const bool reset : {false, true}) {
        Socket s(doors->rest_url());
        s.Send(Post(kChat, ChatBody({{"stream", stream}})));
        const uint64_t id = server.engine.WaitSubmitted(++count).request;
        s.Send(ahead);
        if (reset) s.Reset();
        s.Close();
        EXPECT_TRUE(server.engine.WaitCancelled(id)) << ahead.size() << stream << reset;
      }
    }
  }
  Answering("canary");
  Canary();
}

// What was sent ahead is served in its turn.
TEST_F(HttpAnswers, PipelinedRequestsBehindALongOneAreServed) {
  Open();
  Socket s(doors->rest_url());
  s.Send(Post(kChat, ChatBody()));
  const uint64_t id = server.engine.WaitSubmitted(1).request;
  std::string ahead = Post(kChat, ChatBody({{"user", std::string(500'000, 'u')}}));
  constexpr int kMore = 5000;
  for (int i = 0; i < kMore; ++i) ahead += Get("/version");
  ahead += Post(kCompletion, R"({"model":"fake","prompt":"x"})");
  std::thread sender([&] { s.Send(ahead); });
  Answering("second");
  sender.join();
  doors->Deliver({Ids(id, 0, "first", FinishReason::kLength)});
  EXPECT_EQ(TakeReply(s).json()["choices"][0]["message"]["content"], "first");
  EXPECT_EQ(TakeReply(s).json()["choices"][0]["message"]["content"], "second");
  for (int i = 0; i < kMore; ++i) ASSERT_EQ(TakeReply(s).status, 200) << i;
  EXPECT_EQ(TakeReply(s).json()["choices"][0]["text"], "second");
}

// More pipelined input than a body may have is not kept: the client gets the answer that it waits for, then the
// connection closes.
TEST_F(HttpAnswers, TooMuchPipelinedInputClosesAfterTheAnswer) {
  server.deployment.limits.bodies = 3 << 20;
  Open();
  Socket s(doors->rest_url());
  s.Send(Post(kChat, ChatBody()));
  const uint64_t id = server.engine.WaitSubmitted(1).request;
  ASSERT_TRUE(s.Send(std::string(24 << 20, 'x')));  // far more than the system's own buffers hold
  doors->Deliver({Ids(id, 0, "first", FinishReason::kLength)});
  const Reply reply = TakeReply(s);
  EXPECT_EQ(reply.status, 200);
  EXPECT_NE(reply.head.find("Connection: close\r\n"), std::string::npos);
  EXPECT_FALSE(s.Read());
  EXPECT_FALSE(s.timed_out);
  Answering("canary");
  EXPECT_EQ(Call(Post(kChat, ChatBody({{"user", std::string(1'000'000, 'u')}}))).status, 200) << "nothing is held";
}

// The client resets the connection while a text thread still writes the reply: the reply must be left to that thread,
// and no answer that was never sent is counted.
TEST_F(HttpAnswers, ClientThatResetsDuringTokenizeIsCountedAsGone) {
  std::mutex mutex;
  mutex.lock();
  std::atomic<bool> working{false};
  server.text.on_encode = [&] {
    working = true;
    std::lock_guard wait(mutex);
  };
  Open();
  Socket s(doors->rest_url());
  s.Send(Post("/tokenize", R"({"prompt":"ab"})"));
  while (!working) std::this_thread::yield();
  s.Reset();
  const std::string gone = "pangea_http_responses_total{route=\"/tokenize\",status=\"499\"} 1\n";
  for (int i = 0; i < 1000 && Metrics().find(gone) == std::string::npos; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const std::string page = Metrics();
  EXPECT_NE(page.find(gone), std::string::npos) << page;
  EXPECT_NE(page.find("{route=\"/tokenize\",status=\"200\"} 0\n"), std::string::npos);
  mutex.unlock();
  doors.reset();
}

// ---- where it listens

bool Answers(const std::string& host, const std::string& url) {
  const bool v6 = host.find(':') != std::string::npos;
  const uint16_t port = htons(static_cast<uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
  const int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
  sockaddr_in six_or_four[4]{};
  auto* four = reinterpret_cast<sockaddr_in*>(six_or_four);
  auto* six = reinterpret_cast<sockaddr_in6*>(six_or_four);
  if (v6) {
    six->sin6_family = AF_INET6;
    six->sin6_port = port;
    inet_pton(AF_INET6, host.c_str(), &six->sin6_addr);
  } else {
    four->sin_family = AF_INET;
    four->sin_port = port;
    inet_pton(AF_INET, host.c_str(), &four->sin_addr);
  }
  const bool answers =
      connect(fd, reinterpret_cast<sockaddr*>(six_or_four), v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in)) == 0;
  close(fd);
  return answers;
}

bool HasIpv6() {
  const int fd = socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 at{};
  at.sin6_family = AF_INET6;
  at.sin6_addr = in6addr_loopback;
  const bool has = fd >= 0 && bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof(at)) == 0;
  close(fd);
  return has;
}

TEST_F(HttpAnswers, WildcardsListenOnIpv4AndIpv6) {
  for (const std::string listen : {"*:0", "0.0.0.0:0", "[::]:0"}) {
    if (listen[0] == '[' && !HasIpv6()) continue;
    server.deployment.rest.listen = server.deployment.grpc.listen = listen;
    Open();
    EXPECT_TRUE(Answers("127.0.0.1", doors->rest_url())) << listen;
    EXPECT_TRUE(Answers("127.0.0.1", doors->grpc_address())) << listen;
    if (HasIpv6()) {
      EXPECT_TRUE(Answers("::1", doors->rest_url())) << listen;
      EXPECT_TRUE(Answers("::1", doors->grpc_address())) << listen;
    }
    EXPECT_EQ(doors->rest_url().find('*'), std::string::npos) << "a URL that can be opened";
    doors.reset();
  }
  server.deployment.rest.listen = "[::1]:0";
  if (HasIpv6()) {
    Open();
    EXPECT_TRUE(Answers("::1", doors->rest_url()));
    EXPECT_FALSE(Answers("127.0.0.1", doors->rest_url())) << "one address is one address";
  }
}

}  // namespace
}  // namespace pangea
