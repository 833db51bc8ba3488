// Grammars for tests: the text of a grammar is the one answer that follows it, id by id as bytes, and then an end.
#pragma once
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "master/text/fake_text.h"
#include "master/text/grammar.h"

namespace pangea {

class FakeGuide final : public Guide {
 public:
  explicit FakeGuide(std::string answer) : answer_(std::move(answer)) {}
  std::unique_ptr<Guide> Copy() const override { return std::make_unique<FakeGuide>(answer_); }
  absl::Status Take(int32_t id) override {
    if (id != Next()) return absl::InvalidArgumentError("this id was not allowed");
    ++at_;
    return absl::OkStatus();
  }
  absl::StatusOr<AllowedIds> Mask() override {
    if (answer_.substr(at_) == "!") return absl::InvalidArgumentError("too much");
    const int32_t next = Next();
    return AllowedIds{.words = {{next / 64, uint64_t{1} << next % 64}}};
  }

 private:
  int32_t Next() const { return at_ < answer_.size() ? static_cast<unsigned char>(answer_[at_]) : kFakeEnd; }

  std::string answer_;
  size_t at_ = 0;
};

struct FakeGrammars final : Grammars {
  absl::StatusOr<std::unique_ptr<Guide>> Start(const GrammarSource& source) override {
    if (source.text == "?") return absl::InvalidArgumentError("no grammar");
    return std::make_unique<FakeGuide>(source.text);
  }
};

}  // namespace pangea
