"""Answers that follow a form: valid whatever the model says, the same on every layout and through kills."""

import json
import os
import random
import re
import signal
import threading
import time

import jsonschema
import openai
import pydantic
import pytest
from harness import CHAT_TEMPLATE, STORIES, layout, serve, until
from test_grpc import Door

TEMPLATE = ("--set", f"chat.template_file={CHAT_TEMPLATE}")
ASK = [dict(role="user", content="Once upon a time")]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def schema(rng, depth=0):
    """a random schema whose answers are short"""
    kind = rng.choice(["integer", "string", "enum", "boolean", "null", "number"] + ["object", "array"] * 2 * (depth < 3))
    if kind == "integer":
        low = rng.randrange(-1000, 1000)
        return {"type": "integer", "minimum": low, "maximum": low + rng.randrange(1, 2000)}
    if kind == "number":
        return {"type": "number", "minimum": 0, "maximum": rng.randrange(1, 50), "multipleOf": 0.25}
    if kind == "string":
        return rng.choice([
            {"type": "string", "maxLength": rng.randrange(1, 16)},
            {"type": "string", "pattern": "^[a-f]{2,5}$"},
            {"type": "string", "format": rng.choice(["date", "uuid", "ipv4"])},
        ])  # fmt: skip
    if kind == "enum":
        return {"enum": rng.sample(["red", "green", 'blue "x"', 7, None, True, {"a": [1]}, "é\n"], rng.randrange(1, 5))}
    if kind == "array":
        low = rng.randrange(3)
        return {"type": "array", "items": schema(rng, depth + 1), "minItems": low, "maxItems": low + rng.randrange(3)}
    if kind == "object":
        names = rng.sample(["z", "a", "long name", "ü", 'quote"d'], rng.randrange(1, 4))
        required = [n for n in names if rng.random() < 0.7]
        return {
            "type": "object",
            "properties": {n: schema(rng, depth + 1) for n in names},
            "required": required,
            "additionalProperties": False,
        }
    return {"type": kind}


def form(s):
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": s}}


def ask(server, tokens=300, **kw):
    body = dict(model=server.model(), messages=ASK, max_tokens=tokens, temperature=1, **kw)
    status, answer = server.call("POST", "/v1/chat/completions", body)
    assert status == 200, answer
    return [(c["message"]["content"], c["finish_reason"]) for c in answer["choices"]]


def refused(server, **kw):
    status, answer = server.call("POST", "/v1/chat/completions", dict(model=server.model(), messages=ASK, **kw))
    assert status == 400, answer
    return answer["error"]["param"], answer["error"]["message"]


def check(text, s):
    jsonschema.validate(json.loads(text), s, format_checker=jsonschema.FormatChecker(["date", "uuid", "ipv4"]))


def whole(answers, s):
    """how many ended; each of them is valid"""
    ended = [text for text, finish in answers if finish == "stop"]
    assert all(finish in ("stop", "length") for _, finish in answers)
    for text in ended:
        check(text, s)
    return len(ended)


def test_random_schemas_have_valid_answers(stories):
    rng = random.Random(1)
    count = int(os.environ.get("PANGEA_SCHEMAS", "60"))
    ended = 0
    for i in range(count):
        s = schema(rng)
        ended += whole(ask(stories, response_format=form(s), seed=i), s)
    assert ended > 0.9 * count, f"{ended} of {count} came to an end"


def test_what_is_checked_can_fail():
    with pytest.raises(jsonschema.ValidationError):
        check('{"name": "a very long name indeed", "age": 1}', PERSON)
    with pytest.raises(json.JSONDecodeError):
        check('{"name": "a', PERSON)


def test_every_form(stories):
    ((text, finish),) = ask(stories, structured_outputs={"regex": "[a-c]{3,5}-[0-9]+x"}, seed=1)
    assert finish == "stop" and re.fullmatch("[a-c]{3,5}-[0-9]+x", text)
    words = ["yes", 'no "x"\n', "é/\\"]
    assert {ask(stories, guided_choice=words, seed=i)[0] for i in range(12)} <= {(w, "stop") for w in words}
    ((text, finish),) = ask(stories, guided_grammar='start: "(" start ")" | "x"', seed=3)
    assert finish == "stop" and re.fullmatch(r"\(*x\)*", text) and text.count("(") == text.count(")")
    answers = ask(stories, response_format={"type": "json_object"}, n=4, seed=4, tokens=400)
    for text, finish in answers:
        assert finish == "length" or isinstance(json.loads(text), dict)
    status, answer = stories.call(
        "POST", "/v1/completions", dict(model=stories.model(), prompt=["a", "b"], guided_json=PERSON, max_tokens=100, seed=5)
    )
    assert status == 200 and whole([(c["text"], c["finish_reason"]) for c in answer["choices"]], PERSON) == 2


def test_members_come_in_the_order_of_the_schema(stories):
    s = {
        "type": "object",
        "properties": {n: {"type": "integer", "maximum": 9, "minimum": 0} for n in "zay"},
        "required": ["a", "z", "y"],
        "additionalProperties": False,
    }
    assert list(json.loads(ask(stories, response_format=form(s), seed=1)[0][0])) == ["z", "a", "y"]


def test_streamed_and_with_all_that_a_draw_knows(stories):
    body = dict(model=stories.model(), messages=ASK, max_tokens=100, temperature=0.9, top_p=0.9, seed=6, n=2, frequency_penalty=0.5,
                logit_bias={"100": 5}, logprobs=True, top_logprobs=3, response_format=form(PERSON))  # fmt: skip
    unary = stories.call("POST", "/v1/chat/completions", body)[1]["choices"]
    texts, probabilities = ["", ""], [[], []]
    for event in stories.events("/v1/chat/completions", dict(body, stream=True)):
        for c in event["choices"] if event != "[DONE]" else []:
            texts[c["index"]] += c["delta"].get("content") or ""
            probabilities[c["index"]] += (c["logprobs"] or {}).get("content", [])
    assert texts == [c["message"]["content"] for c in unary]
    assert probabilities == [c["logprobs"]["content"] for c in unary]
    for c in unary:
        check(c["message"]["content"], PERSON)
    # of the model, not of the form: what the form forbids is among the likeliest
    assert any(top["token"] not in ("{", '"') for top in unary[0]["logprobs"]["content"][0]["top_logprobs"])


def test_the_same_bytes_on_every_layout_and_through_kills():
    rng = random.Random(2)
    asked = [dict(response_format=form(schema(rng)), seed=i, n=1 + i % 2) for i in range(12)] + [
        dict(guided_regex="([a-z]{4} ){40}", seed=99)
    ]
    with serve(STORIES, *layout("1x1"), *TEMPLATE) as s:
        expected = [ask(s, **kw) for kw in asked]
    with serve(STORIES, *layout("2x2"), *TEMPLATE, "--set", "control.recovery_attempts=1000") as s:
        assert [ask(s, **kw) for kw in asked] == expected
        assert ask(s, **dict(asked[-1], seed=98)) != expected[-1], "another draw would be seen"
        stop, kills = threading.Event(), []

        def kill():
            while not stop.wait(0.3):
                agents = until(lambda: len(a := s.agents()) == 4 and a, 60)
                os.kill(random.choice(agents), signal.SIGKILL)
                kills.append(time.monotonic())

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            while len(kills) < 4:
                assert [ask(s, **kw) for kw in asked] == expected
        finally:
            stop.set()
            killer.join()


def test_ends_of_other_kinds(stories):
    loop = dict(structured_outputs={"regex": "(ab|ba)*x"}, seed=2)
    ((text, finish),) = ask(stories, stop=["ba"], **loop)
    assert finish == "stop" and re.fullmatch("(ab)*x?", text)
    ((text, finish),) = ask(stories, min_tokens=200, structured_outputs={"regex": "ab"})
    assert (text, finish) == ("ab", "stop"), "the form knows better"
    ((text, finish),) = ask(stories, tokens=2, guided_choice=["yes and no"])
    assert finish == "length" and "yes and no".startswith(text)
    body = dict(model=stories.model(), prompt="Once", echo=True, logprobs=1, max_tokens=0, guided_regex="a")
    status, answer = stories.call("POST", "/v1/completions", body)
    assert status == 200 and answer["choices"][0]["text"] == "Once"


def test_others_see_nothing_of_it(stories):
    plain = dict(model=stories.model(), prompt="Once", max_tokens=150, temperature=1, seed=3, logprobs=2)
    alone = stories.call("POST", "/v1/completions", plain)[1]["choices"]
    threads = [threading.Thread(target=ask, args=(stories,), kwargs=dict(guided_regex="([a-z]{4} ){60}", seed=i)) for i in range(4)]
    for t in threads:
        t.start()
    among = stories.call("POST", "/v1/completions", plain)[1]["choices"]
    for t in threads:
        t.join()
    assert among == alone


def test_what_cannot_be_honoured_is_refused_by_name(stories):
    param, message = refused(stories, response_format=form({"type": "array", "uniqueItems": True}))
    assert param == "response_format.json_schema.schema" and "uniqueItems" in message
    param, message = refused(stories, guided_json={"not": {"type": "string"}})
    assert param == "guided_json" and "not" in message
    param, message = refused(stories, structured_outputs={"regex": "(a"})
    assert param == "structured_outputs.regex"
    param, message = refused(stories, guided_regex="a" * 300000)
    assert param == "guided_regex" and "262144" in message
    param, message = refused(stories, guided_json={"properties": {str(i): {} for i in range(1001)}})
    assert param == "guided_json" and "1000" in message
    assert ask(stories, guided_choice=["yes"]) == [("yes", "stop")], "and serves on"


def test_the_openai_client_parses(stories):
    class Person(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=12)
        age: int

    client = openai.OpenAI(base_url=stories.rest + "/v1", api_key="none", max_retries=0)
    answer = client.chat.completions.parse(model=stories.model(), messages=ASK, response_format=Person, seed=1, max_tokens=100)
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_grpc(stories):
    door = Door(stories.grpc)
    body = dict(messages=[dict(role="user", content="Hello")], max_tokens="100", seed="3", response_format=form(PERSON))
    text = door.call("ChatCompletion", body)["choices"][0]["message"]["content"]
    check(text, PERSON)
    del body["response_format"]
    answer = door.call("ChatCompletion", dict(body, response_format_json=json.dumps(form(PERSON))))
    assert list(json.loads(answer["choices"][0]["message"]["content"])) == ["name", "age"]
