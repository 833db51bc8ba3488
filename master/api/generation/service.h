// What both doors stand on: who may come in, the text threads, the way into the engine and back.
//
// Threads: I/O (one; every Generation lives on it), text pool (parse, template, tokenise, submit), forms (compile
// grammars, and the rest of their requests), masks (what may come next in answers that follow one), engine (calls
// Deliver). Room, Enter, Busy, Run, Begin, Deliver, open and WaitIdle may be called from any thread; the rest on the
// I/O thread.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/mutex.h"
#include "master/api/generation/context.h"
#include "master/api/generation/generation.h"
#include "master/api/generation/guides.h"
#include "master/api/generation/request_log.h"
#include "master/api/generation/text_pool.h"

namespace pangea {

// How a door learns of its request's admission. `done` and `abandoned` belong to the I/O thread.
struct Admission {
  bool done = false;
  bool abandoned = false;  // the client has gone: what is admitted is cancelled at once
  Caller caller;
  std::function<void()> wake;  // on the I/O thread, when done
  absl::StatusOr<std::shared_ptr<Generation>> result = absl::UnavailableError("not admitted");
};

class Service {
 public:
  using Post = std::function<void(std::function<void()>)>;  // runs a function on the I/O thread
  using Make = std::function<absl::StatusOr<CheckedRequest>()>;

  Service(ApiContext* context, Post post);
  ~Service();

  // What can be said after the headers, before anything is read or done. Unavailable: loading, draining, failed.
  // ResourceExhausted, with the seconds to wait: the caller has its requests open, or (generates) the queue is full.
  absl::Status Room(const Caller& caller, bool generates) const;
  absl::StatusOr<Ticket> Enter(const Caller& caller, bool generates);  // of one open request, when there is room
  absl::Status Serving() const;                                        // whether requests are taken
  absl::Status Ready() const;                                          // whether they should be sent here
  ByteBudget& bodies() { return bodies_; }
  // ResourceExhausted, to be tried again when `ahead` more requests have ended.
  absl::Status Busy(const char* limit, const std::string& why, int ahead) const;
  absl::Status TooManyBytes() const {
    return Busy("bodies", "too many bytes of requests are held at once (limits.bodies)", 1);
  }
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
  // About once a second: ends requests that are over their deadline, logs the throughput, gives memory back when there
  // are no requests.
  void Tick();
  void StopThreads() {
    pool_.Stop();
    forms_.Stop();
    masks_.Stop();
  }

  ApiContext& context() { return *context_; }

 private:
  using Clock = Caller::Clock;
  int Waiting() const;  // requests that have not begun to run: being encoded, or in the engine's queue
  absl::Status QueueFull() const;
  absl::StatusOr<std::shared_ptr<Generation>> Begin(CheckedRequest request, Clock::time_point arrival);
  absl::StatusOr<std::shared_ptr<Generation>> Register(CheckedRequest request, std::vector<PromptTokens> prompts,
                                                       Clock::time_point arrival);
  void Unregister(const Generation& generation);
  absl::StatusOr<std::shared_ptr<Guides>> StartGuides(const Generation& generation);
  void FailChoice(uint64_t request, int choice, const absl::Status& why);
  std::vector<std::shared_ptr<Generation>> Open();

  ApiContext* const context_;
  const Post post_;
  std::atomic<int> open_{0};
  std::atomic<bool> draining_{false};
  std::atomic<bool> used_{false};  // since the last look at an idle server
  std::atomic<int> encoding_{0};   // admitted, not yet with the engine
  Throughput throughput_;          // I/O thread
  ByteBudget bodies_;
  AccountCounts accounts_;
  mutable Mutex mutex_;
  CondVar idle_;
  absl::Status ended_ ABSL_GUARDED_BY(mutex_);
  bool hurry_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  DrainRate drain_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, std::weak_ptr<Generation>> requests_ ABSL_GUARDED_BY(mutex_);  // by engine request
  std::unordered_map<uint64_t, std::shared_ptr<Guides>> guides_ ABSL_GUARDED_BY(mutex_);      // of those that have some
  TextPool masks_, forms_, pool_;  // last: their threads use the rest
};

}  // namespace pangea
