"""Agents of the device `sim` are real processes that do no arithmetic: the control plane at a width that this machine could not compute."""
from harness import STORIES, at_once, layout, serve


def test_many_agents_many_requests():
    ask = [dict(prompt=[1, i % 500], max_tokens=20 + i % 7, temperature=0, ignore_eos=True) for i in range(64)]
    with serve(STORIES, *layout("4x2"), "--device", "sim") as s:
        assert len(s.agents()) == 8
        alone = [s.complete(**a)[0][0]["ids"] for a in ask[:16]]
        together = [s.complete(**a)[0][0]["ids"] if i % 2 else s.complete(stream=True, **a)[0][0]["ids"] for i, a in enumerate(ask[:4])]
        crowd = at_once(32, lambda a: s.complete(stream=True, **a)[0][0]["ids"], ask)
    assert together == alone[:4] and crowd[:16] == alone
    assert [len(ids) for ids in crowd] == [a["max_tokens"] for a in ask]
