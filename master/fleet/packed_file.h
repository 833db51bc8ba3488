// An agent's packed weights, held open by its master, so that they are there for the process that takes its place
// (agent/packed_weights.h).
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>

namespace pangea {

class PackedFile {
 public:
  PackedFile() = default;
  ~PackedFile();
  PackedFile(const PackedFile&) = delete;
  // Takes over what the process holds as this descriptor; packer: the executable that it runs. False: it cannot be
  // opened.
  bool Take(pid_t pid, int fd, uint64_t bytes, const std::string& packer);
  // To open it by. Empty: there is none, or another executable has packed it, which may lay weights out otherwise.
  std::string PathFor(const std::string& executable) const;
  uint64_t bytes() const { return bytes_; }

 private:
  int fd_ = -1;
  uint64_t bytes_ = 0;
  std::string packer_;
};

}  // namespace pangea
