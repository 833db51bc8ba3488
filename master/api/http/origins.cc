#include "master/api/http/origins.h"

#include <arpa/inet.h>

#include <algorithm>

#include "master/text/ascii.h"

namespace pangea {
namespace {

// "HOST", "HOST:PORT", "[V6]:PORT" -> host, without brackets, and port, where there is one.
struct Authority {
  std::string host, port;
};

Authority SplitAuthority(std::string_view text) {
  const bool bracket = !text.empty() && text[0] == '[';
  const size_t end = bracket ? text.find(']') : text.find(':');
  if (end == std::string_view::npos) return {std::string(text), ""};
  const std::string_view rest = text.substr(end + (bracket ? 1 : 0));
  const std::string_view host = bracket ? text.substr(1, end - 1) : text.substr(0, end);
  return {std::string(host), std::string(rest.empty() ? "" : rest.substr(1))};
}

bool IsAddress(const std::string& host) {
  char bytes[16];
  return inet_pton(AF_INET, host.c_str(), bytes) == 1 || inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

bool IsLoopback(const std::string& host) {
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6{};
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  constexpr std::string_view kName = "localhost";
  if (host.size() > kName.size() && host[host.size() - kName.size() - 1] != '.') return false;
  return host.size() >= kName.size() && SameName(std::string_view(host).substr(host.size() - kName.size()), kName);
}

// A browser leaves out the port that goes without saying; who writes a list may not.
std::string_view WithoutStandardPort(std::string_view origin) {
  for (const auto& [scheme, port] :
       {std::pair<std::string_view, std::string_view>{"http://", ":80"}, {"https://", ":443"}}) {
    if (origin.starts_with(scheme) && origin.ends_with(port)) origin.remove_suffix(port.size());
  }
  return origin;
}

}  // namespace

bool IsListedOrigin(const std::vector<std::string>& listed, std::string_view origin) {
  return std::any_of(listed.begin(), listed.end(), [&](const std::string& one) {
    return one == "*" || SameName(WithoutStandardPort(one), WithoutStandardPort(origin));
  });
}

bool IsHomeOrigin(std::string_view origin, std::string_view host, const HostPort& listen) {
  const size_t scheme = origin.find("://");
  if (scheme == std::string_view::npos || origin.find_first_of("/?#@\\, ", scheme + 3) != std::string_view::npos)
    return false;
  Authority page = SplitAuthority(origin.substr(scheme + 3)), here = SplitAuthority(host);
  if (IsLoopback(page.host)) return true;
  const std::string standard = origin.substr(0, scheme) == "https" ? "443" : "80";
  if (page.port.empty()) page.port = standard;
  if (here.port.empty()) here.port = standard;
  return SameName(page.host, here.host) && page.port == here.port &&
         (IsAddress(page.host) || SameName(page.host, listen.host));
}

}  // namespace pangea
