// The REST door: listens, bounds connections, serves each by a coroutine on the one I/O thread. I/O thread only, but
// for Listen.
#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "configs/deployment.h"
#include "master/api/generation/service.h"

namespace boost::asio {
class io_context;
}

namespace pangea {

class HttpServer {
 public:
  static absl::StatusOr<std::unique_ptr<HttpServer>> Listen(boost::asio::io_context& io, const HostPort& at,
                                                            Service* service);
  virtual ~HttpServer() = default;
  virtual std::string url() const = 0;  // http://HOST:PORT with the port really bound
  virtual void Close() = 0;             // stops listening, closes every connection
};

}  // namespace pangea
