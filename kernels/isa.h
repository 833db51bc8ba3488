// Instruction set classes. One value per deployment, resolved at join, part of the fingerprint.
#pragma once
#include <optional>
#include <string_view>

namespace pangea {

// kAvx512: F BW VL DQ + VNNI. kAmx: those, and tiles of int8 for the products of quantised weights.
enum class Isa : int { kReference = 0, kAvx2 = 1, kAvx512 = 2, kAmx = 3 };
inline constexpr Isa kIsas[] = {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAmx};

std::string_view IsaName(Isa isa);                 // "reference", "avx2", "avx512", "amx"
std::optional<Isa> IsaFromName(std::string_view);  // nullopt: unknown name
Isa BestIsa();                                     // what this CPU has

}  // namespace pangea
