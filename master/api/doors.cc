#include "master/api/doors.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "configs/log.h"
#include "master/api/generation/service.h"
#include "master/api/grpc/door.h"
#include "master/api/http/server.h"

namespace pangea {
namespace {

namespace asio = boost::asio;

constexpr auto kTick = std::chrono::seconds(1);
constexpr double kFlushSeconds = 2;  // for final events to reach their clients

class DoorsImpl : public Doors {
 public:
  explicit DoorsImpl(ApiContext* context)
      : service_(context, [this](std::function<void()> f) { asio::post(io_, std::move(f)); }),
        work_(asio::make_work_guard(io_)),
        tick_(io_) {}

  ~DoorsImpl() override {
    if (!thread_.joinable()) return;
    Drain(0, absl::UnavailableError("the server is shutting down"));
    service_.StopThreads();
    work_.reset();
    io_.stop();
    thread_.join();
  }

  absl::Status Open() {
    const Deployment& deployment = *service_.context().deployment;
    const auto rest = ParseHostPort(deployment.rest.listen);
    if (!rest.ok()) return rest.status();
    const auto grpc = ParseHostPort(deployment.grpc.listen);
    if (!grpc.ok()) return grpc.status();
    auto http = HttpServer::Listen(io_, *rest, &service_);
    if (!http.ok()) return http.status();
    http_ = *std::move(http);
    auto door = GrpcDoor::Listen(*grpc, &service_, [this](std::function<void()> f) { asio::post(io_, std::move(f)); });
    if (!door.ok()) return door.status();
    grpc_ = *std::move(door);
    LogInfo("REST at %s, gRPC at %s", http_->url(), grpc_->address());
    Tick();
    thread_ = std::thread([this] { io_.run(); });
    return absl::OkStatus();
  }

  std::string rest_url() const override { return http_->url(); }
  std::string grpc_address() const override { return grpc_->address(); }
  void Deliver(std::vector<Output> outputs) override { service_.Deliver(std::move(outputs)); }
  int open_requests() const override { return service_.open(); }

  void Hurry() override { service_.Hurry(); }

  void Drain(double seconds, const absl::Status& why) override {
    Health ready = Health::kReady;
    service_.context().health.compare_exchange_strong(ready, Health::kDraining);
    service_.Drain();
    if (!service_.WaitIdle(seconds)) {
      asio::post(io_, [this, why] { service_.FailAll(why); });
      service_.WaitIdle(kFlushSeconds);
    }
    grpc_->Shutdown(kFlushSeconds);
    asio::post(io_, [this] { http_->Close(); });
  }

 private:
  void Tick() {
    tick_.expires_after(kTick);
    tick_.async_wait([this](boost::system::error_code error) {
      if (error) return;
      service_.Tick();
      grpc_->Tick();
      Tick();
    });
  }

  Service service_;  // first: what the I/O context's coroutines hold returns to it
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::steady_timer tick_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<GrpcDoor> grpc_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Doors>> Doors::Open(ApiContext* context) {
  auto doors = std::make_unique<DoorsImpl>(context);
  if (auto s = doors->Open(); !s.ok()) return s;
  return doors;
}

}  // namespace pangea
