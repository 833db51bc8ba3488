// Faults of recovery that the tests plant to show that their checks fire, as in master/schedule/planted_bug.h.
#pragma once

namespace pangea {

enum class PlantedFault {
  kNone,
  kBlameTheWaiting,  // who waits for a peer is blamed as who computes
  kForgiveSilence,   // who tells nothing is never found
  kForgiveComing,    // who stands still before an epoch serves is not found before its time is up
  kBesideTheOld,     // a process is started while the one before it is not gone
  kFormTooSoon,      // groups are formed before every place has its weights
  kNeverGiveUp,      // attempts are not counted
  kNoWait,           // a crash loop is restarted as fast as it crashes
  kOldFailure,       // what an agent suffered in an epoch that is over is taken for a fact of the present one
  kOldFormed,        // so is that it has formed its group
  kCountPlanned,     // what people have asked for counts as a recovery
  kCountTwice,       // agents that die together count as one recovery each
  kNeverForget,      // recoveries are counted for ever
};

#ifdef PANGEA_PLANTED_BUGS
extern PlantedFault planted_fault;
#else
inline constexpr PlantedFault planted_fault = PlantedFault::kNone;
#endif

}  // namespace pangea
