// Abort with a message: only for our own bugs (a broken REQUIRES), never for what a user or a file can cause.
#pragma once
#include <cstdio>
#include <cstdlib>

#define PANGEA_CHECK(condition)                                                          \
  do {                                                                                   \
    if (!(condition)) [[unlikely]] {                                                     \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)

#ifdef NDEBUG
#define PANGEA_DCHECK(condition) static_cast<void>(0)
#else
#define PANGEA_DCHECK(condition) PANGEA_CHECK(condition)
#endif
