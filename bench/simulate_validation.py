#!/usr/bin/env python3
"""simulate_validation.py [--pangea PATH] [--model MODEL] [--rounds N]: how far off `pangea simulate` is, against this machine.

Serves the model in several layouts of one-thread agents, loads each with `pangea bench serve` (token prompts, fixed answer lengths, N
streams), and takes medians over interleaved rounds. Then fits simulate.gflops, simulate.memory_bandwidth and simulate.layer_seconds to
the agents' processor time on the 1x1 layout ALONE and prints, as Markdown, what `pangea simulate` says of every layout beside what was
measured. The links are not fitted: they keep the defaults of docs/deployment.md. More busy agents than cores share them: their speeds
are divided. Processor time holds on a machine that others use too; seconds do not. Agents that spin while they wait (as many as cores, or
fewer, but more than one) have no processor time to compare.
"""

import argparse
import json
import math
import os
import pathlib
import re
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
STREAMS = (1, 2, 4, 8, 16, 32)
LAYOUTS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1))
PROMPT, OUTPUT = 64, 64


def requests(streams):
    return max(2 * streams, 6)


def agents_seconds(master):
    """processor time of the master's children so far"""
    ticks = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # has ended meanwhile
            continue
        if int(fields[1]) == master:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(pangea, model, layout, streams, seed):
    """tokens generated a second, median seconds between tokens, processor seconds of all agents for a generated token"""
    command = [
        pangea,
        "serve",
        model,
        "--pipeline",
        str(layout[0]),
        "--tensor",
        str(layout[1]),
        "--set",
        "rest.listen=127.0.0.1:0",
        "--set",
        "grpc.listen=127.0.0.1:0",
        "--set",
        "agents.threads=1",
        "--set",
        "context=512",
        "--set",
        "cache.prefix=false",
        "--set",
        "log=error",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = re.match(r"ready rest=(\S+) ", server.stdout.readline())[1]
            load = [
                pangea,
                "bench",
                "serve",
                "--url",
                url,
                "--api",
                "completions",
                "--prompt-tokens",
                str(PROMPT),
                "--max-tokens",
                str(OUTPUT),
                "--ignore-eos",
                "--concurrency",
                str(streams),
                "--requests",
                str(requests(streams)),
                "--seed",
                str(seed),
                "--json",
            ]
            before = agents_seconds(server.pid)
            r = json.loads(subprocess.run(load, check=True, capture_output=True, text=True).stdout)
            spent = agents_seconds(server.pid) - before
        finally:
            server.terminate()
    return r["tokens_per_second"], r["inter_token_seconds"]["p50"], spent / r["completion_tokens"]


def simulate(pangea, model, layout, streams, speeds):
    gflops, bandwidth, layer = speeds
    busy_agents = min(layout[0], streams) * layout[1]  # one stream keeps one stage busy
    share = max(1, busy_agents / os.cpu_count())
    keys = {
        "parallel.pipeline": layout[0],
        "parallel.tensor": layout[1],
        "context": 512,
        "cache.prefix": "false",
        "simulate.compute_percent": 100,
        "simulate.memory_percent": 100,
        "simulate.gflops": max(1, round(gflops / share)),
        "simulate.memory_bandwidth": round(bandwidth / share),
        "simulate.layer_seconds": f"{layer * share:.9f}",
    }
    command = [
        pangea,
        "simulate",
        model,
        "--json",
        "--streams",
        str(streams),
        "--requests",
        str(requests(streams)),
        "--prompt",
        str(PROMPT),
        "--output",
        str(OUTPUT),
    ]
    for key, value in keys.items():
        command += ["--set", f"{key}={value}"]
    r = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    busy = sum(s["compute_seconds"] for s in r["per_stage"]) * r["ranks"] / share  # shared cores make it last, not cost more
    return r["generated_per_second"], r["inter_token_seconds"]["p50"], busy / r["generated_tokens"]


def fit(pangea, model, measured):
    """coordinate search, in factors, for the least squared log error of the processor time on 1 x 1 with 1, 4 and 16 streams"""

    def error(speeds):
        return sum(math.log(simulate(pangea, model, (1, 1), s, speeds)[2] / measured[(1, 1), s][2]) ** 2 for s in (1, 4, 16))

    best = [150.0, 15e9, 20e-6]
    least, factor = error(best), 2.0
    while factor > 1.02:
        better = False
        for i in range(len(best)):
            for f in (factor, 1 / factor):
                tried = [*best[:i], best[i] * f, *best[i + 1 :]]
                if (e := error(tried)) < least:
                    best, least, better = tried, e, True
        if not better:
            factor **= 0.5
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pangea", default=str(ROOT / "build/release/pangea"))
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--rounds", type=int, default=5)
    a = parser.parse_args()
    runs = {}
    for round_ in range(a.rounds):
        for layout in LAYOUTS:
            for streams in STREAMS:
                runs.setdefault((layout, streams), []).append(measure(a.pangea, a.model, layout, streams, round_))
    measured = {case: tuple(map(statistics.median, zip(*values))) for case, values in runs.items()}
    speeds = fit(a.pangea, a.model, measured)
    print(
        f"{a.rounds} rounds on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end; fitted to 1 x 1: {speeds[0]:.0f} GFLOP/s, "
        f"{speeds[1] / 1e9:.1f} GB/s, {speeds[2] * 1e6:.0f} us a layer.\n"
    )
    print("| stages x ranks, streams | tokens/s | predicted | | inter-token ms | predicted | | processor ms a token | predicted | |")
    print("| --- | " + "---: | " * 9)
    for (layout, streams), was in measured.items():
        said = simulate(a.pangea, a.model, layout, streams, speeds)
        spins = 1 < layout[0] * layout[1] <= os.cpu_count()
        cells = []
        for scale, m, p in zip((1, 1e3, 1e3), was, said):
            cells += [f"{m * scale:.1f}", f"{p * scale:.1f}", f"{(p / m - 1) * 100:+.0f} %"]
        print(f"| {layout[0]} x {layout[1]}, {streams} | " + " | ".join([*cells[:6], *(("spins", "", "") if spins else cells[6:])]) + " |")


if __name__ == "__main__":
    main()
