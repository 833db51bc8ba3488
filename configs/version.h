// What this build calls itself. Agents and master of one deployment must agree on it to the letter: the compiler is
// part of it, because the exactness contract holds for one build.
#pragma once

namespace pangea {

inline constexpr char kVersion[] = "0.1.0";
inline constexpr char kBuild[] = "pangea 0.1.0, protocol 1, compiler " __VERSION__;

}  // namespace pangea
