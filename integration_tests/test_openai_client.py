"""The official OpenAI clients for Python and Node, unmodified, against 2 stages x 2 ranks."""

import json
import shutil
import subprocess

import openai
import pytest
from harness import HERE, ROOT

ASK = [dict(role="user", content="Once upon a time")]


@pytest.fixture(scope="module")
def client(stories):
    return openai.OpenAI(base_url=stories.rest + "/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def chat(client):
    model = client.models.list().data[0].id
    return lambda **kw: client.chat.completions.create(**{**dict(model=model, messages=ASK, temperature=0, max_tokens=24), **kw})


def test_models(client, stories):
    (model,) = client.models.list().data
    assert client.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


def test_unary(chat):
    r = chat()
    assert r.choices[0].message.role == "assistant" and r.choices[0].message.content
    assert r.choices[0].finish_reason == "length" and r.usage.completion_tokens == 24
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens
    assert chat().choices == r.choices


def test_stream_equals_unary(chat):
    unary = chat()
    chunks = list(chat(stream=True, stream_options=dict(include_usage=True)))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == unary.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(c.choices[0].delta.role is None for c in chunks[1:] if c.choices)
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == unary.usage.total_tokens
    assert all(c.usage is None for c in chunks[:-1])
    assert len({c.id for c in chunks}) == 1
    assert all(not c.usage for c in chat(stream=True))


def test_several_choices_and_a_seed(chat):
    r = chat(n=3, seed=5, temperature=1, max_tokens=8, logprobs=True, top_logprobs=4)
    assert [c.index for c in r.choices] == [0, 1, 2] and len({c.message.content for c in r.choices}) > 1
    for c in r.choices:
        assert len(c.logprobs.content) == 8
        for t in c.logprobs.content:
            assert len(t.top_logprobs) == 4 and [x.logprob for x in t.top_logprobs] == sorted(
                (x.logprob for x in t.top_logprobs), reverse=True
            )
            assert t.logprob <= 0 and bytes(t.bytes).decode(errors="replace") == t.token
    assert [c.message.content for c in chat(n=3, seed=5, temperature=1, max_tokens=8).choices] == [c.message.content for c in r.choices]
    assert [c.message.content for c in chat(n=3, seed=6, temperature=1, max_tokens=8).choices] != [c.message.content for c in r.choices]
    assert r.usage.completion_tokens == 24


def test_stop_strings(chat):
    whole = chat().choices[0].message.content
    word = whole[len(whole) // 2 : len(whole) // 2 + 4]
    cut = whole[: whole.index(word)]
    stopped = chat(stop=[word]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (cut, "stop")
    assert "".join(c.choices[0].delta.content or "" for c in chat(stop=[word], stream=True)) == cut


def test_completions(client, stories):
    model = stories.model()
    r = client.completions.create(model=model, prompt=["Once upon", "The sea"], max_tokens=6, temperature=0)
    assert [c.index for c in r.choices] == [0, 1] and r.choices[0].text != r.choices[1].text
    alone = [
        client.completions.create(model=model, prompt=p, max_tokens=6, temperature=0).choices[0].text for p in ("Once upon", "The sea")
    ]
    assert [c.text for c in r.choices] == alone
    echo = client.completions.create(model=model, prompt="Once upon", max_tokens=1, echo=True, logprobs=2, temperature=0).choices[0]
    assert echo.text.lstrip().startswith("Once upon")
    assert echo.logprobs.token_logprobs[0] is None and echo.logprobs.top_logprobs[0] is None
    assert (
        len(echo.logprobs.tokens) == len(echo.logprobs.token_logprobs) == len(echo.logprobs.top_logprobs) == len(echo.logprobs.text_offset)
    )
    assert [t.strip() for t in echo.logprobs.tokens[:3]] == ["<s>", "Once", "upon"]  # what the tokenizer adds is a token of the prompt too


def test_logit_bias_bans(client, stories):
    model = stories.model()
    ask = dict(model=model, prompt="Once upon a time", max_tokens=1, temperature=0)
    status, first = stories.post("/v1/completions", {**ask, "return_token_ids": True})
    (best,) = first["choices"][0]["token_ids"]
    status, banned = stories.post("/v1/completions", {**ask, "return_token_ids": True, "logit_bias": {str(best): -100}})
    assert status == 200 and banned["choices"][0]["token_ids"] != [best]
    assert client.completions.create(**ask, logit_bias={str(best): -100}).choices[0].text == banned["choices"][0]["text"]


@pytest.mark.parametrize(
    "change,error",
    [
        (dict(temperature=9), openai.BadRequestError),
        (dict(n=0), openai.BadRequestError),
        (dict(max_tokens=-1), openai.BadRequestError),
        (dict(messages=[]), openai.BadRequestError),
        (dict(model="nope"), openai.NotFoundError),
        (dict(logprobs=True, top_logprobs=99), openai.BadRequestError),
        (dict(messages=[dict(role="user", content="word " * 9000)]), openai.BadRequestError),
        (dict(messages=[dict(role="wizard", content="x")]), openai.BadRequestError),
    ],
)
def test_errors_are_the_clients_own(chat, change, error):
    before = chat().choices
    with pytest.raises(error) as e:
        chat(**change)
    assert e.value.body["message"] and e.value.body["type"] and "param" in e.value.body and "code" in e.value.body
    assert chat().choices == before


def test_an_abandoned_stream_frees_its_place(chat, stories):
    before = chat().choices
    for _ in range(20):
        stream = chat(stream=True, max_tokens=400)
        next(iter(stream))
        stream.close()
    assert chat().choices == before


def node_modules():
    """the pinned package, installed outside the tree once"""
    folder = ROOT / "build/integration-node"
    lock = (HERE / "node/package-lock.json").read_bytes()
    if not (folder / "ready").exists() or (folder / "ready").read_bytes() != lock:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "node" / name, folder)
        subprocess.run(["npm", "ci", "--silent", "--no-fund", "--no-audit"], cwd=folder, check=True, timeout=300)
        (folder / "ready").write_bytes(lock)
    return folder


def test_node_client(stories, chat):
    assert shutil.which("node"), "Node is missing: tools/install_deps.sh"
    r = subprocess.run(
        ["node", str(HERE / "node/client.mjs"), stories.rest, str(node_modules())], capture_output=True, text=True, timeout=120
    )
    assert r.returncode == 0, r.stdout + r.stderr
    found = json.loads(r.stdout.strip().splitlines()[-1])
    assert found["wrong"] == [] and found["tried"] >= 8
    assert found["text"] == chat().choices[0].message.content
