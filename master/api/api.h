// The doors. REST and gRPC become the same message in the first function they reach, and one Generation serves both.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/deployment.h"
#include "master/api/generation/api_metrics.h"
#include "master/api/generation/sampling_defaults.h"
#include "master/keys/keys.h"
#include "master/metrics/timeline_file.h"
#include "master/schedule/engine.h"
#include "master/text/text.h"
#include "pipeline/model_config.h"

namespace pangea {

// The host of an address to listen at that stands for every address of this machine.
inline constexpr char kEverywhere[] = "*";

enum class Health : int { kLoading, kReady, kDraining, kFailed };

// What every request may read; owned by the server, outlives the doors.
struct ApiContext {
  const Deployment* deployment = nullptr;
  const ModelConfig* model = nullptr;
  const Text* text = nullptr;
  EngineThread* engine = nullptr;
  const KeyRing* keys = nullptr;   // null: nobody needs a key
  std::vector<std::string> names;  // that the served model answers to; the first is its own
  SamplingDefaults sampling = MakeSamplingDefaults({}, {}, 0);
  int context = 0;  // tokens of prompt + generation
  int64_t created = 0;
  std::string fingerprint;  // FORMAT-PLAN-HASH
  std::atomic<Health> health{Health::kLoading};
  std::string failure;  // why, when kFailed (set before health)
  mutable ApiMetrics metrics;
  std::function<void(MetricsPage&)> more_metrics;  // what the rest of the server shows; from any thread, at any time
  TimelineFile* timeline = nullptr;                // where requests are drawn; null: nowhere
};

// Both doors on one set of threads. Engine outputs are handed in by Deliver (called by whoever does the engine's work).
class Doors {
 public:
  static absl::StatusOr<std::unique_ptr<Doors>> Open(ApiContext* context);  // binds; ports 0 are chosen
  virtual ~Doors() = default;
  virtual std::string rest_url() const = 0;  // http://HOST:PORT
  virtual std::string grpc_address() const = 0;
  virtual void Deliver(std::vector<Output> outputs) = 0;
  virtual int open_requests() const = 0;
  // No new connections or requests (503); then waits up to `seconds` for the open ones, ends the rest with a final
  // error event.
  virtual void Drain(double seconds, const absl::Status& why) = 0;
  // From any thread: a Drain under way, or to come, waits for nobody any more.
  virtual void Hurry() = 0;
};

}  // namespace pangea
