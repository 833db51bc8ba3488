// Ranks as threads over any kind of group, for tests.
#pragma once
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/group/make_group.h"
#include "agent/group/shm_group.h"
#include "agent/group/thread_group.h"
#include "gtest/gtest.h"

namespace pangea {

// As every process of ours: a connection whose other side is gone is an error of the call.
inline const auto kNoSignal = std::signal(SIGPIPE, SIG_IGN);

// A deployment's boards in one process: what one sets, all others get, as the master relays it.
class Boards {
 public:
  explicit Boards(int agents) {
    for (int i = 0; i < agents; ++i) {
      boards_.push_back(std::make_unique<Rendezvous>([this, i](const std::string& key, const std::string& value) {
        for (size_t other = 0; other < boards_.size(); ++other) {
          if (static_cast<int>(other) != i) boards_[other]->Deliver(key, value);
        }
      }));
    }
  }
  Rendezvous& operator[](int agent) { return *boards_[agent]; }

 private:
  std::vector<std::unique_ptr<Rendezvous>> boards_;
};

// kind: thread, shm (every agent maps for itself), shm-one (one mapping for all: what the thread sanitizer
// understands), gloo. shape.activity: null, or the first of one clock an agent.
inline std::vector<std::unique_ptr<Group>> MakeTestGroups(const std::string& kind, const GroupSpec& shape) {
  const int agents = shape.stages * shape.ranks;
  if (kind == "thread") return MakeThreadGroups(shape.stages, shape.ranks, shape.limit);
  std::vector<std::unique_ptr<Group>> groups(agents);
  auto spec = [&](int agent) {
    GroupSpec s = shape;
    s.agent = agent;
    if (shape.activity != nullptr) s.activity = shape.activity + agent;
    return s;
  };
  if (kind == "shm-one") {
    auto region = ShmRegion::Create(shape);
    EXPECT_TRUE(region.ok()) << region.status();
    for (int i = 0; i < agents; ++i) groups[i] = MakeShmGroup(spec(i), *region);
    return groups;
  }
  Boards boards(agents);
  std::vector<std::thread> threads;
  for (int i = 0; i < agents; ++i) {
    threads.emplace_back([&, i] {
      auto group = MakeGroup(kind, spec(i), boards[i]);
      EXPECT_TRUE(group.ok()) << group.status();
      if (group.ok()) groups[i] = *std::move(group);
    });
  }
  for (auto& thread : threads) thread.join();
  return groups;
}

// Runs the body on a thread per agent and waits for all.
inline void OnEveryAgent(const std::vector<std::unique_ptr<Group>>& groups, const std::function<void(Group&)>& body) {
  std::vector<std::thread> threads;
  for (const auto& group : groups) {
    ASSERT_NE(group, nullptr);
    threads.emplace_back([&body, &group] { body(*group); });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace pangea
