// Who may look at every named buffer of a layer, right after each of the layer's words: tests that compare layer by
// layer, and debuggers. Costs one branch a word where there is none.
#pragma once
#include <cstdint>
#include <source_location>

namespace pangea {

// One buffer as it stands: rows of `columns` f32, `pitch` elements apart, as the host reads it.
struct Seen {
  const char* name = "";  // of the member of ActivationBuffers
  int layer = 0;          // of the model
  const float* data = nullptr;
  int64_t rows = 0, columns = 0, pitch = 0;
  std::source_location where;  // the line of the layer that has just run
};

class Tap {
 public:
  virtual ~Tap() = default;
  // On the executor thread, after the queue has finished; the data are good until it returns.
  virtual void See(const Seen& seen) = 0;
};

}  // namespace pangea
