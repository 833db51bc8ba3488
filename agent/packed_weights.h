// Packed weights in memory that outlives its process, so that the process which takes an agent's place packs nothing:
// an anonymous file, sealed once it is whole, which the master holds open. It has no name, so nothing is left of it
// when master and agents have ended, however they ended.
#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/queue.h"

namespace pangea {

// One thread at a time.
class PackedWeights : public WeightStore {
 public:
  // To be filled; takes memory only for what is used of it. capacity: bytes, for all weights and 64 more for each.
  static absl::StatusOr<std::unique_ptr<PackedWeights>> Create(int64_t capacity);
  // One that was filled and sealed, of the same stage of the same plan. path: of a descriptor that a living process
  // holds (/proc/PID/fd/N). FailedPrecondition: it is none, or could still change.
  static absl::StatusOr<std::unique_ptr<PackedWeights>> Open(const std::string& path, int64_t bytes);
  ~PackedWeights() override;
  PackedWeights(const PackedWeights&) = delete;

  std::byte* Take(int64_t bytes, bool* filled) override;
  // Of a new one, when all weights are packed: nothing can change it any more. What was taken stays where it is.
  // False: it could not be done, which is logged; they serve this process alone.
  bool Seal();
  int fd() const { return fd_; }
  int64_t bytes() const { return used_; }  // that all weights together take
  bool filled() const { return filled_; }

 private:
  PackedWeights(int fd, std::byte* base, int64_t mapped, bool filled)
      : fd_(fd), base_(base), mapped_(mapped), filled_(filled) {}
  const int fd_;
  std::byte* const base_;
  int64_t mapped_;
  const bool filled_;
  int64_t used_ = 0;
};

// What a process before this one has packed, opened; else a new one for about so many bytes. Null: neither can be had,
// and own memory must do. Why is logged. path empty: nobody has packed yet.
std::unique_ptr<PackedWeights> KeptOrNewWeights(const std::string& path, int64_t bytes, int64_t planned);

}  // namespace pangea
