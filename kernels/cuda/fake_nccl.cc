// NCCL without GPUs, for the fake driver: the functions that gpu_collectives.cc calls. Agents find each other by
// sockets that an id names. A group is done when it ends: the stream is waited for first, so that what is sent is
// there, and then for all peers, unless the communicator is aborted meanwhile.
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr int kOk = 0, kSystemError = 2, kInvalid = 5, kUnderWay = 7;
constexpr int kLookMilliseconds = 5;

struct UniqueId {
  char bytes[128];
};
struct Config {
  size_t size;
  unsigned magic, version;
  int blocking;
};
struct Transfer {
  const char* from = nullptr;
  char* to = nullptr;
  size_t bytes = 0;
  int agent = 0;
};
struct Communicator {
  std::string id;
  int agents = 0, agent = 0, listens = -1;
  std::map<int, int> out, in;     // sockets by agent
  std::set<int> greeted, greets;  // those whose first message was sent, or taken
  std::vector<Transfer> group;
  std::atomic<int> state{kUnderWay};
  std::atomic<bool> aborted{false};
  std::thread work;  // forms, or does a group
};
thread_local Communicator* grouped = nullptr;

socklen_t Name(const std::string& id, int agent, sockaddr_un* name) {
  *name = {};
  name->sun_family = AF_UNIX;
  const std::string text = "fake-nccl-" + id + "-" + std::to_string(agent);
  std::memcpy(name->sun_path + 1, text.data(), text.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
}

bool Ready(const Communicator& c, int socket, short what) {
  pollfd asked{socket, what, 0};
  while (!c.aborted) {
    if (poll(&asked, 1, kLookMilliseconds) > 0) return true;
  }
  return false;
}

// All agents, in both directions: each connects to all others and says who it is.
int Form(Communicator* c) {
  sockaddr_un name;
  for (int other = 0; other < c->agents; ++other) {
    if (other == c->agent) continue;
    const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const socklen_t size = Name(c->id, other, &name);
    while (connect(socket, reinterpret_cast<sockaddr*>(&name), size) != 0) {
      if (c->aborted) return kSystemError;
      std::this_thread::sleep_for(std::chrono::milliseconds(kLookMilliseconds));
    }
    if (send(socket, &c->agent, sizeof(int), MSG_NOSIGNAL) != sizeof(int)) return kSystemError;
    fcntl(socket, F_SETFL, O_NONBLOCK);
    c->out[other] = socket;
  }
  while (static_cast<int>(c->in.size()) + 1 < c->agents) {
    if (!Ready(*c, c->listens, POLLIN)) return kSystemError;
    const int socket = accept4(c->listens, nullptr, nullptr, SOCK_CLOEXEC);
    int other = -1;
    if (socket < 0 || !Ready(*c, socket, POLLIN) || recv(socket, &other, sizeof(int), 0) != sizeof(int))
      return kSystemError;
    fcntl(socket, F_SETFL, O_NONBLOCK);
    c->in[other] = socket;
  }
  return kOk;
}

int DoGroup(Communicator* c) {
  std::vector<Transfer> left = std::exchange(c->group, {});
  while (!left.empty()) {
    if (c->aborted) return kSystemError;
    bool moved = false;
    std::map<std::pair<int, bool>, bool> busy;  // a pair's messages keep their order
    for (Transfer& t : left) {
      const bool sends = t.from != nullptr;
      if (t.bytes == 0 || std::exchange(busy[{t.agent, sends}], true)) continue;
      // As between GPUs: the first message of a pair waits until the other side takes it.
      char greeting = 0;
      if (sends && !c->greeted.contains(t.agent)) {
        if (recv(c->out.at(t.agent), &greeting, 1, 0) != 1) continue;
        c->greeted.insert(t.agent);
      }
      if (!sends && c->greets.insert(t.agent).second) send(c->in.at(t.agent), &greeting, 1, MSG_NOSIGNAL);
      const ssize_t n =
          sends ? send(c->out.at(t.agent), t.from, t.bytes, MSG_NOSIGNAL) : recv(c->in.at(t.agent), t.to, t.bytes, 0);
      if (n == 0 || (n < 0 && errno != EAGAIN)) return kSystemError;
      if (n < 0) continue;
      moved = true;
      t.bytes -= static_cast<size_t>(n);
      if (sends) {
        t.from += n;
      } else {
        t.to += n;
      }
    }
    std::erase_if(left, [](const Transfer& t) { return t.bytes == 0; });
    if (!moved) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return kOk;
}

// Until everything of the stream is done.
void FinishStream() {
  static const auto finish = [] {
    void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
    return reinterpret_cast<int (*)(void*)>(driver != nullptr ? dlsym(driver, "cuStreamSynchronize") : nullptr);
  }();
  finish(nullptr);
}

}  // namespace

extern "C" {

const char* ncclGetErrorString(int result) { return result == kSystemError ? "a fake system error" : "a fake error"; }

int ncclGetVersion(int* version) {
  *version = 22809;
  return kOk;
}
int ncclGetUniqueId(UniqueId* id) {
  uint64_t number = 0;
  if (getrandom(&number, sizeof(number), 0) != sizeof(number)) return kSystemError;
  *id = {};
  std::snprintf(id->bytes, sizeof(id->bytes), "%016llx", static_cast<unsigned long long>(number));
  return kOk;
}

int ncclCommInitRankConfig(Communicator** made, int agents, UniqueId id, int agent, const Config* config) {
  if (config->magic != 0xcafebeef || config->size < sizeof(Config) || config->blocking != 0) return kInvalid;
  auto* const c = new Communicator;
  c->id = id.bytes;
  c->agents = agents;
  c->agent = agent;
  c->listens = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un name;
  const socklen_t size = Name(c->id, agent, &name);
  if (bind(c->listens, reinterpret_cast<sockaddr*>(&name), size) != 0 || listen(c->listens, 64) != 0)
    return kSystemError;
  c->work = std::thread([c] { c->state = Form(c); });
  *made = c;
  return kUnderWay;
}

int ncclCommGetAsyncError(Communicator* c, int* state) {
  *state = c->state;
  return kOk;
}

int ncclCommAbort(Communicator* c) {
  c->aborted = true;
  if (c->work.joinable()) c->work.join();
  close(c->listens);
  for (const auto* sockets : {&c->out, &c->in})
    for (const auto& [agent, socket] : *sockets) close(socket);
  delete c;
  return kOk;
}

int ncclGroupStart() {
  grouped = nullptr;
  return kOk;
}
int ncclSend(const void* from, size_t count, int type, int agent, Communicator* c, void*) {
  if (type != 1) return kInvalid;
  grouped = c;
  c->group.push_back({.from = static_cast<const char*>(from), .bytes = count, .agent = agent});
  return kOk;
}
int ncclRecv(void* to, size_t count, int type, int agent, Communicator* c, void*) {
  if (type != 1) return kInvalid;
  grouped = c;
  c->group.push_back({.to = static_cast<char*>(to), .bytes = count, .agent = agent});
  return kOk;
}
int ncclGroupEnd() {
  Communicator* const c = grouped;
  if (c == nullptr) return kOk;
  FinishStream();
  if (c->work.joinable()) c->work.join();
  c->state = kUnderWay;
  c->work = std::thread([c] { c->state = DoGroup(c); });
  return kUnderWay;
}

}  // extern "C"
