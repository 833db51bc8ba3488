// Stands for master/text (but for its stop matcher) and master/schedule in this room's tests, at link level: the same
// class names, defined here.
//
// The fake text: id 0..255 is that byte, 256 "<s>" and 257 "<|end|>" are special, 258 "ab", 259 "\xC3" + "\xA9" ("é"
// whole), 260 " stop". Encode gives bytes (256 first when specials are added). The template gives 256, then each
// message's role and content as bytes.
#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "master/api/generation/context.h"

namespace pangea {

constexpr int kFakeVocab = 300, kFakeContext = 128, kFakeBos = 256, kFakeEnd = 257;

std::unique_ptr<Text> MakeFakeText();

// Called before a text is encoded, in the thread that does it. Set it before the doors open.
extern std::function<void()> on_fake_encode;

// What the doors asked of the engine, and what it answers. Thread safe.
struct FakeEngine {
  std::function<absl::Status(const SequenceRequest&)> on_submit;  // on the submitting thread; not set: OK
  std::vector<SequenceRequest> submitted;
  std::set<uint64_t> cancelled;
  EngineStats stats;
  struct Finished {
    uint64_t request;
    int choice, tokens;
    bool operator==(const Finished&) const = default;
  };
  std::vector<Finished> finished;
  std::mutex mutex;
  std::condition_variable changed;

  // Waits (bounded) until `count` requests were submitted; the last of them.
  SequenceRequest WaitSubmitted(size_t count);
  bool WaitCancelled(uint64_t request);
};
std::unique_ptr<EngineThread> MakeFakeEngine(FakeEngine* fake);

struct FakeServer {
  Deployment deployment;
  ModelConfig model;
  std::unique_ptr<Text> text = MakeFakeText();
  FakeEngine fake;
  std::unique_ptr<EngineThread> engine = MakeFakeEngine(&fake);
  ApiContext context;
  FakeServer();
};

Output Ids(uint64_t request, int choice, const std::string& bytes, FinishReason finish = FinishReason::kNone);
Output IdList(uint64_t request, int choice, const std::vector<int32_t>& ids, FinishReason finish = FinishReason::kNone);

}  // namespace pangea
