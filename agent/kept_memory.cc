#include "agent/kept_memory.h"

namespace pangea {

void KeptMemory::Open(const agent::v1::Assign& assign, const AgentMemory& planned) {
  if (!assign.keep_weights()) return;
  weights = KeptOrNewWeights(assign.weights_path(), assign.packed_bytes(), planned.packed);
  pages = KeptOrNewPages(assign.pages_path(), planned.pages + planned.swap);
}

void KeptMemory::Tell(agent::v1::Ready* ready) {
  if (weights && weights->Seal()) {
    ready->set_weights_fd(weights->fd());
    ready->set_packed_bytes(weights->bytes());
  }
  if (!pages) return;
  ready->set_pages_fd(pages->fd());
  ready->set_pages_kept(pages->kept());
}

std::span<std::byte> KeptMemory::page_memory() const {
  if (!pages) return {};
  return {pages->base(), static_cast<size_t>(pages->bytes())};
}

}  // namespace pangea
