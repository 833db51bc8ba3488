#!/usr/bin/env python3
"""simulate_validation.py [--pangea PATH] [--model MODEL] [--rounds N]: how far off `pangea simulate` is, against this machine.

Serves the model in several layouts of one-thread agents, loads each with `pangea bench serve` (token prompts, fixed answer lengths, N
streams), and takes medians over interleaved rounds. Then fits simulate.gflops, simulate.memory_bandwidth and simulate.layer_seconds to
the 1x1 layout ALONE and prints, as Markdown, what `pangea simulate` says of every layout beside what was measured. The links are not
fitted: they keep the defaults of docs/deployment.md. More agents than cores share them: their speeds are divided.
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
STREAMS = (1, 4, 16)
LAYOUTS = ((1, 1), (2, 1), (1, 2), (2, 2))
PROMPT, OUTPUT = 64, 64


def requests(streams):
    return max(4 * streams, 8)


def measure(pangea, model, layout, streams, seed):
    """tokens generated a second, median seconds to the first token, median seconds between tokens"""
    command = [pangea, "serve", model, "--pipeline", str(layout[0]), "--tensor", str(layout[1]), "--set", "rest.listen=127.0.0.1:0",
               "--set", "grpc.listen=127.0.0.1:0", "--set", "agents.threads=1", "--set", "context=512", "--set", "cache.prefix=false",
               "--set", "log=error"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = re.match(r"ready rest=(\S+) ", server.stdout.readline())[1]
            load = [pangea, "bench", "serve", "--url", url, "--api", "completions", "--prompt-tokens", str(PROMPT), "--max-tokens", str(OUTPUT),
                    "--ignore-eos", "--concurrency", str(streams), "--requests", str(requests(streams)), "--seed", str(seed), "--json"]
            r = json.loads(subprocess.run(load, check=True, capture_output=True, text=True).stdout)
        finally:
            server.terminate()
    return r


def figures(r):
    """of either report, in one form"""
    if "generated_per_second" in r:
        return r["generated_per_second"], r["first_token_seconds"]["p50"], r["inter_token_seconds"]["p50"]
    return r["tokens_per_second"], r["time_to_first_token_seconds"]["p50"], r["inter_token_seconds"]["p50"]


def simulate(pangea, model, layout, streams, speeds):
    gflops, bandwidth, layer = speeds
    share = max(1, layout[0] * layout[1] / os.cpu_count())
    keys = {"parallel.pipeline": layout[0], "parallel.tensor": layout[1], "context": 512, "cache.prefix": "false", "simulate.compute_percent": 100,
            "simulate.memory_percent": 100, "simulate.gflops": max(1, round(gflops / share)), "simulate.memory_bandwidth": round(bandwidth / share),
            "simulate.layer_seconds": f"{layer * share:.9f}"}
    command = [pangea, "simulate", model, "--json", "--streams", str(streams), "--requests", str(requests(streams)), "--prompt", str(PROMPT),
               "--output", str(OUTPUT)]
    for key, value in keys.items():
        command += ["--set", f"{key}={value}"]
    return figures(json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout))


def fit(pangea, model, measured):
    """coordinate search, in factors, for the least squared log error on the 1x1 layout"""
    def error(speeds):
        total = 0
        for streams in STREAMS:
            for said, was in zip(simulate(pangea, model, (1, 1), streams, speeds), measured[(1, 1), streams]):
                total += math.log(said / was) ** 2
        return total

    best = [150.0, 15e9, 20e-6]
    least, factor = error(best), 2.0
    while factor > 1.02:
        better = False
        for i in range(len(best)):
            for f in (factor, 1 / factor):
                tried = [*best[:i], best[i] * f, *best[i + 1:]]
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
                runs.setdefault((layout, streams), []).append(figures(measure(a.pangea, a.model, layout, streams, round_)))
    measured = {case: tuple(map(statistics.median, zip(*values))) for case, values in runs.items()}
    speeds = fit(a.pangea, a.model, measured)
    print(f"{a.rounds} rounds on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end; fitted to 1 x 1: {speeds[0]:.0f} GFLOP/s, "
          f"{speeds[1] / 1e9:.1f} GB/s, {speeds[2] * 1e6:.0f} us a layer.\n")
    print("| stages x ranks, streams | tokens/s measured | predicted | | first token ms measured | predicted | | inter-token ms measured | predicted | |")
    print("| --- | " + "---: | " * 9)
    for (layout, streams), was in measured.items():
        said = simulate(a.pangea, a.model, layout, streams, speeds)
        cells = []
        for scale, m, p in zip((1, 1e3, 1e3), was, said):
            cells += [f"{m * scale:.1f}", f"{p * scale:.1f}", f"{(p / m - 1) * 100:+.0f} %"]
        print(f"| {layout[0]} x {layout[1]}, {streams} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
