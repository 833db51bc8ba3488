"""What a request's parameters mean, asked of a whole server as clients do."""

import json
import shutil
import subprocess

import openai
import pytest
from harness import PANGEA, STORIES, at_once, layout, serve
from test_grpc import Door
from test_metrics import page

STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "


@pytest.fixture(scope="module")
def named():
    """the test model under several names, with a short queue"""
    args = ["--set", "names=[gpt-4o, another]", "--set", "limits.queue=8", "--set", "metrics.vllm_names=true"]
    with serve(STORIES, *layout("1x1"), *args) as server:
        yield server


def test_a_request_with_many_prompts_takes_one_place_in_the_queue(named):
    prompts = ["Lily", "Tom", "The cat"] * 20
    (alone,), _ = named.complete(prompt="Tom", max_tokens=4, temperature=0)
    for _ in range(2):
        choices, usage = named.complete(prompt=prompts, max_tokens=4, temperature=0)
        assert len(choices) == 60 and usage["completion_tokens"] == 240
        assert {c["text"] for c in choices[1::3]} == {alone["text"]}
    answers = at_once(6, lambda _: named.complete(prompt=prompts, max_tokens=4, n=2, temperature=0)[0], range(6))
    assert all(a == answers[0] for a in answers) and len(answers[0]) == 120


def test_every_name_is_served_and_answered_by(named):
    names = ["stories260k", "gpt-4o", "another"]
    cards = named.call("GET", "/v1/models")[1]["data"]
    assert [c["id"] for c in cards] == names
    door = Door(named.grpc)
    for name, card in zip(names, cards):
        assert named.call("GET", f"/v1/models/{name}") == (200, card)
        assert card["root"] == str(STORIES) and card["parent"] is None and card["permission"][0]["allow_sampling"]
        body = dict(model=name, prompt="Lily", max_tokens=2)
        assert named.post("/v1/completions", body)[1]["model"] == name
        assert door.call("Completion", body)["model"] == name
        assert all(e == "[DONE]" or e["model"] == name for e in named.events("/v1/completions", body))
    for door_answer in (named.post("/v1/completions", dict(prompt="Lily", max_tokens=2))[1], door.call("Completion", dict(prompt="Lily"))):
        assert door_answer["model"] == "stories260k"
    status, answer = named.post("/v1/completions", dict(model="gpt-4", prompt="Lily"))
    assert status == 404
    assert answer["error"]["message"] == (
        "the model 'gpt-4' does not exist; this server serves 'stories260k', 'gpt-4o', 'another'; the nearest is 'gpt-4o'"
    )


def test_cached_prefixes_are_shared_within_a_salt(named):
    def cached(salt, by=None):
        body = dict(prompt=STORY * 3, max_tokens=1, temperature=0, **(dict(cache_salt=salt) if salt else {}))
        usage = by.call("Completion", dict(model="another", **body))["usage"] if by else named.complete(**body)[1]
        return int((usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0))

    before = page(named)("prompt_tokens_cached_total")
    assert cached(None) == 0
    whole = cached(None)
    assert whole > 64
    assert [cached("alice"), cached("bob"), cached("alice"), cached("bob"), cached(None)] == [0, 0, whole, whole, whole]
    assert [cached("alice", Door(named.grpc)), cached("carol", Door(named.grpc))] == [whole, 0]
    assert page(named)("prompt_tokens_cached_total") - before == 5 * whole


def test_vllms_names_of_a_requests_times(named):
    named.complete(prompt="Lily", max_tokens=5, n=2, temperature=0)
    p = page(named)
    labels = (("engine", "0"), ("model_name", "stories260k"))
    for name in """request_queue_time_seconds request_prefill_time_seconds request_decode_time_seconds request_inference_time_seconds
        request_time_per_output_token_seconds request_max_num_generation_tokens request_params_n request_params_max_tokens""".split():
        assert p.samples[f"vllm:{name}_count", labels] > 0, name
    assert p.samples["vllm:prompt_tokens_cached_total", labels] >= 0
    (info,) = p.families["vllm:cache_config_info"].samples
    assert info.value == 1 and info.labels["block_size"] == "16" and int(info.labels["num_gpu_blocks"]) > 0
    whole = p("request_queue_time_seconds_sum") + p("request_inference_time_seconds_sum")
    assert abs(whole - p("request_latency_seconds_sum")) < 1e-3
    parts = p("request_prefill_time_seconds_sum") + p("request_decode_time_seconds_sum")
    assert abs(parts - p("request_inference_time_seconds_sum")) < 1e-3


def test_an_overflow_is_an_error_that_openais_client_passes_on(stories):
    client = openai.OpenAI(base_url=stories.rest + "/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError) as prompt:
        client.completions.create(model="stories260k", prompt="word " * 1000)
    with pytest.raises(openai.BadRequestError) as both:
        client.chat.completions.create(model="stories260k", messages=[dict(role="user", content="hi")], max_tokens=512)
    for error in (prompt.value, both.value):
        assert error.code == "context_length_exceeded"
        assert "This model's maximum context length is 512 tokens. However, you requested " in str(error)
        assert "context_length_exceeded" in error.message


def test_min_tokens_holds_back_stop_strings(stories):
    ask = dict(prompt="Once upon a time", max_tokens=40, temperature=0, stop=[","])
    for stream in (False, True):
        (early,), _ = stories.complete(**ask, stream=stream)
        (late,), usage = stories.complete(**ask, min_tokens=30, stream=stream)
        assert early["finish"] == "stop" and len(early["ids"]) < 30
        assert usage["completion_tokens"] >= 30 and late["text"].startswith(early["text"] + ",")


def test_offsets_of_an_echo_score_a_continuation(stories):
    """as lm-eval reads them: the continuation's tokens are those at or behind the end of the context"""
    context, scores = "</s>Tom and Lily</s> went", {}
    for continuation in (" to the park", " zzz"):
        ask = dict(prompt=context + continuation, echo=True, logprobs=1, max_tokens=1, temperature=0)
        (choice,), _ = stories.complete(**ask)
        logprobs = choice["logprobs"]
        assert logprobs["text_offset"] == sorted(logprobs["text_offset"])
        first = next(i for i, o in enumerate(logprobs["text_offset"]) if o >= len(context))
        scored = "".join(logprobs["tokens"][first:-1])
        assert scored == continuation
        scores[continuation] = sum(logprobs["token_logprobs"][first:-1])
    assert scores[" to the park"] > scores[" zzz"]


def test_events_survive_python_splitlines(stories):
    text = "a\x85b\u2028c\u2029d\x0b\x0c\x1c\x1d\x1ee"
    body = dict(prompt=text, echo=True, max_tokens=1, temperature=0, stream=True, model="stories260k")
    c, r = stories.open("POST", "/v1/completions", body)
    lines = [line for line in r.read().decode().splitlines() if line]
    c.close()
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[0][6:])["choices"][0]["text"] == text


def test_usage_in_every_chunk(stories):
    body = dict(model="stories260k", prompt="Once", max_tokens=12, temperature=0, ignore_eos=True)
    options = dict(include_usage=True, continuous_usage_stats=True)
    *chunks, last, done = stories.events("/v1/completions", dict(body, stream_options=options))
    assert done == "[DONE]" and last["choices"] == []
    counts = [c["usage"]["completion_tokens"] for c in chunks]
    assert counts == sorted(counts) and counts[-1] == last["usage"]["completion_tokens"] == 12
    by_grpc = Door(stories.grpc).call("CompletionStream", dict(body, stream_options=options))
    assert [int(c["usage"].get("completion_tokens", 0)) for c in by_grpc][-1] == 12


def test_seed_minus_one_draws_a_new_seed(stories):
    ask = dict(prompt="Once upon a time", temperature=1, max_tokens=20)
    assert len({stories.complete(**ask, seed=-1)[0][0]["text"] for _ in range(4)}) > 1
    assert len({stories.complete(**ask, seed=-2)[0][0]["text"] for _ in range(2)}) == 1


def test_sampling_defaults_are_the_models_own(tmp_path):
    model = tmp_path / "stories"
    shutil.copytree(STORIES, model)
    (model / "generation_config.json").write_text(json.dumps(dict(top_k=1, temperature=0.7, min_p=3, max_new_tokens=7)))

    def check(*args):
        return subprocess.run([PANGEA, "check", str(model), *args], capture_output=True, text=True, check=True)

    checked = check("--set", "sampling.top_p=0.5")
    assert "temperature 0.7 (model), top_k 1 (model), top_p 0.5 (deployment)" in checked.stdout
    assert "generation_config.json: min_p: is 3, must be a number from 0 to 1; it is ignored" in checked.stderr
    assert "temperature 1 (openai)" in check("--set", "sampling.defaults=openai").stdout

    def texts(server):
        return {server.complete(prompt="Once upon a time", max_tokens=20)[0][0]["text"] for _ in range(4)}

    with serve(model, *layout("1x1"), "--set", "sampling.top_p=0.5") as s:
        (greedy,), _ = s.complete(prompt="Once upon a time", max_tokens=20, temperature=0)
        assert texts(s) == {greedy["text"]}
        card = s.call("GET", "/v1/models/stories")[1]["sampling"]
        assert card["temperature"] == {"value": 0.7, "from": "model"}
        assert card["top_p"] == {"value": 0.5, "from": "deployment"}
        assert card["min_p"] == {"value": 0, "from": "openai"}
        assert Door(s.grpc).call("ListModels", {})["data"][0]["sampling"]["top_k"] == {"value": 1, "from": "model"}
    with serve(model, *layout("1x1"), "--set", "sampling.defaults=openai") as s:
        assert len(texts(s)) > 1
