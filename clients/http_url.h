// Base URLs of servers. Boost.URL 1.81 reads "http://h:x" as a path and lets ports wrap round, so this small grammar is
// ours.
#pragma once
#include <string>

#include "absl/status/statusor.h"

namespace pangea::clients {

struct HttpUrl {
  std::string host, port;  // IPv6 without brackets
  std::string path;        // without a final slash; may be empty
};
// "http://HOST[:PORT][/PATH]". InvalidArgument: anything else, https named as not supported.
absl::StatusOr<HttpUrl> ParseHttpUrl(const std::string& url);

}  // namespace pangea::clients
