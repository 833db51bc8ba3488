// Text on its way to and from a terminal.
#pragma once
#include <string>
#include <string_view>

namespace pangea::clients {

bool ValidUtf8(std::string_view text);  // RFC 3629: no overlong forms, no surrogates

// Text that a model wrote, safe to print on a terminal: control characters but for line feed and tab become U+FFFD, so
// that no escape sequence of a model's making reaches it. C1 controls (U+0080 to U+009F) too.
std::string ForTerminal(std::string_view text);

}  // namespace pangea::clients
