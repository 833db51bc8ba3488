// An open file that one process of this host hands to others of the same user: through a socket that has a name in no
// file system and goes with its process. Whoever takes it connects; whoever offers it then accepts. The two sides learn
// by other ways when the other one has (rendezvous.h): no call of these waits.
#pragma once
#include <string>

#include "absl/status/statusor.h"

namespace pangea {

// A file descriptor that is closed at the end.
class OwnedFile {
 public:
  explicit OwnedFile(int file = -1) : file_(file) {}
  OwnedFile(OwnedFile&& other) noexcept : file_(other.Release()) {}
  ~OwnedFile();
  int get() const { return file_; }
  int Release();

 private:
  int file_;
};

class FileOffer {
 public:
  static absl::StatusOr<FileOffer> Make();
  const std::string& address() const { return address_; }
  // To so many that have connected.
  absl::Status Give(int file, int takers);

 private:
  FileOffer(OwnedFile socket, std::string address) : socket_(std::move(socket)), address_(std::move(address)) {}
  OwnedFile socket_;
  std::string address_;
};

// The connection, on which the file comes; and the file, once it was given.
absl::StatusOr<OwnedFile> ConnectToOffer(const std::string& address);
absl::StatusOr<OwnedFile> TakeFile(const OwnedFile& connection);

}  // namespace pangea
