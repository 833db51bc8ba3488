#include "master/api/http/origins.h"

#include <gtest/gtest.h>

namespace pangea {
namespace {

TEST(Origins, ListedOriginsAreAllowed) {
  EXPECT_TRUE(IsListedOrigin({"https://a.example", "http://b:3000"}, "http://b:3000"));
  EXPECT_TRUE(IsListedOrigin({"https://A.example"}, "https://a.EXAMPLE"));
  EXPECT_TRUE(IsListedOrigin({"*"}, "https://anything"));
  // Browsers leave a standard port out.
  EXPECT_TRUE(IsListedOrigin({"https://a.example:443"}, "https://a.example"));
  EXPECT_TRUE(IsListedOrigin({"http://[fd00::80]:80"}, "http://[fd00::80]"));
  EXPECT_FALSE(IsListedOrigin({"https://a.example:80"}, "https://a.example"));
  EXPECT_FALSE(IsListedOrigin({"http://a.example:8080"}, "http://a.example:80"));
  EXPECT_TRUE(IsListedOrigin({"null"}, "null"));
  for (const char* other :
       {"http://a.example", "https://a.example:8443", "https://a.example.org", "https://xa.example", "null"})
    EXPECT_FALSE(IsListedOrigin({"https://a.example"}, other)) << other;
  EXPECT_FALSE(IsListedOrigin({}, "http://localhost"));
}

TEST(Origins, PagesOfThisMachineAndOfThisServer) {
  const HostPort all{"0.0.0.0", 8000}, named{"llm.lan", 8000};
  // A page on the user's own machine, whatever its port and whatever the server is called.
  for (const char* origin :
       {"http://localhost", "http://localhost:3000", "https://LOCALHOST", "http://app.localhost:5173",
        "http://127.0.0.1:8000", "http://127.8.9.1", "http://[::1]:3000", "tauri://localhost"})
    EXPECT_TRUE(IsHomeOrigin(origin, "llm.lan:8000", all)) << origin;
  // A page that the server gave out itself.
  EXPECT_TRUE(IsHomeOrigin("http://192.168.1.5:8000", "192.168.1.5:8000", all));
  EXPECT_TRUE(IsHomeOrigin("http://[fd00::5]:8000", "[fd00::5]:8000", all));
  EXPECT_TRUE(IsHomeOrigin("http://llm.lan:8000", "llm.lan:8000", named));
  EXPECT_TRUE(IsHomeOrigin("http://192.168.1.5", "192.168.1.5:80", all)) << "the port that goes without saying";
  EXPECT_TRUE(IsHomeOrigin("https://192.168.1.5", "192.168.1.5", all));
  // Of others, those that look alike too.
  for (const auto& [origin, host] : std::vector<std::pair<std::string, std::string>>{
           {"http://evil.example:8000", "evil.example:8000"},  // a name that was made to point here
           {"http://llm.lan:8000", "llm.lan:8000"},            // likewise: the server listens at no name
           {"http://6.6.6.6:8000", "192.168.1.5:8000"},
           {"http://192.168.1.5:9000", "192.168.1.5:8000"},
           {"http://localhost.evil.example", "127.0.0.1:8000"},
           {"http://notlocalhost", "127.0.0.1:8000"},
           {"http://127.0.0.1.evil.example", "127.0.0.1:8000"},
           {"http://evil.example#localhost", "127.0.0.1:8000"},
           {"http://evil.example/localhost", "127.0.0.1:8000"},
           {"http://localhost@evil.example", "127.0.0.1:8000"},
           {"http://user@localhost", "127.0.0.1:8000"},
           {"chrome-extension://abcdef", "127.0.0.1:8000"},
           {"localhost", "localhost:8000"},
           {"http://", ""},
           {"http://[::1", "127.0.0.1:8000"},
           {"null", "127.0.0.1:8000"}})
    EXPECT_FALSE(IsHomeOrigin(origin, host, all)) << origin;
}

}  // namespace
}  // namespace pangea
