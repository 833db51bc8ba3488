/* SentencePiece behind a C ABI, in a shared library of its own. Two reasons. Its header declares an absl::string_view
 * unlike the real one, so no file may include both. And libsentencepiece.so carries and exports another version of
 * Protobuf's runtime: were it on the executable's link line beside our static Protobuf, either could be bound to the
 * other's symbols. */
#pragma once
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct PangeaSentencePiece PangeaSentencePiece;
typedef void (*PangeaSentencePieceError)(void* arg, const char* message, size_t size);
typedef void (*PangeaSentencePieceIds)(void* arg, const int* ids, size_t count);

/* model: a serialised ModelProto. Null on failure, after error has been called. */
PangeaSentencePiece* pangea_sentencepiece_load(const char* model, size_t size, PangeaSentencePieceError error,
                                               void* arg);
void pangea_sentencepiece_free(PangeaSentencePiece* processor);
/* Calls ids once and returns 0, or calls error once and returns 1. Thread-safe. */
int pangea_sentencepiece_encode(const PangeaSentencePiece* processor, const char* text, size_t size,
                                PangeaSentencePieceIds ids, PangeaSentencePieceError error, void* arg);

#ifdef __cplusplus
}
#endif
