#include "master/listen.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

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

TEST(WhyNotListen, TellsTheSystemsReason) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{.sin_family = AF_INET};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
  const int port = ntohs(address.sin_port);
  EXPECT_EQ(WhyNotListen({"127.0.0.1", port}), "Address already in use");
  EXPECT_EQ(WhyNotListen({"0.0.0.0", port}), "Address already in use");
  close(fd);
  EXPECT_EQ(WhyNotListen({"127.0.0.1", port}), "");
  EXPECT_EQ(WhyNotListen({"192.0.2.1", 0}), "Cannot assign requested address");  // an address for examples: nobody's
  EXPECT_NE(WhyNotListen({"no-such-host.invalid", 0}), "");
}

}  // namespace
}  // namespace pangea
