"""Agents of the device `sim` are real processes that do no arithmetic: the control plane at a width that this machine could not compute."""

from harness import STORIES, at_once, layout, serve


def test_many_agents_many_requests():
    ask = [dict(prompt=[1, i % 500], max_tokens=20 + i % 7, temperature=0, ignore_eos=True) for i in range(64)]
    with serve(STORIES, *layout("4x2"), "--device", "sim") as s:
        assert len(s.agents()) == 8
        crowd = at_once(32, lambda a: s.complete(stream=a["max_tokens"] % 2 == 1, **a), ask)
    for a, ((choice,), usage) in zip(ask, crowd):  # the ids mean nothing here: they hash the sequence's number and the position
        assert len(choice["ids"]) == usage["completion_tokens"] == a["max_tokens"] and choice["finish"] == "length"
        assert all(0 <= i < 512 for i in choice["ids"])
