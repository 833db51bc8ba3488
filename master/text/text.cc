#include "master/text/text.h"

namespace pangea {

bool Text::IsSpecial(int32_t id) const { return pieces().Known(id) && pieces().pieces[id].special; }

std::string Text::Bytes(int32_t id) const { return pieces().Known(id) ? pieces().pieces[id].bytes : ""; }

std::string Text::Decode(const std::vector<int32_t>& ids, bool skip_special) const {
  Detokenizer detokenizer(*this, skip_special);
  std::string out;
  for (const int32_t id : ids) out += detokenizer.Push(id);
  return out + detokenizer.Flush();
}

}  // namespace pangea
