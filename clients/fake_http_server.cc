#include "clients/fake_http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace pangea::clients {

bool FakeHttpServer::Connection::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

void FakeHttpServer::Connection::Chunk(std::string_view bytes) {
  char size[20];
  snprintf(size, sizeof(size), "%zx\r\n", bytes.size());
  Write(size + std::string(bytes) + "\r\n");
}

void FakeHttpServer::Connection::WaitForClose() {
  char c;
  while (recv(fd_, &c, 1, 0) > 0) {
  }
}

FakeHttpServer::FakeHttpServer(Script script) : script_(std::move(script)) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 128) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    abort();
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] {
    for (;;) {
      const int fd = accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      std::lock_guard lock(mutex_);
      fds_.push_back(fd);
      threads_.emplace_back([this, fd] { Serve(fd); });
    }
  });
}

FakeHttpServer::~FakeHttpServer() {
  shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  for (int fd : fds_) shutdown(fd, SHUT_RDWR);
  for (std::thread& thread : threads_) thread.join();
  for (int fd : fds_) close(fd);
  close(listener_);
}

void FakeHttpServer::Serve(int fd) {
  std::string bytes;
  size_t end = std::string::npos, length = 0;
  char chunk[4096];
  while (end == std::string::npos || bytes.size() < end + 4 + length) {
    const ssize_t n = recv(fd, chunk, sizeof(chunk), 0);
    if (n <= 0) return;
    bytes.append(chunk, static_cast<size_t>(n));
    if (end != std::string::npos) continue;
    end = bytes.find("\r\n\r\n");
    const size_t at = bytes.find("Content-Length: ");
    if (end != std::string::npos && at < end) length = std::strtoul(bytes.c_str() + at + 16, nullptr, 10);
  }
  const Request request{bytes.substr(0, end), bytes.substr(end + 4)};
  {
    std::lock_guard lock(mutex_);
    requests_.push_back(request);
  }
  Connection connection(fd);
  script_(request, connection);
  shutdown(fd, SHUT_RDWR);
}

std::vector<FakeHttpServer::Request> FakeHttpServer::requests() const {
  std::lock_guard lock(mutex_);
  return requests_;
}

std::string FakeHttpServer::Json(int status, const std::string& body) {
  return "HTTP/1.1 " + std::to_string(status) +
         " X\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace pangea::clients
