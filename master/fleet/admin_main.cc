#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/command_line.h"
#include "configs/deployment.h"
#include "configs/join_token.h"
#include "configs/read_file.h"
#include "configs/values.h"
#include "master/fleet/admin.h"
#include "protos/admin.grpc.pb.h"

namespace pangea {
namespace {

namespace asked = admin::v1;

constexpr char kIntro[] =
    R"(Asks a running master, on the port at which its agents join (control.listen of
the deployment file, which must name a fixed one) and with their token.

  status                  which state it is in, and where every agent is
  restart-agent N         replace agent N's process: streams pause and go on
  restart-agents          the same for all of them, one after the other
  relayout                split the model anew, over --pipeline stages of --tensor
                          ranks, or as the file --deployment says (its pipeline,
                          tensor, agents and cache.memory): streams pause and go on
  drain                   take no new requests; those that are open go on
  resume                  take requests again

Exit status: 0, 1 when the master refuses or does not answer, 64 for a wrong
command line.)";
constexpr std::chrono::milliseconds kPoll(50);
constexpr uint64_t kMostDeploymentBytes = 1 << 20;

struct Options {
  std::string master, token_file;
  bool watch = false, rolling = false;
  double seconds = 60;
  int pipeline = 0, tensor = 0;
  std::string deployment;
};

class Master {
 public:
  Master(const Options& options, std::string token)
      : token_(std::move(token)),
        stub_(asked::Admin::NewStub(
            grpc::CreateChannel("dns:///" + options.master, grpc::InsecureChannelCredentials()))) {}
  template <typename Method, typename Request, typename Reply>
  absl::Status Call(Method method, const Request& request, Reply* reply) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + token_);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    const grpc::Status status = ((*stub_).*method)(&context, request, reply);
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  }
  absl::Status Status(asked::FleetStatus* status) {
    return Call(&asked::Admin::Stub::Status, asked::StatusRequest(), status);
  }

 private:
  const std::string token_;
  const std::unique_ptr<asked::Admin::Stub> stub_;
};

void Print(const asked::FleetStatus& status) {
  absl::PrintF("%s, epoch %d, for %.1f s%s%s\n", status.state(), status.epoch(), status.seconds(),
               status.reason().empty() ? "" : ": ", Printable(status.reason()));
  absl::PrintF("%s%s; agents that stand by: %d\n", status.layout(),
               status.wished_layout().empty() ? "" : absl::StrCat(", to be ", status.wished_layout()), status.spares());
  absl::PrintF("requests: %d running, %d waiting%s; recoveries that count: %d\n", status.requests_running(),
               status.requests_waiting(), status.takes_requests() ? "" : ", no new ones are taken",
               status.recoveries());
  absl::PrintF("%5s %5s %4s %7s  %-20s %-7s  %s\n", "agent", "stage", "rank", "pid", "host", "phase", "at");
  for (const asked::AgentStatus& agent : status.agents()) {
    std::string at = agent.doing().empty() ? "has told nothing in this epoch" : agent.doing();
    if (agent.step() > 0) {
      absl::StrAppend(&at,
                      absl::StrFormat(": step %d, layer %d, collective %d for %.1f s, told %.1f s ago", agent.step(),
                                      agent.layer(), agent.collective(), agent.since(), agent.told()));
    }
    absl::PrintF("%5d %5d %4d %7d  %-20s %-7s  %s\n", agent.agent(), agent.stage(), agent.rank(), agent.pid(),
                 Printable(agent.host()), agent.phase(), at);
  }
  std::fflush(stdout);
}

// Until an epoch after this one serves.
absl::Status WaitServing(Master& master, uint64_t after, double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  asked::FleetStatus status;
  do {
    if (const absl::Status called = master.Status(&status); !called.ok()) return called;
    if (status.epoch() > after && status.state() == "serving") return absl::OkStatus();
    std::this_thread::sleep_for(kPoll);
  } while (std::chrono::steady_clock::now() < end);
  return absl::DeadlineExceededError(
      absl::StrFormat("it is %s after %g s (--seconds): %s", status.state(), seconds, Printable(status.reason())));
}

absl::Status Restart(Master& master, int agent, double seconds) {
  asked::RestartAgentRequest request;
  request.set_agent(agent);
  asked::RestartAgentReply reply;
  const auto begin = std::chrono::steady_clock::now();
  if (const absl::Status called = master.Call(&asked::Admin::Stub::RestartAgent, request, &reply); !called.ok())
    return called;
  if (const absl::Status served = WaitServing(master, reply.epoch(), seconds); !served.ok()) return served;
  absl::PrintF("agent %d is replaced, after %.2f s\n", agent,
               std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  std::fflush(stdout);
  return absl::OkStatus();
}

absl::Status RestartAll(Master& master, double seconds) {
  asked::FleetStatus status;
  if (const absl::Status called = master.Status(&status); !called.ok()) return called;
  for (const asked::AgentStatus& agent : status.agents()) {
    if (!agent.launched()) {
      absl::PrintF("agent %d was not started by its master: end it where it runs, and start it there again\n",
                   agent.agent());
      continue;
    }
    if (const absl::Status done = Restart(master, agent.agent(), seconds); !done.ok()) return done;
  }
  return absl::OkStatus();
}

absl::Status Relayout(Master& master, const Options& options) {
  asked::RelayoutRequest request;
  request.set_pipeline(options.pipeline);
  request.set_tensor(options.tensor);
  if (!options.deployment.empty()) {
    const auto text = ReadFile(options.deployment, kMostDeploymentBytes);
    if (!text.ok()) return text.status();
    request.set_deployment(*text);
  }
  asked::RelayoutReply reply;
  const auto begin = std::chrono::steady_clock::now();
  if (const absl::Status called = master.Call(&asked::Admin::Stub::Relayout, request, &reply); !called.ok())
    return called;
  if (const absl::Status served = WaitServing(master, reply.epoch(), options.seconds); !served.ok()) return served;
  asked::FleetStatus status;
  if (const absl::Status called = master.Status(&status); !called.ok()) return called;
  if (!status.relayout_failure().empty())
    return absl::InternalError(absl::StrCat("it does not serve, the layout before it does again (", status.layout(),
                                            "): ", status.relayout_failure()));
  if (status.layout() != reply.layout())
    return absl::InternalError(
        absl::StrCat("the layout is ", status.layout(), ", not ", reply.layout(), ": its agents have been lost"));
  absl::PrintF("the layout is %s, after %.2f s\n", status.layout(),
               std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return absl::OkStatus();
}

absl::Status TakeRequests(Master& master, bool take) {
  asked::TakeRequestsRequest request;
  request.set_take(take);
  asked::TakeRequestsReply reply;
  return master.Call(&asked::Admin::Stub::TakeRequests, request, &reply);
}

absl::Status ShowStatus(Master& master, bool watch) {
  while (true) {
    asked::FleetStatus status;
    if (const absl::Status called = master.Status(&status); !called.ok()) return called;
    Print(status);
    if (!watch) return absl::OkStatus();
    std::this_thread::sleep_for(std::chrono::seconds(1));
    std::printf("\n");
  }
}

absl::Status Check(const Options& options, const std::vector<std::string>& words, int* agent) {
  if (options.master.empty()) return absl::InvalidArgumentError("--master HOST:PORT is missing; see --help");
  if (const auto master = ParseHostPort(options.master); !master.ok())
    return absl::InvalidArgumentError(absl::StrCat("--master: ", master.status().message()));
  if (options.token_file.empty()) return absl::InvalidArgumentError("--token-file FILE is missing; see --help");
  if (words.empty()) return absl::InvalidArgumentError("what is to be done? see --help");
  const std::string& what = words[0];
  const bool one = what == "restart-agent";
  if (!one && what != "status" && what != "restart-agents" && what != "relayout" && what != "drain" && what != "resume")
    return absl::InvalidArgumentError(absl::StrCat("cannot do ", Printable(what), "; see --help"));
  if (options.rolling && what != "restart-agents")
    return absl::InvalidArgumentError("--rolling is of restart-agents, which always does it so");
  if (one != (words.size() == 2))
    return absl::InvalidArgumentError(one ? "restart-agent N: which one?" : absl::StrCat(what, " takes no more words"));
  if (one && !absl::SimpleAtoi(words[1], agent))
    return absl::InvalidArgumentError(absl::StrCat("restart-agent N: ", Printable(words[1]), " is no number"));
  const bool shape = options.pipeline > 0 && options.tensor > 0, file = !options.deployment.empty();
  const bool both = file && (options.pipeline > 0 || options.tensor > 0);
  if (what == "relayout" && (shape == file || both))
    return absl::InvalidArgumentError("relayout: give --pipeline and --tensor, or --deployment");
  return absl::OkStatus();
}

}  // namespace

int AdminMain(int argc, char** argv) {
  Options options;
  CommandLine line("admin",
                   "status|restart-agent N|restart-agents|relayout|drain|resume --master HOST:PORT --token-file FILE",
                   kIntro);
  line.Text("--master", "HOST:PORT", "where the master waits for agents (control.listen)", &options.master);
  line.Text("--token-file", "FILE", "holds the join token (control.token_file)", &options.token_file);
  line.Switch("--watch", "status: again every second", &options.watch);
  line.Switch("--rolling", "restart-agents: one after the other, which it always does", &options.rolling);
  line.Number("--pipeline", "relayout: stages", {1, kMaxAgents}, &options.pipeline);
  line.Number("--tensor", "relayout: ranks of a stage", {1, kMaxAgents}, &options.tensor);
  line.Text("--deployment", "FILE", "relayout: a deployment file that says how", &options.deployment);
  line.Number("--seconds", "that a restart or another layout may take (default 60)", {1, 86400}, &options.seconds);
  int agent = -1;
  const auto words = line.Parse(argc, argv, /*most_words=*/2);
  absl::Status parsed = words.status();
  if (parsed.ok() && !line.help()) parsed = Check(options, *words, &agent);
  if (const auto code = line.Exit(parsed)) return *code;
  const auto token = ReadJoinToken(options.token_file);
  if (!token.ok()) {
    absl::FPrintF(stderr, "pangea admin: --token-file: %s\n", token.status().message());
    return 1;
  }
  Master master(options, *token);
  const std::string& what = words->front();
  const absl::Status done = what == "status"           ? ShowStatus(master, options.watch)
                            : what == "restart-agent"  ? Restart(master, agent, options.seconds)
                            : what == "restart-agents" ? RestartAll(master, options.seconds)
                            : what == "relayout"       ? Relayout(master, options)
                                                       : TakeRequests(master, what == "resume");
  if (done.ok()) return 0;
  absl::FPrintF(stderr, "pangea admin: %s\n", Printable(std::string(done.message())));
  return 1;
}

}  // namespace pangea
