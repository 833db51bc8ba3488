// Base URLs of servers. Boost.URL 1.81 reads "http://h:x" as a path and lets ports wrap round, so this small grammar is
// ours.
#pragma once
#include <string>

#include "absl/status/statusor.h"

namespace pangea::clients {

struct HttpUrl {
  std::string host, port;  // IPv6 without brackets
  std::string path;        // what comes before /v1 in every route; without a final slash; may be empty
  bool tls = false;        // https
};
// "http://HOST[:PORT][/PATH]", or https. A final "/v1" is dropped, since clients of the OpenAI API are given it with
// the base URL, and so is the route of an answer, which is easily pasted. InvalidArgument: anything else.
absl::StatusOr<HttpUrl> ParseHttpUrl(const std::string& url);
// What the header `Host` says (RFC 9110, 7.2): the scheme's own port is left out.
std::string HostHeader(const HttpUrl& url);

}  // namespace pangea::clients
