// The REST routes: what a path is, and every answer that is no generation. I/O thread; TextReply in a text thread.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "master/api/generation/answers.h"

namespace pangea {

struct ApiContext;

struct HttpReply {
  int status = 200;
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string content_type = "application/json";
  std::string reason;  // for the log, of what was refused
};

enum class Route {
  kNone,
  kChat,
  kCompletion,
  kModels,
  kModel,
  kTokenizerInfo,
  kTokenize,
  kDetokenize,
  kHealth,
  kLive,
  kReady,
  kVersion,
  kMetrics
};
struct RouteRow {
  std::string_view path;
  Route route;
  bool post;
};
std::span<const RouteRow> Routes();  // all but /v1/models/{id}
struct RouteMatch {
  Route route = Route::kNone;
  std::string_view label = "other";  // the path, as metrics and the log name it
  std::string argument;              // kModel: the name
  bool post = false;                 // else GET and HEAD
  const char* allow() const { return post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS"; }
};
RouteMatch FindRoute(std::string_view path);  // slashes at its end say nothing
// 404 of a path that is no route, naming the route that was likely meant, or all.
HttpReply NoSuchPath(const std::string& path);
bool NeedsKey(Route route);  // with keys.file: every route but health, version and metrics

HttpReply ErrorReply(const absl::Status& status);
// What only HTTP can get wrong: 404 of a path, 405, 413, 415, ….
HttpReply HttpErrorReply(int status, const std::string& message);
HttpReply TooManyConnections();
bool ForObservers(Route route);  // served beyond the limit of connections: health and metrics
HttpReply GetReply(const RouteMatch& match, const ApiContext& context);
HttpReply TextReply(Route route, const std::string& body, const ApiContext& context);  // kTokenize, kDetokenize

// A REST client's view of one generation: events of a stream, or one document.
class RestAnswer {
 public:
  explicit RestAnswer(std::shared_ptr<Generation> generation);
  // Appends everything that is ready to *out as server-sent events, at most about `bytes`; with the end of the stream
  // when it has come. Unary: collects, appends nothing.
  void Take(size_t bytes, std::string* out);
  bool done() const { return done_; }      // nothing follows
  bool failed() const { return failed_; }  // ended by an error
  std::string Document();                  // unary, when done

 private:
  // What surrounds the text in an event of plain text: the same for all of a choice.
  struct Frame {
    std::string before, after;
  };

  void AddEvent(const AnswerPiece& piece, std::string* out);
  bool AddPlainText(const AnswerPiece& piece, std::string* out);
  std::string StreamJson(const AnswerPiece& piece) const;
  std::string End();

  std::shared_ptr<Generation> generation_;
  std::vector<Frame> frames_;  // by choice, made when first needed
  ChatCollector chat_;
  CompletionCollector completion_;
  bool done_ = false, failed_ = false;
};

}  // namespace pangea
