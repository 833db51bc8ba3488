// Both doors on ports of their own and a fake engine behind them, for tests that speak raw sockets and gRPC stubs.
#pragma once
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "master/api/doors.h"
#include "master/api/generation/context_test_util.h"
#include "nlohmann/json.hpp"

namespace pangea {

using Json = nlohmann::json;

// A client's end of a connection. Reads are bounded by 10 s, so that a server that says nothing fails a test and does
// not hang it.
class Socket {
 public:
  explicit Socket(const std::string& url) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(std::stoi(url.substr(url.rfind(':') + 1)));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
  }
  ~Socket() { Close(); }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  // As a process that is killed, or a host that restarts: the server is told at once and what was sent is lost.
  void Reset() {
    const linger now{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    Close();
  }
  bool Send(const std::string& bytes) const {
    for (size_t sent = 0; sent < bytes.size();) {
      const ssize_t n = send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += n;
    }
    return true;
  }
  // More bytes into input; false: closed, or nothing came.
  bool Read() {
    pollfd p{fd_, POLLIN, 0};
    if (poll(&p, 1, 10000) <= 0) {
      timed_out = true;
      return false;
    }
    char buffer[65536];
    const ssize_t n = recv(fd_, buffer, sizeof(buffer), 0);
    if (n <= 0) return false;
    input.append(buffer, n);
    return true;
  }
  bool ReadUntil(const std::string& text) {
    while (input.find(text) == std::string::npos) {
      if (!Read()) return false;
    }
    return true;
  }
  std::string ReadAll() {
    while (Read()) {
    }
    return input;
  }
  bool timed_out = false;
  std::string input;

 private:
  int fd_;
};

struct Reply {
  int status = 0;  // 0: closed without an answer
  std::string head, body;
  Json json() const { return Json::parse(body, nullptr, false); }
};

// Takes one answer with Content-Length off the socket.
inline Reply TakeReply(Socket& s) {
  Reply reply;
  if (!s.ReadUntil("\r\n\r\n")) return reply;
  const size_t end = s.input.find("\r\n\r\n") + 4;
  reply.head = s.input.substr(0, end);
  reply.status = std::stoi(reply.head.substr(9, 3));
  const size_t at = reply.head.find("Content-Length: ");
  const size_t length = at == std::string::npos ? 0 : std::stoul(reply.head.substr(at + 16));
  while (s.input.size() < end + length && s.Read()) {
  }
  reply.body = s.input.substr(end, length);
  s.input.erase(0, end + length);
  return reply;
}

inline std::string Get(const std::string& path, const std::string& headers = "", const std::string& method = "GET") {
  return absl::StrCat(method, " ", path, " HTTP/1.1\r\nHost: x\r\n", headers, "\r\n");
}

inline std::string Post(const std::string& path, const std::string& body, const std::string& headers = "") {
  return absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n", headers,
                      "Content-Length: ", body.size(), "\r\n\r\n", body);
}

inline constexpr char kChat[] = "/v1/chat/completions", kCompletion[] = "/v1/completions";

inline std::string ChatBody(const Json& change = Json::object()) {
  Json body = {{"model", "fake"}, {"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"max_tokens", 8}};
  body.update(change);
  return body.dump();
}

class DoorsTest : public testing::Test {
 protected:
  void SetUp() override {
    server.deployment.limits.body = 1 << 20;
    server.deployment.limits.connections = 64;
  }
  void Open() {
    auto opened = Doors::Open(&server.context);
    ASSERT_TRUE(opened.ok()) << opened.status();
    doors = *std::move(opened);
  }
  // The engine answers each request with `text`, at once.
  void Answering(const std::string& text) {
    server.engine.on_submit = [this, text](const SequenceRequest& request) {
      std::vector<Output> outputs;
      for (int c = 0; c < request.n; ++c) outputs.push_back(Ids(request.request, c, text, FinishReason::kLength));
      doors->Deliver(std::move(outputs));
      return absl::OkStatus();
    };
  }
  Reply Call(const std::string& bytes) {
    Socket s(doors->rest_url());
    s.Send(bytes);
    return TakeReply(s);
  }
  // A server in order answers this right, whatever came before.
  void Canary() {
    const Reply reply = Call(Post(kChat, ChatBody()));
    ASSERT_EQ(reply.status, 200) << reply.body;
    ASSERT_EQ(reply.json()["choices"][0]["message"]["content"], "canary");
  }

  TestServer server;
  std::unique_ptr<Doors> doors;
};

}  // namespace pangea
