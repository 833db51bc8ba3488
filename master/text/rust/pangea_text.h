/* The C ABI of the Rust text libraries (tokenizers, chat templates, jieba-rs). Strings are pointer + length, UTF-8, not
 * terminated. Functions that return int: 0 = done, 1 = failed and *error says why (free it). A panic inside becomes
 * such a failure. What is handed out is owned by the caller and given back to the free function of its kind. Handles
 * may be used by many threads. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  uint8_t* data; /* null when size is 0 */
  size_t size;
} PangeaBuffer;
void pangea_buffer_free(PangeaBuffer buffer);

typedef struct {
  uint32_t* data; /* null when size is 0 */
  size_t size;
} PangeaIds;
void pangea_ids_free(PangeaIds ids);

/* --- tokenizer.json --- */
typedef struct PangeaTokenizer PangeaTokenizer;
int pangea_tokenizer_load(const uint8_t* json, size_t size, PangeaTokenizer** out, PangeaBuffer* error);
void pangea_tokenizer_free(PangeaTokenizer* tokenizer);
/* Added tokens that are special are never recognised in the text (the caller splits there); other added tokens always
 * are. add_special: what the file's post-processor adds. */
int pangea_tokenizer_encode(const PangeaTokenizer* tokenizer, const uint8_t* text, size_t size, int add_special,
                            PangeaIds* ids, PangeaBuffer* error);
/* Every token, in rising order of ids: u32 id, u32 flags, u32 length (native byte order), then the token's characters
 * as they stand in the vocabulary. */
enum {
  PANGEA_PIECE_ADDED = 1,
  PANGEA_PIECE_SPECIAL = 2,
  PANGEA_PIECE_LSTRIP = 4,
  PANGEA_PIECE_RSTRIP = 8,
  PANGEA_PIECE_SINGLE_WORD = 16
};
int pangea_tokenizer_pieces(const PangeaTokenizer* tokenizer, PangeaBuffer* out, PangeaBuffer* error);

/* --- chat template --- */
typedef struct PangeaTemplate PangeaTemplate;
int pangea_template_load(const uint8_t* source, size_t size, PangeaTemplate** out, PangeaBuffer* error);
void pangea_template_free(PangeaTemplate* chat_template);
/* What a template is rendered with. Bounded by a fixed number of steps and bytes. */
typedef struct {
  const uint8_t* data;
  size_t size;
} PangeaText;
typedef struct {
  PangeaText messages; /* a JSON array; members keep their order, numbers their kind */
  PangeaText kwargs;   /* a JSON object: chat_template_kwargs */
  PangeaText names;    /* a JSON object: bos_token, ... */
  int add_generation_prompt;
  size_t max_output; /* bytes */
} PangeaChat;
/* The special tokens that a text may spell. `at`: the length of the longest that begins at text[at], 0: none.
 * `open_end`: the length of the longest end of text that begins one. */
typedef struct {
  const void* tokens;
  size_t (*at)(const void* tokens, const uint8_t* text, size_t size, size_t at);
  size_t (*open_end)(const void* tokens, const uint8_t* text, size_t size);
} PangeaSpellings;
/* out[0]: the text. With spellings (may be null) every spelling in messages and kwargs carries the mark out[1], as
 * chat.h says. */
int pangea_template_render(const PangeaTemplate* chat_template, const PangeaChat* chat,
                           const PangeaSpellings* spellings, PangeaBuffer out[2], PangeaBuffer* error);

/* --- grammars (llguidance) --- */
/* The bytes of ids 0 to count - 1: lengths[i] of them, one id's behind another's in `bytes`. special[i] not 0: an id
 * that is no text. ends: ids that end an answer, at least one. */
typedef struct PangeaVocabulary PangeaVocabulary;
int pangea_vocabulary_new(const uint8_t* bytes, const uint32_t* lengths, const uint8_t* special, size_t count,
                          const uint32_t* ends, size_t end_count, PangeaVocabulary** out, PangeaBuffer* error);
void pangea_vocabulary_free(PangeaVocabulary* vocabulary);
/* An answer that follows a grammar, before its first id. kind: 0 a JSON schema, 1 a regular expression, 2 a JSON list
 * of strings, 3 Lark; bounded by fuel. A guide is used by one thread at a time; its copies are apart from it. */
typedef struct PangeaGuide PangeaGuide;
int pangea_guide_new(const PangeaVocabulary* vocabulary, int kind, const uint8_t* text, size_t size, PangeaGuide** out,
                     PangeaBuffer* error);
int pangea_guide_copy(const PangeaGuide* guide, PangeaGuide** out, PangeaBuffer* error);
void pangea_guide_free(PangeaGuide* guide);
int pangea_guide_take(PangeaGuide* guide, uint32_t id, PangeaBuffer* error);
/* Bit b of words[w]: whether id 64 w + b may come next. */
int pangea_guide_mask(PangeaGuide* guide, uint64_t* words, size_t count, PangeaBuffer* error);

/* --- jieba --- */
typedef struct PangeaJieba PangeaJieba;
int pangea_jieba_new(PangeaJieba** out, PangeaBuffer* error);
void pangea_jieba_free(PangeaJieba* jieba);
/* PanGu-alpha's segmentation: jieba (HMM on), in every segment ' ' -> U+2582 and '\n' -> U+2583, segments joined by '
 * '. */
int pangea_jieba_segment(const PangeaJieba* jieba, const uint8_t* text, size_t size, PangeaBuffer* out,
                         PangeaBuffer* error);

#ifdef __cplusplus
}
#endif
