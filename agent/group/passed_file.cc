#include "agent/group/passed_file.h"

#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

constexpr int kBacklog = 4096;

absl::Status PassingFailed(const std::string& what) {
  return absl::ErrnoToStatus(errno, absl::StrCat("passing a file to another agent: ", what));
}

// A name of the abstract kind: a zero byte before it.
socklen_t NameOf(const std::string& address, sockaddr_un* name) {
  *name = {.sun_family = AF_UNIX, .sun_path = {}};
  const size_t n = std::min(address.size(), sizeof(name->sun_path) - 1);
  std::memcpy(name->sun_path + 1, address.data(), n);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + n);
}

bool SameUser(int socket) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

// A message of one byte, and room for a file beside it.
struct FileMessage {
  FileMessage() {
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = room;
    message.msg_controllen = sizeof(room);
  }
  FileMessage(const FileMessage&) = delete;
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
};

}  // namespace

OwnedFile::~OwnedFile() {
  if (file_ >= 0) close(file_);
}

int OwnedFile::Release() { return std::exchange(file_, -1); }

absl::StatusOr<FileOffer> FileOffer::Make() {
  char nonce[16];
  if (getrandom(nonce, sizeof(nonce), 0) != sizeof(nonce)) return PassingFailed("getrandom");
  const std::string address = absl::StrCat("pangea-", absl::BytesToHexString({nonce, sizeof(nonce)}));
  OwnedFile socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.get() < 0) return PassingFailed("socket");
  sockaddr_un name;
  const socklen_t size = NameOf(address, &name);
  if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), size) != 0) return PassingFailed("bind");
  if (listen(socket.get(), kBacklog) != 0) return PassingFailed("listen");
  return FileOffer(std::move(socket), address);
}

absl::Status FileOffer::Give(int file, int takers) {
  for (int given = 0; given < takers;) {
    const OwnedFile connection(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (connection.get() < 0) return PassingFailed("accept");
    if (!SameUser(connection.get())) continue;  // who is not asked
    FileMessage sent;
    cmsghdr* const header = CMSG_FIRSTHDR(&sent.message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &file, sizeof(int));
    if (sendmsg(connection.get(), &sent.message, MSG_NOSIGNAL) != 1) return PassingFailed("sendmsg");
    ++given;
  }
  return absl::OkStatus();
}

absl::StatusOr<OwnedFile> ConnectToOffer(const std::string& address) {
  OwnedFile socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.get() < 0) return PassingFailed("socket");
  sockaddr_un name;
  const socklen_t size = NameOf(address, &name);
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&name), size) != 0) return PassingFailed("connect");
  if (!SameUser(socket.get())) return absl::PermissionDeniedError("the agent that offers a file is another user's");
  return socket;
}

absl::StatusOr<OwnedFile> TakeFile(const OwnedFile& connection) {
  FileMessage taken;
  if (recvmsg(connection.get(), &taken.message, MSG_CMSG_CLOEXEC) != 1) return PassingFailed("recvmsg");
  std::vector<OwnedFile> files;
  const cmsghdr* const header = CMSG_FIRSTHDR(&taken.message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    for (size_t at = CMSG_LEN(0); at + sizeof(int) <= header->cmsg_len; at += sizeof(int)) {
      int file = -1;
      std::memcpy(&file, reinterpret_cast<const char*>(header) + at, sizeof(int));
      files.emplace_back(file);
    }
  }
  if (files.size() != 1) return absl::InternalError("passing a file to another agent: not one came");
  return std::move(files[0]);
}

}  // namespace pangea
