"""Every answer, chunk and error against the schemas of OpenAI's own OpenAPI document."""

import json

import jsonschema
import pytest
from harness import DATA

SCHEMAS = json.loads((DATA / "openai_schemas.json").read_text())
MESSAGES = [
    dict(role="system", content="Be brief."),
    dict(role="user", content=[dict(type="text", text="Name a "), dict(type="text", text="colour.")]),
]


def conforms(schema, value):
    validator = jsonschema.Draft202012Validator({**SCHEMAS, "$ref": f"#/components/schemas/{schema}"})
    errors = [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in validator.iter_errors(value)]
    assert not errors, errors[:5]


def test_the_schemas_can_refuse():
    with pytest.raises(AssertionError):
        conforms("ErrorResponse", {"error": {"message": "x", "type": "y", "code": None}})  # no param
    with pytest.raises(AssertionError):
        conforms("Model", {"id": "x", "object": "models", "created": 1, "owned_by": "x"})


def test_models(stories):
    conforms("ListModelsResponse", stories.call("GET", "/v1/models")[1])
    status, model = stories.call("GET", f"/v1/models/{stories.model()}")
    assert status == 200
    conforms("Model", model)


@pytest.mark.parametrize(
    "change",
    [dict(max_tokens=12), dict(max_tokens=6, n=2, logprobs=True, top_logprobs=3), dict(max_completion_tokens=5, seed=3, stop=["."])],
    ids=str,
)
def test_chat(stories, change):
    body = dict(model=stories.model(), messages=MESSAGES, **change)
    status, answer = stories.post("/v1/chat/completions", body)
    assert status == 200, answer
    conforms("CreateChatCompletionResponse", answer)
    for usage in (False, True):
        events = list(stories.events("/v1/chat/completions", {**body, "stream_options": dict(include_usage=usage)}))
        assert events[-1] == "[DONE]" and len({e["id"] for e in events[:-1]}) == 1
        for e in events[:-1]:
            if e.get("usage", 0) is None:
                e = {k: v for k, v in e.items() if k != "usage"}  # OpenAI says null here, its schema does not
            conforms("CreateChatCompletionStreamResponse", e)


@pytest.mark.parametrize(
    "change",
    [
        dict(prompt="Once"),
        dict(prompt=["a", "b"], n=2, logprobs=2),
        dict(prompt=[1, 2, 3], echo=True),
        dict(prompt=[[1, 2], [3]], logprobs=0),
    ],
    ids=str,
)
def test_completion(stories, change):
    body = dict(model=stories.model(), max_tokens=5, **change)
    status, answer = stories.post("/v1/completions", body)
    assert status == 200, answer
    conforms("CreateCompletionResponse", answer)


@pytest.mark.parametrize("change", [dict(model="nope"), dict(messages=None), dict(temperature=-1), dict(stop=5)], ids=str)
def test_errors(stories, change):
    body = {**dict(model=stories.model(), messages=MESSAGES), **change}
    status, answer = stories.post("/v1/chat/completions", {k: v for k, v in body.items() if v is not None})
    assert 400 <= status < 500
    conforms("ErrorResponse", answer)


def test_other_routes(stories):
    model = stories.model()
    for path in ("/health", "/health/live", "/health/ready"):
        assert stories.call("GET", path)[0] == 200, path
    status, version = stories.call("GET", "/version")
    assert status == 200 and version["version"]
    status, tokens = stories.post("/tokenize", dict(model=model, prompt="Once upon a time"))
    assert status == 200 and tokens["count"] == len(tokens["tokens"]) > 1 and tokens["max_model_len"] == 512
    status, bare = stories.post("/tokenize", dict(model=model, prompt="Once upon a time", add_special_tokens=False))
    assert status == 200 and bare["tokens"] == tokens["tokens"][-bare["count"] :]
    status, text = stories.post("/detokenize", dict(model=model, tokens=bare["tokens"]))
    assert status == 200 and text["prompt"].strip() == "Once upon a time"
    status, chat = stories.post("/tokenize", dict(model=model, messages=[dict(role="user", content="Hi")]))
    assert status == 200 and chat["count"] > 3


def test_ignored_names_are_listed(stories):
    body = dict(model=stories.model(), messages=MESSAGES, max_tokens=1, user="x", store=True, wobble=5)
    connection, response = stories.open("POST", "/v1/chat/completions", body)
    response.read()
    connection.close()
    assert response.status == 200
    assert any("wobble" in value for _, value in response.getheaders()), response.getheaders()
