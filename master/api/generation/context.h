// What every request may read.
#pragma once
#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "configs/deployment.h"
#include "configs/mutex.h"
#include "master/api/generation/api_metrics.h"
#include "master/api/generation/sampling_defaults.h"
#include "master/keys/keys.h"
#include "master/metrics/timeline_file.h"
#include "master/schedule/engine.h"
#include "master/text/grammar.h"
#include "master/text/text.h"
#include "pipeline/model_config.h"

namespace pangea {

// kRecovering: agents are being replaced; requests are taken, and wait.
enum class Health : int { kLoading, kReady, kRecovering, kDraining, kFailed };

// Text that changes while others read it. Thread safe.
class SharedText {
 public:
  void Set(std::string text) {
    MutexLock lock(mutex_);
    text_ = std::move(text);
  }
  std::string Get() const {
    MutexLock lock(mutex_);
    return text_;
  }

 private:
  mutable Mutex mutex_;
  std::string text_ ABSL_GUARDED_BY(mutex_);
};

// Owned by the server, outlives the doors.
struct ApiContext {
  const Deployment* deployment = nullptr;
  const ModelConfig* model = nullptr;
  const Text* text = nullptr;
  Grammars* grammars = nullptr;
  RequestPort* engine = nullptr;
  const KeyRing* keys = nullptr;   // null: nobody needs a key
  std::vector<std::string> names;  // that the served model answers to; the first is its own
  SamplingDefaults sampling = MakeSamplingDefaults({}, {}, 0);
  int context = 0;  // tokens of prompt + generation
  int64_t created = 0;
  SharedText fingerprint;  // FORMAT-PLAN-HASH, of the layout that the agents have
  std::atomic<Health> health{Health::kLoading};
  std::atomic<bool> paused{false};  // an administrator wants no new requests taken
  std::string failure;              // why, when kFailed (set before health)
  std::function<std::string()>
      recovery;  // kRecovering: from what, since when; thread safe. Empty: nothing more is known
  mutable ApiMetrics metrics;
  std::function<void(MetricsPage&)> more_metrics;  // what the rest of the server shows; from any thread, at any time
  TimelineFile* timeline = nullptr;                // where requests are drawn; null: nowhere
};

inline constexpr char kPausedText[] = "no new requests are taken (pangea admin resume ends it)";
// What clients are told of a recovery that goes on.
std::string RecoveryText(const ApiContext& context);

}  // namespace pangea
