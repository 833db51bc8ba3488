// Walls before and after which a test has something happen: to this process, or to another one. In `pangea` Reach is
// empty (failpoint.cc). The program of the tests, pangea_failpoints, has another one: integration_tests/failpoints.cc,
// which says how they are set. Thread safe.
#pragma once

namespace pangea {

enum class Wall {
  kJoin,        // an agent asks its master for a place; after: it has one
  kLoad,        // its slices are read, and it says so
  kForm,        // the groups of an epoch are formed
  kStep,        // a step has come, and is handed to the executor
  kCollective,  // a gather, a send or a receive
  kPageWrite,   // a layer's K and V go into the cache
  kSample,      // ids are drawn
  kResult,      // a step's result is sent
  kCommit,      // the master takes a result
};

enum class Side { kBefore, kAfter };

void Reach(Wall wall, Side side);

// Reaches both sides of what is done while it lives.
class Failpoint {
 public:
  explicit Failpoint(Wall wall) : wall_(wall) { Reach(wall_, Side::kBefore); }
  ~Failpoint() { Reach(wall_, Side::kAfter); }
  Failpoint(const Failpoint&) = delete;

 private:
  const Wall wall_;
};

}  // namespace pangea
