// pangea admin: asks a running master over its control port.
#pragma once

namespace pangea {

int AdminMain(int argc, char** argv);  // argv[0] is "admin"; -> the exit status

}  // namespace pangea
