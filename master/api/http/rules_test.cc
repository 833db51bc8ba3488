#include "master/api/http/rules.h"

#include <gtest/gtest.h>

#include <vector>

namespace pangea {
namespace {

const HeadLimits kLimits{1024, 10};

int StatusOf(const std::string& input) {
  const HeadScan scan = ScanHead(input, kLimits);
  return scan.fault ? scan.fault->status : scan.complete > 0 ? 200 : 0;
}

TEST(HttpRules, CompleteHeads) {
  for (const std::string head : {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
                                 "POST /a?b=c HTTP/1.1\r\nhOsT:x\r\nContent-Length: 5\r\n\r\n",
                                 "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked \r\n\r\n",
                                 "BREW http://x/y HTTP/1.1\r\nHost: x\r\nA: \t b\xC3\xA9\r\nEmpty:\r\n\r\n"}) {
    EXPECT_EQ(ScanHead(head, kLimits).complete, head.size()) << head;
    EXPECT_EQ(ScanHead(head + "rest\n\n", kLimits).complete, head.size());
    // Every beginning is neither a fault nor complete.
    for (size_t n = 0; n < head.size(); ++n) EXPECT_EQ(StatusOf(head.substr(0, n)), 0) << head.substr(0, n);
  }
}

TEST(HttpRules, Refused) {
  const std::string start = "POST / HTTP/1.1\r\nHost: x\r\n";
  const std::vector<std::pair<std::string, int>> cases = {
      {start + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {start + "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400},
      {start + "Transfer-Encoding: chunked, identity\r\n\r\n", 400},
      {start + "Transfer-Encoding: identity, chunked\r\n\r\n", 400},
      {start + "Transfer-Encoding: xchunked\r\n\r\n", 400},
      {start + "Transfer-Encoding: \x0b"
               "chunked\r\n\r\n",
       400},
      {start + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {start + "Transfer-Encoding : chunked\r\n\r\n", 400},
      {start + "Transfer-Encoding\t: chunked\r\n\r\n", 400},
      {start + "X: a\r\n Transfer-Encoding: chunked\r\n\r\n", 400},
      {start + "X: a\r\n\tb\r\n\r\n", 400},
      {start + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
      {start + "Content-Length: 1, 1\r\n\r\n", 400},
      {start + "Content-Length: +1\r\n\r\n", 400},
      {start + "Content-Length: -1\r\n\r\n", 400},
      {start + "Content-Length: 0x10\r\n\r\n", 400},
      {start + "Content-Length: 99999999999999999999\r\n\r\n", 400},
      {start + "Content-Length:\r\n\r\n", 400},
      {start + "Content-Length: 1\nX: y\r\n\r\n", 400},
      {start + "X: a\rb\r\n\r\n", 400},
      {start + std::string("X\0Y: 1\r\n\r\n", 10), 400},
      {start + std::string("X: \0\r\n\r\n", 8), 400},
      {start + "X Y: 1\r\n\r\n", 400},
      {start + ": 1\r\n\r\n", 400},
      {start + "nocolon\r\n\r\n", 400},
      {start + "Host: y\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"GET / HTTP/9.9\r\n", 505},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"GET /\r\n", 400},
      {"GET  / HTTP/1.1\r\n", 400},
      {"GET / HTTP/1.1 \r\n", 400},
      {"GET / http/1.1\r\n", 400},
      {"GET /\xC3\xA9 HTTP/1.1\r\n", 400},
      {" GET / HTTP/1.1\r\n", 400},
      {"G\tT / HTTP/1.1\r\n", 400},
      {"GET / HTTP/1.1\n", 400},
      {std::string("\x16\x03\x01\x00\xc8", 5), 400},
      {std::string(20000, 'a'), 414},
      {"GET /" + std::string(9000, 'a') + " HTTP/1.1\r\n", 414},
      {start + "X: " + std::string(2000, 'a'), 431},
      {start + "X: " + std::string(2000, 'a') + "\r\n\r\n", 431},
      {start + "A:1\r\nB:1\r\nC:1\r\nD:1\r\nE:1\r\nF:1\r\nG:1\r\nH:1\r\nI:1\r\nJ:1\r\n\r\n", 431},
  };
  for (const auto& [head, status] : cases) EXPECT_EQ(StatusOf(head), status) << head.substr(0, 200);
}

TEST(HttpRules, Paths) {
  EXPECT_EQ(TargetPath("/v1/models"), "/v1/models");
  EXPECT_EQ(TargetPath("/v1/models?x=%zz"), "/v1/models");
  EXPECT_EQ(TargetPath("http://host:1/a%20b"), "/a b");
  EXPECT_EQ(TargetPath("http://host"), "/");
  EXPECT_EQ(TargetPath("/v1/models/%2e%2e"), "/v1/models/..");
  EXPECT_EQ(TargetPath("/a%2Fb"), "/a/b");
  EXPECT_EQ(TargetPath("/%25"), "/%");
  for (const char* bad : {"*", "", "a", "/%", "/%4", "/%g0", "/%00", "/%0a"})
    EXPECT_EQ(TargetPath(bad), std::nullopt) << bad;
  EXPECT_EQ(EmptyLines("\r\n\r\nGET"), 4u);
  EXPECT_EQ(EmptyLines("\nGET"), 0u);
}

}  // namespace
}  // namespace pangea
