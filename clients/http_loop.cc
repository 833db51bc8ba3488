#include "clients/http_loop.h"

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "clients/sse.h"
#include "clients/tls.h"

namespace pangea::clients {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr size_t kMaxBody = 64 << 20;

std::chrono::steady_clock::duration Duration(double seconds) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(seconds));
}

// One request under way. The coroutine owns it; the loop's table only points at it for Cancel.
struct Exchange {
  explicit Exchange(asio::io_context& io) : stream(io), resolver(io) {}
  HttpRequest request;
  HttpLoop::OnEvent on_event;
  beast::tcp_stream stream;
  std::optional<asio::ssl::stream<beast::tcp_stream&>> tls;  // over `stream`, of https
  asio::ip::tcp::resolver resolver;
  bool cancelled = false;
};

absl::Status Failure(const Exchange& exchange, const error_code& error, std::string doing) {
  if (exchange.cancelled) return absl::CancelledError("cancelled");
  const std::string where = exchange.request.url.host + ":" + exchange.request.url.port + ": ";
  if (error == beast::error::timeout) return absl::DeadlineExceededError(where + doing + ": " + error.message());
  if (error == asio::error::connection_refused)
    return absl::UnavailableError(where + "connection refused; is pangea serve running?");
  return absl::UnavailableError(where + doing + ": " + error.message());
}

// What to say when the answer's first bytes are of another protocol than HTTP/1.1; empty: not one that is known here.
std::string OtherProtocol(const HttpUrl& url, std::string_view bytes) {
  const std::string address = url.host + ":" + url.port;
  // A frame of HTTP/2 (RFC 9113, 4.1): three bytes of length, then the type; a server's first one is SETTINGS, 4.
  if (bytes.size() >= 4 && bytes[0] == 0 && bytes[3] == 4)
    return address + " is a gRPC port, and no REST one; chat and generate take --grpc " + address;
  if (bytes.starts_with("\x15\x03")) return address + " speaks TLS; write https://";  // a record with an alert
  return "";
}

asio::awaitable<absl::Status> Connect(Exchange& x) {
  const HttpUrl& url = x.request.url;
  auto [resolve_error, addresses] = co_await x.resolver.async_resolve(url.host, url.port, kTuple);
  if (resolve_error) co_return Failure(x, resolve_error, "resolve");
  if (x.cancelled) co_return absl::CancelledError("cancelled");
  auto [connect_error, address] = co_await x.stream.async_connect(addresses, kTuple);
  if (connect_error) co_return Failure(x, connect_error, "connect");
  error_code ignored;
  x.stream.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
  if (!x.tls) co_return absl::OkStatus();
  const absl::Status expected = ExpectHost(x.tls->native_handle(), url.host);
  if (!expected.ok()) co_return expected;
  auto [tls_error] = co_await x.tls->async_handshake(asio::ssl::stream_base::client, kTuple);
  if (!tls_error) co_return absl::OkStatus();
  if (x.cancelled || tls_error == beast::error::timeout) co_return Failure(x, tls_error, "TLS handshake");
  co_return absl::UnavailableError(url.host + ":" + url.port + ": " +
                                   HandshakeFailure(x.tls->native_handle(), tls_error));
}

template <typename Stream>
asio::awaitable<absl::Status> Send(Exchange& x, Stream& stream) {
  const HttpUrl& url = x.request.url;
  http::request<http::string_body> message(http::string_to_verb(x.request.method), url.path + x.request.target, 11);
  message.set(http::field::host, HostHeader(url));
  message.set(http::field::user_agent, "pangea");
  message.set(http::field::accept, "application/json, text/event-stream");
  message.set(http::field::connection, "close");
  if (!x.request.authorization.empty()) message.set(http::field::authorization, x.request.authorization);
  if (!x.request.body.empty()) {
    message.set(http::field::content_type, "application/json");
    message.body() = x.request.body;
  }
  message.prepare_payload();
  auto [write_error, bytes] = co_await http::async_write(stream, message, kTuple);
  // A server may answer and close before it has read everything (413): what it said is worth more than our broken pipe.
  if (write_error && write_error != asio::error::broken_pipe && write_error != asio::error::connection_reset) {
    co_return Failure(x, write_error, "write");
  }
  co_return absl::OkStatus();
}

// Feeds what has arrived to the event parser or to the body.
absl::Status Take(Exchange& x, SseParser* sse, std::string_view bytes, HttpResponse& response) {
  if (sse == nullptr) {
    if (response.body.size() + bytes.size() > kMaxBody)
      return absl::ResourceExhaustedError("the answer is larger than 64 MiB");
    response.body += bytes;
    return absl::OkStatus();
  }
  std::vector<std::string> events;
  const absl::Status status = sse->Push(bytes, events);
  for (const std::string& event : events) {
    if (x.on_event && !x.cancelled) x.on_event(event);
  }
  return status;
}

template <typename Stream>
asio::awaitable<absl::StatusOr<HttpResponse>> Receive(Exchange& x, Stream& stream) {
  beast::flat_buffer buffer(1 << 18);
  http::response_parser<http::buffer_body> parser;
  parser.header_limit(1 << 16);
  parser.body_limit(boost::none);
  auto [header_error, header_bytes] = co_await http::async_read_header(stream, buffer, parser, kTuple);
  if (header_error) {
    const auto seen = buffer.data();
    const std::string other =
        OtherProtocol(x.request.url, std::string_view(static_cast<const char*>(seen.data()), seen.size()));
    if (!other.empty() && !x.cancelled) co_return absl::UnavailableError(other);
    co_return Failure(x, header_error, "read");
  }
  HttpResponse response;
  response.status = static_cast<int>(parser.get().result_int());
  const bool events =
      response.status == 200 && parser.get()[http::field::content_type].starts_with("text/event-stream");
  SseParser sse;
  std::array<char, 16384> chunk;
  while (!parser.is_done()) {
    parser.get().body().data = chunk.data();
    parser.get().body().size = chunk.size();
    auto [error, bytes] = co_await http::async_read_some(stream, buffer, parser, kTuple);
    const size_t size = chunk.size() - parser.get().body().size;
    const absl::Status taken = Take(x, events ? &sse : nullptr, std::string_view(chunk.data(), size), response);
    if (x.cancelled) co_return absl::CancelledError("cancelled");
    if (!taken.ok()) co_return taken;
    if (error && error != http::error::need_buffer) co_return Failure(x, error, "read");
  }
  co_return response;
}

template <typename Stream>
asio::awaitable<absl::StatusOr<HttpResponse>> SendAndReceive(Exchange& x, Stream& stream) {
  const absl::Status sent = co_await Send(x, stream);
  if (!sent.ok()) co_return sent;
  co_return co_await Receive(x, stream);
}

}  // namespace

struct HttpLoop::State {
  asio::io_context io{1};
  std::optional<absl::StatusOr<asio::ssl::context>> tls;  // made for the first request by https, with its ca_file
  uint64_t next = 1;
  std::map<uint64_t, Exchange*> open;
  std::set<std::shared_ptr<asio::steady_timer>> timers;

  static void CancelOne(Exchange& x) {
    x.cancelled = true;
    x.resolver.cancel();
    x.stream.cancel();
    error_code ignored;
    if (x.stream.socket().is_open()) x.stream.socket().close(ignored);
  }

  asio::awaitable<absl::StatusOr<HttpResponse>> Exchanged(Exchange& x) {
    if (x.request.url.tls) {
      if (!tls) tls.emplace(MakeTlsContext(x.request.ca_file));
      if (!tls->ok()) co_return tls->status();
      x.tls.emplace(x.stream, **tls);
    }
    const absl::Status connected = co_await Connect(x);
    if (!connected.ok()) co_return connected;
    if (x.tls) co_return co_await SendAndReceive(x, *x.tls);
    co_return co_await SendAndReceive(x, x.stream);
  }

  asio::awaitable<void> Run(uint64_t id, std::unique_ptr<Exchange> exchange, OnDone on_done) {
    Exchange& x = *exchange;
    x.stream.expires_after(Duration(x.request.timeout_seconds));
    absl::StatusOr<HttpResponse> result = absl::CancelledError("cancelled");
    if (!x.cancelled) result = co_await Exchanged(x);
    open.erase(id);
    on_done(result);
  }
};

HttpLoop::HttpLoop() : state_(std::make_unique<State>()) {}
HttpLoop::~HttpLoop() = default;

uint64_t HttpLoop::Start(HttpRequest request, OnEvent on_event, OnDone on_done) {
  auto exchange = std::make_unique<Exchange>(state_->io);
  exchange->request = std::move(request);
  exchange->on_event = std::move(on_event);
  const uint64_t id = state_->next++;
  state_->open[id] = exchange.get();
  asio::co_spawn(state_->io, state_->Run(id, std::move(exchange), std::move(on_done)), asio::detached);
  return id;
}

void HttpLoop::Cancel(uint64_t id) {
  const auto at = state_->open.find(id);
  if (at != state_->open.end()) State::CancelOne(*at->second);
}

void HttpLoop::CancelAll() {
  for (auto& [id, exchange] : state_->open) State::CancelOne(*exchange);
  for (const auto& timer : state_->timers) timer->cancel();
}

void HttpLoop::After(double seconds, std::function<void()> callback) {
  auto timer = std::make_shared<asio::steady_timer>(state_->io, Duration(seconds));
  state_->timers.insert(timer);
  timer->async_wait([this, timer, callback = std::move(callback)](const error_code& error) {
    state_->timers.erase(timer);
    if (!error) callback();
  });
}

void HttpLoop::Run() {
  state_->io.restart();
  state_->io.run();
}

void HttpLoop::Post(std::function<void()> callback) { asio::post(state_->io, std::move(callback)); }

}  // namespace pangea::clients
