#include "master/text/model_grammars.h"

#include <algorithm>

namespace pangea {
namespace {

// What has been compiled is kept, the oldest unless asked for again: so many, and of so many bytes of text.
constexpr size_t kKept = 32, kKeptBytes = 1 << 20;

class ModelGuide final : public Guide {
 public:
  ModelGuide(std::shared_ptr<const RustVocabulary> vocabulary, RustGuide guide, size_t words)
      : vocabulary_(std::move(vocabulary)), guide_(std::move(guide)), words_(words) {}

  std::unique_ptr<Guide> Copy() const override {
    return std::make_unique<ModelGuide>(vocabulary_, guide_.Copy(), words_.size());
  }
  absl::Status Take(int32_t id) override { return guide_.Take(id); }
  absl::StatusOr<AllowedIds> Mask() override {
    if (auto s = guide_.Mask(&words_); !s.ok()) return s;
    return AllowedFrom(words_);
  }

 private:
  std::shared_ptr<const RustVocabulary> vocabulary_;
  RustGuide guide_;
  std::vector<uint64_t> words_;
};

}  // namespace

AllowedIds AllowedFrom(const std::vector<uint64_t>& words) {
  const auto all = std::count(words.begin(), words.end(), ~uint64_t{0});
  const auto none = std::count(words.begin(), words.end(), uint64_t{0});
  AllowedIds allowed{.others = all > none};
  const uint64_t most = allowed.others ? ~uint64_t{0} : 0;
  for (size_t w = 0; w < words.size(); ++w) {
    if (words[w] != most) allowed.words.emplace_back(static_cast<int32_t>(w), words[w]);
  }
  return allowed;
}

absl::StatusOr<std::shared_ptr<const RustVocabulary>> ModelGrammars::Vocabulary() {
  if (vocabulary_ != nullptr) return vocabulary_;
  const auto& pieces = text_.pieces().pieces;
  std::vector<int32_t> ends;
  for (const int32_t id : ends_) {
    if (id >= 0 && id < vocab_ && static_cast<size_t>(id) < pieces.size()) ends.push_back(id);
  }
  auto made = RustVocabulary::Make({pieces.data(), std::min<size_t>(pieces.size(), vocab_)}, ends);
  if (!made.ok()) return made.status();
  vocabulary_ = std::make_shared<const RustVocabulary>(*std::move(made));
  return vocabulary_;
}

std::unique_ptr<Guide> ModelGrammars::Known(const GrammarSource& source) {
  MutexLock lock(mutex_);
  const auto found =
      std::find_if(compiled_.begin(), compiled_.end(), [&](const Compiled& c) { return c.source == source; });
  if (found == compiled_.end()) return nullptr;
  compiled_.splice(compiled_.begin(), compiled_, found);
  return found->start->Copy();
}

void ModelGrammars::Keep(const GrammarSource& source, const Guide& start) {
  if (source.text.size() > kKeptBytes) return;
  MutexLock lock(mutex_);
  compiled_.push_front({source, start.Copy()});
  size_t bytes = 0, kept = 0;
  auto last = compiled_.begin();
  for (; last != compiled_.end() && kept < kKept; ++last, ++kept) {
    bytes += last->source.text.size();
    if (bytes > kKeptBytes) break;
  }
  compiled_.erase(last, compiled_.end());
}

absl::StatusOr<std::unique_ptr<Guide>> ModelGrammars::Start(const GrammarSource& source) {
  if (auto known = Known(source)) return known;
  absl::StatusOr<std::shared_ptr<const RustVocabulary>> vocabulary;
  {
    MutexLock lock(making_);  // once, by whoever comes first
    vocabulary = Vocabulary();
  }
  if (!vocabulary.ok()) return vocabulary.status();
  auto guide = RustGuide::Make(**vocabulary, source);
  if (!guide.ok()) return guide.status();
  std::unique_ptr<Guide> start = std::make_unique<ModelGuide>(*vocabulary, *std::move(guide), MaskWords(vocab_));
  Keep(source, *start);
  return start;
}

}  // namespace pangea
