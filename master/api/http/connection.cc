#include "master/api/http/connection.h"

#include <netinet/tcp.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>

#include "absl/strings/str_cat.h"
#include "master/api/http/rules.h"
#include "master/text/ascii.h"

namespace pangea {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr size_t kReadBytes = 64 << 10;
constexpr size_t kAheadBytes = 64 << 10;  // of input beyond a head: the bound on pipelining
constexpr double kObserverSeconds = 1;    // for the request of an observer to be there
constexpr int kProbeSeconds = 30;         // of silence, before a client's host is asked whether it is there
template <int kName>
using KeepAliveOption = asio::detail::socket_option::integer<IPPROTO_TCP, kName>;
constexpr auto kLingerIdle = std::chrono::seconds(5), kLingerTotal = std::chrono::seconds(30);

HttpConnection::Clock::time_point After(double seconds) {
  return HttpConnection::Clock::now() +
         std::chrono::duration_cast<HttpConnection::Clock::duration>(std::chrono::duration<double>(seconds));
}

std::string String(boost::core::string_view text) { return std::string(text.data(), text.size()); }

}  // namespace

struct HttpConnection::Parser {
  http::request_parser<http::string_body> http;
  ByteShare bytes;  // of the body so far
};

HttpConnection::HttpConnection(asio::ip::tcp::socket socket, std::shared_ptr<HttpShared> shared, bool observer)
    : socket_(std::move(socket)),
      shared_(std::move(shared)),
      observer_(observer),
      wake_(socket_.get_executor()),
      write_timer_(socket_.get_executor()) {
  ++shared_->connections;
  ahead_bytes_ = ByteShare(&shared_->service->bodies());
  error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  // A host that vanished answers no probe: what waits for its client, silently, is found to wait for nobody.
  socket_.set_option(asio::socket_base::keep_alive(true), ignored);
  socket_.set_option(KeepAliveOption<TCP_KEEPIDLE>(kProbeSeconds), ignored);
  socket_.set_option(KeepAliveOption<TCP_KEEPINTVL>(kProbeSeconds / 3), ignored);
  socket_.set_option(KeepAliveOption<TCP_KEEPCNT>(3), ignored);
  socket_.non_blocking(true, ignored);
}

HttpConnection::~HttpConnection() { --shared_->connections; }

void HttpConnection::Close() {
  exchange_.On(Exchange::Event::kClose);
  error_code ignored;
  socket_.close(ignored);
  Wake();
}

HttpReply HttpConnection::BodyTooLarge() const {
  return HttpErrorReply(413, absl::StrCat("the body may have at most ", limits().body, " bytes"));
}

// ---- reading

void HttpConnection::Read() {
  if (!exchange_.Listen(InputFull())) return;
  socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this()](error_code error) {
    self->exchange_.Heard();
    if (error) {
      self->exchange_.Lose(Exchange::Client::kEnded);
      self->Wake();
    } else {
      self->OnReadable();
    }
  });
}

void HttpConnection::OnReadable() {
  static thread_local char scratch[kReadBytes];  // one for all connections: idle ones hold no buffer
  error_code error;
  const size_t n = socket_.read_some(asio::buffer(scratch), error);
  if (error == asio::error::would_block || error == asio::error::try_again) return Read();
  if (error) {
    exchange_.Lose(error == asio::error::eof ? Exchange::Client::kEnded : Exchange::Client::kGone);
  } else {
    Received({scratch, n});
  }
  Wake();
  Read();
}

bool HttpConnection::InputFull() const { return input_.size() >= limits().header_bytes + kAheadBytes; }

void HttpConnection::Received(std::string_view bytes) {
  const bool dropping = exchange_.dropping();
  if (ahead_.empty() && !dropping && !(exchange_.served() && InputFull())) {
    input_ += bytes;
    return;
  }
  if (dropping || ahead_bytes_.held() + bytes.size() > limits().body || !ahead_bytes_.Grow(bytes.size()))
    return exchange_.Drop();
  if (ahead_.empty() || ahead_.back().size() + bytes.size() > kReadBytes) ahead_.emplace_back();
  ahead_.back() += bytes;
}

void HttpConnection::Refill() {
  while (!ahead_.empty() && !InputFull()) {
    input_ += ahead_.front();
    ahead_bytes_.Shrink(ahead_.front().size());
    ahead_.pop_front();
  }
}

HttpConnection::Awaitable<bool> HttpConnection::Wait(Clock::time_point deadline) {
  wake_.expires_at(deadline);
  const auto [error] = co_await wake_.async_wait(kAwait);
  co_return error == asio::error::operation_aborted;
}

HttpConnection::Got HttpConnection::Fault(HttpReply reply, const char* limit) {
  if (*limit != '\0') shared_->service->context().metrics.rejected.Add(limit);
  fault_ = std::move(reply);
  return Got::kFault;
}

HttpConnection::Awaitable<HttpConnection::Got> HttpConnection::ReadHead(size_t* head, bool first) {
  double patience = first ? limits().header_seconds : limits().idle_seconds;
  if (observer_) patience = std::min(patience, kObserverSeconds);
  auto deadline = After(patience);
  bool begun = false;
  while (true) {
    Refill();
    input_.erase(0, EmptyLines(input_));
    const bool idle = input_.empty();
    const HeadScan scan = ScanHead(input_, {limits().header_bytes});
    if (scan.fault) co_return Fault(HttpErrorReply(scan.fault->status, scan.fault->message), scan.fault->limit);
    if (scan.complete > 0) {
      *head = scan.complete;
      co_return Got::kRequest;
    }
    if (exchange_.ended() || exchange_.dropping() || (idle && shared_->closing)) co_return Got::kEnd;
    if (!idle && !begun && !observer_) {
      begun = true;
      deadline = After(limits().header_seconds);
    }
    Read();
    const bool woken = co_await Wait(deadline);
    if (woken) continue;
    if (observer_) co_return Fault(TooManyConnections(), "connections");
    co_return idle ? Got::kEnd : Fault(HttpErrorReply(408, "the request's head took too long"), "header_seconds");
  }
}

HttpConnection::Awaitable<HttpConnection::Got> HttpConnection::ReadBody(Parser* parser) {
  const auto deadline = After(limits().body_seconds);
  while (!parser->http.is_done()) {
    Refill();
    if (!input_.empty()) {
      error_code error;
      const size_t used = parser->http.put(asio::buffer(input_), error);
      input_.erase(0, used);
      const bool room = parser->bytes.Grow(used);
      if (error == http::error::body_limit) co_return Fault(BodyTooLarge(), "body");
      if (error && error != http::error::need_more) co_return Fault(HttpErrorReply(400, "malformed body framing"));
      if (!room) co_return Fault(ErrorReply(shared_->service->TooManyBytes()));
      if (used > 0) continue;
      // A chunk's head that does not fit what is read ahead would wait for ever.
      if (input_.size() >= limits().header_bytes) co_return Fault(HttpErrorReply(400, "malformed body framing"));
    }
    if (exchange_.ended() || exchange_.dropping()) co_return Got::kEnd;
    Read();
    if (!co_await Wait(deadline))
      co_return Fault(HttpErrorReply(408, "the request's body took too long"), "body_seconds");
  }
  co_return Got::kRequest;
}

void HttpConnection::TakeHead(const Parser& parser, HttpRequest* request) {
  const auto& message = parser.http.get();
  request->method = String(message.method_string());
  request->target = String(message.target());
  request->old = message.version() == 10;
  const auto field = [&](http::field name) { return String(message[name]); };
  request->content_type = field(http::field::content_type);
  request->content_encoding = field(http::field::content_encoding);
  request->authorization = field(http::field::authorization);
  request->host = field(http::field::host);
  request->origin = field(http::field::origin);
  request->cors_method = field(http::field::access_control_request_method);
  request->cors_headers = field(http::field::access_control_request_headers);
  request->cors_network = String(message["access-control-request-private-network"]);
  request->timeout = String(message["x-request-timeout"]);
  if (const auto length = parser.http.content_length()) request->content_length = *length;
  record_->id = RequestId(String(message["x-request-id"]));
}

HttpConnection::Awaitable<HttpConnection::Got> HttpConnection::ReadRequest(HttpRequest* request, bool first) {
  size_t head = 0;
  if (const Got got = co_await ReadHead(&head, first); got != Got::kRequest) co_return got;
  exchange_.On(Exchange::Event::kHead);
  record_->begun = Clock::now();
  Parser parser;
  parser.bytes = ByteShare(&shared_->service->bodies());
  parser.http.eager(true);
  parser.http.body_limit(boost::none);  // what the head decides comes first
  parser.http.header_limit(static_cast<uint32_t>(limits().header_bytes));
  error_code error;
  const size_t used = parser.http.put(asio::buffer(input_.data(), head), error);
  input_.erase(0, head);
  if ((error && error != http::error::need_more) || used != head || !parser.http.is_header_done())
    co_return Fault(HttpErrorReply(400, "malformed request"));
  TakeHead(parser, request);
  request->keep_alive = parser.http.is_done() && parser.http.keep_alive();
  if (auto answer = Knock(request)) co_return Fault(*std::move(answer));
  parser.http.body_limit(limits().body);
  // In HTTP/1.0 there are no interim answers: its clients would take one for the answer (RFC 9110, 10.1.1).
  const std::string expect = String(parser.http.get()[http::field::expect]);
  if (!expect.empty() && !request->old && !parser.http.is_done()) {
    if (!SameName(expect, "100-continue"))
      co_return Fault(HttpErrorReply(417, "the only expectation met is 100-continue"));
    if (!co_await Write("HTTP/1.1 100 Continue\r\n\r\n")) co_return Got::kEnd;
  }
  if (const Got got = co_await ReadBody(&parser); got != Got::kRequest) co_return got;
  request->keep_alive = parser.http.keep_alive();
  request->body = std::move(parser.http.get().body());
  request->bytes = std::move(parser.bytes);
  exchange_.On(Exchange::Event::kBody);
  co_return Got::kRequest;
}

// ---- writing

HttpConnection::Awaitable<bool> HttpConnection::Write(std::string bytes) {
  // In pieces, so that the time limit is for a reader that takes nothing, not for one that is slow.
  constexpr size_t kPiece = 64 << 10;
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    const bool sent = co_await WritePiece(asio::buffer(bytes) + at, kPiece);
    if (!sent) co_return false;
  }
  co_return !exchange_.gone();
}

HttpConnection::Awaitable<bool> HttpConnection::WritePiece(asio::const_buffer from, size_t most) {
  if (!exchange_.BeginWrite()) co_return false;
  write_timer_.expires_at(After(limits().write_seconds));
  write_timer_.async_wait([self = shared_from_this(), write = exchange_.writes()](error_code error) {
    // A reader that takes nothing: its request is not worth blocks any more.
    if (error || !self->exchange_.writing(write)) return;
    self->shared_->service->context().metrics.rejected.Add("write_seconds");
    self->Close();
  });
  const auto [error, n] = co_await asio::async_write(socket_, asio::buffer(from, most), kAwait);
  exchange_.EndWrite(!error);
  write_timer_.cancel();
  co_return !error;
}

std::string HttpConnection::Head(const HttpRequest& request, const HttpReply& reply, bool chunked) const {
  std::string head = absl::StrCat("HTTP/1.1 ", reply.status, " ",
                                  String(http::obsolete_reason(static_cast<http::status>(reply.status))), "\r\n");
  if (!reply.content_type.empty()) absl::StrAppend(&head, "Content-Type: ", reply.content_type, "\r\n");
  if (chunked) {
    // The second tells proxies such as nginx to hand every event on at once.
    absl::StrAppend(&head, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n",
                    request.old ? "" : "Transfer-Encoding: chunked\r\n");
  } else if (reply.status != 204) {
    absl::StrAppend(&head, "Content-Length: ", reply.body.size(), "\r\n");
  }
  for (const auto& [name, value] : reply.headers) absl::StrAppend(&head, name, ": ", value, "\r\n");
  absl::StrAppend(&head, headers_, "x-request-id: ", record_->id, "\r\n");
  if (!Keep(request) || (chunked && request.old)) {
    absl::StrAppend(&head, "Connection: close\r\n");
  } else if (request.old) {
    absl::StrAppend(&head, "Connection: keep-alive\r\n");
  }
  return head + "\r\n";
}

HttpConnection::Awaitable<bool> HttpConnection::Send(const HttpRequest& request, HttpReply reply) {
  const bool keep = Keep(request);
  exchange_.On(Exchange::Event::kAnswer);
  record_->status = absl::StrCat(reply.status);
  record_->reason = std::move(reply.reason);
  std::string bytes = Head(request, reply, false);
  if (request.method != "HEAD") bytes += reply.body;
  const bool written = co_await Write(std::move(bytes));
  co_return written&& keep;
}

// Closing a socket with unread input resets the connection and may destroy the answer on its way: say that no more
// follows, then read what still comes, bounded.
HttpConnection::Awaitable<void> HttpConnection::Linger() {
  error_code ignored;
  exchange_.On(Exchange::Event::kLast);
  if (!exchange_.gone()) socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  const auto end = observer_ ? After(kObserverSeconds) : Clock::now() + kLingerTotal;
  input_.clear();
  ahead_.clear();
  ahead_bytes_.Shrink(ahead_bytes_.held());
  while (!exchange_.ended() && !shared_->closing) {
    Read();
    if (!co_await Wait(std::min(end, Clock::now() + kLingerIdle))) break;
  }
}

void HttpConnection::Ended() {
  RequestRecord& record = *record_;
  if (record.begun == Clock::time_point() && record.status.empty()) return;  // nothing was asked
  if (record.status.empty()) {
    record.status = "499";
    record.reason = "the client has gone";
  }
  ApiContext& context = shared_->service->context();
  context.metrics.http_responses.Add(label_, record.status);
  if (record.begun == Clock::time_point()) record.begun = Clock::now();
  if (record.what.empty()) record.what = "HTTP";
  LogRequest(record, context);
}

HttpConnection::Awaitable<void> HttpConnection::Run() {
  const auto self = shared_from_this();
  Read();
  for (bool first = true, keep = true; keep; first = false) {
    HttpRequest request;
    record_.emplace().id = RequestId("");
    label_ = "other";
    headers_.clear();
    const Got got = co_await ReadRequest(&request, first);
    keep = false;
    if (got == Got::kFault) keep = co_await Send(request, std::move(fault_));
    if (got == Got::kRequest) {
      Read();
      keep = co_await Serve(std::move(request));
    }
    Ended();
    if (got == Got::kEnd) break;
    if (keep) {
      exchange_.On(Exchange::Event::kKept);
    } else {
      co_await Linger();
    }
  }
  Close();
}

}  // namespace pangea
