// Test only. What every request may read, over a text and an engine that are fakes.
#pragma once
#include "master/api/generation/context.h"
#include "master/schedule/fake_engine.h"
#include "master/text/fake_grammars.h"

namespace pangea {

constexpr int kTestVocab = 300, kTestContext = 128;

struct TestServer {
  TestServer() {
    deployment.rest.listen = deployment.grpc.listen = "127.0.0.1:0";
    deployment.log.requests = false;  // but where a test looks for them
    model.vocab = kTestVocab;
    model.eos = {kFakeEnd};
    context.deployment = &deployment;
    context.model = &model;
    context.text = &text;
    context.grammars = &grammars;
    context.engine = &engine;
    context.names = {"fake", "also-fake"};
    context.context = kTestContext;
    context.created = 1700000000;
    context.fingerprint.Set("f32-1x1-0");
    context.health = Health::kReady;
  }
  Deployment deployment;
  ModelConfig model;
  FakeText text;
  FakeGrammars grammars;
  FakeEngine engine;
  ApiContext context;
};

}  // namespace pangea
