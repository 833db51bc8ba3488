"""stories260K, a really trained model, gives its 200 greedy steps to the letter on layouts even and uneven."""

import pytest
from harness import STORIES, layout, serve

LAYOUTS = ["1x1", "1x2", "1x4", "2x1", "5x1", "3x1", "2x4", "4x2"]


@pytest.mark.parametrize("shape", LAYOUTS)
def test_to_the_letter(shape, expected_story):
    with serve(STORIES, *layout(shape)) as s:
        ask = dict(prompt=[1], max_tokens=200, temperature=0, ignore_eos=True)
        (unary,), usage = s.complete(**ask)
        (stream,), streamed_usage = s.complete(stream=True, **ask)
        assert unary["text"].strip().startswith(expected_story)
        assert usage["completion_tokens"] == len(unary["ids"]) == 200 and usage["prompt_tokens"] == 1
        assert stream == unary and streamed_usage == usage
        stages, ranks = map(int, shape.split("x"))
        assert len(s.agents()) == stages * ranks


@pytest.mark.smoke
def test_smoke(expected_story):
    """the same, short enough for a sanitizer build"""
    with serve(STORIES, *layout("2x2")) as s:
        ask = dict(prompt=[1], max_tokens=24, temperature=0)
        (unary,), _ = s.complete(**ask)
        (stream,), _ = s.complete(stream=True, **ask)
        assert expected_story.startswith(unary["text"].strip()) and len(unary["text"]) > 20 and stream == unary


def test_shared_memory_and_gloo_give_the_same_bytes(expected_story):
    """The kinds of group differ in how bytes travel, never in which."""
    answers = []
    for transport in ("shm", "gloo"):
        with serve(STORIES, *layout("2x2"), "--set", f"parallel.transport={transport}") as s:
            answers.append(s.complete(prompt=[1], max_tokens=200, temperature=0, ignore_eos=True, logprobs=3)[0])
    assert answers[0] == answers[1]
    assert answers[0][0]["text"].strip().startswith(expected_story)
