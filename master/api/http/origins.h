// Which web pages may use the server. A browser tells the origin of the page that asks; other clients send none. Pure
// functions.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "configs/deployment.h"

namespace pangea {

// The operator has named it, or "*": its pages may use the server and read its answers.
bool IsListedOrigin(const std::vector<std::string>& listed, std::string_view origin);

// A page on the user's own machine (localhost, 127.0.0.0/8, ::1, any port), or one that this server itself gave out:
// the origin is what the request names as its Host, and that is an address or the name that the server listens at. Any
// other name proves nothing: whoever owns it can make it point here (DNS rebinding).
bool IsHomeOrigin(std::string_view origin, std::string_view host, const HostPort& listen);

}  // namespace pangea
