#include "kernels/threads.h"

#include <gtest/gtest.h>
#include <immintrin.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

namespace pangea {
namespace {

TEST(ThreadPool, CoversEveryIndexOnceInMultiplesOfTheGrain) {
  for (const int threads : {1, 2, 3, 5}) {
    for (const bool spin : {false, true}) {
      ThreadPool pool(threads, spin);
      EXPECT_EQ(pool.threads(), threads);
      for (const int64_t n : {0, 1, 7, 8, 9, 100, 1001}) {
        for (const int64_t grain : {1, 4, 8, 300}) {
          std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
          std::atomic<int> bad{0};
          pool.For(n, grain, [&](int64_t begin, int64_t end) {
            if (begin % grain != 0 || (end % grain != 0 && end != n) || begin >= end) ++bad;
            for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
          });
          EXPECT_EQ(bad, 0);
          for (const std::atomic<int>& h : hits) EXPECT_EQ(h, 1);
        }
      }
    }
  }
}

TEST(ThreadPool, ManySmallCallsSeeEachOthersWrites) {
  for (const bool spin : {false, true}) {
    ThreadPool pool(3, spin);
    std::vector<int64_t> plain(64);  // not atomic: a missing barrier is a data race
    for (int call = 0; call < 3000; ++call) {
      pool.For(64, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) plain[static_cast<size_t>(i)] += i;
      });
    }
    for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(plain[static_cast<size_t>(i)], 3000 * i);
  }
}

TEST(ThreadPool, OtherThreadsTakePartAndComputeInTheMode) {
  ThreadPool pool(3, true);
  std::set<std::thread::id> ids;
  std::mutex mutex;
  std::atomic<bool> mode{true};
  // Every piece waits until three threads are inside, so that all must take part.
  std::atomic<int> inside{0};
  pool.For(3, 1, [&](int64_t, int64_t) {
    mode = mode && HasComputeFloatMode();
    ++inside;
    while (inside < 3) std::this_thread::yield();
    const std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(ids.size(), 3u);
  EXPECT_TRUE(mode);
}

double ThreadSeconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// What the caller burns while it waits for a worker to finish its part, over many calls.
double BurnedInWaiting(bool spin) {
  ThreadPool pool(2, spin);
  double burned = 0;
  for (int round = 0; round < 50; ++round) {
    std::atomic<bool> taken = false;
    double waits_from = 0;
    pool.For(2, 1, [&](int64_t, int64_t) {
      if (ThreadPool::Index() == 1) {
        taken = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return;
      }
      while (!taken) std::this_thread::sleep_for(std::chrono::microseconds(100));
      waits_from = ThreadSeconds();
    });
    burned += ThreadSeconds() - waits_from;
  }
  return burned;
}

// Without a core for every thread, a thread that waits leaves its core to the one that it waits for.
TEST(ThreadPool, SpinsOnlyWhereItMay) { EXPECT_LT(3 * BurnedInWaiting(false), BurnedInWaiting(true)); }

TEST(FloatMode, FlushesSubnormalsAndIsSeen) {
  std::thread([] {
    _mm_setcsr(0x1F80);
    EXPECT_FALSE(HasComputeFloatMode());
    volatile float tiny = 1e-38f;
    EXPECT_NE(tiny * 0.1f, 0.0f);
    SetComputeFloatMode();
    EXPECT_TRUE(HasComputeFloatMode());
    EXPECT_EQ(tiny * 0.1f, 0.0f);
    volatile float third = 1.0f / 3.0f;  // inexact: sets a status flag, which is not a mode
    (void)third;
    EXPECT_TRUE(HasComputeFloatMode());
  }).join();
}

}  // namespace
}  // namespace pangea
