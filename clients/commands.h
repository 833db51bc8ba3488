// The client subcommands of `pangea`. Each takes the words after "pangea", its own name first, and returns an exit
// status: 0, 1 for a failed request, 64 for a wrong command line, 130 after Ctrl-C.
#pragma once

namespace pangea::clients {

inline constexpr int kExitCancelled = 130;  // as a shell reports SIGINT

int ChatMain(int argc, char** argv);
int GenerateMain(int argc, char** argv);
int BenchMain(int argc, char** argv);  // "bench serve …"

}  // namespace pangea::clients
