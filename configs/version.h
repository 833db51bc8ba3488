// What this build calls itself, and what agents and master of one deployment must agree on.
#pragma once

namespace pangea {

inline constexpr char kVersion[] = "0.1.0";
inline constexpr int kProtocol = 5;   // of protos/agent.proto: raise it when a message changes its meaning
inline constexpr int kExactness = 2;  // of docs/exactness.md: raise it when a line of the definition changes
// The compiler is a part of it, because it may compute another value where the definition leaves one open.
inline constexpr char kBuild[] = "pangea 0.1.0, protocol 4, compiler " __VERSION__;

}  // namespace pangea
