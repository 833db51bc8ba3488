// A scripted HTTP server for the client tests: plain sockets, a thread a connection, port chosen by the system.
#pragma once
#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace pangea::clients {

class FakeHttpServer {
 public:
  // One request's connection, as the script sees it.
  class Connection {
   public:
    explicit Connection(int fd) : fd_(fd) {}
    bool Write(std::string_view bytes);  // false: the peer is gone
    void Chunk(std::string_view bytes);  // one piece of a chunked body
    void Event(std::string_view data) { Chunk("data: " + std::string(data) + "\n\n"); }
    void WaitForClose();  // until the client hangs up
    static constexpr std::string_view kEventStream =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

   private:
    int fd_;
  };
  struct Request {
    std::string head, body;  // head: request line and headers
  };
  using Script = std::function<void(const Request&, Connection&)>;

  explicit FakeHttpServer(Script script);
  ~FakeHttpServer();  // closes every connection and joins
  int port() const { return port_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  std::vector<Request> requests() const;
  static std::string Json(int status, const std::string& body);

 private:
  void Serve(int fd);
  Script script_;
  int listener_ = -1, port_ = 0;
  mutable std::mutex mutex_;
  std::vector<Request> requests_;
  std::vector<int> fds_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace pangea::clients
