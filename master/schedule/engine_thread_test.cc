#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "master/schedule/engine.h"
#include "master/schedule/fake_agents.h"

namespace pangea {
namespace {

// Agents on a thread of their own that answer as soon as they can.
class AgentThread : public StepPort {
 public:
  explicit AgentThread(const EngineOptions& options) : agents_(options) {}
  ~AgentThread() override { Stop(); }
  void Start(EngineThread* engine) {
    BeginEpoch(engine, 1);
    thread_ = std::thread([this, engine] { Loop(engine); });
  }
  void BeginEpoch(EngineThread* engine, uint64_t epoch) {
    {
      std::lock_guard lock(mutex_);
      agents_.BeginEpoch(epoch);
    }
    engine->EpochChanged(epoch);
  }
  void Stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
  }
  void Send(const Step& step) override {
    {
      std::lock_guard lock(mutex_);
      agents_.Send(step);
    }
    wake_.notify_one();
  }
  void SendMask(const Mask& mask) override {
    {
      std::lock_guard lock(mutex_);
      agents_.SendMask(mask);
    }
    wake_.notify_one();
  }
  std::string fault() {
    std::lock_guard lock(mutex_);
    return agents_.fault();
  }

 private:
  void Loop(EngineThread* engine) {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return stopping_ || agents_.HasResult(); });
      if (stopping_) return;
      StepResult result = agents_.TakeResult();
      lock.unlock();
      engine->OnResult(std::move(result));
      lock.lock();
    }
  }
  std::mutex mutex_;
  std::condition_variable wake_;
  FakeAgents agents_;
  bool stopping_ = false;
  std::thread thread_;
};

// Collects what is delivered; waits for requests to end.
class Collector {
 public:
  void Take(std::vector<Output> outputs) {
    std::lock_guard lock(mutex_);
    for (Output& output : outputs) {
      if (!output.error.ok()) errors_[output.request].push_back(output.error);
      if (output.finish != FinishReason::kNone) ++finished_[output.request];
      for (const Sample& sample : output.samples) ids_[output.request].push_back(sample.id);
    }
    changed_.notify_all();
  }
  void WaitFor(uint64_t request) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return finished_.contains(request) || errors_.contains(request); });
  }
  std::vector<int32_t> Ids(uint64_t request) {
    std::lock_guard lock(mutex_);
    return ids_[request];
  }
  std::vector<absl::Status> Errors(uint64_t request) {
    std::lock_guard lock(mutex_);
    return errors_[request];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, std::vector<int32_t>> ids_;
  std::map<uint64_t, std::vector<absl::Status>> errors_;
  std::map<uint64_t, int> finished_;
};

EngineOptions Options() {
  EngineOptions options;
  options.groups[0].blocks = 40;
  options.block_tokens = 4;
  options.context = 100;
  options.stages = 2;
  options.max_batch_tokens = 32;
  options.max_sequences = 8;
  return options;
}

SequenceRequest Ask(uint64_t number) {
  SequenceRequest request;
  request.request = number;
  for (uint64_t i = 0; i < 3 + number % 20; ++i)
    request.prompt.push_back(static_cast<int32_t>((number + i * i) % kFakeVocab));
  request.max_tokens = 5 + static_cast<int>(number % 30);
  request.sampling = std::make_shared<Sampling>(Sampling{.seed = number * 100});
  return request;
}

TEST(EngineThread, ManyClientsAtOnceGetWhatTheyGetAlone) {
  AgentThread agents(Options());
  Collector collector;
  EngineThread engine(Options(), &agents, [&](std::vector<Output> outputs) { collector.Take(std::move(outputs)); });
  agents.Start(&engine);
  std::vector<std::thread> clients;
  std::atomic<int> wrong{0};
  for (uint64_t client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      for (uint64_t i = 0; i < 25; ++i) {
        const uint64_t number = 1 + client * 100 + i;
        if (!engine.Submit(Ask(number)).ok()) ++wrong;
        if (i % 5 == 4) {
          engine.Cancel(number);
          continue;
        }
        collector.WaitFor(number);
        std::vector<int32_t> expected;
        for (const Sample& sample : ExpectedOf(Ask(number), 0, 100).samples) expected.push_back(sample.id);
        if (collector.Ids(number) != expected) ++wrong;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(agents.fault(), "");
  EXPECT_EQ(engine.stats().waiting, 0);
  agents.Stop();
}

TEST(EngineThread, QueueAgeEndsARequestWithoutAnyOtherEvent) {
  EngineOptions options = Options();
  options.max_sequences = 1;
  options.queue_seconds = 0.05;
  AgentThread agents(options);  // never started: the first request stays in its step for ever
  Collector collector;
  EngineThread engine(options, &agents, [&](std::vector<Output> outputs) { collector.Take(std::move(outputs)); });
  agents.BeginEpoch(&engine, 1);
  ASSERT_TRUE(engine.Submit(Ask(1)).ok());
  ASSERT_TRUE(engine.Submit(Ask(2)).ok());
  collector.WaitFor(2);
  ASSERT_EQ(collector.Errors(2).size(), 1u);
  EXPECT_TRUE(absl::IsUnavailable(collector.Errors(2)[0]));
  EXPECT_TRUE(collector.Errors(1).empty());
}

TEST(EngineThread, FailAllReachesOpenAndLaterRequests) {
  AgentThread agents(Options());
  Collector collector;
  EngineThread engine(Options(), &agents, [&](std::vector<Output> outputs) { collector.Take(std::move(outputs)); });
  ASSERT_TRUE(engine.Submit(Ask(1)).ok());
  engine.FailAll(absl::UnavailableError("an agent died"));
  collector.WaitFor(1);
  EXPECT_EQ(collector.Errors(1)[0].message(), "an agent died");
  EXPECT_EQ(engine.Submit(Ask(2)).message(), "an agent died");
  EXPECT_EQ(engine.stats().blocks_free, 40);
}

TEST(EngineThread, StopsWithOpenRequests) {
  AgentThread agents(Options());
  EngineThread engine(Options(), &agents, [](std::vector<Output>) { ADD_FAILURE() << "nothing was computed"; });
  for (int i = 1; i < 20; ++i) ASSERT_TRUE(engine.Submit(Ask(i)).ok());
}

}  // namespace
}  // namespace pangea
