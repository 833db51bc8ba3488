"""Each bad request gets an OpenAI-shaped error that names its parameter, soon, and a canary generation after it is unchanged."""

import base64
import json
import time

import bad_inputs_table
import pytest
from harness import CHAT_TEMPLATE, DATA, SLOW, STORIES, layout, serve

VOCAB = 512
NAMES = [(i, name) for i, (name, *_) in enumerate(bad_inputs_table.rows(bad_inputs_table.Make("x"), VOCAB))]


@pytest.fixture(scope="module")
def table(stories):
    return list(bad_inputs_table.rows(bad_inputs_table.Make(stories.model()), VOCAB))


@pytest.fixture(scope="module")
def canary(stories):
    def ask():
        return stories.complete(prompt="Once upon a time", max_tokens=16, temperature=0)

    good = ask()
    return lambda: ask() == good


def shaped(status, answer, allowed):
    """-> the error's param; an error of the API has OpenAI's shape, one of the connection (0 is allowed) need not"""
    if status < 400:
        return None
    try:
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert error["message"] and error["type"] and "param" in error and "code" in error, error
        return error["param"]
    except ValueError:
        assert 0 in allowed or status in (408, 431), answer[:500]
        return None


@pytest.mark.parametrize("index,name", NAMES, ids=[f"{n}"[:80] for _, n in NAMES])
def test_row(stories, table, canary, index, name):
    _, request, allowed, param = table[index]
    start = time.monotonic()
    status, answer = stories.raw(request)
    took = time.monotonic() - start
    assert status in allowed, f"{status}, allowed {allowed}: {answer[:600]!r}"
    named = shaped(status, answer, allowed)
    if param and status == 400:
        assert named is not None and (named == param or named.startswith((param + "[", param + "."))), (
            f"names {named!r}, not {param!r}: {answer[-300:]!r}"
        )
    assert took < 3 * SLOW, f"{took:.1f} s"
    assert canary()


@pytest.mark.smoke
def test_smoke():
    """some rows of every kind, for a sanitizer build"""
    with serve(STORIES, *layout("1x2"), "--set", f"chat.template_file={CHAT_TEMPLATE}") as s:
        table = list(bad_inputs_table.rows(bad_inputs_table.Make(s.model()), VOCAB))
        for name, request, allowed, _ in table[::23]:
            status, answer = s.raw(request)
            assert status in allowed, (name, status, answer[:300])
            shaped(status, answer, allowed)
        assert s.complete(prompt=[1], max_tokens=4, temperature=0)


def test_json_test_suite(stories, canary):
    """JSONTestSuite: what must not parse is refused as a body and as a field's value; what must parse is a value that may be ignored."""
    suite = {name: base64.b64decode(raw) for name, raw in json.loads((DATA / "json_test_suite.json").read_text()).items()}
    assert sum(n.startswith("n_") for n in suite) == 186 and sum(n.startswith("y_") for n in suite) == 95
    make, wrong = bad_inputs_table.Make(stories.model()), []
    for name, raw in suite.items():
        # Spliced into an object, a text that is no value by itself may become one ("1]" and the like), so n_ cases go as the whole body.
        status, answer = stories.raw(make.http(bad_inputs_table.CHAT, raw) if name.startswith("n_") else make.chat_text(b'"wobble":' + raw))
        allowed = {"n_": (400,), "y_": (200,), "i_": (200, 400)}[name[:2]]
        if status not in allowed:
            wrong.append((name, status, answer[-200:]))
    assert not wrong, f"{len(wrong)}: {wrong[:10]}"
    assert canary()


def test_nothing_is_left_over():
    """Descriptors and memory stand still when the same bad requests come again and again."""
    with serve(STORIES, *layout("1x1"), "--set", f"chat.template_file={CHAT_TEMPLATE}", "--set", "cache.memory=16MiB") as s:
        rows = list(bad_inputs_table.rows(bad_inputs_table.Make(s.model()), VOCAB))

        def passes(n):
            """-> memory after each of n passes. It swings: bodies of 10 MB come and go, and the allocator keeps some."""
            found = []
            for _ in range(n):
                for _, request, _, _ in rows:
                    s.raw(request)
                found.append(s.memory_kb())
            return found

        passes(10)
        memory, descriptors = min(passes(5)), s.descriptors()
        passes(5)
        again = min(passes(5))
        time.sleep(1)  # closed sockets are reaped by the server's own loop
        assert s.descriptors() <= descriptors + 4, f"{descriptors} -> {s.descriptors()}"
        assert again <= memory + 10_000, f"{memory} -> {again} kB"
