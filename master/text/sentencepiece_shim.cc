// No Abseil here: see the header.
#include "master/text/sentencepiece_shim.h"

#include <sentencepiece_processor.h>

#include <exception>
#include <memory>
#include <string>
#include <vector>

#define PANGEA_EXPORT __attribute__((visibility("default")))

struct PangeaSentencePiece {
  sentencepiece::SentencePieceProcessor processor;
};

namespace {

void Report(PangeaSentencePieceError error, void* arg, const std::string& message) {
  error(arg, message.data(), message.size());
}

}  // namespace

extern "C" PANGEA_EXPORT PangeaSentencePiece* pangea_sentencepiece_load(const char* model, size_t size,
                                                                        PangeaSentencePieceError error, void* arg) {
  try {
    auto out = std::make_unique<PangeaSentencePiece>();
    const auto status = out->processor.LoadFromSerializedProto({model, size});
    if (status.ok()) return out.release();
    Report(error, arg, status.ToString());
  } catch (const std::exception& e) {
    Report(error, arg, e.what());
  }
  return nullptr;
}

extern "C" PANGEA_EXPORT void pangea_sentencepiece_free(PangeaSentencePiece* processor) { delete processor; }

extern "C" PANGEA_EXPORT int pangea_sentencepiece_encode(const PangeaSentencePiece* processor, const char* text,
                                                         size_t size, PangeaSentencePieceIds ids,
                                                         PangeaSentencePieceError error, void* arg) {
  try {
    std::vector<int> out;
    const auto status = processor->processor.Encode({text, size}, &out);
    if (status.ok()) {
      ids(arg, out.data(), out.size());
      return 0;
    }
    Report(error, arg, status.ToString());
  } catch (const std::exception& e) {
    Report(error, arg, e.what());
  }
  return 1;
}
