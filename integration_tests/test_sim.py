"""Agents of the device `sim` are real processes that do no arithmetic: the control plane at a width that this machine could not compute."""

from harness import STORIES, at_once, layout, serve


def test_many_agents_many_requests():
    ask = [dict(prompt=[1, i % 500], max_tokens=20 + i % 7, temperature=0, ignore_eos=True, seed=i % 5) for i in range(64)]
    with serve(STORIES, *layout("4x2"), "--device", "sim") as s:
        assert len(s.agents()) == 8
        crowd = at_once(32, lambda a: s.complete(stream=a["max_tokens"] % 2 == 1, **a), ask)
    drawn = {}  # an id hashes the seed and the position alone: it is the same in whichever crowd it was drawn
    for a, ((choice,), usage) in zip(ask, crowd):
        assert len(choice["ids"]) == usage["completion_tokens"] == a["max_tokens"] and choice["finish"] == "length"
        for position, i in enumerate(choice["ids"]):
            assert 0 <= i < 512 and drawn.setdefault((a["seed"], position), i) == i
    assert len(set(drawn.values())) > 50
