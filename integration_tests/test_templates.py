"""What a chat template sees of a request, and how it is read. The prompt is looked at by /tokenize and /detokenize."""

import json

import grpc
import pytest
from harness import STORIES, layout, run, serve, settings
from test_grpc import Door

# Line ends of Windows, and a string that goes on in the next line.
TEMPLATE = "{%- set end = 'en\\\r\nd' %}\r\n{{ messages | tojson }}\r\n{% if schema %}\r\n{{ schema | tojson }}{% endif %}{{ end }}\r\n"
MESSAGES = [
    {"role": "user", "content": "x"},
    {"role": "assistant", "content": "y", "reasoning_content": "z"},
    {"role": "user", "content": "w"},
]
SEEN = (
    '[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "reasoning": "z", "reasoning_content": "z"}, '
    '{"role": "user", "content": "w"}]\n'
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "own.jinja"
    path.write_bytes(TEMPLATE.encode())
    more = settings(chat__template_file=path, chat__allow_request_template="true")
    with serve(STORIES, *layout("1x1"), *more) as s:
        yield s


def prompt(server, raw_members=""):
    """the prompt of MESSAGES and further members, which are a JSON text"""
    body = f'{{"model": "{server.model()}", "messages": {json.dumps(MESSAGES)}{raw_members}}}'
    status, answer = server.post("/tokenize", body.encode())
    assert status == 200, answer
    return server.post("/detokenize", {"model": server.model(), "tokens": answer["tokens"]})[1]["prompt"].removeprefix("<s>").lstrip()


def test_line_ends_order_and_numbers_are_kept(server):
    schema = '{"z": 1, "pattern": {"type": "string", "b": 1.0}, "include": [1e2, 12345678901234567890], "a": null}'
    written = '{"z": 1, "pattern": {"type": "string", "b": 1.0}, "include": [100.0, 12345678901234567890], "a": null}'
    assert prompt(server) == SEEN + "end"
    assert prompt(server, f', "chat_template_kwargs": {{"schema": {schema}}}') == SEEN + written + "end"


def test_grpc_sends_the_text_of_the_arguments(server):
    door = Door(server.grpc)
    try:
        body = {"model": server.model(), "messages": MESSAGES}
        kwargs = '{"schema": {"b": 1.0, "a": 2}}'
        status, rest = server.post("/tokenize", {**body, "chat_template_kwargs": json.loads(kwargs)})
        assert status == 200, rest
        assert door.call("Tokenize", {**body, "chat_template_kwargs_json": kwargs})["tokens"] == [str(i) for i in rest["tokens"]]
        door.call("Tokenize", {**body, "chat_template_kwargs": json.loads(kwargs)})
        with pytest.raises(grpc.RpcError) as refused:
            door.call("ChatCompletion", {**body, "chat_template_kwargs": {"tools": [{"type": "function"}]}})
        assert refused.value.code().name == "INVALID_ARGUMENT"
        assert "chat_template_kwargs.tools" in refused.value.details()
    finally:
        door.channel.close()


def test_arguments_can_not_bring_in_what_is_refused(server):
    for path in ("/v1/chat/completions", "/tokenize"):
        body = {"model": server.model(), "messages": MESSAGES, "chat_template_kwargs": {"tools": [{"type": "function"}]}}
        status, answer = server.post(path, body)
        assert (status, answer["error"]["param"]) == (400, "chat_template_kwargs.tools"), answer


def test_template_of_a_request_is_refused_with_its_line(server):
    body = {"model": server.model(), "messages": MESSAGES, "chat_template": "a\n{{ messages | no_such_filter }}"}
    status, answer = server.post("/v1/chat/completions", body)
    assert status == 400 and "line 2: no filter named 'no_such_filter'" in answer["error"]["message"], answer


def test_check_refuses_a_template_that_can_not_work(tmp_path):
    path = tmp_path / "broken.jinja"
    path.write_text("{{ messages }}\n{% include 'other' %}")
    r = run("check", STORIES, *settings(chat__template_file=path))
    assert r.returncode == 78 and f"{path}: chat template: line 2: 'include' is not served" in r.stdout + r.stderr, r
