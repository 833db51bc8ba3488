// Where the tokens of an echoed prompt begin in its text. Thread safe.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "master/text/text.h"

namespace pangea {

// For each id the code point of `sent` at which its text begins; ids: what `sent` was encoded to, with what the
// tokenizer adds when add_special. What it adds, and what stands for nothing in the text, has no width. A tokenizer may
// have normalised, dropped or joined characters: the two texts are laid beside each other, and where they differ the
// nearest place from which they go on alike is taken. Never decreases, nor exceeds the text's end.
std::vector<int64_t> EchoOffsets(const Text& text, const std::string& sent, const std::vector<int32_t>& ids,
                                 bool add_special);

}  // namespace pangea
