#include "master/api/http/rules.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "master/text/ascii.h"

namespace pangea {
namespace {

constexpr size_t kMaxTarget = 8192;

bool IsAlnum(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsToken(char c) { return IsAlnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos; }

std::string_view Trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

using Fault = std::optional<HttpFault>;

Fault CheckVersion(std::string_view version) {
  const bool shaped = version.size() == 8 && version.substr(0, 5) == "HTTP/" && absl::ascii_isdigit(version[5]) &&
                      version[6] == '.' && absl::ascii_isdigit(version[7]);
  if (!shaped) return HttpFault{400, "malformed request line"};
  if (version != "HTTP/1.0" && version != "HTTP/1.1")
    return HttpFault{505, "only HTTP/1.0 and HTTP/1.1 are spoken here"};
  return std::nullopt;
}

Fault CheckRequestLine(std::string_view line) {
  const size_t first = line.find(' ');
  if (first == 0 || first == std::string_view::npos) return HttpFault{400, "malformed request line"};
  const size_t second = line.find(' ', first + 1);
  if (second == std::string_view::npos || second == first + 1) return HttpFault{400, "malformed request line"};
  if (!std::all_of(line.begin(), line.begin() + first, IsToken)) return HttpFault{400, "malformed method"};
  const std::string_view target = line.substr(first + 1, second - first - 1);
  if (target.size() > kMaxTarget) return HttpFault{414, "the request target is too long"};
  if (!std::all_of(target.begin(), target.end(), [](char c) { return c > 0x20 && c < 0x7f; }))
    return HttpFault{400, "malformed request target"};
  return CheckVersion(line.substr(second + 1));
}

struct Fields {
  int hosts = 0, lengths = 0, encodings = 0, count = 0;
};

Fault CheckField(std::string_view line, Fields* fields) {
  if (line[0] == ' ' || line[0] == '\t') return HttpFault{400, "folded header lines are not accepted"};
  const size_t colon = line.find(':');
  if (colon == 0 || colon == std::string_view::npos) return HttpFault{400, "malformed header line"};
  const std::string_view name = line.substr(0, colon), value = Trim(line.substr(colon + 1));
  if (!std::all_of(name.begin(), name.end(), IsToken)) return HttpFault{400, "malformed header name"};
  const bool printable =
      std::all_of(value.begin(), value.end(), [](unsigned char c) { return c == '\t' || (c >= 0x20 && c != 0x7f); });
  if (!printable) return HttpFault{400, "control character in a header"};
  ++fields->count;
  if (SameName(name, "host")) ++fields->hosts;
  if (SameName(name, "content-length")) {
    if (++fields->lengths > 1) return HttpFault{400, "more than one Content-Length"};
    if (value.empty() || value.size() > 18 || !std::all_of(value.begin(), value.end(), absl::ascii_isdigit))
      return HttpFault{400, "malformed Content-Length"};
  }
  if (SameName(name, "transfer-encoding")) {
    if (++fields->encodings > 1 || !SameName(value, "chunked"))
      return HttpFault{400, "the only Transfer-Encoding accepted is 'chunked'"};
  }
  return std::nullopt;
}

Fault CheckTogether(std::string_view request_line, const Fields& fields) {
  const bool old = request_line.substr(request_line.size() - 3) == "1.0";
  if (fields.hosts > 1 || (fields.hosts == 0 && !old)) return HttpFault{400, "exactly one Host header is required"};
  if (fields.encodings > 0 && fields.lengths > 0)
    return HttpFault{400, "Content-Length and Transfer-Encoding together"};
  if (fields.encodings > 0 && old) return HttpFault{400, "Transfer-Encoding in HTTP/1.0"};
  return std::nullopt;
}

// What an unfinished first line already shows; TLS and other protocols are recognised by their first bytes.
Fault CheckBeginning(std::string_view rest) {
  const size_t space = std::min(rest.find(' '), rest.size());
  if (!std::all_of(rest.begin(), rest.begin() + space, [](char c) { return IsToken(c) || c == '\r'; }))
    return HttpFault{400, "this is not an HTTP request"};
  if (rest.size() > kMaxTarget + 64) return HttpFault{414, "the request target is too long"};
  return std::nullopt;
}

}  // namespace

size_t EmptyLines(std::string_view input) {
  size_t at = 0;
  while (input.substr(at, 2) == "\r\n") at += 2;
  return at;
}

HeadScan ScanHead(std::string_view input, const HeadLimits& limits) {
  Fields fields;
  std::string_view request_line;
  for (size_t at = 0; at < input.size();) {
    const size_t end = input.find('\n', at);
    if (end == std::string_view::npos) {
      if (request_line.empty()) {
        if (auto f = CheckBeginning(input)) return {f};
      }
      break;
    }
    if (end == at || input[end - 1] != '\r') return {HttpFault{400, "a line ends without CRLF"}};
    const std::string_view line = input.substr(at, end - 1 - at);
    at = end + 1;
    if (at > limits.bytes)
      return {HttpFault{request_line.empty() ? 414 : 431, "the request's head is too large", "header_bytes"}};
    if (request_line.empty()) {
      if (auto f = CheckRequestLine(line)) return {f};
      request_line = line;
    } else if (line.empty()) {
      if (auto f = CheckTogether(request_line, fields)) return {f};
      return {std::nullopt, at};
    } else {
      if (auto f = CheckField(line, &fields)) return {f};
      if (fields.count > limits.fields) return {HttpFault{431, "too many headers"}};
    }
  }
  if (input.size() > limits.bytes) return {HttpFault{431, "the request's head is too large", "header_bytes"}};
  return {};
}

std::optional<std::string> TargetPath(std::string_view target) {
  const size_t scheme = target.find("://");
  if (!target.empty() && target[0] != '/' && scheme != std::string_view::npos) {
    const size_t slash = target.find('/', scheme + 3);
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
  }
  if (target.empty() || target[0] != '/') return std::nullopt;
  target = target.substr(0, target.find_first_of("?#"));
  std::string path;
  for (size_t i = 0; i < target.size(); ++i) {
    if (target[i] != '%') {
      path += target[i];
      continue;
    }
    const int high = i + 2 < target.size() ? HexValue(target[i + 1]) : -1,
              low = i + 2 < target.size() ? HexValue(target[i + 2]) : -1;
    if (high < 0 || low < 0 || high * 16 + low < 0x20) return std::nullopt;
    path += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return path;
}

}  // namespace pangea
