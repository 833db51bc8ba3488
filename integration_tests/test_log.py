"""What the log of a real server tells: where its doors are, every request, and never what was said."""

import re

import pytest
from harness import STORIES, serve, until

BODY = dict(model="stories260k", prompt="Once upon a time there was a SECRET", max_tokens=4, temperature=0)


def test_requests_and_doors():
    def ask(path, id="", **change):
        return s.post(path, BODY | change, headers={"X-Request-Id": id})[0]

    with serve(STORIES) as s:
        assert ask("/v1/completions", "first") == 200
        assert ask("/v1/completions", "second", stream=True) == 200
        assert ask("/v1/completions", "third", temperature=9) == 400
        assert ask("/v1/chat/completion") == 404
        assert until(lambda: "did you mean" in s.log, 10)
        log = s.log
        assert f"REST at {s.rest}, gRPC at {s.grpc}" in log
        assert re.search(r"is loaded: [\d.]+ [KMG]iB of weights, [\d.]+ [KMG]iB of KV pages", log)
        for id in ("first", "second"):
            took = r"key=- prompt=\d+ cached=\d+ generated=4 first_token=\d+\.\d{3}s duration=\d+\.\d{3}s end=length\n"
            assert re.search(rf" I master\] POST /v1/completions 200 id={id} {took}", log), log[-2000:]
        assert re.search(r"POST /v1/completions 400 id=third key=- duration=\S+: 'temperature' must be", log), log[-2000:]
        assert "SECRET" not in log


@pytest.mark.parametrize("setting", ["log.requests=false", "log={level: warning}", "log=warning"])
def test_lines_of_requests_can_be_left_out(setting):
    with serve(STORIES, "--set", setting) as s:
        assert s.post("/v1/completions", BODY)[0] == 200
        assert s.post("/nope", BODY)[0] == 404
        assert " id=" not in s.log


def test_tokenizer_info(stories):
    status, info = stories.call("GET", "/tokenizer_info")
    assert status == 200
    assert (info["bos_token"], info["eos_token"], info["pad_token"]) == ("<s>", "</s>", None)
    assert "message" in info["chat_template"] and isinstance(info["tokenizer_class"], str)
