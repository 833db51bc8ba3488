// Where an agent's time goes. At every moment its executor does exactly one of four things, so the four totals add up
// to the time since Begin.
#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace pangea {

enum class Activity : uint8_t {
  kWait,           // no step is here to be run
  kBusy,           // computing
  kCommunication,  // inside a collective of the stage's ranks, or handing rows to or taking them from another stage
  kBubble,         // a step is at hand, but another stage has not yet sent what it needs: a hidden state, or ids
};
inline constexpr int kActivities = 4;

// What an agent says of its executor: who waits is not to blame for what does not get on.
enum class AgentDoing : uint8_t { kNothing, kComputes, kWaitsForPeer, kWaitsForMaster };
// mask: one that a step needs has not come yet.
inline AgentDoing DoingOf(Activity activity, bool mask) {
  if (activity == Activity::kWait) return AgentDoing::kNothing;
  if (activity != Activity::kBusy) return AgentDoing::kWaitsForPeer;
  return mask ? AgentDoing::kWaitsForMaster : AgentDoing::kComputes;
}

// One writer (the executor thread), any number of readers. Switch costs one reading of the monotonic clock.
class ActivityClock {
 public:
  struct Totals {
    int64_t since_begin = 0;                      // nanoseconds, as the totals; measured apart from them
    std::array<int64_t, kActivities> spent = {};  // by Activity, with what goes on now
  };
  // One stretch of time, as it travels to the master: nanoseconds << 2 | activity.
  using Stretch = uint64_t;
  static Stretch MakeStretch(int64_t nanoseconds, Activity activity) {
    return static_cast<uint64_t>(nanoseconds) << 2 | static_cast<uint64_t>(activity);
  }

  static int64_t Now() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

  // Starts, or starts anew, at kWait.
  void Begin() {
    const int64_t now = Now();
    Change([&] {
      begin_.store(now, std::memory_order_relaxed);
      since_.store(now, std::memory_order_relaxed);
      for (auto& spent : spent_) spent.store(0, std::memory_order_relaxed);
      activity_.store(Activity::kWait, std::memory_order_relaxed);
    });
  }

  // From now on the executor does this; returns what it did until now.
  Activity Switch(Activity to) {
    const Activity from = activity_.load(std::memory_order_relaxed);
    if (from == to) return from;
    std::atomic<int64_t>& spent = spent_[static_cast<int>(from)];
    int64_t took = 0;
    Change([&] {
      // Read within the change: a reader who credits `from` with the time until its own now must not have passed this
      // one.
      const int64_t now = Now();
      took = now - since_.load(std::memory_order_relaxed);
      spent.store(spent.load(std::memory_order_relaxed) + took, std::memory_order_relaxed);
      since_.store(now, std::memory_order_relaxed);
      activity_.store(to, std::memory_order_relaxed);
    });
    if (record_ && stretches_.size() < kMostStretches) stretches_.push_back(MakeStretch(took, from));
    return from;
  }

  // The writer's: when it began what it does now. Stretches are measured from here, so that they end where the next
  // Switch is, however long the thread was off its core in between.
  int64_t since() const { return since_.load(std::memory_order_relaxed); }

  // The writer's: nanoseconds of computing since Begin.
  int64_t busy() const {
    const int64_t before = spent_[static_cast<int>(Activity::kBusy)].load(std::memory_order_relaxed);
    return activity() == Activity::kBusy ? before + Now() - since() : before;
  }
  Activity activity() const { return activity_.load(std::memory_order_relaxed); }  // anybody's

  // A total may be less than in the reading before, by the few nanoseconds to which the clocks of two cores agree.
  Totals totals() const {
    while (true) {
      const uint64_t before = changes_.load(std::memory_order_acquire);
      Totals totals;
      // Acquire, all of them: the number is then read again after them. (A fence would do; the thread sanitizer knows
      // none.)
      const int64_t begin = begin_.load(std::memory_order_acquire), since = since_.load(std::memory_order_acquire);
      const Activity activity = activity_.load(std::memory_order_acquire);
      for (int i = 0; i < kActivities; ++i) totals.spent[i] = spent_[i].load(std::memory_order_acquire);
      const int64_t now = Now();
      if (before % 2 != 0 || changes_.load(std::memory_order_relaxed) != before) continue;
      if (begin == 0) return {};
      totals.spent[static_cast<int>(activity)] += now - since;
      totals.since_begin = now - begin;
      return totals;
    }
  }

  // The writer's: keeps every stretch from now on, up to a bound that no step of a real model reaches.
  void Record() {
    record_ = true;
    stretches_.clear();
  }
  // What was kept, less the stretch that goes on; ends the recording.
  std::vector<Stretch> Recorded() {
    record_ = false;
    return std::exchange(stretches_, {});
  }

 private:
  static constexpr size_t kMostStretches = 65536;

  // A sequence lock: readers take nothing while the number is odd, or has changed meanwhile.
  template <typename Writes>
  void Change(Writes writes) {
    const uint64_t n = changes_.load(std::memory_order_relaxed);
    changes_.exchange(n + 1, std::memory_order_seq_cst);  // seen before what follows, the clock's reading included
    writes();
    changes_.store(n + 2, std::memory_order_release);
  }

  std::atomic<uint64_t> changes_{0};
  std::atomic<int64_t> begin_{0}, since_{0};
  std::atomic<Activity> activity_{Activity::kWait};
  std::array<std::atomic<int64_t>, kActivities> spent_ = {};
  bool record_ = false;
  std::vector<Stretch> stretches_;
};

// Does one thing until the end of the scope, then what was done before. clock: null where nobody measures.
class ActivityScope {
 public:
  ActivityScope(ActivityClock* clock, Activity activity) : clock_(clock) {
    if (clock_ != nullptr) before_ = clock_->Switch(activity);
  }
  ~ActivityScope() {
    if (clock_ != nullptr) clock_->Switch(before_);
  }
  ActivityScope(const ActivityScope&) = delete;

 private:
  ActivityClock* const clock_;
  Activity before_ = Activity::kWait;
};

}  // namespace pangea
