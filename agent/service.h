// An agent process: dials the master, obeys, reports; decides nothing.
#pragma once
#include <string>

namespace pangea {

struct AgentOptions {
  std::string master;      // HOST:PORT
  std::string token_file;  // holds the join token; without it the environment variable PANGEA_AGENT_TOKEN does
  bool launched = false;   // by a master on this host, which alone decides what a signal to all of them means
  int agent = -1;          // index in the plan, -1: any free remote place
  std::string model;       // overrides the path that the master names
  std::string log = "info";
};
// `pangea agent …`
int AgentMain(int argc, char** argv);

}  // namespace pangea
