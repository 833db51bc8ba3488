"""A long prompt among running streams, and prompts that begin alike."""

from common import *

LONG = 2000


def long_prompt_once(settings, name):
    """-> (p99 between texts before ms, p99 while the prompt is read ms, largest ms, seconds until the prompt's first token, alone)"""
    rng = random.Random(7)
    with harness.serve(MODEL, "--set", f"agents.threads={CORES}", "--set", "cache.memory=512MiB", *harness.settings(**settings)) as s:
        model = s.model()
        prompt = lambda: [rng.randrange(100, 40000) for _ in range(LONG)]
        alone = Stream(s, dict(model=model, prompt=prompt(), max_tokens=2, ignore_eos=True, temperature=0))
        alone.start()
        alone_seconds = alone.end()[0] - alone.began
        streams = [Stream(s, dict(model=model, prompt=f"Story {i}:", max_tokens=1500, ignore_eos=True, temperature=0)) for i in range(8)]
        for stream in streams:
            stream.start()
        time.sleep(3)
        long = Stream(s, dict(model=model, prompt=prompt(), max_tokens=2, ignore_eos=True, temperature=0))
        long.start()
        first = long.end()[0]
        assert all(stream.is_alive() for stream in streams), "the streams ended before the prompt was read"
        end = time.perf_counter()
        for stream in streams:
            stream.end()
        before, during = [], []
        for stream in streams:
            for a, b in zip(stream.marks, stream.marks[1:]):
                if a > long.began - 2 and b <= long.began:
                    before.append((b - a) * 1e3)
                elif b > long.began and a <= end:
                    during.append((b - a) * 1e3)
        return percentile(before, 0.99), percentile(during, 0.99), max(during), first - long.began, alone_seconds


def long_prompt(rounds):
    table = Table(
        f"A prompt of {LONG} tokens among 8 running streams (SmolLM2, 1x1, {CORES} threads, a cache of 512 MiB): their p99 at most twice what it was"
    )
    cases = [
        ("in chunks, as shipped", {}, 2),
        (
            "without chunking (schedule.max_batch_tokens=4096, prefill_slowdown=0)",
            dict(schedule__max_batch_tokens=4096, schedule__prefill_slowdown=0),
            None,
        ),
    ]
    found = {}
    for _ in range(rounds):
        for name, settings, _ in cases:
            found.setdefault(name, []).append(long_prompt_once(settings, name))
    for name, _, most in cases:
        before, during, largest, first, alone = median(found[name])
        table.row(f"{name}: p99 while the prompt is read / before", median([r[1] / r[0] for r in found[name]]), "x", most=most)
        table.note(
            f"p99 between texts {before:.1f} ms before, {during:.1f} ms while the prompt is read, largest {largest:.1f} ms; "
            f"first token of the prompt after {first:.2f} s, of the same length alone {alone:.2f} s"
        )


def prefix(rounds):
    del rounds  # a count, not a time: one run says all
    table = Table("50 requests that share 1,000 tokens and differ in 20: tokens computed of prompts, over the ideal (the shared ones once)")
    rng = random.Random(11)
    ids = lambda n: [rng.randrange(100, 40000) for _ in range(n)]
    for name, workers in (("one after the other", 1), ("8 at a time", 8), ("all 50 at once", 50)):
        with harness.serve(MODEL, "--set", f"agents.threads={CORES}") as s:
            model, shared = s.model(), ids(1000)

            def one(tail):
                status, answer = s.post(
                    "/v1/completions", dict(model=model, prompt=shared + tail, max_tokens=2, ignore_eos=True, temperature=0)
                )
                assert status == 200, answer
                usage = answer["usage"]
                return usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]

            computed = sum(harness.at_once(workers, one, [ids(20) for _ in range(50)]))
        table.row(
            f"{name}: {computed} of {50 * 1020} computed, over the ideal {1000 + 50 * 20}",
            computed / (1000 + 50 * 20),
            "x",
            most=1.02,
            digits=3,
        )
