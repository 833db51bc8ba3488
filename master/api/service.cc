#include "master/api/service.h"

#include "master/api/api_error.h"

namespace pangea {
namespace {

constexpr int kTextThreads = 2;

}  // namespace

Service::Service(ApiContext* context, Post post)
    : context_(context), post_(std::move(post)), pool_(kTextThreads, std::max(1, context->deployment->limits.queue)) {}

Service::~Service() { pool_.Stop(); }

absl::Status Service::Serving() const {
  switch (context_->health.load()) {
    case Health::kLoading:
      return absl::UnavailableError("the model is loading");
    case Health::kDraining:
      return absl::UnavailableError("the server is shutting down");
    case Health::kFailed:
      return absl::UnavailableError("the server has failed: " + context_->failure);
    case Health::kReady:
      break;
  }
  return draining_ ? absl::UnavailableError("the server is shutting down") : absl::OkStatus();
}

absl::StatusOr<Service::Ticket> Service::Enter() {
  if (auto s = Serving(); !s.ok()) return s;
  ++open_;
  return Ticket(nullptr, [this](void*) {
    // Under the mutex, so that WaitIdle cannot look between the count and the signal.
    std::lock_guard lock(mutex_);
    if (--open_ == 0) idle_.notify_all();
  });
}

absl::Status Service::Run(std::function<void()> work, std::function<void()> done) {
  const bool taken = pool_.Push([this, work = std::move(work), done = std::move(done)]() mutable {
    work();
    work = nullptr;
    post_(std::move(done));
  });
  if (taken) return absl::OkStatus();
  context_->metrics.rejected.Add("queue");
  return absl::ResourceExhaustedError("too many requests are waiting");
}

void Service::Admit(Make make, std::shared_ptr<Admission> admission) {
  const auto done = [admission] {
    admission->done = true;
    if (admission->abandoned)
      admission->result = absl::CancelledError("the client has gone");  // its destructor cancels
    if (admission->wake) admission->wake();
  };
  const auto work = [this, make = std::move(make), admission, arrival = Clock::now()] {
    auto checked = make();
    if (checked.ok()) {
      admission->result = Begin(*std::move(checked), arrival);
    } else {
      admission->result = checked.status();
    }
    context_->metrics.Reject(admission->result.status());
  };
  if (auto s = Run(work, done); !s.ok()) {
    admission->result = s;
    post_(done);
  }
}

absl::StatusOr<std::shared_ptr<Generation>> Service::Register(CheckedRequest request, std::vector<PromptTokens> prompts,
                                                              Clock::time_point arrival) {
  uint64_t first = 0;
  const size_t count = prompts.size();
  {
    std::lock_guard lock(mutex_);
    if (!ended_.ok()) return ended_;
    first = next_id_;
    next_id_ += count;
  }
  std::shared_ptr<Generation> generation(
      new Generation(std::move(request), std::move(prompts), *context_, first, arrival), [this](Generation* g) {
        Unregister(*g);
        delete g;
      });
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < count; ++i) requests_[first + i] = generation;
  return generation;
}

void Service::Unregister(const Generation& generation) {
  std::lock_guard lock(mutex_);
  for (int i = 0; i < generation.prompts(); ++i) requests_.erase(generation.first_id() + i);
}

absl::StatusOr<std::shared_ptr<Generation>> Service::Begin(CheckedRequest request, Clock::time_point arrival) {
  auto prompts = EncodePrompts(request, *context_);
  if (!prompts.ok()) return prompts.status();
  auto generation = Register(std::move(request), *std::move(prompts), arrival);
  if (!generation.ok()) return generation;
  // From here on outputs may come, on the I/O thread: this thread only submits.
  for (SequenceRequest& sequence : (*generation)->Sequences()) {
    auto s = context_->engine->Submit(std::move(sequence));
    if (s.ok()) continue;
    (*generation)->Refuse();  // its destructor cancels the others
    return absl::IsResourceExhausted(s) && LimitOf(s).empty() ? OverLimit("queue", s) : s;
  }
  return generation;
}

void Service::Deliver(std::vector<Output> outputs) {
  // One post a step.
  post_([this, outputs = std::make_shared<std::vector<Output>>(std::move(outputs))] {
    const auto now = Clock::now();
    std::vector<std::shared_ptr<Generation>> touched;
    for (Output& output : *outputs) {
      std::shared_ptr<Generation> generation;
      {
        std::lock_guard lock(mutex_);
        const auto found = requests_.find(output.request);
        if (found != requests_.end()) generation = found->second.lock();
      }
      if (!generation) continue;  // its client has gone
      generation->OnOutput(std::move(output), now);
      if (touched.empty() || touched.back() != generation) touched.push_back(std::move(generation));
    }
    for (const auto& generation : touched) {
      if (generation->on_progress) generation->on_progress();
    }
  });
}

bool Service::WaitIdle(double seconds) {
  std::unique_lock lock(mutex_);
  idle_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return open_ == 0 || hurry_; });
  hurry_ = false;  // it ends one wait; what follows has a short one of its own, for the last words
  return open_ == 0;
}

void Service::Hurry() {
  std::lock_guard lock(mutex_);
  hurry_ = true;
  idle_.notify_all();
}

std::vector<std::shared_ptr<Generation>> Service::Open() {
  // A reference that is given up may be the last, whose deleter takes the mutex: so none is given up under it.
  std::vector<std::shared_ptr<Generation>> held, open;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [id, weak] : requests_) {
      held.push_back(weak.lock());
      if (held.back() && held.back()->first_id() == id) open.push_back(held.back());
    }
  }
  return open;
}

void Service::FailAll(const absl::Status& why) {
  {
    std::lock_guard lock(mutex_);
    if (ended_.ok()) ended_ = why;
  }
  for (const auto& generation : Open()) {
    generation->Fail(why);
    if (generation->on_progress) generation->on_progress();
  }
}

void Service::Tick() {
  const double limit = context_->deployment->limits.request_seconds;
  const auto now = std::chrono::steady_clock::now();
  for (const auto& generation : Open()) {
    if (std::chrono::duration<double>(now - generation->born()).count() < limit) continue;
    generation->Fail(
        OverLimit("request_seconds", absl::DeadlineExceededError("the request took longer than this server allows")));
    if (generation->on_progress) generation->on_progress();
  }
}

}  // namespace pangea
