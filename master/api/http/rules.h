// What a request's head must be before a parser sees it: RFC 9112 read strictly, because two readers that disagree
// about where a message ends are how requests are smuggled. Pure functions.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace pangea {

// The connection is answered with this and closed: what follows in it cannot be trusted.
struct HttpFault {
  int status = 400;
  const char* message = "";
  const char* limit = "";  // of the deployment file, that it breaks
};

struct HeadLimits {
  size_t bytes = 16384;
  int fields = 100;
};

// Looks for a whole head at the start of `input`, as early as its bytes allow: a head that can no longer become valid
// is a fault at once, not when it is complete (or never). complete: bytes of the head, up to and with its empty line;
// 0: more is needed.
struct HeadScan {
  std::optional<HttpFault> fault;
  size_t complete = 0;
};
HeadScan ScanHead(std::string_view input, const HeadLimits& limits);

// Bytes of empty lines before a request, which a server should skip (RFC 9112, 2.2).
size_t EmptyLines(std::string_view input);

// origin-form or absolute-form target -> its path, percent-decoded, without the query. nullopt: malformed.
std::optional<std::string> TargetPath(std::string_view target);

}  // namespace pangea
