#include "master/api/http/rest.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "configs/values.h"
#include "configs/version.h"
#include "master/api/generation/checked.h"
#include "master/api/generation/context.h"
#include "master/api/generation/text_calls.h"
#include "master/api/openai/api_error.h"
#include "master/api/openai/request.h"
#include "master/api/openai/response.h"
#include "nlohmann/json.hpp"

namespace pangea {
namespace {

constexpr std::string_view kModelPrefix = "/v1/models/";
constexpr size_t kShownPath = 100;  // bytes of a client's path that an error repeats
constexpr int kNearEdits = 3;       // characters by which a path may miss the route that it is taken for

AnswerShape ShapeOf(const Generation& g) {
  return {g.request().return_token_ids, g.request().stream && g.request().include_usage};
}

constexpr RouteRow kRoutes[] = {
    {"/v1/chat/completions", Route::kChat, true}, {"/v1/completions", Route::kCompletion, true},
    {"/v1/models", Route::kModels, false},        {"/tokenize", Route::kTokenize, true},
    {"/detokenize", Route::kDetokenize, true},    {"/tokenizer_info", Route::kTokenizerInfo, false},
    {"/health", Route::kHealth, false},           {"/health/live", Route::kLive, false},
    {"/health/ready", Route::kReady, false},      {"/version", Route::kVersion, false},
    {"/metrics", Route::kMetrics, false},
};

// The route that a path was likely meant to be; empty: none is near.
std::string NearPath(const std::string& path) {
  std::string plain;  // lower case, without doubled slashes and those at its end
  for (const char c : absl::AsciiStrToLower(path)) {
    if (c != '/' || !plain.ends_with('/')) plain += c;
  }
  if (plain.ends_with('/')) plain.pop_back();
  if (plain.empty()) return "";
  if (FindRoute(plain).route != Route::kNone) return plain;
  if (FindRoute("/v1" + plain).route != Route::kNone) return "/v1" + plain;
  // What some put before a route, or leave out of it.
  for (const RouteRow& row : kRoutes) {
    if (plain.ends_with(row.path) || row.path.ends_with(plain) || row.path.starts_with(plain + "/") ||
        plain.starts_with(std::string(row.path) + "/"))
      return std::string(row.path);
  }
  std::vector<std::string> paths;
  for (const RouteRow& row : kRoutes) paths.emplace_back(row.path);
  const std::string nearest = Nearest(plain, paths);
  return EditDistance(plain, nearest) <= kNearEdits ? nearest : "";
}

std::string Sse(const std::string& data) { return "data: " + data + "\n\n"; }

const char* HealthName(Health health) {
  switch (health) {
    case Health::kLoading:
      return "loading";
    case Health::kReady:
      return "ready";
    case Health::kRecovering:
      return "recovering";
    case Health::kDraining:
      return "draining";
    case Health::kFailed:
      break;
  }
  return "failed";
}

HttpReply HealthReply(const ApiContext& context) {
  const Health health = context.health;
  const bool recovering = health == Health::kRecovering,
             paused = (recovering || health == Health::kReady) && context.paused;
  HttpReply reply;
  if (health == Health::kReady && !paused) {
    reply.body = R"({"status":"ready"})";
    return reply;
  }
  if (recovering && !paused && context.deployment->health.ready_while_recovering) {
    reply.body = nlohmann::ordered_json{{"status", "recovering"}, {"message", RecoveryText(context)}}.dump(
        -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    return reply;
  }
  ErrorAnswer error = ToErrorAnswer(
      absl::UnavailableError(health == Health::kFailed    ? absl::StrCat("the server has failed: ", context.failure)
                             : health == Health::kLoading ? "the model is loading"
                             : paused                     ? kPausedText
                             : recovering                 ? RecoveryText(context)
                                                          : "the server is shutting down"));
  error.code = paused ? "paused" : HealthName(health);
  reply.status = error.http;
  reply.body = ErrorJson(error);
  reply.headers = {{"Retry-After", absl::StrCat(error.retry_after)}};
  reply.reason = error.message;
  return reply;
}

HttpReply MetricsReply(const ApiContext& context) {
  std::optional<MetricLabels> vllm;
  if (context.deployment->metrics.vllm_names) vllm = {{"model_name", context.names[0]}, {"engine", "0"}};
  MetricsPage page(std::move(vllm));
  context.metrics.Write(page);
  if (context.more_metrics) context.more_metrics(page);
  HttpReply reply;
  reply.body = page.Take();
  reply.content_type = std::string(MetricsPage::kContentType);
  return reply;
}

template <class Request, class Call>
HttpReply Answer(const std::string& body, const ApiContext& context, Call call) {
  Request request;
  std::vector<std::string> ignored;
  if (auto s = ParseOpenAi(body, {context.deployment->limits.json_depth}, &request, &ignored); !s.ok()) {
    context.metrics.Reject(s);
    return ErrorReply(s);
  }
  auto response = call(request, context);
  if (!response.ok()) {
    context.metrics.Reject(response.status());
    return ErrorReply(response.status());
  }
  HttpReply reply;
  reply.body = ToOpenAi(*response);
  if (const std::string names = IgnoredHeader(ignored); !names.empty())
    reply.headers.emplace_back("x-pangea-ignored-fields", names);
  return reply;
}

}  // namespace

std::span<const RouteRow> Routes() { return kRoutes; }

RouteMatch FindRoute(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  for (const RouteRow& row : kRoutes) {
    if (row.path == path) return {row.route, row.path, "", row.post};
  }
  // The rest of the path is the name, with its slashes.
  if (path.substr(0, kModelPrefix.size()) == kModelPrefix)
    return {Route::kModel, "/v1/models/{id}", std::string(path.substr(kModelPrefix.size())), false};
  return {};
}

HttpReply NoSuchPath(const std::string& path) {
  const std::string near = NearPath(path);
  const std::string shown = path.size() > kShownPath ? absl::StrCat(path.substr(0, kShownPath), "…") : path;
  if (!near.empty()) return HttpErrorReply(404, absl::StrCat("no such path: ", shown, "; did you mean ", near, "?"));
  std::string all;
  for (const RouteRow& row : kRoutes) absl::StrAppend(&all, all.empty() ? "" : ", ", std::string(row.path));
  return HttpErrorReply(404, absl::StrCat("no such path: ", shown, "; this server has ", all));
}

bool NeedsKey(Route route) {
  switch (route) {
    case Route::kNone:
    case Route::kHealth:
    case Route::kLive:
    case Route::kReady:
    case Route::kVersion:
    case Route::kMetrics:
      return false;
    default:
      return true;
  }
}

HttpReply ErrorReply(const absl::Status& status) {
  const ErrorAnswer error = ToErrorAnswer(status);
  HttpReply reply{error.http, ErrorJson(error)};
  if (error.retry_after > 0) reply.headers.emplace_back("Retry-After", absl::StrCat(error.retry_after));
  if (error.http == 401) reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error.never_retry) reply.headers.emplace_back("x-should-retry", "false");
  reply.reason = LogReason(status);
  return reply;
}

HttpReply HttpErrorReply(int status, const std::string& message) {
  ErrorAnswer error{status, "invalid_request_error", message};
  if (status == 404) error.code = "not_found";
  if (status == 403) error.code = "origin_not_allowed";
  HttpReply reply{status, ErrorJson(error)};
  reply.reason = message;
  return reply;
}

HttpReply TooManyConnections() {
  ErrorAnswer error = ToErrorAnswer(absl::UnavailableError("too many connections"));
  error.code = "connection_limit";
  HttpReply reply{503, ErrorJson(error)};
  reply.headers = {{"Retry-After", "1"}};
  reply.reason = error.message;
  return reply;
}

bool ForObservers(Route route) {
  return route == Route::kMetrics || route == Route::kHealth || route == Route::kLive || route == Route::kReady;
}

HttpReply GetReply(const RouteMatch& match, const ApiContext& context) {
  switch (match.route) {
    case Route::kModels:
      return {200, ToOpenAi(ListModels(context))};
    case Route::kModel:
      if (match.argument.empty()) return ErrorReply(ModelNotFound("", context.names));
      if (auto s = CheckModel(match.argument, context); !s.ok()) return ErrorReply(s);
      return {200, ToOpenAi(ServedModel(context, match.argument))};
    case Route::kHealth:
    case Route::kReady:
      return HealthReply(context);
    case Route::kLive:
      return {200, R"({"status":"live"})"};
    case Route::kTokenizerInfo:
      return {200, context.text->Info().dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)};
    case Route::kMetrics:
      return MetricsReply(context);
    case Route::kVersion:
      return {200, absl::StrCat(R"({"version":")", kVersion, R"("})")};
    default:
      return NoSuchPath(std::string(match.label));
  }
}

HttpReply TextReply(Route route, const std::string& body, const ApiContext& context) {
  if (route == Route::kTokenize) return Answer<v1::TokenizeRequest>(body, context, Tokenize);
  return Answer<v1::DetokenizeRequest>(body, context, Detokenize);
}

RestAnswer::RestAnswer(std::shared_ptr<Generation> generation)
    : generation_(std::move(generation)), chat_(*generation_), completion_(*generation_) {}

std::string RestAnswer::StreamJson(const AnswerPiece& piece) const {
  const Generation& g = *generation_;
  return g.request().chat ? ToOpenAi(ChatChunk(g, piece), ShapeOf(g))
                          : ToOpenAi(CompletionChunk(g, piece), ShapeOf(g), true);
}

// Most events differ from their neighbours in nothing but the text; false: this one is of another kind.
bool RestAnswer::AddPlainText(const AnswerPiece& piece, std::string* out) {
  if (piece.first || !piece.finish.empty() || !piece.tokens.empty()) return false;
  if (generation_->request().continuous_usage) return false;
  if (frames_.empty()) frames_.resize(generation_->prompts() * generation_->request().n);
  Frame& frame = frames_[piece.index];
  if (frame.before.empty()) {
    AnswerPiece none;
    none.index = piece.index;
    none.prompt = piece.prompt;
    const std::string json = Sse(StreamJson(none));
    // Names outside strings are the only ones between bare quotes, and what stands before "choices" has no text of
    // ours.
    const std::string_view name = generation_->request().chat ? R"("content":")" : R"("text":")";
    const size_t at = json.find(name, json.find(R"("choices":)")) + name.size();
    frame = {json.substr(0, at), json.substr(at)};
  }
  out->append(frame.before);
  AppendJsonText(piece.text, out);
  out->append(frame.after);
  return true;
}

void RestAnswer::AddEvent(const AnswerPiece& piece, std::string* out) {
  const Generation& g = *generation_;
  if (g.request().stream) {
    if (!AddPlainText(piece, out)) absl::StrAppend(out, Sse(StreamJson(piece)));
  } else if (g.request().chat) {
    chat_.Add(ChatChunk(g, piece));
  } else {
    completion_.Add(CompletionChunk(g, piece));
  }
}

std::string RestAnswer::End() {
  const Generation& g = *generation_;
  if (!g.request().stream) return "";
  if (failed_) return Sse(ErrorJson(ToErrorAnswer(g.error())));
  std::string end;
  if (g.request().include_usage) {
    end = g.request().chat ? Sse(ToOpenAi(ChatUsageChunk(g), ShapeOf(g)))
                           : Sse(ToOpenAi(CompletionUsageChunk(g), ShapeOf(g), true));
  }
  return end + Sse("[DONE]");
}

void RestAnswer::Take(size_t bytes, std::string* out) {
  const size_t begin = out->size();
  while (!done_ && out->size() - begin < bytes) {
    if (auto piece = generation_->Next()) {
      // A completion's first piece says nothing unless there is an echo.
      const bool empty = piece->first && piece->text.empty() && !generation_->request().chat &&
                         !generation_->request().return_token_ids;
      if (!empty || !generation_->request().stream) AddEvent(*piece, out);
      continue;
    }
    failed_ = !generation_->error().ok();
    done_ = failed_ || generation_->done();
    if (!done_) break;
    *out += End();
  }
}

std::string RestAnswer::Document() {
  const Generation& g = *generation_;
  if (g.request().chat) return ToOpenAi(chat_.Take(g), ShapeOf(g));
  return ToOpenAi(completion_.Take(g), ShapeOf(g), false);
}

}  // namespace pangea
