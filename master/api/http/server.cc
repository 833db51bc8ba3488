#include "master/api/http/server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "master/api/generation/context.h"
#include "master/api/http/connection.h"
#include "master/listen.h"

namespace pangea {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

// So many connections beyond the limit are open to health checks and to those who gather metrics, which matter most
// when the server is full.
constexpr int kObservers = 8;

// What a connection beyond those is told, at once and without a coroutine.
const std::string& TooMany() {
  static const std::string answer = [] {
    const std::string body = TooManyConnections().body;
    return absl::StrCat("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: ",
                        body.size(), "\r\nRetry-After: 1\r\nConnection: close\r\n\r\n", body);
  }();
  return answer;
}

class Server : public HttpServer {
 public:
  Server(asio::io_context& io, std::vector<tcp::acceptor> acceptors, const HostPort& at, Service* service)
      : io_(io), acceptors_(std::move(acceptors)), shared_(std::make_shared<HttpShared>()) {
    shared_->service = service;
    shared_->listen = at;
    error_code ignored;
    const auto bound = acceptors_[0].local_endpoint(ignored);
    const std::string host = at.host == kEverywhere ? "127.0.0.1" : at.host;  // nobody can dial a star
    const bool v6 = host.find(':') != std::string::npos;
    url_ = absl::StrCat("http://", v6 ? "[" : "", host, v6 ? "]" : "", ":", bound.port());
    for (tcp::acceptor& acceptor : acceptors_) asio::co_spawn(io_, Accept(acceptor), asio::detached);
  }

  std::string url() const override { return url_; }

  void Close() override {
    shared_->closing = true;
    error_code ignored;
    for (tcp::acceptor& acceptor : acceptors_) acceptor.close(ignored);
    for (const auto& connection : Connections()) connection->Close();
  }

 private:
  std::vector<std::shared_ptr<HttpConnection>> Connections() {
    std::vector<std::shared_ptr<HttpConnection>> live;
    for (const auto& weak : connections_) {
      if (auto connection = weak.lock()) live.push_back(std::move(connection));
    }
    return live;
  }

  asio::awaitable<void> Accept(tcp::acceptor& acceptor) {
    asio::steady_timer pause(io_);
    while (!shared_->closing) {
      auto [error, socket] = co_await acceptor.async_accept(kAwait);
      if (shared_->closing || error == asio::error::operation_aborted || error == asio::error::bad_descriptor)
        co_return;
      if (error == asio::error::connection_aborted) continue;
      if (error) {
        // Out of descriptors or memory: what runs goes on, and ends give some back; accepting at once would only spin.
        pause.expires_after(kAcceptPause);
        co_await pause.async_wait(kAwait);
        continue;
      }
      Start(std::move(socket));
    }
  }

  void Start(tcp::socket socket) {
    const ApiContext& context = shared_->service->context();
    const int beyond = shared_->connections - context.deployment->limits.connections;
    if (beyond >= kObservers) {
      context.metrics.rejected.Add("connections");
      context.metrics.http_responses.Add("other", "503");
      error_code ignored;
      socket.non_blocking(true, ignored);
      socket.write_some(asio::buffer(TooMany()), ignored);
      return;
    }
    auto connection = std::make_shared<HttpConnection>(std::move(socket), shared_, /*observer=*/beyond >= 0);
    const auto place = connections_.insert(connection).first;
    asio::co_spawn(io_, Serve(std::move(connection), place), asio::detached);
  }

  using Set = std::set<std::weak_ptr<HttpConnection>, std::owner_less<>>;
  asio::awaitable<void> Serve(std::shared_ptr<HttpConnection> connection, Set::iterator place) {
    co_await connection->Run();
    connections_.erase(place);
  }

  asio::io_context& io_;
  std::vector<tcp::acceptor> acceptors_;
  std::shared_ptr<HttpShared> shared_;
  std::string url_;
  Set connections_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Listen(asio::io_context& io, const HostPort& at,
                                                               Service* service) {
  const auto sockets = ListenAt({at.host}, at.port);
  if (!sockets.ok())
    return absl::UnavailableError(
        absl::StrCat("rest.listen: cannot listen on ", at.host, ":", at.port, ": ", sockets.status().message()));
  std::vector<tcp::acceptor> acceptors;
  for (const Listening& socket : *sockets)
    acceptors.emplace_back(io, socket.v6 ? tcp::v6() : tcp::v4(), socket.descriptor);
  return std::make_unique<Server>(io, std::move(acceptors), at, service);
}

}  // namespace pangea
