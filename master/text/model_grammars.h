// Grammars over a model's ids, by llguidance (behind the C ABI of text/rust).
#pragma once
#include <list>
#include <memory>
#include <vector>

#include "configs/mutex.h"
#include "master/text/grammar.h"
#include "master/text/rust_text.h"
#include "master/text/text.h"

namespace pangea {

class ModelGrammars final : public Grammars {
 public:
  // ends: ids that end an answer. vocab: ids of the model, of which the text may know more or fewer. The text outlives
  // this. Nothing is done before the first grammar comes.
  ModelGrammars(const Text& text, std::vector<int32_t> ends, int vocab)
      : text_(text), ends_(std::move(ends)), vocab_(vocab) {}

  absl::StatusOr<std::unique_ptr<Guide>> Start(const GrammarSource& source) override;

 private:
  struct Compiled {
    GrammarSource source;
    std::unique_ptr<Guide> start;
  };
  absl::StatusOr<std::shared_ptr<const RustVocabulary>> Vocabulary() ABSL_EXCLUSIVE_LOCKS_REQUIRED(making_);
  std::unique_ptr<Guide> Known(const GrammarSource& source);
  void Keep(const GrammarSource& source, const Guide& start);

  const Text& text_;
  const std::vector<int32_t> ends_;
  const int vocab_;
  Mutex making_;
  std::shared_ptr<const RustVocabulary> vocabulary_ ABSL_GUARDED_BY(making_);
  Mutex mutex_;
  std::list<Compiled> compiled_ ABSL_GUARDED_BY(mutex_);  // the one that was asked for last first
};

// Bit b of words[w] says whether id 64 w + b may be drawn. Only words that differ from most are kept.
AllowedIds AllowedFrom(const std::vector<uint64_t>& words);

}  // namespace pangea
