#include "master/schedule/fair_queue.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <vector>

namespace pangea {
namespace {

class FairQueueTest : public ::testing::Test {
 protected:
  Sequence* Add(uint32_t account, double weight = 1, int priority = 0) {
    auto request = std::make_unique<Request>();
    request->order = ++order_;
    request->body.account = account;
    request->body.weight = weight;
    request->body.priority = priority;
    request->choices.resize(1);
    request->choices[0].request = request.get();
    requests_.push_back(std::move(request));
    queue_.Insert(&requests_.back()->choices[0]);
    return &requests_.back()->choices[0];
  }
  // Serves the first one with so many rows; answers its account.
  uint32_t Serve(int rows) {
    Sequence* first = FairQueue::Cursor(&queue_).Next();
    queue_.Erase(first);
    queue_.Charge(*first, rows);
    return first->request->body.account;
  }

  FairQueue queue_;
  std::vector<std::unique_ptr<Request>> requests_;
  uint64_t order_ = 0;
};

TEST_F(FairQueueTest, OneAccountIsServedInOrderOfArrival) {
  Sequence* a = Add(0);
  Sequence* b = Add(0);
  FairQueue::Cursor cursor(&queue_);
  EXPECT_EQ(cursor.Next(), a);
  EXPECT_EQ(cursor.Next(), b);
  EXPECT_EQ(cursor.Next(), nullptr);
  queue_.Erase(a);
  queue_.Erase(b);
  EXPECT_TRUE(queue_.empty());
}

TEST_F(FairQueueTest, PriorityComesFirst) {
  Add(1, 1, 1);
  Add(2, 1, 0);
  Sequence* urgent = Add(1, 1, -1);
  EXPECT_EQ(FairQueue::Cursor(&queue_).Next(), urgent);
  Serve(1000);  // of account 1
  EXPECT_EQ(Serve(1), 2u);
  EXPECT_EQ(Serve(1), 1u);
}

TEST_F(FairQueueTest, APreemptedSequenceComesBeforeNewOnes) {
  Add(1);
  Sequence* started = Add(2);
  queue_.Charge(*started, 1000000);
  started->request->started = true;
  EXPECT_EQ(FairQueue::Cursor(&queue_).Next(), started);
}

// Two accounts that always have something waiting, with weights 1 and 3: served rows follow the weights, however unlike
// their requests are.
TEST_F(FairQueueTest, AccountsThatAlwaysWaitAreServedByWeight) {
  for (int i = 0; i < 400; ++i) {
    Add(1, 1);
    Add(2, 3);
  }
  std::map<uint32_t, int> rows;
  for (int i = 0; i < 250; ++i) {
    const uint32_t account = FairQueue::Cursor(&queue_).Next()->request->body.account;
    const int size = account == 1 ? 7 + i % 40 : 90 - i % 60;
    EXPECT_EQ(Serve(size), account);
    rows[account] += size;
    ASSERT_LE(std::abs(rows[1] / 1.0 - rows[2] / 3.0), 90) << i;  // one request of each at most
  }
  EXPECT_GT(rows[1], 1000);
}

TEST_F(FairQueueTest, AnIdleAccountGetsNoCreditForItsIdleTime) {
  for (int i = 0; i < 10; ++i) Add(1);
  for (int i = 0; i < 5; ++i) Serve(100);
  for (int i = 0; i < 10; ++i) Add(2);  // had asked for nothing until now
  int second = 0;
  for (int i = 0; i < 8; ++i) second += Serve(100) == 2;
  EXPECT_EQ(second, 4) << "it goes on beside the other, and need not catch up";
}

TEST_F(FairQueueTest, NorDoesAnAccountThatComesWhileNobodyWaits) {
  Sequence* a = Add(1);
  queue_.Erase(a);
  queue_.Charge(*a, 100000);  // runs for long, alone
  Add(2);
  EXPECT_EQ(queue_.served(2), 100000);
  Add(1);
  EXPECT_EQ(Serve(10), 2u) << "first come, when equal";
  EXPECT_EQ(Serve(10), 1u);
}

}  // namespace
}  // namespace pangea
