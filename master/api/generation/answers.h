// Pieces of a generation -> the messages that both doors answer with. I/O thread only.
#pragma once
#include "master/api/generation/generation.h"
#include "protos/generation.pb.h"

namespace pangea {

// One chunk of a stream. The choice's first has the role (chat), or the echoed prompt with its log-probabilities
// (completion).
v1::ChatCompletionChunk ChatChunk(const Generation& generation, const AnswerPiece& piece);
v1::CompletionResponse CompletionChunk(const Generation& generation, const AnswerPiece& piece);
// The last one with include_usage: no choices, the usage.
v1::ChatCompletionChunk ChatUsageChunk(const Generation& generation);
v1::CompletionResponse CompletionUsageChunk(const Generation& generation);

// A unary answer: the stream collected.
class ChatCollector {
 public:
  explicit ChatCollector(const Generation& generation);
  void Add(v1::ChatCompletionChunk chunk);
  v1::ChatCompletionResponse Take(const Generation& generation);

 private:
  v1::ChatCompletionResponse response_;
};
class CompletionCollector {
 public:
  explicit CompletionCollector(const Generation& generation);
  void Add(v1::CompletionResponse chunk);
  v1::CompletionResponse Take(const Generation& generation);

 private:
  v1::CompletionResponse response_;
};

}  // namespace pangea
