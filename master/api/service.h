// What both doors stand on: who may come in, the text threads, the way into the engine and back.
//
// Threads: I/O (one; every Generation lives on it), text pool (parse, template, tokenise, submit), engine (calls
// Deliver). Enter, Run, Begin, Deliver, open and WaitIdle may be called from any thread; the rest on the I/O thread.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "master/api/api.h"
#include "master/api/generation.h"
#include "master/api/text_pool.h"

namespace pangea {

// How a door learns of its request's admission. `done` and `abandoned` belong to the I/O thread.
struct Admission {
  bool done = false;
  bool abandoned = false;      // the client has gone: what is admitted is cancelled at once
  std::function<void()> wake;  // on the I/O thread, when done
  absl::StatusOr<std::shared_ptr<Generation>> result = absl::UnavailableError("not admitted");
};

class Service {
 public:
  using Post = std::function<void(std::function<void()>)>;  // runs a function on the I/O thread
  using Make = std::function<absl::StatusOr<CheckedRequest>()>;
  using Ticket = std::shared_ptr<void>;  // one open request; returned when the last copy goes

  Service(ApiContext* context, Post post);
  ~Service();

  // Unavailable: loading, draining, failed.
  absl::StatusOr<Ticket> Enter();
  absl::Status Serving() const;
  // `work` in a text thread, then `done` on the I/O thread. ResourceExhausted: too many wait for a text thread.
  absl::Status Run(std::function<void()> work, std::function<void()> done);
  // make() -> encode -> submit in a text thread; then admission->wake.
  void Admit(Make make, std::shared_ptr<Admission> admission);

  void Deliver(std::vector<Output> outputs);
  int open() const { return open_; }
  bool WaitIdle(double seconds);  // true: no request is open; false: time is over, or Hurry was called
  void Hurry();
  void Drain() { draining_ = true; }
  bool draining() const { return draining_; }
  void FailAll(const absl::Status& why);  // every open request ends with this, and those to come
  void Tick();                            // ends requests that are over their wall time
  void StopThreads() { pool_.Stop(); }

  ApiContext& context() { return *context_; }

 private:
  using Clock = std::chrono::steady_clock;
  absl::StatusOr<std::shared_ptr<Generation>> Begin(CheckedRequest request, Clock::time_point arrival);
  absl::StatusOr<std::shared_ptr<Generation>> Register(CheckedRequest request, std::vector<PromptTokens> prompts,
                                                       Clock::time_point arrival);
  void Unregister(const Generation& generation);
  std::vector<std::shared_ptr<Generation>> Open();

  ApiContext* const context_;
  const Post post_;
  std::atomic<int> open_{0};
  std::atomic<bool> draining_{false};
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  absl::Status ended_;                                                // under mutex_
  bool hurry_ = false;                                                // under mutex_
  uint64_t next_id_ = 1;                                              // under mutex_
  std::unordered_map<uint64_t, std::weak_ptr<Generation>> requests_;  // under mutex_, by engine request
  TextPool pool_;                                                     // last: its threads use the rest
};

}  // namespace pangea
