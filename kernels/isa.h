// Instruction set classes. One value per deployment, resolved at join, part of the fingerprint.
#pragma once
#include <optional>
#include <string_view>

namespace pangea {

enum class Isa : int { kReference = 0, kAvx2 = 1, kAvx512 = 2 };  // kAvx512: F BW VL DQ + VNNI

std::string_view IsaName(Isa isa);                 // "reference", "avx2", "avx512"
std::optional<Isa> IsaFromName(std::string_view);  // nullopt: unknown name
Isa BestIsa();                                     // what this CPU has

}  // namespace pangea
