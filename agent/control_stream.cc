#include "agent/control_stream.h"

#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>

#include <mutex>

#include "agent/worker.h"
#include "configs/log.h"
#include "protos/agent.grpc.pb.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

constexpr int kWindowBytes = 4 << 20;
constexpr int kMostMessageBytes = 256 << 20;  // a step or a result of the largest batch, with room

grpc::ChannelArguments Arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // http_proxy is meant for other traffic
  arguments.SetMaxReceiveMessageSize(kMostMessageBytes);
  // Messages are small and many: a window that is never short needs no frame of its own after each of them.
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kWindowBytes);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // Finds a master whose host is gone; one that merely died is found by the end of its connection.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return arguments;
}

void Prepare(grpc::ClientContext& context, const std::string& token) {
  context.AddMetadata("authorization", "Bearer " + token);
  context.set_wait_for_ready(true);
  // Sent with the first message: opening the stream then does not block.
  context.set_initial_metadata_corked(true);
}

}  // namespace

struct ControlStream::State {
  std::string token;
  std::unique_ptr<wire::Control::Stub> stub;
  grpc::ClientContext context, progress_context;
  std::unique_ptr<grpc::ClientReaderWriter<wire::FromAgent, wire::FromMaster>> stream;
  std::mutex write_mutex;
  std::unique_ptr<grpc::ClientWriter<wire::ProgressReport>> progress;
  wire::ProgressAck progress_ack;
  Worker writer;
};

ControlStream::ControlStream(const std::string& master, const std::string& token) : state_(std::make_unique<State>()) {
  // Its own lines have another form and name its source files; what matters here becomes a Status.
  gpr_set_log_function([](gpr_log_func_args* line) { LogDebug("grpc: %s", line->message); });
  state_->token = token;
  state_->stub = wire::Control::NewStub(
      grpc::CreateCustomChannel("dns:///" + master, grpc::InsecureChannelCredentials(), Arguments()));
  Prepare(state_->context, token);
  state_->stream = state_->stub->Session(&state_->context);
}

ControlStream::~ControlStream() {
  Cancel();  // a write that is under way ends
  state_->writer.Stop(std::chrono::hours(1));
  if (state_->progress) state_->progress->Finish().ok();
}

bool ControlStream::Read(wire::FromMaster* message) { return state_->stream->Read(message); }

bool ControlStream::Write(const wire::FromAgent& message) {
  std::lock_guard lock(state_->write_mutex);
  return state_->stream->Write(message);
}

void ControlStream::Send(wire::FromAgent message) {
  // Far more than may be under way: a master that takes nothing has lost this agent.
  if (!state_->writer.Post([this, message = std::move(message)] { Write(message); })) Cancel();
}

absl::Status ControlStream::Finish() {
  const grpc::Status status = state_->stream->Finish();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

bool ControlStream::WriteProgress(int agent, const wire::ProgressReport& report) {
  if (!state_->progress) {
    Prepare(state_->progress_context, state_->token);
    state_->progress_context.AddMetadata("pangea-agent", std::to_string(agent));
    state_->progress = state_->stub->Progress(&state_->progress_context, &state_->progress_ack);
  }
  return state_->progress->Write(report);
}

void ControlStream::Cancel() {
  state_->context.TryCancel();
  state_->progress_context.TryCancel();
}

}  // namespace pangea
