#include "clients/grpc_client.h"

#include <chrono>
#include <utility>

#include "grpcpp/grpcpp.h"
#include "protos/generation.grpc.pb.h"

namespace pangea::clients {
namespace {

// The codes are the same numbers, and the texts are the server's; but what the library says of a connection that does
// not come about is put in a user's words. The trailing metadata `error-code` is REST's error.code.
absl::Status ToStatus(const grpc::Status& status, const grpc::ClientContext& context, const std::string& address) {
  const std::string& text = status.error_message();
  const auto says = [&](const char* words) { return text.find(words) != std::string::npos; };
  std::string own = text;
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    if (says("http1.x server")) {
      own = address + " speaks HTTP/1.1, and no gRPC; when it is a REST door, write --rest http://" + address;
    } else if (says("Connection refused")) {
      own = address + ": connection refused; is pangea serve running?";
    } else if (says("C-ares status is not ARES_SUCCESS") || says("DNS resolution failed")) {
      own = address + ": no such host (expected HOST:PORT)";
    }
  }
  absl::Status made(static_cast<absl::StatusCode>(status.error_code()), own);
  const auto code = context.GetServerTrailingMetadata().find("error-code");
  if (code != context.GetServerTrailingMetadata().end())
    made.SetPayload(kErrorCode, absl::Cord(std::string(code->second.data(), code->second.size())));
  return made;
}

template <typename T, typename Set>
void Put(const std::optional<T>& value, Set set) {
  if (value) set(*value);
}

// Both request messages have these fields under the same names.
template <typename Proto>
void FillSampling(const SamplingOptions& s, Proto& out) {
  Put(s.max_tokens, [&](int64_t v) { out.set_max_tokens(v); });
  Put(s.min_tokens, [&](int64_t v) { out.set_min_tokens(v); });
  Put(s.temperature, [&](double v) { out.set_temperature(v); });
  Put(s.top_p, [&](double v) { out.set_top_p(v); });
  Put(s.top_k, [&](int64_t v) { out.set_top_k(v); });
  Put(s.min_p, [&](double v) { out.set_min_p(v); });
  Put(s.seed, [&](int64_t v) { out.set_seed(v); });
  Put(s.presence_penalty, [&](double v) { out.set_presence_penalty(v); });
  Put(s.frequency_penalty, [&](double v) { out.set_frequency_penalty(v); });
  Put(s.repetition_penalty, [&](double v) { out.set_repetition_penalty(v); });
  for (const std::string& stop : s.stop) out.mutable_stop()->mutable_list_value()->add_values()->set_string_value(stop);
  if (s.ignore_eos) out.set_ignore_eos(true);
}

v1::ChatCompletionRequest ChatProto(const GenerateRequest& request) {
  v1::ChatCompletionRequest out;
  out.set_model(request.model);
  for (const Message& message : request.messages) {
    v1::ChatMessage* m = out.add_messages();
    m->set_role(message.role);
    m->mutable_content()->set_string_value(message.content);
  }
  FillSampling(request.sampling, out);
  return out;
}

v1::CompletionRequest CompletionProto(const GenerateRequest& request) {
  v1::CompletionRequest out;
  out.set_model(request.model);
  for (int64_t id : request.prompt_ids) {
    out.mutable_prompt()->mutable_list_value()->add_values()->set_number_value(static_cast<double>(id));
  }
  if (request.prompt_ids.empty()) out.mutable_prompt()->set_string_value(request.prompt);
  FillSampling(request.sampling, out);
  return out;
}

std::string TextOf(const v1::ChatChoice& choice) { return choice.message().content(); }
std::string TextOf(const v1::ChatChunkChoice& choice) { return choice.delta().content(); }
std::string TextOf(const v1::CompletionChoice& choice) { return choice.text(); }

// A whole answer or one chunk of a stream: both have these fields. Returns the text that it brought.
template <typename Proto>
std::string Take(const Proto& proto, Answer& answer) {
  if (proto.has_usage()) {
    answer.prompt_tokens = proto.usage().prompt_tokens();
    answer.completion_tokens = proto.usage().completion_tokens();
  }
  if (!proto.model().empty()) answer.model = proto.model();
  if (!proto.system_fingerprint().empty()) answer.fingerprint = proto.system_fingerprint();
  std::string text;
  for (const auto& choice : proto.choices()) {
    if (choice.index() != 0) continue;
    text += TextOf(choice);
    if (!choice.finish_reason().empty()) answer.finish_reason = choice.finish_reason();
  }
  answer.text += text;
  return text;
}

// Registers the context with the canceller for as long as the call runs.
class Call {
 public:
  Call(const std::string& to, double timeout_seconds, const std::string& api_key, Canceller* canceller)
      : address(to), canceller_(canceller) {
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::microseconds(static_cast<int64_t>(timeout_seconds * 1e6)));
    if (!api_key.empty()) context.AddMetadata("authorization", "Bearer " + api_key);
    if (canceller_ != nullptr) canceller_->Set([this] { context.TryCancel(); });
  }
  ~Call() {
    if (canceller_ != nullptr) canceller_->Clear();
  }
  grpc::ClientContext context;
  const std::string& address;

 private:
  Canceller* canceller_;
};

template <typename Chunk>
absl::StatusOr<Answer> Collect(std::unique_ptr<grpc::ClientReader<Chunk>> reader, const Call& call,
                               const OnText& on_text) {
  Answer answer;
  StreamClock clock;
  Chunk chunk;
  while (reader->Read(&chunk)) {
    if (chunk.choices_size() > 0) clock.Arrived(answer);
    const std::string text = Take(chunk, answer);
    if (!text.empty()) on_text(text);
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return ToStatus(status, call.context, call.address);
  return answer;
}

template <typename Response>
absl::StatusOr<Answer> Whole(const grpc::Status& status, const Response& response, const Call& call) {
  if (!status.ok()) return ToStatus(status, call.context, call.address);
  Answer answer;
  Take(response, answer);
  return answer;
}

}  // namespace

struct GrpcClient::State {
  std::unique_ptr<v1::Generation::Stub> stub;
  std::string api_key, address;
};

GrpcClient::GrpcClient(const std::string& address, std::string api_key) : state_(std::make_unique<State>()) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  state_->stub = v1::Generation::NewStub(channel);
  state_->api_key = std::move(api_key);
  state_->address = address;
}
GrpcClient::~GrpcClient() = default;

absl::StatusOr<Answer> GrpcClient::Generate(const GenerateRequest& request, const OnText& on_text,
                                            Canceller* canceller) {
  Call call(state_->address, request.timeout_seconds, state_->api_key, canceller);
  v1::Generation::Stub& stub = *state_->stub;
  if (request.chat()) {
    v1::ChatCompletionRequest message = ChatProto(request);
    if (on_text == nullptr) {
      v1::ChatCompletionResponse response;
      const grpc::Status status = stub.ChatCompletion(&call.context, message, &response);
      return Whole(status, response, call);
    }
    message.mutable_stream_options()->set_include_usage(true);
    return Collect(stub.ChatCompletionStream(&call.context, message), call, on_text);
  }
  v1::CompletionRequest message = CompletionProto(request);
  if (on_text == nullptr) {
    v1::CompletionResponse response;
    const grpc::Status status = stub.Completion(&call.context, message, &response);
    return Whole(status, response, call);
  }
  message.mutable_stream_options()->set_include_usage(true);
  return Collect(stub.CompletionStream(&call.context, message), call, on_text);
}

absl::StatusOr<std::vector<std::string>> GrpcClient::Models(double timeout_seconds) {
  Call call(state_->address, timeout_seconds, state_->api_key, nullptr);
  v1::ListModelsResponse response;
  const grpc::Status status = state_->stub->ListModels(&call.context, v1::ListModelsRequest(), &response);
  if (!status.ok()) return ToStatus(status, call.context, call.address);
  std::vector<std::string> names;
  for (const v1::Model& model : response.data()) names.push_back(model.id());
  return names;
}

}  // namespace pangea::clients
