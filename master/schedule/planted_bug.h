// Bugs that the tests plant to show that their checks fire. The library is built without PANGEA_PLANTED_BUGS: there the
// value is a constant and the branches vanish.
#pragma once

namespace pangea {

enum class PlantedBug {
  kNone,
  kLeakBlock,        // a leaving sequence keeps its last block
  kFreeEarly,        // blocks are freed while a step that names them is outstanding
  kFinishTwice,      // a finish is delivered twice
  kSharePartial,     // a fork shares the partial prompt block instead of copying it
  kForgetGenerated,  // a resumed sequence does not say what it had generated
  kForkTooSoon,      // a choice copies its sibling's prompt in the step that computes it
  kUncountedCopy,    // the source of a copy is not held until the step is committed
  kTableNotTold,     // a new block is not sent to the agents
  kFailNeighbour,    // an error ends another request too
  kStaleIndex,       // an evicted block stays in the prefix index
  kIndexPartial,     // a block enters the prefix index before it is full
  kWholeHit,         // the newest row is taken from the cache too
  kShareFailed,      // the blocks of a failed sequence stay in the prefix index
  kEchoFromCache,    // a sequence that wants prompt log-probabilities reads the prefix cache
  kNeverYield,       // nobody is preempted
  kStarveAccount,    // what an account is served is not counted
  kSaveIdleness,     // an account that was idle is served until it has caught up
  kCopyTooSoon,      // the beginning of a block is copied in the step that computes it
  kSwapLate,         // a copy to swap runs after the step that may overwrite its source
  kSwapReuse,        // a swap block is given back while a copy to it waits to be sent
  kSwapLeak,         // swap blocks of a sequence that ends while it waits are lost
  kDribble,          // a prompt is read a row at a time
  kSwapShort,        // the last swapped block is not copied back
  kForgetSalt,       // the prefix cache gives a request the blocks of those without its salt
  kGiveBackEarly,    // a block is given back although the next row looks into it
  kHoleShared,       // a newcomer takes over columns that lack blocks which its first row looks into
  kOneTable,         // the agents are told the first cache group's table for all groups
  kCopyElsewhere,    // blocks of other cache groups are copied to swap in the first one
  kMaskedAhead,      // a masked sequence runs ahead
  kMaskLost,         // a mask that was there before its step is not sent behind it
  kOldMask,          // a mask is kept for the id after the one it is for
  kMaskOwed,         // the agents are left waiting for the mask of a sequence that has ended
  kLateResult,       // a result of an older epoch is taken for one of this epoch
  kOutliveEpoch,     // a sequence that runs when an epoch begins keeps its table, and what it believes to be told
  kSwapOutlives,     // swap blocks are believed to outlive an epoch
  kIndexOutlives,    // the prefix index outlives an epoch and its pages
  kIndexEarly,       // a column is believed to be computed by the step before the one that does
  kVoidRows,         // rows of void steps are taken for computed
  kVoidBeginning,    // so is what a sequence began with in a void step
  kVoidIndexed,      // what void steps would have computed stays in the prefix index
  kEndUnknown,       // the agents of a new epoch are told the ends of sequences of the old one
  kNumbersGoOn,      // a new epoch's steps are numbered on from the old one's
  kLayoutStays,      // the blocks of the old layout are used in the new one
  kKeepOversized,    // a request goes on that the new layout cannot hold
};

#ifdef PANGEA_PLANTED_BUGS
extern PlantedBug planted_bug;
#else
inline constexpr PlantedBug planted_bug = PlantedBug::kNone;
#endif

}  // namespace pangea
