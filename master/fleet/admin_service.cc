#include "master/fleet/admin_service.h"

#include <optional>
#include <utility>

#include "configs/log.h"
#include "master/fleet/authorize.h"
#include "master/fleet/layout.h"
#include "protos/admin.grpc.pb.h"

namespace pangea {
namespace {

namespace asked = admin::v1;

class AdminService final : public asked::Admin::CallbackService {
 public:
  AdminService(std::string token, AdminCalls calls) : token_(std::move(token)), calls_(std::move(calls)) {}

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context, const asked::StatusRequest*,
                                   asked::FleetStatus* answer) override {
    return Answer(context, [&] {
      *answer = calls_.status();
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* RestartAgent(grpc::CallbackServerContext* context,
                                         const asked::RestartAgentRequest* request,
                                         asked::RestartAgentReply* answer) override {
    return Answer(context, [&] {
      const auto epoch = calls_.restart_agent(request->agent());
      if (epoch.ok()) answer->set_epoch(*epoch);
      return epoch.status();
    });
  }
  grpc::ServerUnaryReactor* Relayout(grpc::CallbackServerContext* context, const asked::RelayoutRequest* request,
                                     asked::RelayoutReply* answer) override {
    return Answer(context, [&]() -> absl::Status {
      std::optional<Deployment> edited;
      if (!request->deployment().empty()) {
        auto read = ParseDeployment(request->deployment(), "the edited deployment");
        if (!read.ok()) return read.status();
        edited = *std::move(read);
      }
      const int pipeline = edited ? edited->parallel.pipeline : request->pipeline();
      const int tensor = edited ? edited->parallel.tensor : request->tensor();
      const auto epoch = calls_.relayout(pipeline, tensor, edited ? &*edited : nullptr);
      if (!epoch.ok()) return epoch.status();
      answer->set_epoch(*epoch);
      answer->set_layout(LayoutName(pipeline, tensor));
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* TakeRequests(grpc::CallbackServerContext* context,
                                         const asked::TakeRequestsRequest* request,
                                         asked::TakeRequestsReply*) override {
    return Answer(context, [&] { return calls_.take_requests(request->take()); });
  }

 private:
  template <typename Call>
  grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, Call call) {
    absl::Status status = Authorize(*context, token_);
    if (!status.ok()) {
      LogWarning("an administrator from %s was refused: %s", context->peer(), status.message());
    } else {
      status = call();
    }
    auto* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpc(status));
    return reactor;
  }

  const std::string token_;
  const AdminCalls calls_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdminService(std::string token, AdminCalls calls) {
  return std::make_unique<AdminService>(std::move(token), std::move(calls));
}

}  // namespace pangea
