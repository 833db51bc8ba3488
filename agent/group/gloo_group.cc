#include "agent/group/gloo_group.h"

#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "configs/mutex.h"

namespace pangea {
namespace {

using gloo::transport::UnboundBuffer;

// Messages of one kind between two agents share a tag and arrive in the order in which they were sent.
enum Tag : uint64_t { kGatherTag = 0, kSendTag = 1 };

// Sent and not yet received, at most, per destination, whatever their size: more than there are steps on the way.
constexpr size_t kMostUnreceived = 64;

constexpr std::chrono::milliseconds kConnectTry(2000);

class BoardStore : public gloo::rendezvous::Store {
 public:
  BoardStore(Rendezvous& rendezvous, absl::Duration limit) : rendezvous_(rendezvous), limit_(limit) {}
  void set(const std::string& key, const std::vector<char>& data) override {
    rendezvous_.Set(Name(key), std::string(data.begin(), data.end()));
  }
  std::vector<char> get(const std::string& key) override {
    const absl::StatusOr<std::string> value = rendezvous_.Get(Name(key), limit_);
    if (!value.ok()) throw std::runtime_error(std::string(value.status().message()));
    return std::vector<char>(value->begin(), value->end());
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }
  // Gloo's own limit is made for its connections; the group's counts here.
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds&) override { wait(keys); }

 private:
  static std::string Name(const std::string& key) { return absl::StrCat("gloo/", key); }
  Rendezvous& rendezvous_;
  const absl::Duration limit_;
};

class GlooGroup : public GroupBase {
 public:
  GlooGroup(const GroupSpec& spec, std::shared_ptr<gloo::rendezvous::Context> context)
      : GroupBase(spec), context_(std::move(context)) {}

 protected:
  absl::Status Gather(std::span<const std::byte> mine, std::span<const size_t> sizes,
                      std::span<std::byte> all) override {
    if (all.empty()) return absl::OkStatus();
    const auto deadline = Deadline();
    int missing = -1;  // the rank whose part is waited for
    return Guard(
        deadline,
        [&]() -> absl::Status {
          // A buffer per peer: one buffer's completions name only the latest sender.
          std::map<int, std::unique_ptr<UnboundBuffer>> in;
          std::unique_ptr<UnboundBuffer> out;
          if (!mine.empty()) out = context_->createUnboundBuffer(const_cast<std::byte*>(mine.data()), mine.size());
          size_t offset = 0;
          for (int r = 0; r < ranks(); offset += sizes[r++]) {
            if (r == rank() || sizes[r] == 0) continue;
            in[r] = context_->createUnboundBuffer(all.data() + offset, sizes[r]);
            in[r]->recv(agent(stage(), r), kGatherTag);
          }
          offset = 0;
          for (int r = 0; r < ranks(); offset += sizes[r++]) {
            if (!out) continue;
            if (r != rank()) {
              out->send(agent(stage(), r), kGatherTag);
            } else {
              std::memcpy(all.data() + offset, mine.data(), mine.size());
            }
          }
          for (auto& [r, buffer] : in) {
            missing = r;
            if (!Wait(*buffer, /*receive=*/true, deadline)) return why();
          }
          missing = -1;
          for (int i = 0; out && i < ranks() - 1; ++i) {
            if (!Wait(*out, /*receive=*/false, deadline)) return why();
          }
          return absl::OkStatus();
        },
        [&] {
          return missing < 0 ? std::string("a peer takes no data") : absl::StrCat("no data from rank ", missing);
        });
  }

  // Gloo moves data only once the receiver asks for it. So that a stage can go on with its next step, messages are
  // copied and kept until they are taken; beyond the channel's size the oldest is waited for.
  absl::Status DoSend(int to_stage, std::span<const std::byte> data) override {
    if (data.empty()) return absl::OkStatus();
    const auto deadline = Deadline();
    return Guard(
        deadline,
        [&]() -> absl::Status {
          const int to = agent(to_stage, rank());
          Outbox& box = outboxes_[to];
          while (!box.messages.empty() &&
                 (box.messages.size() >= kMostUnreceived || box.bytes + data.size() > spec().channel_bytes)) {
            if (!Wait(*box.messages.front().buffer, /*receive=*/false, deadline)) return why();
            box.bytes -= box.messages.front().data.size();
            box.messages.pop_front();
          }
          box.messages.push_back({std::vector<std::byte>(data.begin(), data.end()), nullptr});
          box.bytes += data.size();
          Message& message = box.messages.back();
          message.buffer = context_->createUnboundBuffer(message.data.data(), message.data.size());
          message.buffer->send(to, kSendTag);
          return absl::OkStatus();
        },
        [&] { return absl::StrCat("stage ", to_stage, " takes no data"); });
  }

  absl::Status DoReceive(int from_stage, std::span<std::byte> data) override {
    if (data.empty()) return absl::OkStatus();
    const auto deadline = Deadline();
    return Guard(
        deadline,
        [&]() -> absl::Status {
          auto buffer = context_->createUnboundBuffer(data.data(), data.size());
          buffer->recv(agent(from_stage, rank()), kSendTag);
          return Wait(*buffer, /*receive=*/true, deadline) ? absl::OkStatus() : why();
        },
        [&] { return absl::StrCat("no data from stage ", from_stage); });
  }

  void Wake() override {
    {
      MutexLock lock(mutex_);
      if (waiting_ != nullptr) {
        waiting_->abortWaitRecv();
        waiting_->abortWaitSend();
      }
    }
    // The peers' calls fail as soon as they see the end of the connection.
    try {
      context_->closeConnections();
    } catch (const std::exception&) {
      // A connection that cannot be closed is broken already.
    }
  }

 private:
  struct Message {
    std::vector<std::byte> data;
    std::unique_ptr<UnboundBuffer> buffer;  // declared after data: lets go of it first
  };
  struct Outbox {
    std::deque<Message> messages;
    size_t bytes = 0;
  };

  // One completion of the buffer; false: aborted. Throws what Gloo throws.
  bool Wait(UnboundBuffer& buffer, bool receive, std::chrono::steady_clock::time_point deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    const auto limit = std::max(left, std::chrono::milliseconds(1));
    {
      MutexLock lock(mutex_);
      if (dead()) return false;
      waiting_ = &buffer;
    }
    struct Done {
      GlooGroup* group;
      ~Done() {
        MutexLock lock(group->mutex_);
        group->waiting_ = nullptr;
      }
    } done{this};
    return receive ? buffer.waitRecv(limit) : buffer.waitSend(limit);
  }

  template <typename Call, typename Who>
  absl::Status Guard(std::chrono::steady_clock::time_point deadline, Call call, Who who) {
    try {
      return call();
    } catch (const std::exception& e) {
      if (std::chrono::steady_clock::now() >= deadline) {
        return absl::DeadlineExceededError(absl::StrCat(who(), " within ", absl::FormatDuration(spec().limit)));
      }
      return absl::UnavailableError(absl::StrCat(who(), ": ", e.what()));
    }
  }

  const std::shared_ptr<gloo::rendezvous::Context> context_;
  std::map<int, Outbox> outboxes_;  // by agent; after context_: buffers go before their connections
  Mutex mutex_;
  UnboundBuffer* waiting_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

// The first address of the host that this machine can listen on, as text. Gloo follows a null pointer when it is given
// a name that does not resolve, so names never reach it.
absl::StatusOr<std::string> OwnAddress(const std::string& host) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0) {
    return absl::InvalidArgumentError(absl::StrCat("gloo: host ", host, ": ", gai_strerror(error)));
  }
  std::string address;
  for (const addrinfo* a = found; a != nullptr && address.empty(); a = a->ai_next) {
    const int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    char text[NI_MAXHOST];
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 &&
        getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0) {
      address = text;
    }
    close(fd);
  }
  freeaddrinfo(found);
  if (address.empty())
    return absl::InvalidArgumentError(absl::StrCat("gloo: host ", host, " is not an address of this machine"));
  return address;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Group>> FormGlooGroup(const GroupSpec& spec, Rendezvous& rendezvous) {
  const absl::StatusOr<std::string> address = OwnAddress(spec.host);
  if (!address.ok()) return address.status();
  try {
    gloo::transport::tcp::attr attr(address->c_str());
    std::shared_ptr<gloo::transport::Device> device = gloo::transport::tcp::CreateDevice(attr);
    auto context = std::make_shared<gloo::rendezvous::Context>(spec.agent, spec.stages * spec.ranks);
    // Gloo waits five times this long for each connection, and nothing can end that wait: a peer that dies while it
    // connects must not hold the others up for long.
    const auto fifth = std::min(absl::ToChronoMilliseconds(spec.limit) / 5, kConnectTry);
    context->setTimeout(std::max(fifth, std::chrono::milliseconds(1)));
    BoardStore store(rendezvous, spec.limit);
    context->connectFullMesh(store, device);
    return std::make_unique<GlooGroup>(spec, std::move(context));
  } catch (const std::exception& e) {
    return absl::UnavailableError(absl::StrCat("gloo on ", spec.host, ": ", e.what()));
  }
}

}  // namespace pangea
