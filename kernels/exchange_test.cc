// What the devices of a host exchange by themselves, against the plain copy of the same: with several devices on one
// thread, of which any may go on wherever one waits (fibers), and on GPUs where there are some, a thread each.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <random>
#include <thread>

#include "kernels/buffer.h"
#include "kernels/cuda_kinds_test_util.h"
#include "kernels/ops.h"

namespace pangea {
namespace {

constexpr int64_t kLimit = 3'000'000'000;  // of a wait that is to end well

// The agents of a deployment: a queue each, and their ways to each other.
class World {
 public:
  struct Agent {
    std::unique_ptr<Queue> queue;
    Buffer<std::byte> memory;
    DeviceMemory state_memory;
    DeviceExchange exchange;
    ExchangeState& state() { return *exchange.state; }
  };

  World(const CudaKind& kind, int stages, const ExchangeShape& shape, uint32_t seed, int64_t limit = kLimit)
      : kind_(kind), stages_(stages), ranks_(shape.ranks), seed_(seed) {
    for (int i = 0; i < stages * ranks_; ++i) {
      auto& agent = agents_.emplace_back(std::make_unique<Agent>());
      agent->queue = kind.Make({}, seed + static_cast<uint32_t>(i));
      agent->memory = Buffer<std::byte>(ExchangeBytes(shape), *agent->queue);
      const std::vector<std::byte> zeros(static_cast<size_t>(ExchangeMemory(shape, nullptr).counts_bytes));
      agent->queue->Upload(agent->memory.data(), zeros.data(), static_cast<int64_t>(zeros.size()));
      agent->state_memory = agent->queue->AllocateSeen(sizeof(ExchangeState));
      agent->queue->Finish();
    }
    for (int i = 0; i < stages * ranks_; ++i) {
      DeviceExchange& own = agents_[i]->exchange;
      own = {.shape = shape, .rank = i % ranks_, .own = agents_[i]->memory.data(), .limit = limit};
      const auto at = [&](int stage, int rank) {
        return agents_[(stage + stages) % stages * ranks_ + rank]->memory.data();
      };
      for (int rank = 0; rank < ranks_; ++rank) own.peers[rank] = at(i / ranks_, rank);
      own.before = at(i / ranks_ - 1, i % ranks_);
      own.behind = at(i / ranks_ + 1, i % ranks_);
      own.state = new (agents_[i]->state_memory.get()) ExchangeState{};
    }
  }

  Agent& agent(int i) { return *agents_[i]; }
  // What each agent does, at the same time; nothing of an agent that does none.
  void Run(const std::function<void(int agent)>& body) {
    std::vector<std::function<void()>> devices;
    for (int i = 0; i < stages_ * ranks_; ++i) devices.emplace_back([&body, i] { body(i); });
    if (!kind_.gpu) return cuda::fibers::RunTogether(devices, seed_);
    std::vector<std::thread> threads;
    for (const auto& device : devices) threads.emplace_back(device);
    for (auto& thread : threads) thread.join();
  }

 private:
  const CudaKind kind_;
  const int stages_, ranks_;
  const uint32_t seed_;
  std::vector<std::unique_ptr<Agent>> agents_;
};

// A number that tells where it comes from.
float Value(int rank, int round, int64_t i) {
  return static_cast<float>(rank * 1000 + round * 100) + static_cast<float>(i % 97) * 0.25f +
         static_cast<float>(i / 4096);
}

class ExchangeTest : public testing::TestWithParam<CudaKind> {};

// A row of gathers, as the layers of steps are, of parts that are unlike: small and large ones, of a piece and of
// several a block, in rows, of odd widths, of a rank that has none.
TEST_P(ExchangeTest, GathersThePartsOfAllRanks) {
  struct Gather {
    int64_t rows;
    std::vector<int64_t> widths;  // by turns over the ranks
  };
  const std::vector<Gather> gathers = {{1, {64}},        {1, {64, 128}}, {5, {171, 170}},   {3, {8, 12}},
                                       {1, {0, 4096}},   {1, {3}},       {2, {5000, 4, 0}}, {1, {4096 * 33 + 8, 4096}},
                                       {7, {4096 * 10}}, {1, {64}}};
  for (const int ranks : {2, 3, 8}) {
    for (uint32_t seed = 1; seed <= (ranks < 8 ? 4u : 1u); ++seed) {
      World world(GetParam(), 1, {.ranks = ranks}, seed);
      std::vector<std::vector<std::vector<float>>> got(ranks);
      const auto widths_of = [&](const Gather& gather) {
        std::vector<int64_t> widths;
        for (int r = 0; r < ranks; ++r) widths.push_back(gather.widths[r % gather.widths.size()]);
        return widths;
      };
      world.Run([&](int me) {
        auto& [queue, memory, state, exchange] = world.agent(me);
        std::vector<Buffer<float>> parts, all;
        for (size_t g = 0; g < gathers.size(); ++g) {
          const auto widths = widths_of(gathers[g]);
          int64_t sum = 0;
          for (const int64_t width : widths) sum += width;
          std::vector<float> own(static_cast<size_t>(gathers[g].rows * widths[me]));
          for (size_t i = 0; i < own.size(); ++i) own[i] = Value(me, static_cast<int>(g), static_cast<int64_t>(i));
          parts.emplace_back(std::max<int64_t>(static_cast<int64_t>(own.size()), 4), *queue);
          all.emplace_back(gathers[g].rows * sum, *queue);
          queue->Upload(parts.back().data(), own.data(), static_cast<int64_t>(own.size()) * 4);
          GatherParts(
              exchange,
              {.mine = parts.back().data(), .all = all.back().data(), .rows = gathers[g].rows, .widths = widths.data()},
              *queue);
          auto& copy = got[me].emplace_back(static_cast<size_t>(all.back().size()));
          queue->Download(copy.data(), all.back().data(), all.back().bytes());
        }
        queue->Finish();
      });
      for (int me = 0; me < ranks; ++me) {
        EXPECT_EQ(world.agent(me).state().fault, ExchangeState::kNone);
        for (size_t g = 0; g < gathers.size(); ++g) {
          const auto widths = widths_of(gathers[g]);
          size_t at = 0;
          for (int64_t row = 0; row < gathers[g].rows; ++row) {
            for (int r = 0; r < ranks; ++r) {
              for (int64_t i = 0; i < widths[r]; ++i, ++at)
                ASSERT_EQ(got[me][g][at], Value(r, static_cast<int>(g), row * widths[r] + i))
                    << ranks << " ranks, gather " << g << ", at rank " << me << " of rank " << r << " row " << row;
            }
          }
        }
      }
    }
  }
}

// Hidden states from stage to stage, and ids back to the first one, which takes them only when it must, as the steps of
// a pipeline do: more is under way than there is room for.
TEST_P(ExchangeTest, PassesRowsFromStageToStage) {
  constexpr int kSteps = 9;
  const std::vector<int64_t> sizes = {64, 4096 * 3 + 4, 5, 4096 * 70, 8192, 1, 64, 4096 * 33, 128};
  for (const int stages : {2, 3}) {
    for (uint32_t seed = 1; seed <= 4; ++seed) {
      World world(GetParam(), stages, {.ranks = 1, .pieces = 4, .slots = 16}, seed);
      std::vector<std::vector<std::vector<float>>> got(stages);
      world.Run([&](int stage) {
        auto& [queue, memory, state, exchange] = world.agent(stage);
        std::deque<Buffer<float>> rows;  // each stays where it is
        int taken = 0;
        const auto take_ids = [&] {
          rows.emplace_back(4, *queue);
          ReceiveRows(exchange, rows.back().data(), 2, *queue);
          auto& copy = got[0].emplace_back(2);
          queue->Download(copy.data(), rows.back().data(), 8);
          ++taken;
        };
        for (int step = 0; step < kSteps; ++step) {
          rows.emplace_back(std::max<int64_t>(sizes[step], 4), *queue);
          Buffer<float>& x = rows.back();
          if (stage == 0) {
            while (taken + stages < step) take_ids();
            std::vector<float> own(static_cast<size_t>(sizes[step]));
            for (size_t i = 0; i < own.size(); ++i) own[i] = Value(0, step, static_cast<int64_t>(i));
            queue->Upload(x.data(), own.data(), sizes[step] * 4);
          } else {
            ReceiveRows(exchange, x.data(), sizes[step], *queue);
            auto& copy = got[stage].emplace_back(static_cast<size_t>(sizes[step]));
            queue->Download(copy.data(), x.data(), sizes[step] * 4);
          }
          if (stage + 1 < stages) {
            SendRows(exchange, x.data(), sizes[step], *queue);
          } else {
            const float ids[2] = {Value(9, step, 0), Value(9, step, 1)};
            rows.emplace_back(4, *queue);
            queue->Upload(rows.back().data(), ids, 8);
            SendRows(exchange, rows.back().data(), 2, *queue);
          }
        }
        while (stage == 0 && taken < kSteps) take_ids();
        queue->Finish();
      });
      for (int stage = 0; stage < stages; ++stage) {
        EXPECT_EQ(world.agent(stage).state().fault, ExchangeState::kNone);
        ASSERT_EQ(got[stage].size(), kSteps);
        for (int step = 0; step < kSteps; ++step) {
          for (size_t i = 0; i < got[stage][step].size(); ++i)
            ASSERT_EQ(got[stage][step][i], Value(stage == 0 ? 9 : 0, step, static_cast<int64_t>(i)))
                << stages << " stages, step " << step << " at stage " << stage;
        }
      }
    }
  }
}

// One rank never comes. The others wait for it, say so, and stop when they are told; what is asked of them then is done
// at once and does nothing.
TEST_P(ExchangeTest, StopsWaitingWhenItIsTold) {
  constexpr int kRanks = 3, kMissing = 1;
  World world(GetParam(), 1, {.ranks = kRanks}, 5);
  const std::vector<int64_t> widths(kRanks, 4096 * 40);
  const auto waits_for_it = [&](int rank) {
    return std::atomic_ref(world.agent(rank).state().waits[kMissing]).load() != 0;
  };
  std::vector<float> last(kRanks, -1);
  world.Run([&](int me) {
    auto& [queue, memory, state, exchange] = world.agent(me);
    if (me == kMissing) {  // instead, what its hosts do when it is gone: once the others are seen to wait
      while (!waits_for_it(0) || !waits_for_it(2)) {
        if (GetParam().gpu) {
          std::this_thread::yield();
        } else {
          cuda::fibers::Rest();
        }
      }
      for (const int other : {0, 2}) std::atomic_ref(world.agent(other).state().abort).store(1);
      return;
    }
    Buffer<float> part(widths[0], *queue), all(kRanks * widths[0], *queue);
    const std::vector<float> none(static_cast<size_t>(all.size()), -2.0f);
    queue->Upload(all.data(), none.data(), all.bytes());
    for (int i = 0; i < 3; ++i)
      GatherParts(exchange, {.mine = part.data(), .all = all.data(), .widths = widths.data()}, *queue);
    queue->Download(&last[me], all.data() + widths[0] * kMissing, 4);
    queue->Finish();
  });
  for (const int me : {0, 2}) {
    EXPECT_EQ(world.agent(me).state().fault, ExchangeState::kAborted);
    EXPECT_EQ(world.agent(me).state().whom, kMissing);
    EXPECT_EQ(world.agent(me).state().waits[kMissing], 0) << "it waits no more";
    EXPECT_EQ(last[me], -2.0f) << "of the missing rank nothing came";
  }
}

// Nobody says anything: a wait ends when its time is over, for whatever it waited.
TEST_P(ExchangeTest, StopsWaitingWhenItsTimeIsOver) {
  for (const int way : {0, 1, 2}) {  // a part, rows, room for rows
    World world(GetParam(), way == 0 ? 1 : 2, {.ranks = way == 0 ? 2 : 1, .pieces = way == 0 ? 0 : 4, .slots = 1}, 6,
                20'000'000);
    world.Run([&](int me) {
      if (me == 1) return;
      auto& [queue, memory, state, exchange] = world.agent(me);
      Buffer<float> part(4096, *queue), all(2 * 4096, *queue);
      const int64_t widths[] = {4096, 4096};
      for (int i = 0; i < 6; ++i) {
        if (way == 0) GatherParts(exchange, {.mine = part.data(), .all = all.data(), .widths = widths}, *queue);
        if (way == 1) ReceiveRows(exchange, part.data(), 4096, *queue);
        if (way == 2) SendRows(exchange, part.data(), 4096, *queue);
      }
      queue->Finish();
    });
    EXPECT_EQ(world.agent(0).state().fault, ExchangeState::kTooLate);
    const int whom[] = {1, ExchangeState::kStageBefore, ExchangeState::kStageBehind};
    EXPECT_EQ(world.agent(0).state().whom, whom[way]);
  }
}

TEST_P(ExchangeTest, MovesIdsAndTakesNoneThatIsNone) {
  World world(GetParam(), 1, {}, 1);
  Queue& queue = *world.agent(0).queue;
  const std::vector<int32_t> from = {5, 99, 100, -3, 7}, to_at = {2, -1, 0, 1, 4}, from_at = {4, 0, 2};
  Buffer<int32_t> ids(from, queue), places(to_at, queue), places_from(from_at, queue), to(5, queue), others(4, queue);
  const std::vector<int32_t> before(5, 77);
  queue.Upload(to.data(), before.data(), 20);
  MoveIds({.to = to.data(), .to_at = places.data(), .from = ids.data(), .n = 5, .limit = 100}, queue);
  MoveIds({.to = others.data(), .from = ids.data(), .from_at = places_from.data(), .n = 3, .limit = 100}, queue);
  std::vector<int32_t> moved(5), picked(3);
  queue.Download(moved.data(), to.data(), 20);
  queue.Download(picked.data(), others.data(), 12);
  queue.Finish();
  EXPECT_EQ(moved, (std::vector<int32_t>{0, 0, 5, 77, 7}));
  EXPECT_EQ(picked, (std::vector<int32_t>{7, 5, 0}));
}

INSTANTIATE_TEST_SUITE_P(All, ExchangeTest, testing::ValuesIn(CudaKinds({})),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace pangea
