#include "agent/control_stream.h"

#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <grpcpp/alarm.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sched.h>
#include <unistd.h>

#include <deque>
#include <optional>
#include <utility>

#include "configs/log.h"
#include "configs/mutex.h"
#include "protos/agent.grpc.pb.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

constexpr int kWindowBytes = 4 << 20;
constexpr int kMostMessageBytes = 256 << 20;  // a step or a result of the largest batch, with room
constexpr size_t kMostQueued = 1024;
constexpr int kHoldMilliseconds = 100;
constexpr char kSession[] = "/pangea.agent.v1.Control/Session";

enum Tag : intptr_t { kRead, kWrite, kKick, kFinish, kProgress };
void* ToTag(Tag tag) { return reinterpret_cast<void*>(tag); }

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
  void LeaveCore() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void Kick() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void StartWrite();  // the rest: Run's thread
  void StartRead() { stream->Read(&incoming, ToTag(kRead)); }
  void StartWriteOf(const wire::FromAgent& message);
  void OnRead(bool ok, const std::function<After(const wire::FromMaster&)>& on_message);
  void OnWrite(bool ok);
  void Close();

  std::string token;
  std::unique_ptr<wire::Control::Stub> stub;
  // Sessions go by raw bytes: gRPC would end the reading of one with a message that cannot be parsed, without a word.
  std::unique_ptr<grpc::GenericStub> raw_stub;
  grpc::ClientContext context, progress_context;
  grpc::CompletionQueue queue;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream;
  grpc::ByteBuffer incoming;
  wire::FromMaster message;  // what came in; kept for its memory
  grpc::Status ended;
  bool writing = false;
  std::optional<gpr_timespec> hold;  // the next read's latest time
  bool patient = true;               // no hold has run into its time limit since the last write

  Mutex mutex;
  std::deque<wire::FromAgent> outgoing ABSL_GUARDED_BY(mutex);
  bool open ABSL_GUARDED_BY(mutex) = false;
  bool kicked ABSL_GUARDED_BY(mutex) = false;  // until its tag has come, the alarm may not be set again
  pid_t thread ABSL_GUARDED_BY(mutex) = 0;     // Run's
  int left_core ABSL_GUARDED_BY(mutex) = -1;   // on which Run's thread may not run
  cpu_set_t cores ABSL_GUARDED_BY(mutex);      // on which this process may run
  grpc::Alarm kick ABSL_GUARDED_BY(mutex);     // wakes Run's thread

  std::unique_ptr<grpc::ClientAsyncWriter<wire::ProgressReport>> progress ABSL_GUARDED_BY(mutex);
  bool reporting ABSL_GUARDED_BY(mutex) = false;  // a report is on its way, or none can be sent any more
  wire::ProgressAck progress_ack;
};

ControlStream::ControlStream(const std::string& master, const std::string& token) : state_(std::make_unique<State>()) {
  // gRPC's own log lines have another form and name its source files; what matters of them becomes a Status.
  gpr_set_log_function([](gpr_log_func_args* line) { LogDebug("grpc: %s", line->message); });
  state_->token = token;
  const auto channel = grpc::CreateCustomChannel("dns:///" + master, grpc::InsecureChannelCredentials(), Arguments());
  state_->stub = wire::Control::NewStub(channel);
  state_->raw_stub = std::make_unique<grpc::GenericStub>(channel);
}

ControlStream::~ControlStream() { Cancel(); }

absl::Status ControlStream::Run(const wire::FromAgent& first,
                                const std::function<After(const wire::FromMaster&)>& on_message) {
  State& s = *state_;
  Prepare(s.context, s.token);
  s.stream = s.raw_stub->PrepareCall(&s.context, kSession, &s.queue);
  s.stream->StartCall(nullptr);  // goes with the first message, and has no tag of its own
  s.StartWriteOf(first);
  s.StartRead();
  {
    MutexLock lock(s.mutex);
    s.open = true;
    s.thread = gettid();
    if (sched_getaffinity(0, sizeof(s.cores), &s.cores) != 0) CPU_ZERO(&s.cores);
  }
  while (true) {
    void* tag = nullptr;
    bool ok = false;
    const auto next = s.queue.AsyncNext(&tag, &ok, s.hold.value_or(gpr_inf_future(GPR_CLOCK_MONOTONIC)));
    if (next == grpc::CompletionQueue::SHUTDOWN) break;
    if (next == grpc::CompletionQueue::TIMEOUT) {
      s.hold.reset();
      s.patient = false;  // when a step hangs, a stop that was sent behind many others must still be read
      s.StartRead();
      continue;
    }
    switch (static_cast<Tag>(reinterpret_cast<intptr_t>(tag))) {
      case kRead:
        s.OnRead(ok, on_message);
        break;
      case kWrite:
        s.OnWrite(ok);
        break;
      case kKick: {
        MutexLock lock(s.mutex);
        s.kicked = false;
      }
        s.StartWrite();
        break;
      case kProgress: {
        MutexLock lock(s.mutex);
        s.reporting = !ok;
        break;
      }
      case kFinish:
        s.Close();
        break;
    }
  }
  return absl::Status(static_cast<absl::StatusCode>(s.ended.error_code()), s.ended.error_message());
}

void ControlStream::State::OnRead(bool ok, const std::function<After(const wire::FromMaster&)>& on_message) {
  if (!ok) return stream->Finish(&ended, ToTag(kFinish));
  if (!grpc::SerializationTraits<wire::FromMaster>::Deserialize(&incoming, &message).ok()) message.Clear();
  const After after = on_message(message);
  if (after == After::kEnd) context.TryCancel();
  if (after == After::kHold && patient) {
    hold = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(kHoldMilliseconds, GPR_TIMESPAN));
  } else {
    StartRead();
  }
}

void ControlStream::State::OnWrite(bool ok) {
  writing = false;
  patient = true;
  if (hold) {
    hold.reset();
    StartRead();
  }
  if (ok) StartWrite();  // otherwise the stream is ending: the next read says so
}

void ControlStream::State::StartWrite() {
  wire::FromAgent message;
  {
    MutexLock lock(mutex);
    if (writing || !open || outgoing.empty()) return;
    message = std::move(outgoing.front());
    outgoing.pop_front();
  }
  StartWriteOf(message);
}

void ControlStream::State::StartWriteOf(const wire::FromAgent& message) {
  grpc::ByteBuffer bytes;
  bool own = false;
  grpc::SerializationTraits<wire::FromAgent>::Serialize(message, &bytes, &own).ok();
  writing = true;
  stream->Write(bytes, ToTag(kWrite));
}

// A thread that is woken by another tends to be put on its core, even while others idle, and so does what it wakes in
// turn: gRPC's threads on both sides would all run before the caller's next step.
void ControlStream::State::LeaveCore() {
  const int core = sched_getcpu();
  if (!open || core < 0 || core == left_core) return;
  cpu_set_t others = cores;
  CPU_CLR(core, &others);
  if (CPU_COUNT(&others) == 0) return;
  sched_setaffinity(thread, sizeof(others), &others);
  left_core = core;
}

void ControlStream::State::Kick() {
  if (!open || std::exchange(kicked, true)) return;
  kick.Set(&queue, gpr_time_0(GPR_CLOCK_MONOTONIC), ToTag(kKick));
}

void ControlStream::State::Close() {
  {
    MutexLock lock(mutex);
    open = false;
    outgoing.clear();
  }
  progress_context.TryCancel();  // a report that is on its way would keep the queue from its end
  queue.Shutdown();
}

void ControlStream::Send(wire::FromAgent message) {
  {
    MutexLock lock(state_->mutex);
    if (state_->outgoing.size() < kMostQueued) {
      state_->outgoing.push_back(std::move(message));
      state_->LeaveCore();
      return state_->Kick();
    }
  }
  Cancel();  // a master that takes nothing has lost this agent
}

bool ControlStream::WriteProgress(const wire::ProgressReport& report) {
  MutexLock lock(state_->mutex);
  if (!state_->open || std::exchange(state_->reporting, true)) return false;
  if (!state_->progress) {
    Prepare(state_->progress_context, state_->token);
    state_->progress =
        state_->stub->PrepareAsyncProgress(&state_->progress_context, &state_->progress_ack, &state_->queue);
    state_->progress->StartCall(nullptr);  // as that of the session
  }
  state_->progress->Write(report, ToTag(kProgress));
  return true;
}

void ControlStream::Cancel() {
  state_->context.TryCancel();
  state_->progress_context.TryCancel();
}

}  // namespace pangea
