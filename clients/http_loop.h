// HTTP/1.1 requests on one event loop in one thread: any number at once, answers as they stream. Boost.Beast stays in
// the .cc.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clients/http_url.h"

namespace pangea::clients {

struct HttpRequest {
  HttpUrl url;
  std::string method = "POST";
  std::string target;         // appended to url.path, "/v1/models"
  std::string body;           // JSON
  std::string authorization;  // header value; empty: none
  std::string ca_file;        // of https: trusted authorities; empty: the system's. The same in all of one loop.
  double timeout_seconds = 600;
};
struct HttpResponse {
  int status = 0;
  std::string body;  // of an answer that is no event stream; at most 64 MiB
};

class HttpLoop {
 public:
  using OnEvent = std::function<void(const std::string&)>;  // the data of one server-sent event
  using OnDone =
      std::function<void(const absl::StatusOr<HttpResponse>&)>;  // once, last. DeadlineExceeded, Cancelled, Unavailable

  HttpLoop();
  ~HttpLoop();
  // Loop thread (or before Run). One connection a request; callbacks run on the loop thread. Returns an id for Cancel.
  uint64_t Start(HttpRequest request, OnEvent on_event, OnDone on_done);
  void Cancel(uint64_t id);
  void After(double seconds, std::function<void()> callback);
  // Returns when no request and no timer is left.
  void Run();
  void CancelAll();  // every request ends with Cancelled, timers are dropped
  // Any thread.
  void Post(std::function<void()> callback);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pangea::clients
