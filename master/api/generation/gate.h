// What stands before any work is done for a request: whose it is, whether there is room in the queue, how many requests
// its key has open, how many bytes of bodies are held; and when to come back, for those who are sent away.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "master/keys/keys.h"

namespace pangea {

// Whose a request is, and until when its answer is worth anything.
struct Caller {
  using Clock = std::chrono::steady_clock;
  uint32_t account = 0;  // of the API key; 0: none was needed
  double weight = 1;
  Clock::time_point deadline = Clock::time_point::max();
  // As the engine takes it: seconds of the steady clock, infinite for none.
  double deadline_seconds() const {
    if (deadline == Clock::time_point::max()) return std::numeric_limits<double>::infinity();
    return std::chrono::duration<double>(deadline.time_since_epoch()).count();
  }
};

// authorization: the header's value, "Bearer KEY"; empty: none was sent. keys null: none are needed, and whatever is
// sent is accepted, since official clients always send one. Unauthenticated otherwise, never repeating what was shown.
absl::StatusOr<Caller> Identify(const KeyRing* keys, std::string_view authorization);

// A budget of bytes that are held for a while. Thread safe.
class ByteBudget {
 public:
  explicit ByteBudget(uint64_t bytes) : limit_(bytes) {}
  bool Fits(uint64_t more) const { return used_ + more <= limit_; }

 private:
  friend class ByteShare;
  const uint64_t limit_;
  std::atomic<uint64_t> used_{0};
};

// What one request holds of a budget, given back when it goes.
class ByteShare {
 public:
  ByteShare() = default;
  explicit ByteShare(ByteBudget* budget) : budget_(budget) {}
  ByteShare(ByteShare&& from) noexcept : budget_(from.budget_), held_(std::exchange(from.held_, 0)) {}
  ByteShare& operator=(ByteShare&& from) noexcept {
    std::swap(budget_, from.budget_);
    std::swap(held_, from.held_);
    return *this;
  }
  ~ByteShare() {
    if (held_ > 0) budget_->used_ -= held_;
  }
  // False: the budget is spent; nothing more is held then.
  bool Grow(uint64_t more) {
    if (budget_->used_.fetch_add(more) + more > budget_->limit_) return budget_->used_ -= more, false;
    return held_ += more, true;
  }
  void Shrink(uint64_t less) {
    budget_->used_ -= less;
    held_ -= less;
  }
  uint64_t held() const { return held_; }

 private:
  ByteBudget* budget_ = nullptr;
  uint64_t held_ = 0;
};

// A place that was taken: given back, in whatever thread, when the last copy goes.
class Ticket {
 public:
  Ticket() = default;
  explicit Ticket(std::function<void()> give_back) : place_(std::make_shared<Place>(std::move(give_back))) {}

 private:
  struct Place {
    explicit Place(std::function<void()> give_back) : give_back(std::move(give_back)) {}
    Place(const Place&) = delete;
    ~Place() { give_back(); }
    std::function<void()> give_back;
  };
  std::shared_ptr<Place> place_;
};

// How fast requests leave, measured while any is open: the mean time from one end to the next over about the last 32.
// Time is in seconds of a monotonic clock. Not thread safe.
class DrainRate {
 public:
  void Begin(double now);
  void End(double now);
  // Whole seconds until `ahead` more have ended, from 1 to 60; 1 while no end has been seen.
  int SecondsFor(int ahead) const;

 private:
  int open_ = 0;
  int64_t ends_ = 0;
  double since_ = 0;  // of the last end, or of the first request after a pause
  double mean_ = 0;
};

// Requests open per account, with a limit (0: none). Thread safe.
class AccountCounts {
 public:
  AccountCounts(size_t accounts, int limit) : limit_(limit), open_(accounts + 1) {}
  bool Full(uint32_t account) const { return account > 0 && limit_ > 0 && open_[account] >= limit_; }
  bool Enter(uint32_t account);  // false: full
  void Leave(uint32_t account) { --open_[account]; }

 private:
  const int limit_;
  std::vector<std::atomic<int>> open_;
};

}  // namespace pangea
