#include "master/fleet/control_server.h"

#include <google/protobuf/arena.h>
#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>

#include <deque>
#include <map>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "configs/deployment.h"
#include "configs/log.h"
#include "configs/mutex.h"
#include "master/fleet/authorize.h"
#include "master/listen.h"
#include "protos/agent.grpc.pb.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

constexpr int kWindowBytes = 4 << 20;
constexpr int kMostMessageBytes = 256 << 20;
constexpr size_t kResultArenaBytes = 16 << 10;  // a result of some hundred sequences
// Far beyond the steps that may be under way plus what a rendezvous brings.
constexpr size_t kMostQueued = 65536;
constexpr std::chrono::milliseconds kShutdownLimit(500);

// Takes the same time wherever the texts differ first, so that a guess cannot be improved letter by letter.
bool SameSecret(const std::string& expected, absl::string_view given) {
  uint8_t differ = expected.size() == given.size() ? 0 : 1;
  for (size_t i = 0; i < expected.size(); ++i) {
    differ |= static_cast<uint8_t>(expected[i]) ^ static_cast<uint8_t>(given.empty() ? 0 : given[i % given.size()]);
  }
  return differ == 0;
}

}  // namespace

absl::Status Authorize(const grpc::CallbackServerContext& context, const std::string& token) {
  constexpr absl::string_view kBearer = "Bearer ";
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("authorization");
  if (found == metadata.end()) return absl::UnauthenticatedError("the join token is missing");
  const absl::string_view value(found->second.data(), found->second.size());
  if (value.substr(0, kBearer.size()) != kBearer || !SameSecret(token, value.substr(kBearer.size()))) {
    return absl::UnauthenticatedError("the join token is wrong");
  }
  return absl::OkStatus();
}

class Session;

struct ControlServer::State {
  std::string token;
  Callbacks callbacks;
  Mutex mutex;
  SessionId next_session ABSL_GUARDED_BY(mutex) = 1;
  std::map<SessionId, Session*> sessions ABSL_GUARDED_BY(mutex);  // until OnDone
  std::unique_ptr<grpc::Service> service, admin;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections;
  std::unique_ptr<Acceptor> acceptor;  // goes before the two
  int port = 0;
};

// One agent's stream, in raw bytes: a step is serialised once for all of them. Deletes itself when gRPC is done with
// it.
class Session : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  Session(ControlServer::State* state, ControlServer::SessionId id) : state_(state), id_(id) { StartRead(&incoming_); }

  void Write(const grpc::ByteBuffer& message) {
    MutexLock lock(mutex_);
    if (finish_) return;
    if (queue_.size() >= kMostQueued) return FinishLater(absl::ResourceExhaustedError("the agent does not read"));
    queue_.push_back(message);
    if (queue_.size() == 1) StartWrite(&queue_.front());
  }
  void Close(const absl::Status& status) {
    MutexLock lock(mutex_);
    FinishLater(status);
  }

  void OnReadDone(bool ok) override {
    if (ok && Handle()) {
      incoming_.Clear();
      return StartRead(&incoming_);  // from here on the next message may be handled, by another thread
    }
    if (ok) {
      // Told as a failure of the agent's own, so that the fleet names the agent and this reason.
      wire::FromAgent message;
      message.mutable_failure()->set_code(static_cast<int>(absl::StatusCode::kInvalidArgument));
      message.mutable_failure()->set_message("it sent a message that the master cannot read");
      message.mutable_failure()->set_fatal(true);
      state_->callbacks.on_message(id_, message);
      Close(absl::InvalidArgumentError("not a message of this protocol"));
    }
    state_->callbacks.on_end(id_);
    Close(absl::OkStatus());
  }
  void OnWriteDone(bool ok) override {
    MutexLock lock(mutex_);
    queue_.pop_front();
    if (!ok) queue_.clear();
    if (!queue_.empty()) {
      StartWrite(&queue_.front());
    } else if (finish_) {
      Finish(ToGrpc(*finish_));
    }
  }
  void OnDone() override {
    {
      MutexLock lock(state_->mutex);
      state_->sessions.erase(id_);
    }
    delete this;
  }

 private:
  bool Handle() {
    google::protobuf::Arena arena(block_, sizeof(block_));
    auto* message = google::protobuf::Arena::CreateMessage<wire::FromAgent>(&arena);
    if (!grpc::SerializationTraits<wire::FromAgent>::Deserialize(&incoming_, message).ok()) return false;
    state_->callbacks.on_message(id_, *message);
    return true;
  }
  // Once, and not while a write is under way.
  void FinishLater(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finish_) return;
    finish_ = status;
    if (queue_.empty()) Finish(ToGrpc(status));
  }

  ControlServer::State* const state_;
  const ControlServer::SessionId id_;
  grpc::ByteBuffer incoming_;
  alignas(8) char block_[kResultArenaBytes];  // of the message that is handled
  Mutex mutex_;
  std::deque<grpc::ByteBuffer> queue_ ABSL_GUARDED_BY(mutex_);  // the front is being written
  std::optional<absl::Status> finish_ ABSL_GUARDED_BY(mutex_);
};

namespace {

class Refusal : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit Refusal(const absl::Status& status) { Finish(ToGrpc(status)); }
  void OnDone() override { delete this; }
};

class ProgressReader : public grpc::ServerReadReactor<wire::ProgressReport> {
 public:
  explicit ProgressReader(ControlServer::State* state) : state_(state) { StartRead(&report_); }
  explicit ProgressReader(const absl::Status& status) { Finish(ToGrpc(status)); }
  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    state_->callbacks.on_progress(report_);
    StartRead(&report_);
  }
  void OnDone() override { delete this; }

 private:
  ControlServer::State* const state_ = nullptr;
  wire::ProgressReport report_;
};

class Service final : public wire::Control::WithRawCallbackMethod_Session<
                          wire::Control::WithCallbackMethod_Progress<wire::Control::Service>> {
 public:
  explicit Service(ControlServer::State* state) : state_(state) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Session(grpc::CallbackServerContext* context) override {
    if (const absl::Status status = Authorize(*context, state_->token); !status.ok()) {
      LogWarning("an agent from %s was refused: %s", context->peer(), status.message());
      return new Refusal(status);
    }
    // Listed before its first message can arrive; the reactor starts to read once it is returned.
    MutexLock lock(state_->mutex);
    const ControlServer::SessionId id = state_->next_session++;
    auto* session = new class Session(state_, id);
    state_->sessions[id] = session;
    return session;
  }

  grpc::ServerReadReactor<wire::ProgressReport>* Progress(grpc::CallbackServerContext* context,
                                                          wire::ProgressAck*) override {
    if (const absl::Status status = Authorize(*context, state_->token); !status.ok()) return new ProgressReader(status);
    return new ProgressReader(state_);
  }

 private:
  ControlServer::State* const state_;
};

}  // namespace

ControlServer::ControlServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
ControlServer::~ControlServer() { Shutdown(); }
int ControlServer::port() const { return state_->port; }

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Start(const std::string& listen, const std::string& token,
                                                                    Callbacks callbacks) {
  // gRPC's own log lines have another form and name its source files; what matters of them becomes a Status.
  gpr_set_log_function([](gpr_log_func_args* line) { LogDebug("grpc: %s", line->message); });
  auto state = std::make_unique<State>();
  state->token = token;
  state->callbacks = std::move(callbacks);
  state->admin = MakeAdminService(token, state->callbacks.admin);
  state->service = std::make_unique<Service>(state.get());
  grpc::ServerBuilder builder;
  state->connections = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, grpc::InsecureServerCredentials());
  builder.RegisterService(state->service.get());
  builder.RegisterService(state->admin.get());
  builder.SetMaxReceiveMessageSize(kMostMessageBytes);
  // Messages are small and many: a window that is never short needs no frame of its own after each of them.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kWindowBytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  state->server = builder.BuildAndStart();
  if (!state->server) return absl::InternalError("control.listen: gRPC does not start");
  const auto at = ParseHostPort(listen);
  auto sockets = at.ok() ? ListenAt({at->host}, at->port) : at.status();
  if (!sockets.ok())
    return absl::UnavailableError(
        absl::StrCat("control.listen: cannot listen on ", listen, ": ", sockets.status().message()));
  state->acceptor = std::make_unique<Acceptor>(*std::move(sockets), [s = state.get()](int listening, int connection) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters taken;
    taken.listener_fd = listening, taken.fd = connection;
    s->connections->HandleNewConnection(&taken);
  });
  state->port = state->acceptor->port();
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(state)));
}

void ControlServer::Send(const std::vector<SessionId>& sessions, const wire::FromMaster& message) {
  grpc::ByteBuffer buffer;  // copies share its slices
  bool own = false;
  grpc::SerializationTraits<wire::FromMaster>::Serialize(message, &buffer, &own).ok();
  MutexLock lock(state_->mutex);
  for (const SessionId id : sessions) {
    if (const auto found = state_->sessions.find(id); found != state_->sessions.end()) found->second->Write(buffer);
  }
}

void ControlServer::Close(SessionId session, const absl::Status& status) {
  MutexLock lock(state_->mutex);
  if (const auto found = state_->sessions.find(session); found != state_->sessions.end()) found->second->Close(status);
}

void ControlServer::Shutdown() {
  if (!state_->server) return;
  state_->acceptor.reset();
  // Cancels the calls that have not ended by then; returns when all reactors are done.
  state_->server->Shutdown(std::chrono::system_clock::now() + kShutdownLimit);
  state_->server.reset();
}

}  // namespace pangea
