// One gRPC call of a generation, unary or streaming. gRPC's callbacks come on its threads and only post; all state is
// the I/O thread's.
#pragma once
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <vector>

#include "master/api/generation/answers.h"
#include "master/api/generation/context.h"
#include "master/api/generation/request_log.h"
#include "master/api/generation/service.h"
#include "master/api/openai/api_error.h"

namespace pangea {

// Also tells the client, in the trailing metadata: the error's code as REST's error object has it (`error-code`), and
// when to come back, as HTTP does and as gRPC's own retries read it.
inline grpc::Status ToGrpc(const absl::Status& status, grpc::CallbackServerContext* context) {
  if (status.ok()) return grpc::Status::OK;
  const ErrorAnswer error = ToErrorAnswer(status);
  if (!error.code.empty()) context->AddTrailingMetadata("error-code", error.code);
  if (error.retry_after > 0) {
    context->AddTrailingMetadata("retry-after", std::to_string(error.retry_after));
    context->AddTrailingMetadata("grpc-retry-pushback-ms", std::to_string(error.retry_after * 1000));
  }
  return grpc::Status(static_cast<grpc::StatusCode>(GrpcCode(status)), error.message);
}

// Whose call it is, by its metadata `authorization`, and its deadline.
inline absl::StatusOr<Caller> CallerOf(const grpc::CallbackServerContext& context, const ApiContext& api) {
  const auto at = context.client_metadata().find("authorization");
  const bool sent = at != context.client_metadata().end();
  auto caller = Identify(api.keys, sent ? std::string_view(at->second.data(), at->second.size()) : "");
  if (!caller.ok()) return caller;
  using Seconds = std::chrono::duration<double>;
  const double left = Seconds(context.deadline() - std::chrono::system_clock::now()).count();
  const Seconds allowed(std::min(left, api.deployment->limits.request_seconds));
  caller->deadline = Caller::Clock::now() + std::chrono::duration_cast<Caller::Clock::duration>(allowed);
  return caller;
}

// What the log and the metrics are told of a call. Made when the call comes; End is called once. Any one thread.
class GrpcRecord {
 public:
  GrpcRecord(const grpc::CallbackServerContext& context, const char* method) : method_(method) {
    const auto sent = context.client_metadata().find("x-request-id");
    const bool has = sent != context.client_metadata().end();
    record_.what = std::string("gRPC ") + method;
    record_.id = RequestId(has ? std::string_view(sent->second.data(), sent->second.size()) : "");
    record_.begun = RequestRecord::Clock::now();
  }
  RequestRecord& operator*() { return record_; }
  RequestRecord* operator->() { return &record_; }
  // Logs and counts the call, and makes the status to finish it with.
  grpc::Status End(const absl::Status& status, grpc::CallbackServerContext* context, const ApiContext& api) {
    record_.status = status.ok() ? "OK" : absl::StatusCodeToString(static_cast<absl::StatusCode>(GrpcCode(status)));
    if (!status.ok()) record_.reason = LogReason(status);
    api.metrics.grpc_responses.Add(method_, record_.status);
    LogRequest(record_, api);
    context->AddTrailingMetadata("x-request-id", record_.id);
    return ToGrpc(status, context);
  }

 private:
  const char* method_;
  RequestRecord record_;
};

// What the door does for every open call about once a second.
class GrpcTicking {
 public:
  virtual ~GrpcTicking() = default;
  virtual void Tick() = 0;
};

// What all calls of a door share.
struct GrpcShared {
  Service* service = nullptr;
  Service::Post post;
  std::vector<std::weak_ptr<GrpcTicking>> ticking;  // I/O thread
};

template <class Request>
struct CallTypes;
template <>
struct CallTypes<v1::ChatCompletionRequest> {
  static constexpr char kUnary[] = "ChatCompletion", kStream[] = "ChatCompletionStream";
  using Chunk = v1::ChatCompletionChunk;
  using Response = v1::ChatCompletionResponse;
  using Collector = ChatCollector;
  static Chunk ToChunk(const Generation& g, const AnswerPiece& piece) { return ChatChunk(g, piece); }
  static Chunk UsageChunk(const Generation& g) { return ChatUsageChunk(g); }
};
template <>
struct CallTypes<v1::CompletionRequest> {
  static constexpr char kUnary[] = "Completion", kStream[] = "CompletionStream";
  using Chunk = v1::CompletionResponse;
  using Response = v1::CompletionResponse;
  using Collector = CompletionCollector;
  static Chunk ToChunk(const Generation& g, const AnswerPiece& piece) { return CompletionChunk(g, piece); }
  static Chunk UsageChunk(const Generation& g) { return CompletionUsageChunk(g); }
};

// Admission, progress, cancellation and the one final status; how chunks go out is the derived class's. The object
// holds itself until gRPC's OnDone, so `this` outlives every callback; posts hold it too.
template <class Request, class Reactor, class Derived>
class GenerationCall : public Reactor, public GrpcTicking, public std::enable_shared_from_this<Derived> {
 public:
  GenerationCall(std::shared_ptr<GrpcShared> shared, grpc::CallbackServerContext* context, const Request* request,
                 const char* method)
      : shared_(std::move(shared)), context_(context), request_(request), record_(*context, method) {}

  void Start() {
    self_ = this->shared_from_this();
    Post(&GenerationCall::Admit);
  }
  void OnCancel() override { Post(&GenerationCall::Cancel); }
  void OnDone() override {
    // The last reference may be this one, or a post's.
    auto self = std::move(self_);
  }
  void Tick() override {}

 protected:
  virtual void Progress() = 0;                 // more may be ready
  virtual bool Busy() const { return false; }  // Finish must wait

  void Post(void (GenerationCall::*function)()) {
    shared_->post([self = this->shared_from_this(), function] { (self.get()->*function)(); });
  }

  // At most once; later when Busy.
  void End(const absl::Status& status) {
    if (ending_ || finished_) return;
    ending_ = true;
    status_ = status;
    TryFinish();
  }
  void TryFinish() {
    if (!ending_ || finished_ || Busy()) return;
    finished_ = true;
    if (generation_) record_->use = generation_->Use();
    generation_.reset();
    ticket_ = Ticket();
    bytes_ = ByteShare();
    // From here on gRPC owns request and response again.
    this->Finish(record_.End(status_, context_, shared_->service->context()));
  }
  bool over() const { return ending_ || finished_; }

  std::shared_ptr<GrpcShared> shared_;
  grpc::CallbackServerContext* context_;
  std::shared_ptr<Generation> generation_;

 private:
  void Admit() {
    shared_->ticking.push_back(this->weak_from_this());
    Service& service = *shared_->service;
    const auto caller = CallerOf(*context_, service.context());
    if (!caller.ok()) return End(caller.status());
    record_->account = caller->account;
    auto ticket = service.Enter(*caller, true);
    if (!ticket.ok()) return End(ticket.status());
    ticket_ = *std::move(ticket);
    bytes_ = ByteShare(&service.bodies());
    if (!bytes_.Grow(request_->ByteSizeLong())) return End(service.TooManyBytes());
    admission_ = std::make_shared<Admission>();
    admission_->caller = *caller;
    admission_->wake = [self = this->shared_from_this()] { self->Admitted(); };
    service.Admit([request = request_, context = &service.context()] { return Check(*request, *context); }, admission_);
  }

  void Admitted() {
    const auto admission = std::move(admission_);
    admission->wake = nullptr;
    if (cancelled_) return End(absl::CancelledError("the call was cancelled"));
    if (!admission->result.ok()) return End(admission->result.status());
    generation_ = *std::move(admission->result);
    generation_->on_progress = [weak = this->weak_from_this()] {
      if (const auto self = weak.lock()) self->Progress();
    };
    Progress();
  }

  void Cancel() {
    cancelled_ = true;
    if (admission_) {  // a text thread is reading the request, which is gRPC's after Finish
      admission_->abandoned = true;
      return;
    }
    if (generation_) record_->use = generation_->Use();
    generation_.reset();  // its blocks are free from here on
    End(absl::CancelledError("the call was cancelled"));
  }

  const Request* request_;
  GrpcRecord record_;
  std::shared_ptr<Derived> self_;
  std::shared_ptr<Admission> admission_;
  Ticket ticket_;
  ByteShare bytes_;  // of the request
  absl::Status status_;
  bool cancelled_ = false, ending_ = false, finished_ = false;
};

template <class Request>
class UnaryCall : public GenerationCall<Request, grpc::ServerUnaryReactor, UnaryCall<Request>> {
 public:
  using Types = CallTypes<Request>;
  using Base = GenerationCall<Request, grpc::ServerUnaryReactor, UnaryCall<Request>>;
  UnaryCall(std::shared_ptr<GrpcShared> shared, grpc::CallbackServerContext* context, const Request* request,
            typename Types::Response* response)
      : Base(std::move(shared), context, request, Types::kUnary), response_(response) {}
  void Progress() override {
    if (this->over() || !this->generation_) return;
    const Generation& g = *this->generation_;
    if (!collector_) collector_ = std::make_unique<typename Types::Collector>(g);
    while (auto piece = this->generation_->Next()) collector_->Add(Types::ToChunk(g, *piece));
    if (!g.error().ok()) return this->End(g.error());
    if (!g.done()) return;
    *response_ = collector_->Take(g);
    this->End(absl::OkStatus());
  }

 private:
  typename Types::Response* response_;
  std::unique_ptr<typename Types::Collector> collector_;
};

template <class Request>
class StreamCall : public GenerationCall<Request, grpc::ServerWriteReactor<typename CallTypes<Request>::Chunk>,
                                         StreamCall<Request>> {
 public:
  using Types = CallTypes<Request>;
  using Base = GenerationCall<Request, grpc::ServerWriteReactor<typename Types::Chunk>, StreamCall<Request>>;
  StreamCall(std::shared_ptr<GrpcShared> shared, grpc::CallbackServerContext* context, const Request* request)
      : Base(std::move(shared), context, request, Types::kStream) {}

  void OnWriteDone(bool ok) override {
    this->shared_->post([self = this->shared_from_this(), ok] { self->Written(ok); });
  }

  void Tick() override {
    const double limit = this->shared_->service->context().deployment->limits.write_seconds;
    if (!writing_ || std::chrono::duration<double>(std::chrono::steady_clock::now() - since_).count() < limit) return;
    this->context_->TryCancel();  // a reader that takes nothing
  }

  void Progress() override {
    if (this->over() || writing_ || !this->generation_) return;
    const Generation& g = *this->generation_;
    if (auto piece = this->generation_->Next()) return Write(Types::ToChunk(g, *piece));
    if (!g.error().ok()) return this->End(g.error());
    if (!g.done()) return;
    if (g.request().include_usage && !std::exchange(usage_sent_, true)) return Write(Types::UsageChunk(g));
    this->End(absl::OkStatus());
  }

 protected:
  bool Busy() const override { return writing_; }

 private:
  void Write(typename Types::Chunk chunk) {
    chunk_ = std::move(chunk);
    writing_ = true;
    since_ = std::chrono::steady_clock::now();
    this->StartWrite(&chunk_);
  }
  void Written(bool ok) {
    writing_ = false;
    if (!ok) this->End(absl::CancelledError("the call was cancelled"));
    this->TryFinish();
    Progress();
  }

  typename Types::Chunk chunk_;
  bool writing_ = false, usage_sent_ = false;
  std::chrono::steady_clock::time_point since_;
};

}  // namespace pangea
