// The CPU's words, as the front ends (ops_*.cc) define them; dispatch.cc puts them into the CPU's table.
#pragma once
#include "kernels/cpu_queue.h"

namespace pangea::on_cpu {

PANGEA_DECLARE_WORDS

}  // namespace pangea::on_cpu
