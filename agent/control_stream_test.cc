// An agent's streams against a master that does not behave.
#include "agent/control_stream.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "agent/session.h"
#include "protos/agent.grpc.pb.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

// Answers the first message of every session with the bytes that it was given, keeps what comes then, and never reads
// a report of progress.
class FakeMaster : public wire::Control::WithRawCallbackMethod_Session<
                       wire::Control::WithCallbackMethod_Progress<wire::Control::Service>> {
 public:
  explicit FakeMaster(std::vector<std::string> answers) : answers_(std::move(answers)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeMaster() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  std::vector<wire::FromAgent> heard() {
    std::lock_guard lock(mutex_);
    return heard_;
  }

 private:
  struct Reactor : grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
    explicit Reactor(FakeMaster* master) : master(master) { StartRead(&incoming); }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      wire::FromAgent message;
      EXPECT_TRUE(grpc::SerializationTraits<wire::FromAgent>::Deserialize(&incoming, &message).ok());
      {
        std::lock_guard lock(master->mutex_);
        master->heard_.push_back(message);
      }
      if (message.has_join()) WriteNext();
      StartRead(&incoming);
    }
    void OnWriteDone(bool ok) override {
      if (ok) WriteNext();
    }
    void OnDone() override { delete this; }
    void WriteNext() {
      if (next == master->answers_.size()) return;
      const grpc::Slice slice(master->answers_[next++]);
      outgoing = grpc::ByteBuffer(&slice, 1);
      StartWrite(&outgoing);
    }
    FakeMaster* master;
    size_t next = 0;
    grpc::ByteBuffer incoming, outgoing;
  };
  struct Deaf : grpc::ServerReadReactor<wire::ProgressReport> {
    void OnCancel() override { Finish(grpc::Status::CANCELLED); }
    void OnDone() override { delete this; }
  };
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Session(grpc::CallbackServerContext*) override {
    return new Reactor(this);
  }
  grpc::ServerReadReactor<wire::ProgressReport>* Progress(grpc::CallbackServerContext*, wire::ProgressAck*) override {
    return new Deaf;
  }

  const std::vector<std::string> answers_;
  int port_ = 0;
  std::mutex mutex_;
  std::vector<wire::FromAgent> heard_;
  std::unique_ptr<grpc::Server> server_;
};

wire::FromAgent Join() {
  wire::FromAgent message;
  message.mutable_join()->set_pid(1);
  return message;
}

// A text that is not UTF-8 (the path of a model was one), a message cut off, bytes that are none, and a kind from
// another version.
std::vector<std::string> Unreadable() {
  wire::FromMaster assign;
  assign.mutable_assign()->set_deployment("model: caf\xe9");
  return {assign.SerializeAsString(), std::string("\x0a\x05\x08", 3), std::string("\xff\xff\xff\xff", 4),
          std::string("\xfa\x01\x00", 3)};
}

TEST(ControlStream, AnUnreadableMessageIsReportedAndTheNextOneIsRead) {
  wire::FromMaster stop;
  stop.mutable_stop()->set_reason("caf\xe9");  // a reason may quote a path
  std::vector<std::string> answers = Unreadable();
  answers.push_back(stop.SerializeAsString());
  FakeMaster master(answers);
  ControlStream stream(master.address(), "token");
  int unreadable = 0;
  std::string reason;
  const absl::Status ended = stream.Run(Join(), [&](const wire::FromMaster& message) {
    if (message.has_stop()) return reason = message.stop().reason(), ControlStream::After::kEnd;
    unreadable += message.kind_case() == wire::FromMaster::KIND_NOT_SET;
    return ControlStream::After::kRead;
  });
  EXPECT_EQ(ended.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(unreadable, static_cast<int>(Unreadable().size()));
  EXPECT_EQ(reason, "caf\xe9");
}

TEST(AgentSession, AMessageThatItCannotReadEndsItAndTheMasterIsToldWhy) {
  for (const std::string& bytes : Unreadable()) {
    std::vector<wire::FromAgent> heard;
    // An agent that says why waits a second for the master's answer: on a machine that is very busy it may be too
    // short.
    for (int tries = 0; tries < 5 && heard.size() < 2; ++tries) {
      FakeMaster master({bytes});
      AgentSession session({.master = master.address()}, "token");
      const absl::Status status = session.Run();
      EXPECT_NE(status.message().find("cannot read"), std::string::npos) << status;
      heard = master.heard();
    }
    ASSERT_EQ(heard.size(), 2u);
    EXPECT_TRUE(heard[1].failure().fatal());
    EXPECT_NE(heard[1].failure().message().find("cannot read"), std::string::npos);
  }
}

TEST(ControlStream, ProgressReportsDoNotBlockWhenTheMasterDoesNotReadThem) {
  FakeMaster master({});
  ControlStream stream(master.address(), "token");
  std::future<absl::Status> run = std::async(std::launch::async, [&] {
    return stream.Run(Join(), [](const wire::FromMaster&) { return ControlStream::After::kRead; });
  });
  while (master.heard().empty()) std::this_thread::yield();
  wire::ProgressReport report;
  for (int i = 0; i < 100'000; ++i) report.mutable_activity()->add_spent(1ll << 60);  // about a megabyte
  // Far more than any window of the connection: a call that waited for its report to leave would wait for ever.
  std::future<int> dropped = std::async(std::launch::async, [&] {
    int count = 0;
    for (int i = 0; i < 100; ++i) count += !stream.WriteProgress(report);
    return count;
  });
  const bool returned = dropped.wait_for(std::chrono::seconds(60)) == std::future_status::ready;
  EXPECT_TRUE(returned);
  stream.Cancel();
  EXPECT_EQ(run.get().code(), absl::StatusCode::kCancelled);
  EXPECT_GT(dropped.get(), 0);
  EXPECT_FALSE(stream.WriteProgress(report));  // after the end
}

}  // namespace
}  // namespace pangea
