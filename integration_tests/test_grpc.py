"""The gRPC door through reflection alone, as a stranger's client would. A REST body with string contents is a valid gRPC request by its
JSON mapping, the answers have the same fields, and the errors the same words.
"""

import time

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "INVALID_ARGUMENT"}


class Door:
    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        database = ProtoReflectionDescriptorDatabase(self.channel)
        pool = descriptor_pool.DescriptorPool(database)
        self.services = list(database.get_services())
        found = [pool.FindServiceByName(n) for n in self.services if not n.startswith("grpc.")]
        self.methods = {m.name: m for service in found for m in service.methods}

    def begin(self, name, body, timeout=60, metadata=None):
        method = self.methods[name]
        request, answer = (message_factory.GetMessageClass(d) for d in (method.input_type, method.output_type))
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        stub = kind(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        return stub(json_format.ParseDict(body, request()), timeout=timeout, metadata=metadata)

    def call(self, name, body, **kw):
        answer = self.begin(name, body, **kw)
        as_dict = lambda x: json_format.MessageToDict(x, preserving_proto_field_name=True)
        return [as_dict(x) for x in answer] if self.methods[name].server_streaming else as_dict(answer)


@pytest.fixture(scope="module")
def door(stories):
    door = Door(stories.grpc)
    yield door
    door.channel.close()


@pytest.fixture
def body(stories):
    return dict(model=stories.model(), messages=[dict(role="user", content="Once upon a time")], max_tokens=20, temperature=0)


def test_health_and_reflection(door):
    stub = health_pb2_grpc.HealthStub(door.channel)
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as e:
        stub.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=5)
    assert e.value.code().name == "NOT_FOUND"
    assert "grpc.health.v1.Health" in door.services
    assert {"ChatCompletion", "ChatCompletionStream", "Completion", "CompletionStream", "Tokenize", "Detokenize", "ListModels"} <= set(
        door.methods
    )


def test_chat_equals_rest(door, stories, body):
    ((finish, text),) = stories.chat(**body)
    unary = door.call("ChatCompletion", body)
    assert unary["choices"][0]["message"]["content"] == text and unary["choices"][0]["finish_reason"] == finish
    status, rest = stories.post("/v1/chat/completions", body)
    usage = {k: int(v) for k, v in unary["usage"].items() if k != "prompt_tokens_details"}
    assert usage == {k: rest["usage"][k] for k in usage} and unary["system_fingerprint"] == rest["system_fingerprint"]
    chunks = door.call("ChatCompletionStream", body)
    assert "".join(c.get("delta", {}).get("content", "") for e in chunks for c in e.get("choices", [])) == text
    assert [c["finish_reason"] for e in chunks for c in e.get("choices", []) if c.get("finish_reason")] == [finish]


@pytest.mark.parametrize(
    "change",
    [dict(), dict(logprobs=3), dict(n=2, seed=7, temperature=1, top_p=0.9), dict(stop=["the", "."]), dict(echo=True, logprobs=1)],
    ids=str,
)
def test_completion_equals_rest(door, stories, change):
    ask = dict(model=stories.model(), prompt="Once upon a time", max_tokens=20, return_token_ids=True, **{"temperature": 0, **change})
    status, rest = stories.post("/v1/completions", ask)
    assert status == 200
    answer = door.call("Completion", ask)
    assert len(answer["choices"]) == len(rest["choices"])
    for mine, theirs in zip(answer["choices"], rest["choices"]):
        assert mine["text"] == theirs["text"] and mine["finish_reason"] == theirs["finish_reason"]
        assert [int(i) for i in mine.get("token_ids", [])] == theirs["token_ids"]
        if "logprobs" in ask:
            assert mine["logprobs"]["tokens"] == theirs["logprobs"]["tokens"]
            assert mine["logprobs"]["token_logprobs"] == theirs["logprobs"]["token_logprobs"]
    text = {}
    for e in door.call("CompletionStream", ask):
        for c in e.get("choices", []):
            i = int(c.get("index", 0))
            text[i] = text.get(i, "") + c.get("text", "")
    assert [text[i] for i in sorted(text)] == [c["text"] for c in rest["choices"]]


def test_tokenize_and_models(door, stories):
    model = stories.model()
    ids = [int(i) for i in door.call("Tokenize", dict(model=model, prompt="Once upon a time"))["tokens"]]
    assert ids == stories.post("/tokenize", dict(model=model, prompt="Once upon a time"))[1]["tokens"]
    assert (
        door.call("Detokenize", dict(model=model, tokens=ids))["prompt"]
        == stories.post("/detokenize", dict(model=model, tokens=ids))[1]["prompt"]
    )
    assert [m["id"] for m in door.call("ListModels", {})["data"]] == [model]


@pytest.mark.parametrize(
    "change",
    [
        dict(temperature=9),
        dict(temperature=-1),
        dict(model="nope"),
        dict(messages=[]),
        dict(n=0),
        dict(n=1_000_000),
        dict(max_tokens=-1),
        dict(top_p=2),
        dict(top_k=-2),
        dict(min_p=2),
        dict(repetition_penalty=0),
        dict(presence_penalty=1e6),
        dict(logit_bias={"191222": -100}),
        dict(logit_bias={"x": 1}),
        dict(logprobs=True, top_logprobs=21),
        dict(stop=[""]),
        dict(stop=["x"] * 10_000),
        dict(stop_token_ids=[-1]),
        dict(messages=[dict(role="wizard", content="x")]),
        dict(messages=[dict(role="user", content="word " * 20_000)]),
        dict(messages=[dict(role="user", content=[dict(type="image_url")])]),
        dict(temperature="NaN"),
    ],
    ids=lambda c: str(c)[:60],
)
def test_errors_in_rests_own_words(door, stories, body, change):
    before = stories.chat(**body)
    with pytest.raises(grpc.RpcError) as e:
        door.call("ChatCompletion", {**body, **change})
    with pytest.raises(grpc.RpcError) as streamed:
        door.call("ChatCompletionStream", {**body, **change})
    assert e.value.code() == streamed.value.code() and e.value.details() == streamed.value.details()
    if change != dict(temperature="NaN"):  # no JSON number
        status, rest = stories.post("/v1/chat/completions", {**body, **change})
        assert e.value.code().name == CODES[status] and e.value.details() == rest["error"]["message"]
    assert stories.chat(**body) == before


def test_deadline_and_cancellation_free_the_request(door, stories, body):
    before = stories.chat(**body)
    long = {**body, "max_tokens": 400, "ignore_eos": True}
    for _ in range(10):
        with pytest.raises(grpc.RpcError) as e:
            door.call("ChatCompletion", long, timeout=0.01)
        assert e.value.code().name == "DEADLINE_EXCEEDED"
        stream = door.begin("ChatCompletionStream", long)
        next(stream)
        stream.cancel()
        with pytest.raises(grpc.RpcError):
            list(stream)
    start = time.monotonic()
    assert stories.chat(**body) == before
    assert time.monotonic() - start < 5, "the abandoned requests still run"


def test_unknown_method(door):
    call = door.channel.unary_unary("/pangea.v1.Generation/Nope", request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.RpcError) as e:
        call(b"", timeout=5)
    assert e.value.code().name == "UNIMPLEMENTED"
