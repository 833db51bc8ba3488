#include "master/listen.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <utility>

#include "configs/cat.h"

namespace pangea {
namespace {

std::vector<std::string> Collisions(const std::string& rest, const std::string& grpc,
                                    const std::string& control = "127.0.0.1:0") {
  Deployment d;
  d.rest.listen = rest, d.grpc.listen = grpc, d.control.listen = control;
  std::vector<std::string> texts;
  for (const DeploymentFault& fault : ListenCollisions(d)) texts.push_back(fault.Text());
  return texts;
}

TEST(ListenCollisions, OneAddressUnderTwoNames) {
  const struct {
    const char *rest, *grpc;
    bool collide;
  } kCases[] = {
      {"127.0.0.1:8000", "127.0.0.1:8000", true},       {"127.0.0.1:8000", "127.0.0.1:8001", false},
      {"127.0.0.1:8000", "127.0.0.2:8000", false},      {"localhost:8000", "127.0.0.1:8000", true},
      {"127.0.0.1:8000", "localhost:8000", true},       {"LOCALHOST:8000", "localhost:8000", true},
      {"localhost:8000", "127.0.0.2:8000", false},      {"[::ffff:127.0.0.1]:8000", "127.0.0.1:8000", true},
      {"127.0.0.1:8000", "[::ffff:7f00:1]:8000", true}, {"[::1]:8000", "[0:0::0:1]:8000", true},
      {"[::1]:8000", "127.0.0.1:8000", false},          {"[::1]:8000", "[::2]:8000", false},
      {"0177.0.0.1:8000", "127.0.0.1:8000", true},  // octal, as the system reads it
  };
  for (const auto& c : kCases) EXPECT_EQ(!Collisions(c.rest, c.grpc).empty(), c.collide) << c.rest << " " << c.grpc;
}

TEST(ListenCollisions, AWildcardCoversEveryAddress) {
  const struct {
    const char *rest, *grpc;
    bool collide;
  } kCases[] = {
      {"0.0.0.0:8000", "127.0.0.1:8000", true}, {"127.0.0.1:8000", "0.0.0.0:8000", true},
      {"0.0.0.0:8000", "localhost:8000", true}, {"0.0.0.0:8000", "[::ffff:127.0.0.1]:8000", true},
      {"0.0.0.0:8000", "[::1]:8000", true},     {"[::1]:8000", "0.0.0.0:8000", true},
      {"*:8000", "127.0.0.1:8000", true},       {"[::1]:8000", "[::]:8000", true},
      {"127.0.0.1:8000", "[::]:8000", true},    {"[::]:8000", "127.0.0.1:8000", true},
      {"0.0.0.0:8000", "[::]:8000", true},      {"0.0.0.0:0", "0.0.0.0:0", false},  // the system picks two ports
      {"0.0.0.0:8000", "0.0.0.0:8001", false},
  };
  for (const auto& c : kCases) EXPECT_EQ(!Collisions(c.rest, c.grpc).empty(), c.collide) << c.rest << " " << c.grpc;
}

TEST(ListenCollisions, TheAgentsPortIsLookedAtTooAndBothAreNamed) {
  EXPECT_EQ(Collisions("127.0.0.1:8000", "127.0.0.1:8001", "0.0.0.0:8001"),
            std::vector<std::string>{
                "control.listen: 0.0.0.0:8001 is taken by grpc.listen, which listens on 127.0.0.1:8001"});
  EXPECT_EQ(Collisions("localhost:8000", "127.0.0.1:8001", "127.0.0.1:8000"),
            std::vector<std::string>{
                "control.listen: 127.0.0.1:8000 is taken by rest.listen, which listens on localhost:8000"});
  EXPECT_TRUE(Collisions("no-such-host.invalid:8000", "127.0.0.1:8000").empty());
  EXPECT_EQ(Collisions("no-such-host.invalid:8000", "no-such-host.invalid:8000").size(), 1u);
}

class Sockets {
 public:
  explicit Sockets(absl::StatusOr<std::vector<Listening>> made) : made_(std::move(made)) {}
  ~Sockets() {
    for (size_t i = 0; i < size(); ++i) close((*made_)[i].descriptor);
  }
  size_t size() const { return made_.ok() ? made_->size() : 0; }
  int port(size_t i) const { return made_->at(i).port; }
  std::string error() const { return std::string(made_.status().message()); }

 private:
  absl::StatusOr<std::vector<Listening>> made_;
};

TEST(ListenAt, EveryAddressOfANameOnOnePort) {
  const Sockets two(ListenAt({"127.0.0.1", "127.0.0.2", "127.0.0.1"}, 0));
  ASSERT_EQ(two.size(), 2u) << two.error();
  EXPECT_EQ(two.port(0), two.port(1));
  // One that is taken is a fault, even where another is free; one that the host has not is left out.
  EXPECT_EQ(Sockets(ListenAt({"127.0.0.3", "127.0.0.2"}, two.port(0))).error(), "Address already in use");
  EXPECT_EQ(Sockets(ListenAt({"203.0.113.1", "127.0.0.1"}, 0)).size(), 1u);
  EXPECT_EQ(Sockets(ListenAt({"0.0.0.0"}, 0)).size(), 1u);
  EXPECT_GE(Sockets(ListenAt({"localhost"}, 0)).size(), 1u);
}

TEST(ListenAt, TellsTheSystemsReason) {
  auto taken = std::make_unique<Sockets>(ListenAt({"127.0.0.1"}, 0));
  const int port = taken->port(0);
  EXPECT_EQ(Sockets(ListenAt({"127.0.0.1"}, port)).error(), "Address already in use");
  EXPECT_EQ(Sockets(ListenAt({"0.0.0.0"}, port)).error(), "Address already in use");
  EXPECT_EQ(Sockets(ListenAt({"*"}, port)).error(), "Address already in use");
  taken.reset();
  EXPECT_EQ(Sockets(ListenAt({"127.0.0.1"}, port)).error(), "");
  // an address for examples: nobody's
  EXPECT_EQ(Sockets(ListenAt({"192.0.2.1"}, 0)).error(), "Cannot assign requested address");
  EXPECT_NE(Sockets(ListenAt({"no-such-host.invalid"}, 0)).error(), "");
}

// True: somebody takes the connection, and says so by a byte, within the time.
bool IsTaken(int port, int milliseconds) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  pollfd answer{.fd = fd, .events = POLLIN, .revents = 0};
  char byte = 0;
  const bool taken = poll(&answer, 1, milliseconds) == 1 && read(fd, &byte, 1) == 1;
  close(fd);
  return taken;
}

TEST(Acceptor, TakesWhoComesAfterAMomentWithoutDescriptors) {
  std::atomic<int> count = 0;
  Acceptor acceptor(ListenAt({"127.0.0.1"}, 0).value(), [&](int, int connection) {
    ++count;
    EXPECT_EQ(write(connection, "x", 1), 1);
    close(connection);
  });
  ASSERT_TRUE(IsTaken(acceptor.port(), 10'000));
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const int next = dup(0);
  close(next);
  {
    // One descriptor is left, the client's own.
    rlimit none = limit;
    none.rlim_cur = static_cast<rlim_t>(next) + 1;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    EXPECT_FALSE(IsTaken(acceptor.port(), 300));
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  }
  EXPECT_TRUE(IsTaken(acceptor.port(), 10'000));
  EXPECT_EQ(count, 3) << "who waited meanwhile is taken too";
}

TEST(Acceptor, LeavesThePortWhenItGoes) {
  int port = 0;
  {
    Acceptor acceptor(ListenAt({"127.0.0.1"}, 0).value(), [](int, int connection) { close(connection); });
    port = acceptor.port();
  }
  EXPECT_EQ(Sockets(ListenAt({"127.0.0.1"}, port)).size(), 1u);
}

}  // namespace
}  // namespace pangea
