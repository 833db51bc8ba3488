// How a connection answers a request that it has read.
#include <boost/asio/buffer.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "master/api/http/connection.h"
#include "master/api/http/origins.h"
#include "master/api/http/rules.h"
#include "master/api/openai/api_error.h"
#include "master/api/openai/request.h"
#include "master/text/ascii.h"

namespace pangea {
namespace {

namespace asio = boost::asio;

constexpr auto kPing = std::chrono::seconds(10);
constexpr char kPingEvent[] = ": ping\n\n";
constexpr char kExposed[] = "x-request-id, x-pangea-ignored-fields, x-should-retry, retry-after";
constexpr size_t kShownOrigin = 100, kShownPath = 100, kShownMethod = 20;  // bytes of what a client wrote
constexpr size_t kEventBytes = 32 << 10;  // of events in one write: what a slow reader makes us hold

bool IsJson(std::string_view type) {
  type = type.substr(0, type.find(';'));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.remove_suffix(1);
  return SameName(type, "application/json");
}

std::string Chunk(const HttpRequest& request, const std::string& data) {
  return request.old ? data : absl::StrCat(absl::Hex(data.size()), "\r\n", data, "\r\n");
}

// The body as the message of its route, checked. In a text thread.
template <class Message>
Service::Make MakeRequest(std::shared_ptr<const std::string> body, const ApiContext& context,
                          std::shared_ptr<std::vector<std::string>> ignored) {
  return [body = std::move(body), &context, ignored = std::move(ignored)]() -> absl::StatusOr<CheckedRequest> {
    Message message;
    if (auto s = ParseOpenAi(*body, {context.deployment->limits.json_depth}, &message, ignored.get()); !s.ok())
      return s;
    return Check(message, context);
  };
}

}  // namespace

// Refuses pages that may not use the server; for those that may, sets the headers by which their browser knows.
std::optional<HttpReply> HttpConnection::JudgeOrigin(const HttpRequest& request) {
  const ApiContext& context = shared_->service->context();
  const auto& listed = context.deployment->rest.allowed_origins;
  if (!listed.empty()) headers_ = "Vary: Origin\r\n";
  if (request.origin.empty()) return std::nullopt;
  if (IsListedOrigin(listed, request.origin)) {
    const bool every = std::find(listed.begin(), listed.end(), "*") != listed.end();
    absl::StrAppend(&headers_, "Access-Control-Allow-Origin: ", every ? "*" : request.origin,
                    "\r\nAccess-Control-Expose-Headers: ", kExposed, "\r\n");
    return std::nullopt;
  }
  // Where keys are used, a page without one can do nothing, and without CORS headers its browser shows it no answer.
  if (context.keys != nullptr || IsHomeOrigin(request.origin, request.host, shared_->listen)) return std::nullopt;
  return HttpErrorReply(403, absl::StrCat("pages of the origin ", request.origin.substr(0, kShownOrigin),
                                          " may not use this server: the operator can allow them in "
                                          "rest.allowed_origins, or ask for API keys (keys.file)"));
}

HttpReply HttpConnection::Options(const HttpRequest& request) const {
  HttpReply reply{204};
  reply.content_type.clear();
  const bool listed = headers_.find("Allow-Origin") != std::string::npos;
  const bool known = request.match.route != Route::kNone;
  reply.headers = {{"Allow", known ? request.match.allow() : "GET, HEAD, POST, OPTIONS"}};
  if (!listed || request.cors_method.empty())
    return known || request.target == "*" ? reply : NoSuchPath(request.target);
  // A browser's question before the page's own request. Also answered for unknown paths, so that the page can read the
  // 404 that follows.
  reply.headers.emplace_back("Access-Control-Allow-Methods", reply.headers[0].second);
  if (!request.cors_headers.empty()) reply.headers.emplace_back("Access-Control-Allow-Headers", request.cors_headers);
  if (SameName(request.cors_network, "true"))
    reply.headers.emplace_back("Access-Control-Allow-Private-Network", "true");
  reply.headers.emplace_back("Access-Control-Max-Age", "600");
  return reply;
}

// After the headers, before the body is read: every answer that is certain by then. Nothing: the body is wanted.
std::optional<HttpReply> HttpConnection::Knock(HttpRequest* request) {
  const ApiContext& context = shared_->service->context();
  const auto path = TargetPath(request->target);
  const RouteMatch& match = request->match = FindRoute(path.value_or(""));
  label_ = match.label;
  const bool known = match.route != Route::kNone;
  // For the log: not decoded, since a decoded space could pass for the end of the path; and without the query, which
  // may hold secrets.
  const std::string sent = request->target.substr(0, std::min(request->target.find('?'), kShownPath));
  record_->what = absl::StrCat(request->method.substr(0, kShownMethod), " ", known ? std::string(match.label) : sent);
  record_->routine = ForObservers(match.route);
  if (observer_ && !ForObservers(match.route)) {
    context.metrics.rejected.Add("connections");
    return TooManyConnections();
  }
  if (auto refused = JudgeOrigin(*request)) return refused;
  if (!path && request->target != "*") return HttpErrorReply(400, "malformed request target");
  if (request->method == "OPTIONS") return Options(*request);
  if (!known) return NoSuchPath(path.value_or(request->target));
  if (NeedsKey(match.route)) {
    if (auto refused = Admit(request)) return refused;
  }
  const bool allowed = match.post ? request->method == "POST" : request->method == "GET" || request->method == "HEAD";
  if (!allowed) {
    HttpReply reply =
        HttpErrorReply(405, absl::StrCat(std::string(match.label), " does not take ",
                                         request->method.substr(0, kShownMethod), ", but ", match.allow()));
    reply.headers = {{"Allow", match.allow()}};
    return reply;
  }
  if (!match.post) return GetReply(match, context);
  if (!request->content_encoding.empty() && !SameName(request->content_encoding, "identity"))
    return HttpErrorReply(415, "compressed bodies are not accepted");
  if (!IsJson(request->content_type)) return HttpErrorReply(415, "the content type must be application/json");
  if (request->content_length.value_or(0) > limits().body) {
    context.metrics.rejected.Add("body");
    return BodyTooLarge();
  }
  Service& service = *shared_->service;
  const bool generates = match.route == Route::kChat || match.route == Route::kCompletion;
  if (auto s = service.Room(request->caller, generates); !s.ok()) return ErrorReply(s);
  if (!service.bodies().Fits(request->content_length.value_or(0))) return ErrorReply(service.TooManyBytes());
  return std::nullopt;
}

// Whose request it is, and until when.
std::optional<HttpReply> HttpConnection::Admit(HttpRequest* request) {
  const auto caller = Identify(shared_->service->context().keys, request->authorization);
  if (!caller.ok()) return ErrorReply(caller.status());
  double seconds = limits().request_seconds;
  if (!request->timeout.empty()) {
    double asked = 0;
    if (!absl::SimpleAtod(request->timeout, &asked) || !(asked > 0))
      return HttpErrorReply(400, "x-request-timeout must be a number of seconds above 0");
    seconds = std::min(seconds, asked);
  }
  request->caller = *caller;
  record_->account = caller->account;
  request->caller.deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  return std::nullopt;
}

HttpConnection::Awaitable<bool> HttpConnection::Serve(HttpRequest request) {
  const Route route = request.match.route;
  if (route == Route::kChat || route == Route::kCompletion) co_return co_await ServeGeneration(request, route);
  co_return co_await ServeText(request, route);
}

HttpConnection::Awaitable<bool> HttpConnection::ServeText(HttpRequest& request, Route route) {
  Service& service = *shared_->service;
  const auto ticket = service.Enter(request.caller, false);
  if (!ticket.ok()) co_return co_await Send(request, ErrorReply(ticket.status()));
  struct Job {
    HttpReply reply;
    bool done = false;
  };
  const auto job = std::make_shared<Job>();
  const auto body = std::make_shared<const std::string>(std::move(request.body));
  const auto queued =
      service.Run([job, body, route, &service] { job->reply = TextReply(route, *body, service.context()); },
                  [job, self = shared_from_this()] {
                    job->done = true;
                    self->Wake();
                  });
  if (!queued.ok()) co_return co_await Send(request, ErrorReply(queued));
  while (!job->done && !exchange_.gone()) co_await Wait(Clock::time_point::max());
  if (!job->done) co_return false;  // a text thread writes the reply yet
  co_return co_await Send(request, std::move(job->reply));
}

HttpConnection::Awaitable<bool> HttpConnection::ServeGeneration(HttpRequest& request, Route route) {
  Service& service = *shared_->service;
  const auto ticket = service.Enter(request.caller, true);
  if (!ticket.ok()) co_return co_await Send(request, ErrorReply(ticket.status()));
  const auto body = std::make_shared<const std::string>(std::move(request.body));
  const auto ignored = std::make_shared<std::vector<std::string>>();
  const auto admission = std::make_shared<Admission>();
  admission->caller = request.caller;
  admission->wake = [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Wake();
  };
  service.Admit(route == Route::kChat ? MakeRequest<v1::ChatCompletionRequest>(body, service.context(), ignored)
                                      : MakeRequest<v1::CompletionRequest>(body, service.context(), ignored),
                admission);
  while (!admission->done && !exchange_.ended()) co_await Wait(Clock::time_point::max());
  if (!admission->done) {
    admission->abandoned = true;
    co_return false;
  }
  if (const std::string names = IgnoredHeader(*ignored); !names.empty())
    absl::StrAppend(&headers_, "x-pangea-ignored-fields: ", names, "\r\n");
  if (!admission->result.ok()) co_return co_await Send(request, ErrorReply(admission->result.status()));
  const std::shared_ptr<Generation> generation = *std::move(admission->result);
  generation->on_progress = [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Pump();
  };
  RestAnswer answer(generation);
  bool keep = false;
  if (generation->request().stream) {
    keep = co_await ServeStream(request, &answer, generation.get());
  } else {
    keep = co_await ServeUnary(request, &answer, generation.get());
  }
  record_->use = generation->Use();
  if (answer.failed()) record_->reason = LogReason(generation->error());
  co_return keep;
}

HttpConnection::Awaitable<bool> HttpConnection::ServeUnary(const HttpRequest& request, RestAnswer* answer,
                                                           Generation* generation) {
  while (true) {
    std::string nothing;
    answer->Take(std::string::npos, &nothing);
    if (answer->done()) break;
    if (exchange_.ended()) co_return false;  // the generation's destructor cancels
    co_await Wait(request.caller.deadline);
    generation->Expire(Clock::now());
  }
  if (answer->failed()) co_return co_await Send(request, ErrorReply(generation->error()));
  // A named object: g++ 12 destroys a braced temporary of a co_await expression twice (GCC bug 98401).
  HttpReply reply;
  reply.body = answer->Document();
  co_return co_await Send(request, std::move(reply));
}

bool HttpConnection::FillStream(std::string* out) {
  static thread_local std::string events;  // one for all connections: its memory is warm
  events.clear();
  stream_.answer->Take(kEventBytes, &events);
  const size_t size = events.size();
  if (size > 0 && stream_.chunked) {
    absl::StrAppend(out, absl::Hex(size), "\r\n", events, "\r\n");
  } else {
    *out += events;
  }
  if (stream_.answer->done() && stream_.chunked) *out += "0\r\n\r\n";
  return size < kEventBytes;
}

// Progress of the generation. One token for each of many streams comes with every step: nearly always the socket takes
// it at once, and then the coroutine with its timers sleeps on. It is woken for everything else.
void HttpConnection::Pump() {
  if (!exchange_.direct()) return Wake();
  static thread_local std::string once;  // likewise
  once.clear();
  std::string* out = stream_.out.empty() ? &once : &stream_.out;
  const bool all = FillStream(out);
  if (!out->empty()) {
    boost::system::error_code error;
    const size_t n = socket_.write_some(asio::buffer(*out), error);
    if (!error) {
      out->erase(0, n);
      stream_.written = Clock::now();
    }  // an error is met again, and answered, by the coroutine's own write
    if (!once.empty()) stream_.out = once;
  }
  if (all && stream_.out.empty() && !stream_.answer->done()) return;
  exchange_.TakeBack();
  Wake();
}

HttpConnection::Awaitable<bool> HttpConnection::ServeStream(const HttpRequest& request, RestAnswer* answer,
                                                            Generation* generation) {
  // The head waits for the first progress, so that what fails before it still gets its own status; but no longer than a
  // ping.
  const auto first_ping = Clock::now() + kPing;
  while (!generation->started() && !exchange_.ended()) {
    // Not as a part of the condition: g++ 12 then loses the result of what is awaited behind &&.
    const bool woken = co_await Wait(std::min(first_ping, request.caller.deadline));
    if (!woken) break;
  }
  generation->Expire(Clock::now());
  if (exchange_.ended()) co_return false;
  if (!generation->error().ok()) co_return co_await Send(request, ErrorReply(generation->error()));
  HttpReply head;
  head.content_type = "text/event-stream; charset=utf-8";
  const bool keep = Keep(request) && !request.old;
  exchange_.On(Exchange::Event::kAnswer);
  stream_.answer = answer;
  stream_.chunked = !request.old;
  record_->status = "200";
  stream_.out = Head(request, head, true);
  if (!generation->started()) stream_.out += Chunk(request, kPingEvent);
  while (true) {
    if (!answer->done()) FillStream(&stream_.out);
    if (!stream_.out.empty()) {
      std::string bytes;
      bytes.swap(stream_.out);
      const bool written = co_await Write(std::move(bytes));
      if (!written) co_return false;
      stream_.written = Clock::now();
      continue;
    }
    if (answer->done()) break;
    if (exchange_.ended()) co_return false;
    exchange_.HandOver();
    co_await Wait(std::min(stream_.written + kPing, request.caller.deadline));
    exchange_.TakeBack();
    generation->Expire(Clock::now());
    if (stream_.out.empty() && Clock::now() >= stream_.written + kPing) stream_.out = Chunk(request, kPingEvent);
  }
  co_return keep && !answer->failed();
}

}  // namespace pangea
