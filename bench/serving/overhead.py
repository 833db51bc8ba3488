"""What the control plane costs: time between steps on the agents, processor time of the master, pipeline bubbles, cancellation."""

import json
import tempfile
import time

from common import *

STEP_US = 5000


def gaps_of(file, step_us=None):
    """microseconds from the end of a step to the start of the next, per rank, from a timeline in the Chrome trace format"""
    text = pathlib.Path(file).read_text().rstrip().rstrip(",")
    events = json.loads(text if text.endswith("]") or text.endswith("}") else text + "]")
    events = events["traceEvents"] if isinstance(events, dict) else events
    tracks = {}
    for e in events:
        if e.get("ph") == "X" and (m := re.fullmatch(r"step (\d+)", e.get("name", ""))):
            tracks.setdefault((e["pid"], e["tid"]), []).append((int(m[1]), e["ts"], e["dur"]))
    gaps = []
    for steps in tracks.values():
        steps.sort()
        # Neighbours only, and only while there was work: an idle server's gaps are its clients'.
        gaps += [b[1] - a[1] - a[2] for a, b in zip(steps, steps[1:]) if b[0] == a[0] + 1]
    return gaps


def between_steps(rounds):
    table = Table(f"Time between two steps on an agent (SmolLM2, 1x1, {CORES} threads): under 3 % of a 5 ms step at batch 1 and 32")
    for streams in (1, 32):
        found = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                file = f"{folder}/timeline.json"
                with harness.serve(MODEL, "--set", f"agents.threads={CORES}", "--set", f"timeline.file={file}") as s:
                    load(s.rest, streams, streams, 128)
                found.append(median(gaps_of(file)))
        table.row(f"batch {streams}: median time between steps", median(found), " us", most=0.03 * STEP_US, digits=1)
        table.row(f"batch {streams}: share of a 5 ms step", median(found) / STEP_US * 100, " %", most=3)


def master_cpu(rounds):
    table = Table("Processor time of the master per generated token, whole process (getrusage), streams over REST")
    cases = [
        ("SmolLM2 1x1", MODEL, ("--set", f"agents.threads={CORES}"), 128),
        ("stories260k 1x1", harness.STORIES, (), 256),
        ("stories260k 1x1, agent without arithmetic (sim)", harness.STORIES, ("--device", "sim"), 256),
    ]
    for name, model, args, tokens in cases:
        for streams in (1, 32):
            found = []
            for _ in range(rounds):
                with harness.serve(model, *args) as s:
                    load(s.rest, streams, streams, 32)
                    before = cpu_seconds(s.proc.pid)
                    report = load(s.rest, streams, 2 * streams, tokens)
                    found.append((cpu_seconds(s.proc.pid) - before) / report["completion_tokens"] * 1e6)
            table.row(f"{name}, {streams} streams", median(found), " us", most=20 if streams == 32 else None, digits=1)


def stage_seconds(before, after):
    """{(stage, rank): {busy, bubble, communication, wait}} between two scrapes"""
    found = {}
    for key, value in after.items():
        if m := re.fullmatch(r"pangea_stage_(\w+)_seconds_total\{(.*)\}", key):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', m[2]))
            found.setdefault((labels["stage"], labels["rank"]), {})[m[1]] = value - before.get(key, 0)
    return found


def bubble(rounds):
    table = Table("Pipeline of 2 equal stages, one thread each, 16 streams (SmolLM2): bubble under 10 %")
    found = []
    for _ in range(rounds):
        with harness.serve(MODEL, "--pipeline", 2) as s:
            streams = [
                Stream(s, dict(model=s.model(), prompt=f"Story {i}:", max_tokens=1000, ignore_eos=True, temperature=0)) for i in range(16)
            ]
            for stream in streams:
                stream.start()
            time.sleep(2.5)  # prompts read, and a report of every agent (one a second)
            before = metrics(s)
            time.sleep(4)
            after = metrics(s)
            assert all(stream.is_alive() for stream in streams), "the streams ended before the measurement"
            for times in stage_seconds(before, after).values():
                total = sum(times.values())
                found.append(tuple(times.get(k, 0) / total * 100 for k in ("busy", "bubble", "communication", "wait")))
            for stream in streams:
                stream.end()
    busy, lost, communication, wait = median(found)
    table.row("bubble (a step is at hand, its input is not)", lost, " %", most=10)
    table.row("wait (no step is at hand)", wait, " %")
    table.row("bubble and wait together", lost + wait, " %", most=10)
    table.note(
        f"busy {busy:.1f} %, communication {communication:.1f} %: medians over stages and rounds; the load generator and the master share the {CORES} cores"
    )


def cancel(rounds):
    table = Table("Cancel to blocks free (SmolLM2, 1x1, 16 streams, all cancelled by closing the connection): p99 under 2 steps")
    found = []
    for _ in range(rounds):
        with harness.serve(MODEL, "--set", f"agents.threads={CORES}") as s:
            name, before = s.model(), metrics(s)
            for _ in range(8):
                opened = [
                    s.open("POST", "/v1/completions", dict(model=name, prompt=f"Story {i}:", max_tokens=1000, ignore_eos=True, stream=True))
                    for i in range(16)
                ]
                for connection, answer in opened:
                    answer.readline()
                for connection, answer in opened:
                    answer.close()
                    connection.close()
                harness.until(lambda: metrics(s)["pangea_requests_running"] == 0, 20)
            after = metrics(s)
            found.append(
                (
                    quantile_of_buckets(before, after, "pangea_cancel_steps", 0.99)[0],
                    quantile_of_buckets(before, after, "pangea_cancel_steps", 0.5)[0],
                    quantile_of_buckets(before, after, "pangea_cancel_seconds", 0.99)[0] * 1e3,
                )
            )
            free, blocks = after["pangea_kv_blocks_free"], after["pangea_kv_blocks"]
            assert free == blocks, f"{blocks - free} blocks were not given back"
    p99, p50, ms = median(found)
    table.row("p99, in steps answered meanwhile (upper bound of the bucket)", p99, "", most=2, digits=0)
    table.note(f"median {p50:.0f} steps, p99 {ms:.0f} ms (upper bound)")
