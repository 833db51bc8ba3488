// What an agent leaves to the process that takes its place, held open by its master: packed weights
// (agent/packed_weights.h), KV pages (agent/kept_pages.h).
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>

namespace pangea {

class KeptFile {
 public:
  KeptFile() = default;
  ~KeptFile() { Drop(); }
  KeptFile(const KeptFile&) = delete;
  // Takes over what the process holds as this descriptor; executable: that it runs. False: it cannot be opened.
  bool Take(pid_t pid, int fd, uint64_t bytes, const std::string& executable);
  void Drop();
  // To open it by. Empty: there is none, or another executable has made it, which may lay it out otherwise.
  std::string PathFor(const std::string& executable) const;
  uint64_t bytes() const { return bytes_; }

 private:
  int fd_ = -1;
  uint64_t bytes_ = 0;
  std::string made_by_;
};

}  // namespace pangea
