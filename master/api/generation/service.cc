#include "master/api/generation/service.h"

#include <malloc.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "configs/log.h"
#include "master/api/openai/api_error.h"

namespace pangea {
namespace {

constexpr int kTextThreads = 2, kMaskThreads = 2, kFormThreads = 2;
constexpr size_t kMasks = 1 << 20;  // that wait: there is one a running sequence at most

// InvalidArgument of a grammar is about the parameter that it came in.
absl::Status NamedAfter(const std::string& name, const absl::Status& s) {
  return absl::IsInvalidArgument(s) ? BadParam(name, absl::StrCat("'", name, "': ", s.message())) : s;
}

double Now() { return std::chrono::duration<double>(Caller::Clock::now().time_since_epoch()).count(); }

}  // namespace

std::string RecoveryText(const ApiContext& context) {
  return absl::StrCat("agents are being replaced", context.recovery ? ": " + context.recovery() : "");
}

Service::Service(ApiContext* context, Post post)
    : context_(context),
      post_(std::move(post)),
      bodies_(context->deployment->limits.bodies),
      accounts_(context->keys == nullptr ? 0 : context->keys->keys().size(),
                context->deployment->limits.requests_per_key),
      masks_(kMaskThreads, kMasks),
      forms_(kFormThreads, std::max(1, context->deployment->limits.queue)),
      pool_(kTextThreads, std::max(1, context->deployment->limits.queue)) {}

Service::~Service() { StopThreads(); }

absl::Status Service::Serving() const {
  switch (context_->health.load()) {
    case Health::kLoading:
      return absl::UnavailableError("the model is loading");
    case Health::kDraining:
      return absl::UnavailableError("the server is shutting down");
    case Health::kFailed:
      return absl::UnavailableError("the server has failed: " + context_->failure);
    case Health::kReady:
    case Health::kRecovering:
      break;
  }
  if (context_->paused) return absl::UnavailableError(kPausedText);
  return draining_ ? absl::UnavailableError("the server is shutting down") : absl::OkStatus();
}

absl::Status Service::Ready() const {
  if (context_->health == Health::kRecovering && !context_->deployment->health.ready_while_recovering) {
    return absl::UnavailableError(RecoveryText(*context_));
  }
  return Serving();
}

int Service::Waiting() const { return encoding_ + context_->engine->stats().queued; }

absl::Status Service::QueueFull() const {
  const int limit = context_->deployment->limits.queue;
  return Busy("queue", absl::StrCat("the queue is full: ", limit, " requests are waiting (limits.queue)"), limit);
}

absl::Status Service::Busy(const char* limit, const std::string& why, int ahead) const {
  context_->metrics.rejected.Add(limit);
  MutexLock lock(mutex_);
  return RetryIn(absl::ResourceExhaustedError(why), drain_.SecondsFor(ahead));
}

absl::Status Service::Room(const Caller& caller, bool generates) const {
  if (auto s = Serving(); !s.ok()) return s;
  if (generates && Waiting() >= context_->deployment->limits.queue) return QueueFull();
  if (accounts_.Full(caller.account))
    return Busy("requests_per_key", "too many requests are open under this API key", 1);
  return absl::OkStatus();
}

absl::StatusOr<Ticket> Service::Enter(const Caller& caller, bool generates) {
  if (auto s = Room(caller, generates); !s.ok()) return s;
  if (!accounts_.Enter(caller.account))
    return Busy("requests_per_key", "too many requests are open under this API key", 1);
  ++open_;
  used_ = true;
  return Ticket([this, account = caller.account] {
    accounts_.Leave(account);
    // Under the mutex, so that WaitIdle cannot look between the count and the signal.
    MutexLock lock(mutex_);
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
  // A place in the queue from here on, so that nothing is parsed or tokenised in vain.
  ++encoding_;
  const Ticket place([this] { --encoding_; });
  if (Waiting() > context_->deployment->limits.queue) {
    admission->result = QueueFull();
    return post_(done);
  }
  const auto begin = [this, admission, arrival = Clock::now()](CheckedRequest request) {
    admission->result = Begin(std::move(request), arrival);
    context_->metrics.Reject(admission->result.status());
  };
  auto formed = std::make_shared<std::optional<CheckedRequest>>();  // a checked request that has a form
  const auto work = [this, make = std::move(make), admission, begin, formed] {
    if (Caller::Clock::now() >= admission->caller.deadline) {
      admission->result = absl::DeadlineExceededError("the request's deadline passed while it waited");
      context_->metrics.rejected.Add("request_seconds");
      return;
    }
    auto checked = make();
    if (!checked.ok()) {
      admission->result = checked.status();
      context_->metrics.Reject(checked.status());
      return;
    }
    checked->caller = admission->caller;
    if (checked->form) {
      formed->emplace(*std::move(checked));
    } else {
      begin(*std::move(checked));
    }
  };
  // Compiling a form may take long: where only those who have one wait for it.
  const auto then = [this, admission, place, begin, formed, done] {
    if (!*formed || admission->abandoned) return done();
    const bool taken = forms_.Push([this, place, begin, formed, done] {
      begin(*std::move(*formed));
      post_(done);
    });
    if (taken) return;
    admission->result = QueueFull();
    done();
  };
  if (auto s = Run(work, then); !s.ok()) {
    admission->result = s;
    post_(done);
  }
}

absl::StatusOr<std::shared_ptr<Generation>> Service::Register(CheckedRequest request, std::vector<PromptTokens> prompts,
                                                              Clock::time_point arrival) {
  uint64_t first = 0;
  const size_t count = prompts.size();
  {
    MutexLock lock(mutex_);
    if (!ended_.ok()) return ended_;
    first = next_id_;
    next_id_ += count;
  }
  std::shared_ptr<Generation> generation(
      new Generation(std::move(request), std::move(prompts), *context_, first, arrival), [this](Generation* g) {
        Unregister(*g);
        delete g;
      });
  MutexLock lock(mutex_);
  for (size_t i = 0; i < count; ++i) requests_[first + i] = generation;
  drain_.Begin(Now());
  return generation;
}

void Service::Unregister(const Generation& generation) {
  std::vector<std::shared_ptr<Guides>> gone;  // outside the mutex: the last of them frees much
  MutexLock lock(mutex_);
  for (int i = 0; i < generation.prompts(); ++i) {
    requests_.erase(generation.first_id() + i);
    if (auto guides = guides_.extract(generation.first_id() + i)) gone.push_back(std::move(guides.mapped()));
  }
  drain_.End(Now());
}

absl::StatusOr<std::shared_ptr<Guides>> Service::StartGuides(const Generation& generation) {
  const AnswerForm& form = *generation.request().form;
  const auto named = [name = form.name](const absl::Status& s) { return NamedAfter(name, s); };
  auto start = context_->grammars->Start(form.grammar);
  if (!start.ok()) return named(start.status());
  const uint64_t first = generation.first_id();
  auto guides = std::make_shared<Guides>(
      *std::move(start), Guides::Shape{first, generation.prompts(), generation.request().n}, context_->engine, &masks_,
      [this, named](uint64_t request, int choice, const absl::Status& why) {
        post_([this, request, choice, why = named(why)] { FailChoice(request, choice, why); });
      });
  MutexLock lock(mutex_);
  for (int i = 0; i < generation.prompts(); ++i) guides_[first + i] = guides;
  return guides;
}

void Service::FailChoice(uint64_t request, int choice, const absl::Status& why) {
  std::shared_ptr<Generation> generation;
  {
    MutexLock lock(mutex_);
    if (const auto found = requests_.find(request); found != requests_.end()) generation = found->second.lock();
  }
  if (generation == nullptr) return;
  generation->FailChoice(request, choice, why);
  if (generation->on_progress) generation->on_progress();
}

absl::StatusOr<std::shared_ptr<Generation>> Service::Begin(CheckedRequest request, Clock::time_point arrival) {
  auto prompts = EncodePrompts(request, *context_);
  if (!prompts.ok()) return prompts.status();
  // The ids are what counts from here on.
  request.messages = {};
  if (!request.echo) request.prompts = {};
  auto generation = Register(std::move(request), *std::move(prompts), arrival);
  if (!generation.ok()) return generation;
  std::shared_ptr<Guides> guides;
  if ((*generation)->request().form) {
    auto started = StartGuides(**generation);
    if (!started.ok()) {
      (*generation)->Refuse();
      return started.status();
    }
    guides = *std::move(started);
  }
  // From here on outputs may come, on the I/O thread: this thread only submits.
  // Only the first takes a place in the queue, and is refused for want of one: nothing is begun in vain.
  for (SequenceRequest& sequence : (*generation)->Sequences()) {
    const size_t size = sequence.prompt.size();
    const uint64_t request = sequence.request;
    const absl::Status s = context_->engine->Submit(std::move(sequence));
    if (s.ok()) {
      if (guides == nullptr) continue;
      if (auto begun = guides->Begin(request); !begun.ok()) {
        (*generation)->Refuse();  // its destructor cancels
        return NamedAfter((*generation)->request().form->name, begun);
      }
      continue;
    }
    (*generation)->Refuse();  // its destructor cancels the others
    if (absl::IsInvalidArgument(s)) {
      const bool chat = (*generation)->request().chat;
      const char* param = chat ? "messages" : "prompt";
      return ContextOverflow(
          param, chat, context_->context,
          absl::StrCat(size, " tokens in the ", param, ", more than the KV cache of this server holds (cache.memory)"));
    }
    if (absl::IsResourceExhausted(s))
      return Busy("queue", std::string(s.message()), context_->deployment->limits.queue);
    return s;
  }
  return generation;
}

void Service::Deliver(std::vector<Output> outputs) {
  {
    MutexLock lock(mutex_);
    if (!guides_.empty()) {
      for (const Output& output : outputs) {
        if (const auto found = guides_.find(output.request); found != guides_.end()) found->second->Drew(output);
      }
    }
  }
  // One post a step.
  post_([this, outputs = std::make_shared<std::vector<Output>>(std::move(outputs))] {
    const auto now = Clock::now();
    // By output; null: its client has gone. Given up outside the mutex, which the last reference's deleter takes.
    std::vector<std::shared_ptr<Generation>> generations(outputs->size());
    {
      MutexLock lock(mutex_);
      for (size_t i = 0; i < outputs->size(); ++i) {
        const auto found = requests_.find((*outputs)[i].request);
        if (found != requests_.end()) generations[i] = found->second.lock();
      }
    }
    std::vector<Generation*> touched;
    for (size_t i = 0; i < outputs->size(); ++i) {
      if (!generations[i]) continue;
      generations[i]->OnOutput(std::move((*outputs)[i]), now);
      if (touched.empty() || touched.back() != generations[i].get()) touched.push_back(generations[i].get());
    }
    for (Generation* generation : touched) {
      if (generation->on_progress) generation->on_progress();
    }
  });
}

bool Service::WaitIdle(double seconds) {
  MutexLock lock(mutex_);
  idle_.wait_for(lock, std::chrono::duration<double>(seconds),
                 [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return open_ == 0 || hurry_; });
  hurry_ = false;  // it ends one wait; what follows has a short one of its own, for the last words
  return open_ == 0;
}

void Service::Hurry() {
  MutexLock lock(mutex_);
  hurry_ = true;
  idle_.notify_all();
}

std::vector<std::shared_ptr<Generation>> Service::Open() {
  // A reference that is given up may be the last, whose deleter takes the mutex: so none is given up under it.
  std::vector<std::shared_ptr<Generation>> held, open;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, weak] : requests_) {
      held.push_back(weak.lock());
      if (held.back() && held.back()->first_id() == id) open.push_back(held.back());
    }
  }
  return open;
}

void Service::FailAll(const absl::Status& why) {
  {
    MutexLock lock(mutex_);
    if (ended_.ok()) ended_ = why;
  }
  for (const auto& generation : Open()) {
    generation->Fail(why);
    if (generation->on_progress) generation->on_progress();
  }
}

void Service::Tick() {
  const auto now = Caller::Clock::now();
  for (const auto& generation : Open()) {
    generation->Expire(now);
    if (!generation->error().ok() && generation->on_progress) generation->on_progress();
  }
  if (context_->health == Health::kReady) {
    const auto& metrics = context_->metrics;
    const auto said = throughput_.Look(now, metrics.prompt_tokens.value(), metrics.generated_tokens.value(),
                                       context_->engine->stats());
    if (said) LogInfo("%s", *said);
  }
  // When the last request has gone, so does the memory that the heap keeps of it: a crowd, or large bodies, may have
  // made it many times what an idle server needs.
  if (open_ == 0 && used_) {
    used_ = false;
    malloc_trim(0);
  }
}

}  // namespace pangea
