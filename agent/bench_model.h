// `pangea bench model`: how fast a deployment's agents compute, without doors, master and sockets.
#pragma once

namespace pangea {

int BenchModelMain(int argc, char** argv);

}  // namespace pangea
