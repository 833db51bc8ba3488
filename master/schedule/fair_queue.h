// Which waiting sequence is admitted next. By priority; then whoever has run before (it has been paid for, and others
// may wait for its blocks); then the account that has been served least per weight; then arrival.
//
// The account's part is the virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI
// 2024): a counter per account grows by rows computed over weight, and an account that comes back from idleness starts
// where those who kept waiting are, so idleness is not saved up. While two accounts both have something waiting, what
// they were served per weight differs by no more than the sum of their largest requests per weight, times the sequences
// that may run at once (a request is charged as its rows are computed, so several may be admitted before the first has
// shown its size).
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "master/schedule/sequence.h"

namespace pangea {

// Bookkeeping only, not thread safe. Holds no sequence but those between Insert and Erase.
class FairQueue {
 private:
  using Line = std::set<Sequence*, Earlier>;
  struct Account {
    double served = 0;  // rows / weight
    Line waiting;
  };

 public:
  void Insert(Sequence* sequence);
  void Erase(Sequence* sequence);
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // The sequence's account has been given so many rows.
  void Charge(const Sequence& sequence, int rows);
  double served(uint32_t account) const;
  template <typename Function>
  void ForEach(const Function& function) const {
    for (const auto& [number, account] : accounts_) {
      for (Sequence* sequence : account.waiting) function(sequence);
    }
  }

  // Every waiting sequence once, in the order of service as it stands at each call. Meanwhile the sequence returned
  // last may be erased, others not, and accounts may be charged.
  class Cursor {
   public:
    explicit Cursor(FairQueue* queue);
    Sequence* Next();  // null: no more

   private:
    struct Place {
      Account* account;
      Line::const_iterator next;
    };
    std::vector<Place> places_;
  };

 private:
  void Lift(Account* account);

  // By number. Kept for as long as the queue: a counter that was dropped would forgive its account. There are as many
  // as keys.
  std::map<uint32_t, Account> accounts_;
  const Account* last_ = nullptr;  // whose sequence left the queue last
  size_t size_ = 0;
};

}  // namespace pangea
