// What one agent computes a step in: which buffers there are, of which shape, and who uses them. T says what is known
// of each: its bytes (int64_t, the planner's) or where it lies (float*, the stage's). One list for both, so that the
// plan counts what an agent holds.
#pragma once
#include <array>
#include <cstdint>

namespace pangea {

// R: rows of the largest step. d: hidden size. q, kv, f: this rank's columns of queries, keys, feed-forward.
template <class T>
struct ActivationBuffers {
  // Activations of the layers.
  T x{};          // [R][d]        the residual: from the embedding or the stage before, to the stage behind or the head
  T normed{};     // [R][d]        what a half layer's first product reads; Embed's rows of the position table
  T qkv{};        // [R][q+2kv]    queries, keys, values; of the query layer keys and values alone
  T query_in{};   // [R][d]        the query layer's rows of its table; models that have one
  T query{};      // [R][q]        its queries
  T heads{};      // [R][q]        attention's output
  T up{};         // [R][f or 2f]  gate and up, side by side
  T gated{};      // [R][f]        what the FFN's last product reads
  T packed{};     // bytes         the activations of the product that runs, packed
  T workspace{};  // bytes        of a library's products, widened weights; CUDA agents that need not be exact
  // Attention.
  T attention{};  // bytes        AttentionScratchBytes
  // Communication.
  T mine{};  // [vectors][R][d]   this rank's partial sums of a K-split product
  T all{};   // [vectors][R][d]   those of all ranks; several ranks only
  // Sampler; the last stage only.
  T judged{};  // [L][d]                L: LogitRowsAtOnce. The rows whose logits are wanted
  T logits{};  // [L][vocabulary slice] where the device draws, of all ranks' slices
  T raw{};     // [L][as logits]        logits before penalties and temperature, for log-probabilities; where the device
               //                       draws, those after them, and first of all this rank's slice
  T drawing{};  // bytes                 SamplingBytes; of an agent whose device draws ids itself

  std::array<T*, 17> list() {
    return {&x,         &normed,    &qkv,  &query_in, &query,  &heads,  &up,  &gated,  &packed,
            &workspace, &attention, &mine, &all,      &judged, &logits, &raw, &drawing};
  }
};

// Rows of logits made at a time, never prompt x vocabulary: so many, or where the device draws up to so many.
inline constexpr int64_t kLogitRows = 32, kMostLogitRows = 256;

}  // namespace pangea
