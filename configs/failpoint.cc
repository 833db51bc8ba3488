// What a program has that is not the tests' own. Alone in its object: a program that defines Reach takes none of it.
#include "configs/failpoint.h"

namespace pangea {
void Reach(Wall, Side) {}
}  // namespace pangea
