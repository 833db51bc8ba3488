"""`pangea generate`, `pangea chat` and `pangea bench serve` against a running server: the text that the doors give, over either door."""

import json
import signal
import subprocess
import time

import pytest
from harness import PANGEA, run

PROMPT = "Once upon a time"


@pytest.fixture(params=["grpc", "rest"])
def door(request, stories):
    return ["--grpc", stories.grpc] if request.param == "grpc" else ["--rest", stories.rest]


def test_generate(stories, door):
    (choice,), usage = stories.complete(prompt=PROMPT, temperature=0, max_tokens=30)
    streamed = run("generate", *door, "--temperature", "0", "--max-tokens", "30", PROMPT)
    assert streamed.returncode == 0 and streamed.stdout == choice["text"] + "\n", streamed
    from_stdin = run("generate", *door, "--temperature", "0", "--max-tokens", "30", "--no-stream", stdin=PROMPT)
    assert from_stdin.returncode == 0 and from_stdin.stdout == streamed.stdout, from_stdin
    found = json.loads(run("generate", *door, "--temperature", "0", "--max-tokens", "30", "--json", PROMPT).stdout)
    assert found["text"] == choice["text"] and found["finish_reason"] == choice["finish"]
    assert found["completion_tokens"] == usage["completion_tokens"] and found["prompt_tokens"] == usage["prompt_tokens"]


def test_sampling_flags_arrive(stories, door):
    ask = dict(temperature=0.9, seed=7, max_tokens=20, top_p=0.8, top_k=30, stop=["."])
    (choice,), _ = stories.complete(prompt=PROMPT, **ask)
    r = run(
        "generate",
        *door,
        "--temperature",
        "0.9",
        "--seed",
        "7",
        "--max-tokens",
        "20",
        "--top-p",
        "0.8",
        "--top-k",
        "30",
        "--stop",
        ".",
        PROMPT,
    )
    assert r.returncode == 0 and r.stdout == choice["text"] + "\n", r


def test_chat_keeps_the_conversation(stories, door):
    ask = dict(temperature=0, max_tokens=12)
    messages, answers = [], []
    for line in ("Hello", "And then?"):
        messages.append(dict(role="user", content=line))
        ((_, text),) = stories.chat(messages=messages, **ask)
        messages.append(dict(role="assistant", content=text))
        answers.append(text)
    r = run("chat", *door, "--temperature", "0", "--max-tokens", "12", stdin="Hello\nAnd then?\n")
    assert r.returncode == 0 and r.stdout == "".join(a + "\n" for a in answers), r
    assert run("generate", *door, "--chat", "--temperature", "0", "--max-tokens", "12", "Hello").stdout == answers[0] + "\n"


def test_errors_are_said_and_exit_codes_tell(stories, door):
    r = run("generate", *door, "--temperature", "50", PROMPT)
    assert r.returncode == 1 and "temperature" in r.stderr, r
    r = run("generate", *door, "--model", "nope", PROMPT)
    assert r.returncode == 1 and "nope" in r.stderr, r
    assert run("generate", *door, "--wobble", PROMPT).returncode == 64
    assert run("generate", "--rest", "http://127.0.0.1:1", PROMPT).returncode == 1


def test_interrupting_generate_cancels_it(stories, door):
    p = subprocess.Popen(
        [PANGEA, "generate", *door, "--temperature", "0", "--ignore-eos", "--max-tokens", "450", PROMPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert p.stdout.read(1)
    p.send_signal(signal.SIGINT)
    start = time.monotonic()
    p.communicate(timeout=20)
    assert p.returncode in (0, 130) and time.monotonic() - start < 5  # 0: it was faster


def test_bench_reports(stories):
    r = run(
        "bench",
        "serve",
        "--url",
        stories.rest,
        "--requests",
        "12",
        "--concurrency",
        "4",
        "--max-tokens",
        "8",
        "--prompt-words",
        "5",
        "--ignore-eos",
        "--json",
        timeout=120,
    )
    assert r.returncode == 0, r
    report = json.loads(r.stdout)
    assert report["succeeded"] == 12 and report["failed"] == 0 and report["completion_tokens"] == 96
    for name in ("time_to_first_token_seconds", "inter_token_seconds", "end_to_end_seconds"):
        assert 0 <= report[name]["p50"] <= report[name]["p99"], (name, report)
    assert report["time_to_first_token_seconds"]["p50"] <= report["end_to_end_seconds"]["p50"] and report["tokens_per_second"] > 0
    table = run(
        "bench",
        "serve",
        "--url",
        stories.rest,
        "--requests",
        "4",
        "--api",
        "completions",
        "--prompt-tokens",
        "5",
        "--first-id",
        "5",
        "--max-tokens",
        "4",
    )
    assert table.returncode == 0 and "p99" in table.stdout, table
