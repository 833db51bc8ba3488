// Where the agents of one epoch find each other: a board of keys and values. What one agent sets, its master relays to
// all others.
#pragma once
#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "configs/mutex.h"

namespace pangea {

// Thread-safe.
class Rendezvous {
 public:
  using Publish = std::function<void(const std::string& key, const std::string& value)>;
  // publish: hands a pair to the other agents; called by Set, outside any lock of the board.
  explicit Rendezvous(Publish publish) : publish_(std::move(publish)) {}
  void Set(const std::string& key, const std::string& value);
  // A pair that another agent has set.
  void Deliver(const std::string& key, const std::string& value);
  // Waits for the key: DeadlineExceeded naming it after `limit`; the reason when the board is closed.
  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration limit);
  // Makes every pending and later Get fail at once.
  void Close(const absl::Status& why);
  // What Close does besides, and at once where it is closed already; null: nothing.
  void OnClose(std::function<void()> then);

 private:
  const Publish publish_;
  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, std::string> values_ ABSL_GUARDED_BY(mutex_);
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> then_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pangea
