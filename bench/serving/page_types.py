"""page_types.py: what cache.type changes. SmolLM2's chats with float32 Transformers' answers as their ends (EXPECTED.json), against pages of f16:
the mean and the largest change of a log-probability, and how often another id became the likeliest where an answer's id comes next."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "integration_tests"))
from harness import DATA, SMOLLM2, serve, settings  # noqa: E402


def read(cases, pages):
    """-> for each chat: log-probabilities of its ids from the second on, the likeliest ids there, and where its answer begins"""
    got = []
    with serve(SMOLLM2, *settings(cache__type=pages)) as s:
        for c in cases:
            ids = c["prompt_ids"] + c["greedy"]
            (choice,), _ = s.complete(prompt=ids, echo=True, max_tokens=1, temperature=0, logprobs=1)
            told = choice["logprobs"]
            likeliest = [max(top, key=top.get) for top in told["top_logprobs"][1 : len(ids)]]
            got.append((told["token_logprobs"][1 : len(ids)], likeliest, len(c["prompt_ids"]) - 1))
    return got


def main():
    cases = json.loads((DATA / "smollm2/EXPECTED.json").read_text())["cases"]
    wanted = read(cases, "f16")
    for pages in ("bf16", "int8", "fp8"):
        pairs = list(zip(wanted, read(cases, pages), strict=True))
        off = [abs(x - y) for (a, _, _), (b, _, _) in pairs for x, y in zip(a, b, strict=True)]
        other = [x != y for (_, a, at), (_, b, _) in pairs for x, y in zip(a[at:], b[at:], strict=True)]
        print(f"{pages}: {sum(off) / len(off):.3f} in the mean, {max(off):.2f} at most; another id {sum(other)} times of {len(other)}")


main()
