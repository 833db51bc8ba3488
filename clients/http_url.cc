#include "clients/http_url.h"

#include <cstdlib>
#include <string_view>

#include "absl/strings/match.h"

namespace pangea::clients {
namespace {

constexpr std::string_view kHostCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
constexpr std::string_view kAddressCharacters = "0123456789abcdefABCDEF:.%";

bool Only(std::string_view text, std::string_view characters) {
  return !text.empty() && text.find_first_not_of(characters) == text.npos;
}

// Printable and no query, fragment or white space.
bool IsPath(std::string_view path) {
  for (char c : path) {
    if (c <= ' ' || c >= 0x7F || c == '?' || c == '#' || c == '\\') return false;
  }
  return true;
}

const char* DefaultPort(bool tls) { return tls ? "443" : "80"; }

}  // namespace

absl::StatusOr<HttpUrl> ParseHttpUrl(const std::string& url) {
  const absl::Status expected =
      absl::InvalidArgumentError("expected a URL such as http://127.0.0.1:8000, not \"" + url.substr(0, 200) + "\"");
  const bool tls = absl::StartsWithIgnoreCase(url, "https://");
  if ((!tls && !absl::StartsWithIgnoreCase(url, "http://")) || url.size() > 2000) return expected;
  std::string_view rest = std::string_view(url).substr(tls ? 8 : 7);
  const std::string_view authority = rest.substr(0, rest.find('/'));
  std::string_view path = rest.substr(authority.size());
  std::string_view host = authority, port = DefaultPort(tls);
  const size_t colon = authority.rfind(':');
  if (colon != authority.npos && authority.find(']', colon) == authority.npos) {
    host = authority.substr(0, colon);
    port = authority.substr(colon + 1);
  }
  if (host.starts_with('[')) {
    if (!host.ends_with(']') || host.size() < 4) return expected;
    host = host.substr(1, host.size() - 2);
    if (!Only(host, kAddressCharacters)) return expected;
  } else if (!Only(host, kHostCharacters)) {
    return expected;
  }
  const int number = Only(port, "0123456789") && port.size() <= 5 ? std::atoi(std::string(port).c_str()) : 0;
  if (number < 1 || number > 65535 || !IsPath(path)) return expected;
  const auto trim = [&path] {
    while (path.ends_with('/')) path.remove_suffix(1);
  };
  trim();
  for (std::string_view route : {"/chat/completions", "/completions", "/v1"}) {
    if (path.ends_with(route)) path.remove_suffix(route.size());
    trim();
  }
  return HttpUrl{std::string(host), std::string(port), std::string(path), tls};
}

std::string HostHeader(const HttpUrl& url) {
  const std::string host = url.host.find(':') == std::string::npos ? url.host : "[" + url.host + "]";
  return url.port == DefaultPort(url.tls) ? host : host + ":" + url.port;
}

}  // namespace pangea::clients
