// The REST door, spoken to through raw sockets.
#include <thread>

#include "absl/strings/str_format.h"
#include "master/api/doors_test_util.h"
#include "master/api/openai/response.h"

namespace pangea {
namespace {

TEST_F(DoorsTest, GetRoutes) {
  Open();
  EXPECT_EQ(Call("GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n").json()["data"][0]["id"], "fake");
  EXPECT_EQ(Call("GET /v1/models/fake HTTP/1.1\r\nHost: x\r\n\r\n").json()["object"], "model");
  const Reply missing = Call("GET /v1/models/%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.json()["error"]["code"], "model_not_found");
  for (const char* path : {"/health", "/health/live", "/health/ready", "/version"})
    EXPECT_EQ(Call(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n\r\n")).status, 200) << path;
  EXPECT_EQ(Call("GET /nope HTTP/1.1\r\nHost: x\r\n\r\n").status, 404);
  const Reply wrong = Call("GET /v1/completions HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_NE(wrong.head.find("Allow: POST"), std::string::npos);
  EXPECT_EQ(Call("BREW /v1/models HTTP/1.1\r\nHost: x\r\n\r\n").status, 405);
  EXPECT_EQ(Call("OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\n\r\n").status, 204);
  Socket s(doors->rest_url());
  s.Send("HEAD /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string head = s.ReadAll();
  EXPECT_NE(head.find("Content-Length: "), std::string::npos);
  EXPECT_EQ(head.substr(head.size() - 4), "\r\n\r\n");
  EXPECT_FALSE(s.timed_out);
}

TEST_F(DoorsTest, UnaryAndItsHeaders) {
  Open();
  Answering("hello");
  const Reply reply =
      Call(Post(kChat, ChatBody({{"n", 2}, {"user", "u"}, {"store", false}}), "X-Request-Id: abc-1\r\n"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json json = reply.json();
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["choices"][1]["message"], Json::parse(R"({"role":"assistant","content":"hello","refusal":null})"));
  EXPECT_TRUE(json["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(json["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(json["usage"]["completion_tokens"], 10);
  EXPECT_EQ(json["system_fingerprint"], "f32-1x1-0");
  EXPECT_NE(reply.head.find("x-request-id: abc-1\r\n"), std::string::npos);
  EXPECT_NE(reply.head.find("x-pangea-ignored-fields: store, user\r\n"), std::string::npos);
}

std::vector<std::string> Events(const std::string& stream) {
  std::vector<std::string> events;
  for (size_t at = 0; (at = stream.find("data: ", at)) != std::string::npos;) {
    const size_t end = stream.find("\n\n", at);
    events.push_back(stream.substr(at + 6, end - at - 6));
    at = end;
  }
  return events;
}

TEST_F(DoorsTest, Stream) {
  Open();
  Socket s(doors->rest_url());
  s.Send(Post(kChat, ChatBody({{"stream", true}, {"stream_options", {{"include_usage", true}}}})));
  const uint64_t id = server.engine.WaitSubmitted(1).request;
  doors->Deliver({Ids(id, 0, "one")});
  ASSERT_TRUE(s.ReadUntil("one"));
  doors->Deliver({Ids(id, 0, "two", FinishReason::kLength)});
  ASSERT_TRUE(s.ReadUntil("\r\n0\r\n\r\n"));
  EXPECT_NE(s.input.find("Content-Type: text/event-stream"), std::string::npos);
  EXPECT_NE(s.input.find("X-Accel-Buffering: no\r\n"), std::string::npos) << "proxies hand events on at once";
  const auto events = Events(s.input);
  ASSERT_EQ(events.size(), 6u) << s.input;
  const auto chunk = [&](int i) { return Json::parse(events[i]); };
  EXPECT_EQ(chunk(0)["choices"][0]["delta"], Json::parse(R"({"role":"assistant","content":""})"));
  EXPECT_TRUE(chunk(0)["choices"][0]["finish_reason"].is_null());
  EXPECT_TRUE(chunk(0)["usage"].is_null());
  EXPECT_EQ(chunk(1)["choices"][0]["delta"]["content"], "one");
  EXPECT_EQ(chunk(2)["choices"][0]["delta"]["content"], "two");
  EXPECT_EQ(chunk(3)["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(chunk(4)["choices"], Json::array());
  EXPECT_EQ(chunk(4)["usage"]["completion_tokens"], 6);
  EXPECT_EQ(events[5], "[DONE]");
  for (int i = 1; i < 5; ++i) EXPECT_EQ(chunk(i)["id"], chunk(0)["id"]);
  EXPECT_EQ(s.input.find("\nid:"), std::string::npos);
  // The connection goes on.
  s.input.clear();
  s.Send("GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(TakeReply(s).status, 200);
}

// What is inside a string of JSON is written by hand for streams: against the library, over every byte and awkward
// texts.
TEST(JsonText, StringsAreEscapedAsTheJsonLibraryDoes) {
  std::vector<std::string> texts = {"",     "plain",     "\"",        "a\\b", "\u00e9\u4e2d\U0001f600",
                                    "\xff", "a\xe4\xb8", "</script>", "\x7f", "caf\xc3"};
  for (int c = 0; c < 256; ++c) texts.push_back(std::string("x") + static_cast<char>(c));
  for (const std::string& text : texts) {
    std::string got = "\"";
    AppendJsonText(text, &got);
    got += '"';
    EXPECT_EQ(got, Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)) << got;
  }
}

// Events of plain text are cut from a frame; a unary answer is not. Both give the same text and the same other fields.
TEST_F(DoorsTest, StreamTextsThatNeedEscapes) {
  Open();
  // With what must not be taken for the place where the text goes.
  const std::string text = "\"content\":\"\n\t\\ \"text\":\"\" \u00e9\x01 end";
  for (const char* path : {kChat, kCompletion}) {
    const bool chat = std::string(path) == kChat;
    const std::string body = chat ? ChatBody({{"stream", true}}) : R"({"model":"fake","prompt":"x","stream":true})";
    Socket s(doors->rest_url());
    s.Send(Post(path, body));
    const uint64_t id = server.engine.WaitSubmitted(chat ? 1 : 2).request;
    for (const char c : text) doors->Deliver({Ids(id, 0, std::string(1, c))});
    Output end;
    end.request = id;
    end.finish = FinishReason::kLength;
    doors->Deliver({end});
    ASSERT_TRUE(s.ReadUntil("[DONE]"));
    std::string got;
    Json shape;
    for (const std::string& event : Events(s.input)) {
      if (event == "[DONE]") break;
      const Json chunk = Json::parse(event), choice = chunk["choices"][0];
      Json keys = Json::array();
      for (const auto& [key, value] : choice.items()) keys.push_back(key);
      if (shape.is_null()) shape = keys;
      EXPECT_EQ(keys, shape);
      got += chat ? choice["delta"].value("content", "") : choice["text"].get<std::string>();
    }
    EXPECT_EQ(got, text);
  }
}

TEST_F(DoorsTest, StreamErrors) {
  Open();
  const auto error = [&](uint64_t id) {
    Output output;
    output.request = id;
    output.error = absl::InternalError("no numbers");
    return output;
  };
  Socket late(doors->rest_url());
  late.Send(Post(kCompletion, R"({"model":"fake","prompt":"x","stream":true})"));
  const uint64_t first = server.engine.WaitSubmitted(1).request;
  doors->Deliver({Ids(first, 0, "some")});
  ASSERT_TRUE(late.ReadUntil("some"));
  doors->Deliver({error(first)});
  const std::string all = late.ReadAll();  // to its close
  EXPECT_FALSE(late.timed_out);
  EXPECT_EQ(all.find("[DONE]"), std::string::npos);
  EXPECT_EQ(Json::parse(Events(all).back())["error"]["message"], "no numbers");
  // Before anything was sent, the error has its own status.
  Socket early(doors->rest_url());
  early.Send(Post(kCompletion, R"({"model":"fake","prompt":"x","stream":true})"));
  doors->Deliver({error(server.engine.WaitSubmitted(2).request)});
  const Reply reply = TakeReply(early);
  EXPECT_EQ(reply.status, 500);
  EXPECT_NE(reply.head.find("x-should-retry: false"), std::string::npos);
}

TEST_F(DoorsTest, DisconnectCancels) {
  Open();
  for (const bool stream : {false, true}) {
    for (const bool begun : {false, true}) {
      const size_t count = server.engine.submitted.size() + 1;
      Socket s(doors->rest_url());
      s.Send(Post(kChat, ChatBody({{"stream", stream}})));
      const uint64_t id = server.engine.WaitSubmitted(count).request;
      if (begun) doors->Deliver({Ids(id, 0, "x")});
      if (begun && stream) {
        ASSERT_TRUE(s.ReadUntil("x"));
      }
      s.Close();
      EXPECT_TRUE(server.engine.WaitCancelled(id)) << stream << begun;
    }
  }
  Answering("canary");
  Canary();
}

TEST_F(DoorsTest, BadFramingIsAnsweredAndClosed) {
  Open();
  Answering("canary");
  const std::string start = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
  const std::vector<std::pair<std::string, int>> cases = {
      {start + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400},
      {start + "Transfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400},
      {start + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400},
      {start + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n", 400},
      {start + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 400},
      {start + "Content-Length: 209715200\r\n\r\n{", 413},
      {start + "Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n{", 413},
      {start + "Content-Length: 5\r\nExpect: magic\r\n\r\n", 417},
      {"GET /" + std::string(1000000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n", 414},
      {"GET /health HTTP/1.1\r\nHost: x\r\nX: " + std::string(1000000, 'a') + "\r\n\r\n", 431},
      {"GET /health HTTP/9.9\r\nHost: x\r\n\r\n", 505},
      {std::string("\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03", 11) + std::string(64, '\0'), 400},
  };
  for (const auto& [bytes, status] : cases) {
    Socket s(doors->rest_url());
    s.Send(bytes);
    const Reply reply = TakeReply(s);
    EXPECT_EQ(reply.status, status) << bytes.substr(0, 200);
    EXPECT_TRUE(reply.json()["error"]["message"].is_string()) << reply.body;
    EXPECT_NE(reply.head.find("Connection: close"), std::string::npos);
    Canary();
  }
}

TEST_F(DoorsTest, BodiesOverTheLimit) {
  Open();
  Answering("canary");
  // Announced: answered without reading; a client that sends all of it still gets its answer.
  Socket announced(doors->rest_url());
  announced.Send(Post(kChat, std::string(10 << 20, 'a')));
  EXPECT_EQ(TakeReply(announced).status, 413);
  Socket chunked(doors->rest_url());
  chunked.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: "
      "chunked\r\n\r\n");
  const std::string chunk = absl::StrCat("10000\r\n", std::string(0x10000, 'a'), "\r\n");
  for (int i = 0; i < 64 && chunked.Send(chunk); ++i) {
  }
  EXPECT_EQ(TakeReply(chunked).status, 413);
  // In the limit, in small pieces.
  Socket pieces(doors->rest_url());
  pieces.Send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: "
      "chunked\r\n\r\n");
  for (const char c : ChatBody()) pieces.Send(absl::StrFormat("1;ext=x\r\n%c\r\n", c));
  pieces.Send("0\r\nTrailer: x\r\n\r\n");
  EXPECT_EQ(TakeReply(pieces).status, 200);
  Canary();
}

TEST_F(DoorsTest, ContentTypesAndEncodings) {
  Open();
  Answering("canary");
  const std::string body = ChatBody();
  const auto with = [&](const std::string& headers) {
    return Call(absl::StrCat("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n", headers,
                             "Content-Length: ", body.size(), "\r\n\r\n", body))
        .status;
  };
  EXPECT_EQ(with("Content-Type: text/plain\r\n"), 415);
  EXPECT_EQ(with(""), 415);
  EXPECT_EQ(with("Content-Type: application/json\r\nContent-Encoding: gzip\r\n"), 415);
  EXPECT_EQ(with("Content-Type: Application/JSON; charset=utf-8\r\nContent-Encoding: identity\r\n"), 200);
  EXPECT_EQ(Call(Post(kChat, "[" + std::string(99999, '['))).status, 400);
  EXPECT_EQ(Call(Post(kChat, "")).status, 400);
  const Reply bad = Call(Post(kChat, ChatBody({{"temperature", 9}})));
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(bad.json()["error"]["param"], "temperature");
  EXPECT_EQ(bad.json()["error"]["type"], "invalid_request_error");
  EXPECT_TRUE(bad.json()["error"].contains("code"));
}

TEST_F(DoorsTest, KeepAliveAndPipelining) {
  Open();
  Answering("canary");
  Socket s(doors->rest_url());
  std::string all;
  for (int i = 0; i < 300; ++i)
    all += i % 3 == 0   ? Post(kChat, ChatBody({{"n", 1 + i % 2}}))
           : i % 3 == 1 ? "\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\n"
                        : "GET /nope HTTP/1.1\r\nHost: x\r\n\r\n";
  std::thread sender([&] { s.Send(all); });
  for (int i = 0; i < 300; ++i) {
    const Reply reply = TakeReply(s);
    ASSERT_EQ(reply.status, i % 3 == 2 ? 404 : 200) << i;
    if (i % 3 == 0) {
      ASSERT_EQ(reply.json()["choices"].size(), 1u + i % 2);
    }
  }
  sender.join();
  s.Send("GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(TakeReply(s).status, 200);
  EXPECT_FALSE(s.Read());
  EXPECT_FALSE(s.timed_out);
  Socket old(doors->rest_url());
  old.Send("GET /version HTTP/1.0\r\n\r\n");
  EXPECT_NE(old.ReadAll().find("200 OK"), std::string::npos);
  EXPECT_FALSE(old.timed_out);
}

TEST_F(DoorsTest, ExpectContinue) {
  Open();
  Answering("canary");
  Socket s(doors->rest_url());
  const std::string body = ChatBody();
  s.Send(
      absl::StrCat("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: "
                   "100-continue\r\nContent-Length: ",
                   body.size(), "\r\n\r\n"));
  ASSERT_TRUE(s.ReadUntil("\r\n\r\n"));
  EXPECT_EQ(s.input, "HTTP/1.1 100 Continue\r\n\r\n");
  s.input.clear();
  s.Send(body);
  EXPECT_EQ(TakeReply(s).status, 200);
}

TEST_F(DoorsTest, TimeLimits) {
  server.deployment.limits.header_seconds = server.deployment.limits.body_seconds =
      server.deployment.limits.idle_seconds = 0.2;
  Open();
  Answering("canary");
  EXPECT_EQ(Call("GET /health HT").status, 408);
  EXPECT_EQ(
      Call("POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{").status,
      408);
  EXPECT_EQ(Call("").status, 0);
  Socket s(doors->rest_url());
  s.Send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(TakeReply(s).status, 200);
  EXPECT_FALSE(s.Read());  // idle
  EXPECT_FALSE(s.timed_out);
  Canary();
}

TEST_F(DoorsTest, ASlowReaderIsCancelled) {
  server.deployment.limits.write_seconds = 0.3;
  Open();
  Socket s(doors->rest_url());
  s.Send(Post(kCompletion, R"({"model":"fake","prompt":"x","stream":true,"logprobs":2,"max_tokens":100})"));
  const uint64_t id = server.engine.WaitSubmitted(1).request;
  // Far more than all socket buffers hold: each delivery becomes about two megabytes of events.
  for (int i = 0; i < 64 && server.engine.cancelled.empty(); ++i) doors->Deliver({Ids(id, 0, std::string(8000, 'x'))});
  EXPECT_TRUE(server.engine.WaitCancelled(id));
}

TEST_F(DoorsTest, ConnectionLimit) {
  server.deployment.limits.connections = 2;
  Open();
  Socket a(doors->rest_url()), b(doors->rest_url());
  a.Send("GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
  b.Send("GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(TakeReply(a).status, 200);
  EXPECT_EQ(TakeReply(b).status, 200);
  // Beyond the limit, health checks and /metrics are still answered, one a connection; everything else is refused.
  for (const char* path : {"/metrics", "/health", "/health/live", "/health/ready"}) {
    const Reply reply = Call(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n\r\n"));
    EXPECT_EQ(reply.status, 200) << path;
    EXPECT_NE(reply.head.find("Connection: close"), std::string::npos) << path;
  }
  for (const std::string& request :
       {Post(kChat, ChatBody()), std::string("GET /version HTTP/1.1\r\nHost: x\r\n\r\n"), std::string()}) {
    const Reply reply = Call(request);
    EXPECT_EQ(reply.status, 503);
    EXPECT_EQ(reply.json()["error"]["code"], "connection_limit");
  }
  // Nor may they fill the place up.
  std::vector<std::unique_ptr<Socket>> idle;
  for (int i = 0; i < 20; ++i) idle.push_back(std::make_unique<Socket>(doors->rest_url()));
  EXPECT_EQ(TakeReply(*idle.back()).status, 503);
  for (auto& socket : idle) socket->ReadAll();  // all were told, and are still open
  Reply page;
  int refused = 3 + 20;
  for (; page.status != 200 && refused < 1000; ++refused) {
    page = Call("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    if (page.status != 200) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_NE(page.body.find(absl::StrCat("pangea_rejected_total{limit=\"connections\"} ", refused - 1, "\n")),
            std::string::npos)
      << page.body;
}

TEST_F(DoorsTest, LoadingAndFullServersRefuse) {
  server.context.health = Health::kLoading;
  Open();
  const Reply loading = Call(Post(kChat, ChatBody()));
  EXPECT_EQ(loading.status, 503);
  EXPECT_NE(loading.head.find("Retry-After: "), std::string::npos);
  EXPECT_EQ(Call("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").status, 503);
  EXPECT_EQ(Call("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
  server.context.health = Health::kReady;
  server.engine.on_submit = [](const SequenceRequest&) { return absl::ResourceExhaustedError("the queue is full"); };
  const Reply full = Call(Post(kChat, ChatBody()));
  EXPECT_EQ(full.status, 429);
  EXPECT_NE(full.head.find("Retry-After: "), std::string::npos);
  EXPECT_EQ(full.json()["error"]["message"], "the queue is full");
  const Reply page = Call("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(page.head.find("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), std::string::npos);
  EXPECT_NE(page.body.find("pangea_rejected_total{limit=\"queue\"} 1\n"), std::string::npos) << page.body;
  EXPECT_NE(page.body.find("pangea_requests_total{finished_reason=\"abort\"} 0\n"), std::string::npos) << page.body;
}

TEST_F(DoorsTest, TokenizeAndBack) {
  Open();
  const Reply ids = Call(Post("/tokenize", R"({"model":"fake","prompt":"ab"})"));
  EXPECT_EQ(ids.json(), Json::parse(R"({"count":3,"max_model_len":128,"tokens":[256,97,98]})"));
  EXPECT_EQ(Call(Post("/tokenize", R"({"prompt":"ab","add_special_tokens":false})")).json()["count"], 2);
  EXPECT_EQ(Call(Post("/tokenize", R"({"messages":[{"role":"user","content":"x"}]})")).json()["count"], 9);
  EXPECT_EQ(Call(Post("/tokenize", R"({"model":"no","prompt":"ab"})")).status, 404);
  EXPECT_EQ(Call(Post("/tokenize", "{}")).status, 400);
  EXPECT_EQ(Call(Post("/detokenize", R"({"model":"fake","tokens":[97,98]})")).json(),
            Json::parse(R"({"prompt":"ab"})"));
  EXPECT_EQ(Call(Post("/detokenize", R"({"tokens":[-1]})")).status, 400);
}

TEST_F(DoorsTest, DrainEndsWhatIsOpen) {
  Open();
  Socket stream(doors->rest_url()), unary(doors->rest_url());
  stream.Send(Post(kChat, ChatBody({{"stream", true}})));
  doors->Deliver({Ids(server.engine.WaitSubmitted(1).request, 0, "abc")});
  ASSERT_TRUE(stream.ReadUntil("abc"));
  unary.Send(Post(kChat, ChatBody()));
  server.engine.WaitSubmitted(2);
  EXPECT_EQ(doors->open_requests(), 2);
  std::thread drain([&] { doors->Drain(0.3, absl::UnavailableError("shutting down now")); });
  while (server.context.health == Health::kReady) std::this_thread::yield();
  EXPECT_EQ(Call(Post(kChat, ChatBody())).status, 503);
  const std::string all = stream.ReadAll();
  EXPECT_EQ(Json::parse(Events(all).back())["error"]["message"], "shutting down now");
  EXPECT_EQ(all.find("[DONE]"), std::string::npos);
  EXPECT_EQ(TakeReply(unary).status, 503);
  drain.join();
  EXPECT_EQ(doors->open_requests(), 0);
}

}  // namespace
}  // namespace pangea
