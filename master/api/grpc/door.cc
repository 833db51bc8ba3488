#include "master/api/grpc/door.h"

#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "configs/log.h"
#include "master/api/generation/text_calls.h"
#include "master/api/grpc/calls.h"
#include "master/api/grpc/health.grpc.pb.h"
#include "master/listen.h"
#include "protos/generation.grpc.pb.h"

namespace pangea {
namespace {

namespace health = grpc::health::v1;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

constexpr int kStreamsPerConnection = 1024;
constexpr int kLeastPingMs = 1000;  // between two pings of a client
constexpr int kKeepaliveMs = 30'000, kKeepaliveAnswerMs = 20'000;

class GenerationService : public v1::Generation::CallbackService {
 public:
  explicit GenerationService(std::shared_ptr<GrpcShared> shared) : shared_(std::move(shared)) {}

  ServerUnaryReactor* ChatCompletion(CallbackServerContext* c, const v1::ChatCompletionRequest* q,
                                     v1::ChatCompletionResponse* a) override {
    return Started<UnaryCall<v1::ChatCompletionRequest>>(c, q, a);
  }
  ServerUnaryReactor* Completion(CallbackServerContext* c, const v1::CompletionRequest* q,
                                 v1::CompletionResponse* a) override {
    return Started<UnaryCall<v1::CompletionRequest>>(c, q, a);
  }
  grpc::ServerWriteReactor<v1::ChatCompletionChunk>* ChatCompletionStream(CallbackServerContext* c,
                                                                          const v1::ChatCompletionRequest* q) override {
    return Started<StreamCall<v1::ChatCompletionRequest>>(c, q);
  }
  grpc::ServerWriteReactor<v1::CompletionResponse>* CompletionStream(CallbackServerContext* c,
                                                                     const v1::CompletionRequest* q) override {
    return Started<StreamCall<v1::CompletionRequest>>(c, q);
  }
  ServerUnaryReactor* Tokenize(CallbackServerContext* c, const v1::TokenizeRequest* q,
                               v1::TokenizeResponse* a) override {
    return TextCall(c, q, a, "Tokenize", pangea::Tokenize);
  }
  ServerUnaryReactor* Detokenize(CallbackServerContext* c, const v1::DetokenizeRequest* q,
                                 v1::DetokenizeResponse* a) override {
    return TextCall(c, q, a, "Detokenize", pangea::Detokenize);
  }
  ServerUnaryReactor* ListModels(CallbackServerContext* c, const v1::ListModelsRequest*,
                                 v1::ListModelsResponse* a) override {
    const ApiContext& context = shared_->service->context();
    GrpcRecord record(*c, "ListModels");
    const auto caller = CallerOf(*c, context);
    if (caller.ok()) {
      record->account = caller->account;
      *a = pangea::ListModels(context);
    }
    auto* reactor = c->DefaultReactor();
    reactor->Finish(record.End(caller.status(), c, context));
    return reactor;
  }

 private:
  template <class Call, class... Args>
  Call* Started(Args... args) {
    auto call = std::make_shared<Call>(shared_, args...);
    call->Start();
    return call.get();
  }

  template <class Request, class Response>
  ServerUnaryReactor* TextCall(CallbackServerContext* c, const Request* q, Response* a, const char* method,
                               absl::StatusOr<Response> (*function)(const Request&, const ApiContext&)) {
    auto* reactor = c->DefaultReactor();
    const auto record = std::make_shared<GrpcRecord>(*c, method);
    const ApiContext* context = &shared_->service->context();
    const auto finish = [=](const absl::Status& s) { reactor->Finish(record->End(s, c, *context)); };
    const auto refuse = [=](const absl::Status& why) { return finish(why), reactor; };
    const auto caller = CallerOf(*c, *context);
    if (!caller.ok()) return refuse(caller.status());
    (*record)->account = caller->account;
    auto ticket = shared_->service->Enter(*caller, false);
    if (!ticket.ok()) return refuse(ticket.status());
    const auto bytes = std::make_shared<ByteShare>(&shared_->service->bodies());
    if (!bytes->Grow(q->ByteSizeLong())) return refuse(shared_->service->TooManyBytes());
    const auto status = std::make_shared<absl::Status>();
    const auto queued = shared_->service->Run(
        [=] {
          auto response = function(*q, *context);
          *status = response.status();
          context->metrics.Reject(*status);
          if (response.ok()) *a = *std::move(response);
        },
        [=, ticket = *ticket, held = bytes] { finish(*status); });
    return queued.ok() ? reactor : refuse(queued);
  }

  std::shared_ptr<GrpcShared> shared_;
};

// One watcher of the health: told at once, and whenever a tick finds another state.
class HealthWatch : public grpc::ServerWriteReactor<health::HealthCheckResponse>,
                    public GrpcTicking,
                    public std::enable_shared_from_this<HealthWatch> {
 public:
  HealthWatch(std::shared_ptr<GrpcShared> shared, bool known) : shared_(std::move(shared)), known_(known) {}
  void Start() {
    self_ = shared_from_this();
    shared_->post([self = self_] {
      self->shared_->ticking.push_back(self);
      self->Tick();
    });
  }
  void Tick() override {
    const auto now = !known_                          ? health::HealthCheckResponse::SERVICE_UNKNOWN
                     : shared_->service->Ready().ok() ? health::HealthCheckResponse::SERVING
                                                      : health::HealthCheckResponse::NOT_SERVING;
    if (writing_ || finished_ || (told_ && now == response_.status())) return;
    response_.set_status(now);
    told_ = writing_ = true;
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    shared_->post([self = shared_from_this(), ok] {
      self->writing_ = false;
      if (!ok || self->cancelled_) self->End();
    });
  }
  void OnCancel() override {
    shared_->post([self = shared_from_this()] {
      self->cancelled_ = true;
      if (!self->writing_) self->End();
    });
  }
  void OnDone() override { auto self = std::move(self_); }

 private:
  void End() {
    if (std::exchange(finished_, true)) return;
    shared_->service->context().metrics.grpc_responses.Add("Health/Watch", "CANCELLED");
    Finish(grpc::Status::CANCELLED);
  }
  std::shared_ptr<GrpcShared> shared_;
  std::shared_ptr<HealthWatch> self_;
  const bool known_;
  health::HealthCheckResponse response_;
  bool told_ = false, writing_ = false, finished_ = false, cancelled_ = false;
};

class HealthService : public health::Health::CallbackService {
 public:
  explicit HealthService(std::shared_ptr<GrpcShared> shared) : shared_(std::move(shared)) {}

  ServerUnaryReactor* Check(CallbackServerContext* c, const health::HealthCheckRequest* q,
                            health::HealthCheckResponse* a) override {
    auto* reactor = c->DefaultReactor();
    a->set_status(shared_->service->Ready().ok() ? health::HealthCheckResponse::SERVING
                                                 : health::HealthCheckResponse::NOT_SERVING);
    GrpcRecord record(*c, "Health/Check");
    record->routine = true;
    const auto status = Known(*q) ? absl::OkStatus() : absl::NotFoundError("unknown service");
    reactor->Finish(record.End(status, c, shared_->service->context()));
    return reactor;
  }
  grpc::ServerWriteReactor<health::HealthCheckResponse>* Watch(CallbackServerContext*,
                                                               const health::HealthCheckRequest* q) override {
    auto watch = std::make_shared<HealthWatch>(shared_, Known(*q));
    watch->Start();
    return watch.get();
  }

 private:
  static bool Known(const health::HealthCheckRequest& q) {
    return q.service().empty() || q.service() == v1::Generation::service_full_name();
  }
  std::shared_ptr<GrpcShared> shared_;
};

class Door : public GrpcDoor {
 public:
  Door(Service* service, Service::Post post)
      : shared_(std::make_shared<GrpcShared>(GrpcShared{service, std::move(post), {}})),
        generation_(shared_),
        health_(shared_) {}
  ~Door() override { Shutdown(0); }

  absl::Status Start(const HostPort& at) {
    const auto& limits = shared_->service->context().deployment->limits;
    // Its own lines have another form and name its source files; what matters here becomes a Status.
    gpr_set_log_function([](gpr_log_func_args* line) { LogDebug("grpc: %s", line->message); });
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    const std::string host = at.host.find(':') != std::string::npos ? absl::StrCat("[", at.host, "]") : at.host;
    grpc::ServerBuilder builder;
    connections_ = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, grpc::InsecureServerCredentials());
    // Clients may send keepalive pings as often as every second: by default the library ends the calls of clients that
    // ping every ten seconds, which is usual, while no data flows. The server pings too, so that a call whose client's
    // host has vanished does not wait for ever.
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kLeastPingMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveAnswerMs);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsPerConnection);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, static_cast<int>(limits.header_bytes));
    builder.SetMaxReceiveMessageSize(static_cast<int>(std::min<uint64_t>(limits.body, INT32_MAX)));
    builder.RegisterService(&generation_);
    builder.RegisterService(&health_);
    server_ = builder.BuildAndStart();
    if (!server_) return absl::InternalError("grpc.listen: gRPC does not start");
    auto sockets = ListenAt({at.host}, at.port);
    if (!sockets.ok())
      return absl::UnavailableError(
          absl::StrCat("grpc.listen: cannot listen on ", host, ":", at.port, ": ", sockets.status().message()));
    acceptor_ = std::make_unique<Acceptor>(*std::move(sockets), [this](int listening, int connection) {
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters taken;
      taken.listener_fd = listening, taken.fd = connection;
      connections_->HandleNewConnection(&taken);
    });
    address_ = absl::StrCat(at.host == kEverywhere ? "127.0.0.1" : host, ":", acceptor_->port());
    return absl::OkStatus();
  }

  std::string address() const override { return address_; }

  void Tick() override {
    auto& all = shared_->ticking;
    all.erase(std::remove_if(all.begin(), all.end(), [](const auto& weak) { return weak.expired(); }), all.end());
    for (const auto& weak : std::vector(all)) {
      if (const auto call = weak.lock()) call->Tick();
    }
  }

  void Shutdown(double seconds) override {
    acceptor_.reset();
    if (server_)
      server_->Shutdown(std::chrono::system_clock::now() +
                        std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)));
    server_.reset();
  }

 private:
  std::shared_ptr<GrpcShared> shared_;
  GenerationService generation_;
  HealthService health_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections_;
  std::unique_ptr<Acceptor> acceptor_;  // goes before the two
  std::string address_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcDoor>> GrpcDoor::Listen(const HostPort& at, Service* service, Service::Post post) {
  auto door = std::make_unique<Door>(service, std::move(post));
  if (auto s = door->Start(at); !s.ok()) return s;
  return door;
}

}  // namespace pangea
