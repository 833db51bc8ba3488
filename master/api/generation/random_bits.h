// 64 bits that nobody can guess, from the kernel. Not std::random_device: with libstdc++ each new one asks what the CPU
// can do, which a virtual machine answers in some 20 us.
#pragma once
#include <sys/random.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>

namespace pangea {

inline uint64_t RandomBits() {
  uint64_t bits = 0;
  while (getrandom(&bits, sizeof(bits), 0) != sizeof(bits)) {
    if (errno != EINTR) std::abort();  // a kernel that refuses it: guessable ids would be worse
  }
  return bits;
}

}  // namespace pangea
