#include "master/schedule/fair_queue.h"

#include <algorithm>
#include <tuple>

#include "master/schedule/check.h"
#include "master/schedule/planted_bug.h"

namespace pangea {

void FairQueue::Insert(Sequence* sequence) {
  Account& account = accounts_[sequence->request->body.account];
  if (account.waiting.empty() && planted_bug != PlantedBug::kSaveIdleness) Lift(&account);
  SCHEDULE_CHECK(account.waiting.insert(sequence).second);
  ++size_;
}

// An account that was idle gets no credit for that time: its counter starts no lower than that of the waiting account
// that has been served least or, when nobody waits, of the account that waited last.
void FairQueue::Lift(Account* account) {
  const Account* from = nullptr;
  for (const auto& [number, other] : accounts_) {
    if (!other.waiting.empty() && (from == nullptr || other.served < from->served)) from = &other;
  }
  if (from == nullptr) from = last_;
  if (from != nullptr) account->served = std::max(account->served, from->served);
}

void FairQueue::Erase(Sequence* sequence) {
  Account& account = accounts_.at(sequence->request->body.account);
  SCHEDULE_CHECK(account.waiting.erase(sequence) == 1);
  last_ = &account;
  --size_;
}

void FairQueue::Charge(const Sequence& sequence, int rows) {
  if (planted_bug == PlantedBug::kStarveAccount) return;
  accounts_[sequence.request->body.account].served += rows / sequence.request->body.weight;
}

double FairQueue::served(uint32_t account) const {
  const auto found = accounts_.find(account);
  return found == accounts_.end() ? 0 : found->second.served;
}

FairQueue::Cursor::Cursor(FairQueue* queue) {
  for (auto& [number, account] : queue->accounts_) {
    if (!account.waiting.empty()) places_.push_back({&account, account.waiting.begin()});
  }
}

Sequence* FairQueue::Cursor::Next() {
  const auto key = [](const Place& place) {
    const Sequence& sequence = **place.next;
    const Request& request = *sequence.request;
    return std::tuple(request.body.priority, !request.started, request.started ? 0 : place.account->served,
                      request.order);
  };
  const auto best =
      std::min_element(places_.begin(), places_.end(), [&](const Place& a, const Place& b) { return key(a) < key(b); });
  if (best == places_.end()) return nullptr;
  Sequence* sequence = *best->next;
  if (++best->next == best->account->waiting.end()) places_.erase(best);
  return sequence;
}

}  // namespace pangea
