// One request's answers on their way through its grammar: after each id that was drawn, the engine is told which may
// come next. That is found out while the agents already compute the step that will draw it. Thread safe.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "configs/mutex.h"
#include "master/api/generation/text_pool.h"
#include "master/schedule/engine.h"
#include "master/text/grammar.h"

namespace pangea {

class Guides : public std::enable_shared_from_this<Guides> {
 public:
  struct Shape {
    uint64_t first_id = 0;  // engine requests are first_id, first_id + 1, …, one a prompt
    int prompts = 1, n = 1;
  };
  using Failed = std::function<void(uint64_t request, int choice, const absl::Status& why)>;
  // start: of an answer that has not begun. The engine and the pool outlive what is done in the pool. failed: any
  // thread; what may come next in that choice is told to nobody from then on.
  Guides(std::unique_ptr<Guide> start, Shape shape, RequestPort* engine, TextPool* pool, Failed failed);

  // The engine has the request: what its choices may begin with.
  absl::Status Begin(uint64_t request);
  // An output of one of them, in order. The next one comes only after its mask.
  void Drew(const Output& output);

 private:
  struct Choice {
    std::unique_ptr<Guide> guide;  // from its first id to its last
    int taken = 0;                 // ids
  };
  absl::Status Take(Choice& choice, const std::vector<int32_t>& ids, uint64_t request, int number);

  const Shape shape_;
  RequestPort* const engine_;
  TextPool* const pool_;
  const Failed failed_;
  Mutex mutex_;
  const std::unique_ptr<Guide> start_ ABSL_PT_GUARDED_BY(mutex_);
  std::vector<Choice> choices_;  // each used by one thread at a time
};

}  // namespace pangea
