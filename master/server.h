// `pangea serve`: wiring only; reads as the architecture.
#pragma once
namespace pangea {

// Exit codes: 0 after a signal and a drain, 1 when serving failed, 78 for a deployment that is refused.
int ServeMain(int argc, char** argv);

}  // namespace pangea
