#!/usr/bin/env python3
"""pangu_200b.py [--pangea PATH] [--quick]: the tables of docs/pangu_200b.md, as Markdown.

Every figure is a prediction by `pangea simulate` (docs/simulation.md). Speeds of devices: public data sheets, named on that page;
percentages and latencies: assumptions, named there too. The weights are not needed: docs/studies/pangu-alpha-200b has the config.json alone.
"""

import argparse
import concurrent.futures
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
GiB = 1 << 30
RESERVE = 2 * GiB  # of a device, for its runtime
DEVICES = {
    # memory, gflops, compute %, attention %, memory bandwidth, memory %, layer, step, [(most ranks, bandwidth, latency)], stage bandwidth, latency
    "Ascend 910 32 GB": dict(
        memory=32 * GiB,
        gflops=256_000,
        compute=60,
        attention=30,
        bandwidth="1200GB",
        reach=70,
        layer="60us",
        step="200us",
        links=[(4, "90GB", "20us"), (8, "30GB", "25us"), (64, "12.5GB", "40us")],
        stage=("12.5GB", "30us"),
    ),
    "H100 80 GB": dict(
        memory=80 * GiB,
        gflops=989_000,
        compute=75,
        attention=50,
        bandwidth="3350GB",
        reach=80,
        layer="25us",
        step="150us",
        links=[(8, "450GB", "8us"), (64, "50GB", "25us")],
        stage=("50GB", "20us"),
    ),
    "H200 141 GB": dict(
        memory=140 * GiB,
        gflops=989_000,
        compute=75,
        attention=50,
        bandwidth="4800GB",
        reach=80,
        layer="25us",
        step="150us",
        links=[(8, "450GB", "8us"), (64, "50GB", "25us")],
        stage=("50GB", "20us"),
    ),
}


class Study:
    def __init__(self, pangea, quick):
        self.pangea, self.quick = pangea, quick

    def run(self, device, stages, ranks, load, settings=()):
        d = DEVICES[device]
        bandwidth, latency = next((b, l) for most, b, l in d["links"] if ranks <= most)
        keys = {
            "parallel.pipeline": stages,
            "parallel.tensor": ranks,
            "simulate.memory": d["memory"],
            "simulate.gflops": d["gflops"],
            "simulate.compute_percent": d["compute"],
            "simulate.attention_percent": d["attention"],
            "simulate.memory_bandwidth": d["bandwidth"],
            "simulate.memory_percent": d["reach"],
            "simulate.layer_seconds": d["layer"],
            "simulate.step_seconds": d["step"],
            "simulate.tensor_bandwidth": bandwidth,
            "simulate.tensor_latency": latency,
            "simulate.stage_bandwidth": d["stage"][0],
            "simulate.stage_latency": d["stage"][1],
            "schedule.max_sequences": 1024,
            **dict(settings),
        }
        command = [self.pangea, "simulate", str(ROOT / "docs/studies/pangu-alpha-200b/16.yaml"), "--json", *load]
        for key, value in keys.items():
            command += ["--set", f"{key}={value}"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        if done.returncode != 0:
            return done.stderr.strip()
        return json.loads(done.stdout)

    def cache(self, device, stages, ranks, settings=()):
        """bytes of KV cache that a device has room for beside weights and buffers; or why there is none"""
        probe = self.run(
            device,
            stages,
            ranks,
            ["--streams", "1", "--requests", "1", "--output", "1"],
            [("simulate.memory", 0), ("cache.memory", "16GiB"), *settings],
        )
        if isinstance(probe, str):
            return probe
        least = min(DEVICES[device]["memory"] - RESERVE - (p["bytes"] - p["kv_bytes"]) for p in probe["per_device"])
        return least

    def loaded(self, device, stages, ranks, streams, settings=()):
        room = self.cache(device, stages, ranks, settings)
        if isinstance(room, str):
            return room
        if room < 1 << 16:
            return "does not fit"
        requests = max(streams * (2 if self.quick else 4), 16)
        load = ["--streams", str(streams), "--requests", str(requests), "--prompt", "128-640", "--output", "64-256"]
        return self.run(device, stages, ranks, load, [("cache.memory", room), *settings])


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join("---:" if i else "---" for i in range(len(head))) + " |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def bubble(r):
    stages = [s["bubble"] for s in r["per_stage"]]
    return sum(stages) / len(stages)


def communication(r):
    return sum(s["communication_seconds"] for s in r["per_stage"]) / len(r["per_stage"]) / r["loaded_seconds"]


def plans(study, device, count):
    layouts = [(count // r, r) for r in (1, 2, 4, 8, 16, 32, 64) if count % r == 0 and count // r <= 64]
    streams = [1, 16, 64, 256]
    jobs = {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for layout in layouts:
            for s in streams:
                jobs[layout, s] = pool.submit(study.loaded, device, *layout, s)
    rows = []
    for layout in layouts:
        found = [jobs[layout, s].result() for s in streams]
        name = f"{layout[0]} x {layout[1]}"
        if isinstance(found[0], str):
            rows.append([name, "no: " + found[0].splitlines()[0][:60], *[""] * (len(streams) + 3)])
            continue
        most = max(found[0]["per_device"], key=lambda p: p["bytes"])
        tokens = found[0]["kv_blocks"] * found[0]["block_tokens"]
        rows.append(
            [
                name,
                f"{most['weight_bytes'] / GiB:.1f}",
                f"{tokens:,}",
                *[f"{r['generated_per_second']:,.0f}" for r in found],
                f"{found[0]['inter_token_seconds']['p50'] * 1e3:.1f}",
                f"{bubble(found[-1]) * 100:.0f} / {communication(found[-1]) * 100:.0f} %",
            ]
        )
    print(f"**{count} x {device}**\n")
    table(
        [
            "stages x ranks",
            "weights GiB",
            "KV tokens",
            *[f"tokens/s, {s} stream{'s' if s > 1 else ''}" for s in streams],
            "ms a token, 1 stream",
            f"idle / communication, {streams[-1]}",
        ],
        rows,
    )


def knobs(study, device, layout, streams):
    print(f"**{device}, {layout[0]} x {layout[1]}, {streams} streams: what the scheduler's choices do**\n")
    cases = [("as configured (512 rows a step)", []), ("no run-ahead", [("schedule.run_ahead", "false")])]
    cases += [(f"at most {rows} rows a step", [("schedule.max_batch_tokens", rows)]) for rows in (64, 128, 1024, 4096)]
    cases += [("prompts cut to 1.5 times a decoding step", [("schedule.prefill_slowdown", 1.5)])]
    rows = []
    for name, settings in cases:
        r = study.loaded(device, *layout, streams, settings)
        if isinstance(r, str):
            rows.append([name, r.splitlines()[0][:60], "", "", "", "", ""])
            continue
        rows.append(
            [
                name,
                f"{r['generated_per_second']:,.0f}",
                f"{r['first_token_seconds']['p50'] * 1e3:,.0f}",
                f"{r['first_token_seconds']['p99'] * 1e3:,.0f}",
                f"{r['inter_token_seconds']['p50'] * 1e3:.0f}",
                f"{r['inter_token_seconds']['p99'] * 1e3:.0f}",
                f"{bubble(r) * 100:.0f} %",
            ]
        )
    table(["", "tokens/s", "first token p50 ms", "p99 ms", "inter-token p50 ms", "p99 ms", "bubble"], rows)


def scattered(study, device, layout, streams):
    """what the gathers cost: the same with the partial sums scattered before they are gathered, in the same order of sums"""
    ranks = layout[1]
    d = DEVICES[device]
    bandwidth, latency = next((b, l) for most, b, l in d["links"] if ranks <= most)
    # Each rank gathers (R - 1) vectors; scattered, it receives (R - 1) / R of one to add, and as much again: R / 2 times less, in two goes.
    faster = [
        ("simulate.tensor_bandwidth", round(float(bandwidth[:-2]) * 1e9 * ranks / 2)),
        ("simulate.tensor_latency", f"{2 * float(latency[:-2])}us"),
    ]
    cells = [f"{device}, {layout[0]} x {layout[1]}"]
    for s in streams:
        now, then = study.loaded(device, *layout, s), study.loaded(device, *layout, s, faster)
        cells += [f"{now['generated_per_second']:,.0f}", f"{then['generated_per_second']:,.0f}"]
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pangea", default=str(ROOT / "build/release/pangea"))
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    a = parser.parse_args()
    study = Study(a.pangea, a.quick)
    for count in (16, 64):
        for device in DEVICES:
            plans(study, device, count)
    knobs(study, "Ascend 910 32 GB", (4, 4), 64)
    knobs(study, "H100 80 GB", (2, 8), 64)
    knobs(study, "H100 80 GB", (8, 8), 256)
    print("**Gathers as they are, and as they could be**\n")
    streams = (1, 64, 256)
    table(
        ["devices, stages x ranks", *[f"{s} stream{'s' if s > 1 else ''}, {how}" for s in streams for how in ("now", "scattered")]],
        [
            scattered(study, *case, streams)
            for case in (
                ("Ascend 910 32 GB", (2, 8)),
                ("Ascend 910 32 GB", (8, 8)),
                ("H100 80 GB", (2, 8)),
                ("H100 80 GB", (8, 8)),
                ("H200 141 GB", (2, 8)),
                ("H200 141 GB", (4, 16)),
            )
        ],
    )


if __name__ == "__main__":
    main()
