#include <algorithm>
#include <chrono>
#include <deque>
#include <future>
#include <thread>
#include <utility>
#include <variant>

#include "configs/mutex.h"
#include "master/schedule/engine.h"

namespace pangea {
namespace {

struct EpochEvent {
  uint64_t epoch;
  std::optional<EngineLayout> layout;
  uint64_t pages_since;
};
struct SubmitEvent {
  SequenceRequest request;
  std::promise<absl::Status>* answer;  // the caller waits for it
};
struct CancelEvent {
  uint64_t request;
};
struct FinishEvent {
  uint64_t request;
  int choice;
};
struct MaskEvent {
  uint64_t request;
  int choice, index;
  AllowedIds allowed;
};
struct FailEvent {
  absl::Status why;
};
using Event = std::variant<SubmitEvent, CancelEvent, FinishEvent, StepResult, FailEvent, EpochEvent, MaskEvent>;

using Clock = std::chrono::steady_clock;
double Seconds(Clock::time_point time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }
Clock::time_point TimeOf(double seconds) {
  return Clock::time_point(std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
}

}  // namespace

struct EngineThread::State {
  State(const EngineOptions& options, StepPort* port, std::function<void(std::vector<Output>)> deliver,
        std::function<void(const absl::Status&)> failed)
      : on_failure(std::move(failed)),
        on_event(options.on_event),
        engine(options, port,
               // What a client sees in its last output is already in the statistics.
               [this, deliver = std::move(deliver)](std::vector<Output> outputs) {
                 Publish();
                 deliver(std::move(outputs));
               }),
        published(engine.stats()) {}

  void Publish() {
    const EngineStats now = engine.stats();
    MutexLock lock(mutex);
    published = now;
  }

  // here: the calling thread may do the work itself, when nobody is at it. It has just been woken for this event;
  // waking another thread would cost more than the work.
  void Post(Event event, bool here = false) {
    MutexLock lock(mutex);
    if (stopping) return;
    events.push_back(std::move(event));
    if (busy) return;  // whoever is at it takes this one too
    if (here) return Work();
    wake.notify_one();
  }

  void Handle(Event& event) {
    const double now = Seconds(Clock::now());
    if (auto* submit = std::get_if<SubmitEvent>(&event)) {
      absl::Status answer = engine.Submit(now, std::move(submit->request));
      Publish();
      submit->answer->set_value(std::move(answer));
    } else if (auto* cancel = std::get_if<CancelEvent>(&event)) {
      engine.Cancel(now, cancel->request);
    } else if (auto* finish = std::get_if<FinishEvent>(&event)) {
      engine.Finish(now, finish->request, finish->choice);
    } else if (auto* result = std::get_if<StepResult>(&event)) {
      const bool served = engine.failure().ok();
      engine.OnResult(now, std::move(*result));
      if (served && !engine.failure().ok() && on_failure) on_failure(engine.failure());
    } else if (auto* begun = std::get_if<EpochEvent>(&event)) {
      engine.EpochChanged(now, begun->epoch, begun->layout ? &*begun->layout : nullptr, begun->pages_since);
    } else if (auto* mask = std::get_if<MaskEvent>(&event)) {
      engine.SetMask(mask->request, mask->choice, mask->index, std::move(mask->allowed));
    } else {
      engine.FailAll(std::get<FailEvent>(event).why);
    }
    Publish();
    constexpr const char* kNames[] = {"submit", "cancel", "finish", "result", "fail", "epoch", "mask"};
    if (on_event) on_event(kNames[event.index()], now, Seconds(Clock::now()));
  }

  // All events there are, and what is due. One thread at a time; it lets the mutex go while it is at it.
  void Work() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    busy = true;
    do {
      std::deque<Event> batch;
      batch.swap(events);
      mutex.unlock();
      for (Event& event : batch) Handle(event);
      const double now = Seconds(Clock::now());
      if (const std::optional<double> due = engine.NextDeadline(); due && *due <= now) {
        engine.Tick(now);
        Publish();
      }
      mutex.lock();
    } while (!stopping && !events.empty());
    const std::optional<double> due = engine.NextDeadline();
    const bool sooner = due && (!deadline || *due < *deadline);
    deadline = due;
    busy = false;
    if (sooner || its_turn) wake.notify_one();
  }

  void Loop() {
    MutexLock lock(mutex);
    while (!stopping || busy) {
      its_turn = busy;
      const double now = Seconds(Clock::now());
      if (busy || (events.empty() && !deadline)) {
        wake.wait(lock);
      } else if (events.empty() && *deadline > now) {
        wake.wait_until(lock, TimeOf(std::min(*deadline, now + 3600)));  // it may be more than the clock can hold
      } else {
        Work();
      }
    }
    for (Event& event : events) {
      if (auto* submit = std::get_if<SubmitEvent>(&event))
        submit->answer->set_value(absl::UnavailableError("shutting down"));
    }
    events.clear();
  }

  const std::function<void(const absl::Status&)> on_failure;
  const std::function<void(const char*, double, double)> on_event;
  mutable Mutex mutex;
  Engine engine;  // of the thread that set busy
  CondVar wake;   // of the engine's own thread
  std::deque<Event> events ABSL_GUARDED_BY(mutex);
  bool stopping ABSL_GUARDED_BY(mutex) = false, busy ABSL_GUARDED_BY(mutex) = false;
  bool its_turn ABSL_GUARDED_BY(mutex) = false;           // the engine's own thread waits for the end of busy
  std::optional<double> deadline ABSL_GUARDED_BY(mutex);  // the engine's next, when it is not busy
  EngineStats published ABSL_GUARDED_BY(mutex);
  std::thread thread;
};

EngineThread::EngineThread(const EngineOptions& options, StepPort* port,
                           std::function<void(std::vector<Output>)> deliver,
                           std::function<void(const absl::Status&)> on_failure)
    : state_(std::make_unique<State>(options, port, std::move(deliver), std::move(on_failure))) {
  state_->thread = std::thread([state = state_.get()] { state->Loop(); });
}

EngineThread::~EngineThread() {
  {
    MutexLock lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_one();
  state_->thread.join();
}

absl::Status EngineThread::Submit(SequenceRequest request) {
  std::promise<absl::Status> answer;
  std::future<absl::Status> future = answer.get_future();
  {
    MutexLock lock(state_->mutex);
    if (state_->stopping) return absl::UnavailableError("shutting down");
    state_->events.push_back(SubmitEvent{std::move(request), &answer});
    if (!state_->busy) state_->Work();
  }
  return future.get();
}

void EngineThread::EpochChanged(uint64_t epoch, std::optional<EngineLayout> layout, uint64_t pages_since) {
  state_->Post(EpochEvent{epoch, std::move(layout), pages_since});
}
void EngineThread::Cancel(uint64_t request) { state_->Post(CancelEvent{request}); }
void EngineThread::Finish(uint64_t request, int choice) { state_->Post(FinishEvent{request, choice}); }
void EngineThread::SetMask(uint64_t request, int choice, int index, AllowedIds allowed) {
  state_->Post(MaskEvent{request, choice, index, std::move(allowed)}, /*here=*/true);
}
void EngineThread::OnResult(StepResult result) { state_->Post(std::move(result), /*here=*/true); }
void EngineThread::FailAll(absl::Status why) { state_->Post(FailEvent{std::move(why)}); }

EngineStats EngineThread::stats() const {
  MutexLock lock(state_->mutex);
  return state_->published;
}

}  // namespace pangea
