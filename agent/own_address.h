#pragma once
#include <string>

namespace pangea {

// This host's address as the way to the master (HOST:PORT) shows it: where peers reach this agent. Empty: there is no
// way.
std::string OwnAddressToward(const std::string& master);

}  // namespace pangea
