// The kernels as nvcc made them: one module a source (*.cu), each for every architecture. A build without nvcc has
// none.
#pragma once

namespace pangea::cuda {

extern const int kModuleCount;
extern const unsigned char* const kModules[];

}  // namespace pangea::cuda
