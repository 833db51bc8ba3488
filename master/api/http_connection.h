// One HTTP/1.1 connection: reads a request, serves it, reads the next. I/O thread only.
//
// One reader runs all the time and fills `input_` (bounded), so that a client that goes is noticed while its request
// waits for the engine, and pipelined requests wait their turn. Everything that can happen (bytes, progress of a
// generation, a deadline) wakes the coroutine, which then looks at the state: no event can be lost between a look and a
// wait, for there is one thread.
//
// A client that closes its sending side is taken for gone: its generation is cancelled.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "master/api/rest.h"
#include "master/api/service.h"

namespace pangea {

// What all connections of a server share.
struct HttpShared {
  Service* service = nullptr;
  int connections = 0;
  bool closing = false;
};

struct HttpRequest {
  std::string method, target, body, content_type, content_encoding, authorization, timeout;
  std::optional<uint64_t> content_length;
  Caller caller;
  ByteShare bytes;                      // of the body
  bool keep_alive = true, old = false;  // old: HTTP/1.0
};

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  using Clock = std::chrono::steady_clock;
  template <class T>
  using Awaitable = boost::asio::awaitable<T>;

  // observer: beyond the limit of connections, hence only for those who look after the server (health and metrics), one
  // short request each.
  HttpConnection(boost::asio::ip::tcp::socket socket, std::shared_ptr<HttpShared> shared, bool observer);
  ~HttpConnection();
  Awaitable<void> Run();
  void Close();  // at once

 private:
  enum class Got { kRequest, kFault, kEnd };

  // Reading.
  void Read();
  void OnReadable();
  void Wake() { wake_.cancel(); }
  Awaitable<bool> Wait(Clock::time_point deadline);  // false: the deadline came first
  HttpReply BodyTooLarge() const;
  Awaitable<Got> ReadRequest(HttpRequest* request, bool first);
  Awaitable<Got> ReadHead(size_t* head, bool first);
  struct Parser;
  Awaitable<Got> ReadBody(Parser* parser);
  Got Fault(HttpReply reply, const char* limit = "");

  // Answering.
  Awaitable<bool> Serve(HttpRequest request);  // false: close the connection
  std::optional<HttpReply> Knock(HttpRequest* request) const;
  Awaitable<bool> ServeText(HttpRequest& request, Route route);
  Awaitable<bool> ServeGeneration(HttpRequest& request, Route route);
  Awaitable<bool> ServeStream(const HttpRequest& request, RestAnswer* answer, Generation* generation);
  Awaitable<bool> ServeUnary(const HttpRequest& request, RestAnswer* answer, Generation* generation);
  bool FillStream(std::string* out);  // what the stream has ready -> out_; false: there may be more
  void Pump();
  Awaitable<bool> Send(const HttpRequest& request, HttpReply reply);
  Awaitable<bool> Write(std::string bytes);
  Awaitable<bool> WritePiece(boost::asio::const_buffer from, size_t most);
  Awaitable<void> Linger();
  std::string Head(const HttpRequest& request, const HttpReply& reply, bool chunked) const;

  const Deployment::Limits& limits() const { return shared_->service->context().deployment->limits; }
  bool Keep(const HttpRequest& request) const {
    return request.keep_alive && !observer_ && !shared_->closing && !shared_->service->draining();
  }

  boost::asio::ip::tcp::socket socket_;
  std::shared_ptr<HttpShared> shared_;
  const bool observer_;
  boost::asio::steady_timer wake_, write_timer_;
  std::string input_;     // received, not consumed
  HttpReply fault_;       // of ReadRequest
  bool reading_ = false;  // a wait for readability is outstanding
  bool ended_ = false;    // the client sends no more
  bool gone_ = false;     // nothing can be written any more
  bool writing_ = false;
  bool idle_ = false;
  uint64_t writes_ = 0;
  RestAnswer* stream_ = nullptr;  // of the stream being served
  bool pumped_ = false;           // its coroutine sleeps: Pump may write
  bool chunked_ = false;          // it goes out in chunks
  std::string out_;               // of it, not written yet
  Clock::time_point written_;     // when its socket last took something
  std::string request_id_;        // of the request being served
  std::string ignored_;           // x-pangea-ignored-fields of it
};

}  // namespace pangea
