#include "master/schedule/sequence.h"

#include <tuple>

#include "master/schedule/planted_bug.h"

namespace pangea {

bool Earlier::operator()(const Sequence* a, const Sequence* b) const {
  return std::tie(a->request->body.priority, a->request->order, a->choice) <
         std::tie(b->request->body.priority, b->request->order, b->choice);
}

SequenceSampling SamplingOf(const Sequence& sequence) {
  const Request& request = *sequence.request;
  SequenceSampling sampling{.params = request.body.sampling, .choice = sequence.choice};
  if (sampling.params->repetition_penalty != 1) sampling.prompt_ids = request.body.prompt;
  if (planted_bug != PlantedBug::kForgetGenerated) sampling.generated_ids = sequence.generated;
  return sampling;
}

}  // namespace pangea
