// One HTTP/1.1 connection: reads a request, serves it, reads the next. I/O thread only.
//
// One reader runs all the time, so that a client that goes is noticed while its request waits for the engine, and
// pipelined requests wait their turn: in `input_`, and beyond that in `ahead_`, as much as a body may have and
// limits.bodies has room for. What is sent ahead of even that is read and dropped, and the connection ends with the
// answer under way: to leave it unread would hide the client's end behind it. What is to be done when is decided by an
// Exchange. Everything that can happen (bytes, progress of a generation, a deadline) wakes the coroutine, which then
// looks at the state: no event can be lost between a look and a wait, for there is one thread.
//
// A client that closes its sending side is taken for gone: its generation is cancelled.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "master/api/generation/request_log.h"
#include "master/api/generation/service.h"
#include "master/api/http/exchange.h"
#include "master/api/http/rest.h"

namespace pangea {

// What all connections of a server share.
struct HttpShared {
  Service* service = nullptr;
  int connections = 0;
  bool closing = false;
  HostPort listen;  // as the deployment spells it
};

struct HttpRequest {
  std::string method, target, body, content_type, content_encoding, authorization, timeout, host, origin;
  std::string cors_method, cors_headers, cors_network;  // what a browser asks before it sends the page's own request
  std::optional<uint64_t> content_length;
  RouteMatch match;
  Caller caller;
  ByteShare bytes;          // of the body
  bool keep_alive = false;  // its client wants that, and its body has been read (or there is none)
  bool old = false;         // HTTP/1.0
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
  struct Parser;

  // Reading.
  void Read();
  void OnReadable();
  void Received(std::string_view bytes);
  void Refill();
  bool InputFull() const;
  void Wake() { wake_.cancel(); }
  Awaitable<bool> Wait(Clock::time_point deadline);  // false: the deadline came first
  HttpReply BodyTooLarge() const;
  Awaitable<Got> ReadRequest(HttpRequest* request, bool first);
  void TakeHead(const Parser& parser, HttpRequest* request);
  Awaitable<Got> ReadHead(size_t* head, bool first);
  Awaitable<Got> ReadBody(Parser* parser);
  Got Fault(HttpReply reply, const char* limit = "");

  // Answering.
  Awaitable<bool> Serve(HttpRequest request);  // false: close the connection
  // These three: an answer that needs no body, or nothing when the request may go on.
  std::optional<HttpReply> Knock(HttpRequest* request);
  std::optional<HttpReply> JudgeOrigin(const HttpRequest& request);
  std::optional<HttpReply> Admit(HttpRequest* request);
  HttpReply Options(const HttpRequest& request) const;
  void Ended();  // counts and logs the request
  Awaitable<bool> ServeText(HttpRequest& request, Route route);
  Awaitable<bool> ServeGeneration(HttpRequest& request, Route route);
  Awaitable<bool> ServeStream(const HttpRequest& request, RestAnswer* answer, Generation* generation);
  Awaitable<bool> ServeUnary(const HttpRequest& request, RestAnswer* answer, Generation* generation);
  bool FillStream(std::string* out);  // what the stream has ready -> *out; false: there may be more
  void Pump();
  Awaitable<bool> Send(const HttpRequest& request, HttpReply reply);
  Awaitable<bool> Write(std::string bytes);
  Awaitable<bool> WritePiece(boost::asio::const_buffer from, size_t most);
  Awaitable<void> Linger();  // before a close
  std::string Head(const HttpRequest& request, const HttpReply& reply, bool chunked) const;

  const Deployment::Limits& limits() const { return shared_->service->context().deployment->limits; }
  bool Keep(const HttpRequest& request) const {
    return request.keep_alive && !observer_ && !exchange_.dropping() && !shared_->closing &&
           !shared_->service->draining();
  }

  boost::asio::ip::tcp::socket socket_;
  std::shared_ptr<HttpShared> shared_;
  const bool observer_;
  boost::asio::steady_timer wake_, write_timer_;
  std::string input_;              // received, not consumed
  std::deque<std::string> ahead_;  // received beyond that
  ByteShare ahead_bytes_;          // of it
  Exchange exchange_;
  HttpReply fault_;  // the answer when ReadRequest gives kFault: decided by the head alone, or the request is malformed
  struct {
    RestAnswer* answer = nullptr;
    bool chunked = false;                // it goes out in chunks
    std::string out;                     // of it, not written yet
    Clock::time_point written;           // when its socket last took something
  } stream_;                             // the one being served
  std::optional<RequestRecord> record_;  // of the request being served, from its head on
  std::string_view label_ = "other";     // of its route, for the metrics
  std::string headers_;                  // of its answer, whatever that is: CORS, x-pangea-ignored-fields
};

}  // namespace pangea
