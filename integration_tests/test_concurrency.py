"""Requests that share a batch return exactly what each returns alone, and really share it."""

import random
import threading
import time

import pytest
from harness import STORIES, at_once, layout, serve, settings

WORDS = "Once upon a time there was little girl named Lily She loved to play outside in the park One day".split()


def requests(n, seed):
    rng = random.Random(seed)
    for i in range(n):
        sampling = rng.choice(
            [
                dict(temperature=0),
                dict(temperature=0.8, top_p=0.9),
                dict(temperature=1.3, top_k=40, presence_penalty=0.5, frequency_penalty=0.2),
                dict(temperature=1.0, min_p=0.05, stop=["the", "."]),
                dict(temperature=0.7, repetition_penalty=1.2),
                dict(temperature=0, echo=True),
            ]
        )
        yield dict(
            prompt=" ".join(rng.choice(WORDS) for _ in range(rng.choice([1, 4, 20, 90]))),
            max_tokens=rng.choice([1, 5, 17, 60]),
            seed=rng.randrange(1 << 31),
            logprobs=rng.choice([None, 0, 3]),
            n=rng.choice([1, 1, 2]),
            **sampling,
        )


ASKED = list(requests(32, 1))


@pytest.fixture(scope="module")
def alone():
    """each request by itself, on one agent"""
    with serve(STORIES, *layout("1x1")) as s:
        return [s.complete(**r) for r in ASKED]


@pytest.mark.parametrize(
    "shape,extra",
    [
        ("1x1", {}),
        ("2x2", {}),
        ("3x1", {}),
        ("1x3", {}),
        ("2x2", dict(schedule__max_batch_tokens=32, schedule__max_sequences=8)),
        ("1x2", dict(cache__memory="512KiB")),
    ],
    ids=str,
)
def test_a_crowd_of_32_gives_what_each_gives_alone(alone, shape, extra):
    """the last rows make prompts go in chunks, and the cache so small that sequences are preempted"""
    order = random.Random(2).sample(range(len(ASKED)), len(ASKED))
    with serve(STORIES, *layout(shape), *settings(**extra)) as s:
        got = at_once(32, lambda i: s.complete(stream=i % 2 == 1, **ASKED[i]), order)
    wrong = [(ASKED[i], answer, alone[i]) for i, answer in zip(order, got) if without_cached(answer) != without_cached(alone[i])]
    assert not wrong, f"{len(wrong)} of {len(order)} differ, the first: {wrong[0]}"


def without_cached(answer):
    choices, usage = answer
    return choices, {k: v for k, v in usage.items() if k != "prompt_tokens_details"}


@pytest.mark.smoke
def test_smoke(alone=None):
    """a crowd of 8, for a sanitizer build"""
    with serve(STORIES, *layout("2x2")) as s:
        asked = [{**r, "max_tokens": min(r["max_tokens"], 5)} for r in ASKED[:8]]
        one_by_one = [s.complete(**r) for r in asked]
        together = at_once(8, lambda r: s.complete(stream=True, **r), asked)
        assert list(map(without_cached, together)) == list(map(without_cached, one_by_one))


def test_a_late_request_speaks_before_an_early_one_ends():
    """continuous batching: a batch of one, or a queue, cannot do this however often it is tried (a busy machine may miss once)"""
    with serve(STORIES, *layout("2x1")) as s:
        assert any(late_is_within_early(s) for _ in range(20))


def late_is_within_early(s):
    """whether a request that was sent while another spoke got its first text before that one's last"""
    marks, begun = {}, threading.Event()

    def ask(name, tokens):
        for e in s.events("/v1/completions", dict(model="stories260k", prompt=[1], max_tokens=tokens, temperature=0, ignore_eos=True)):
            marks.setdefault(name, []).append(time.monotonic())
            begun.set()

    early = threading.Thread(target=ask, args=("early", 500))
    early.start()
    assert begun.wait(30)
    ask("late", 3)
    early.join()
    assert len(marks["early"]) > 20
    return marks["late"][0] < marks["early"][-1]


def test_more_than_the_queue_is_told_so_at_once():
    """nobody waits to be refused, and whoever was accepted is answered"""
    with serve(STORIES, *layout("1x1"), *settings(limits__queue=4, schedule__max_sequences=2)) as s:

        def ask(i):
            start = time.monotonic()
            c, r = s.open("POST", "/v1/completions", dict(model="stories260k", prompt=[1], max_tokens=400, temperature=0, ignore_eos=True))
            body = r.read()
            retry = r.getheader("retry-after")
            c.close()
            return r.status, time.monotonic() - start, retry, body

        got = at_once(40, ask, range(40))
        statuses = sorted({status for status, *_ in got})
        assert statuses == [200, 429], statuses
        refused = [g for g in got if g[0] == 429]
        assert all(retry for _, _, retry, _ in refused)
        assert s.complete(prompt=[1], max_tokens=4, temperature=0)
