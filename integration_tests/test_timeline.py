"""The timeline: a file that Perfetto opens, in which every step of every rank stands once, and spans of a row nest."""

import json
import pathlib
import signal
from collections import defaultdict

import pytest
from harness import PANGEA, STORIES, at_once, layout, run, serve, settings, until
from test_metrics import STORY, page

ROUNDING = 2e-3  # microseconds: times have nanoseconds


def nested(spans):
    """every span lies within the one that is open, or after it; -> [(span, parent)]"""
    found, open_spans = [], []
    for span in sorted(spans, key=lambda e: (e["ts"], -e["dur"])):
        end = span["ts"] + span["dur"]
        while open_spans and span["ts"] >= open_spans[-1]["ts"] + open_spans[-1]["dur"] - ROUNDING:
            open_spans.pop()
        if open_spans:
            assert end <= open_spans[-1]["ts"] + open_spans[-1]["dur"] + ROUNDING, (span, open_spans[-1])
        found.append((span, open_spans[-1] if open_spans else None))
        open_spans.append(span)
    return found


def check(events, stages, ranks, steps):
    names = {(e["pid"], e["name"]): e["args"]["name"] for e in events if e["ph"] == "M"}
    assert names[0, "process_name"] == "master"
    rows = defaultdict(list)
    for e in events:
        if e["ph"] == "X":
            assert e["ts"] >= 0 and e["dur"] >= 0
            rows[e["pid"], e["tid"]].append(e)
    assert set(rows) == {(0, 0)} | {(1 + s, r) for s in range(stages) for r in range(ranks)}
    sizes = {}
    for (pid, tid), spans in rows.items():
        pairs = nested(spans)
        if pid == 0:
            kinds = {e["name"].split(" step ")[0] for e in spans}
            assert {"submit", "result", "send", "deliver"} <= kinds, kinds
            assert all(parent for e, parent in pairs if e["name"].startswith(("send", "deliver")))
            sent = {int(e["name"].split()[-1]): e["args"]["rows"] for e in spans if e["name"].startswith("send")}
            sizes[pid, tid] = sent
            continue
        assert names[pid, "process_name"] == f"stage {pid - 1}"
        whole = [e for e, parent in pairs if parent is None]
        assert [e["name"] for e in whole] == [f"step {e['args']['step']}" for e in whole]
        sizes[pid, tid] = {e["args"]["step"]: e["args"]["rows"] for e in whole}
        assert len(sizes[pid, tid]) == len(whole), "a step twice"
        parts = defaultdict(float)
        for e, parent in pairs:
            if parent is not None:
                assert e["name"] in ("compute", "communication", "bubble"), e
                parts[parent["args"]["step"]] += e["dur"]
        for e in whole:
            assert parts[e["args"]["step"]] == pytest.approx(e["dur"], abs=0.01)
        kinds = {e["name"] for e, parent in pairs if parent is not None}
        assert kinds == {"compute"} | ({"communication"} if stages * ranks > 1 else set()) | ({"bubble"} if stages > 1 else set())
    assert all(s == sizes[0, 0] for s in sizes.values()), "not every step stands on every rank"
    assert sorted(sizes[0, 0]) == list(range(1, steps + 1))


def on_all(file, step, agents):
    """whether every agent has told of this step, and the file has it: agents do so while they go on"""
    return file.read_text().count(f'"name":"step {step}"') == agents


def test_every_step_stands_once_on_every_rank(tmp_path):
    file = tmp_path / "timeline.json"
    with serve(STORIES, *layout("2x2"), "--timeline", file) as s:
        at_once(6, lambda i: s.complete(**{**STORY, "max_tokens": 20 + i}), range(12))
        assert until(lambda: page(s)("steps_in_flight") == 0, 30)
        steps = int(page(s)("steps_total"))
        assert until(lambda: on_all(file, steps, 4), 30)
    events = json.loads(file.read_text())
    check(events, 2, 2, steps)
    requests = defaultdict(list)
    for e in events:
        if e["ph"] in "bne":
            requests[e["id"]].append((e["ph"], e["ts"]))
    assert len(requests) == 12
    for of_one in requests.values():
        assert [ph for ph, _ in of_one] == ["b", "n", "e"]
        assert of_one == sorted(of_one, key=lambda x: x[1])


@pytest.mark.parametrize("device", ["cuda_on_cpu", "cuda"])
def test_the_kernels_of_a_cuda_agent_stand_in_it(device, tmp_path, monkeypatch):
    fake = pathlib.Path(PANGEA).resolve().parent / "fake_cuda"
    if device == "cuda" and not (fake / "libcuda.so.1").exists():
        pytest.skip("no fake driver beside this executable")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fake))
    file = tmp_path / "timeline.json"
    kernels = settings(timeline__kernels="true", cache__memory="4MiB")
    with serve(STORIES, *layout("1x1"), "--device", device, "--timeline", file, *kernels) as s:
        s.complete(prompt=[1, 403], max_tokens=4, temperature=0, ignore_eos=True)
        assert until(lambda: on_all(file, 4, 1), 30)
    events = json.loads(file.read_text())
    (row,) = [e for e in events if e["ph"] == "M" and e["args"]["name"] == "kernels of rank 0"]
    ran = [e for e in events if e["ph"] == "X" and e["tid"] == row["tid"]]
    names = [e["name"] for e in ran]
    assert {"EmbeddingRows", "ProductF32", "FinishQkv", "AttentionF16", "JudgeLogits"} <= set(names)
    assert names.count("TellSamples") == 4 and names.count("FinishQkv") == 4 * 5, "five layers"
    assert all(parent is None for _, parent in nested(ran)), "one after another"
    steps = [e for e in events if e["ph"] == "X" and e["name"].startswith("step ")]
    assert min(e["ts"] for e in steps) - 1 <= min(e["ts"] for e in ran)


def test_a_killed_server_leaves_a_readable_timeline(tmp_path):
    file = tmp_path / "timeline.json"
    with serve(STORIES, *layout("1x2"), "--timeline", file, clean_exit=False) as s:
        s.complete(**{**STORY, "max_tokens": 200})
        steps = int(page(s)("steps_total"))
        assert until(lambda: on_all(file, steps, 2), 30)
        s.stop(signal.SIGKILL)
    text = file.read_text()
    with pytest.raises(ValueError):
        json.loads(text)
    check(json.loads(text + "]"), 1, 2, steps)


def test_it_ends_at_its_size_and_the_server_goes_on(tmp_path):
    file = tmp_path / "timeline.json"
    with serve(STORIES, *layout("1x2"), "--timeline", file, *settings(timeline__bytes="64KiB")) as s:
        for _ in range(3):
            s.complete(**{**STORY, "max_tokens": 200})
        assert "timeline.bytes" in s.log
    assert 32_000 < file.stat().st_size < 70_000
    assert json.loads(file.read_text())


def test_a_place_that_cannot_be_written_is_refused():
    r = run("serve", STORIES, "--timeline", "/nonexistent/x.json", *settings(rest__listen="127.0.0.1:0", grpc__listen="127.0.0.1:0"))
    assert r.returncode == 78 and "timeline.file" in r.stderr
