"""What the experiments share: servers, loads, processor time, and how a figure is printed.

Everything runs on this machine, in alternation, and medians over rounds are compared; the load generator is `pangea bench serve` (one thread,
a few per cent of a core), so that it takes the same from every server that it loads.
"""

import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "integration_tests"))
import harness  # noqa: E402

MODEL = harness.SMOLLM2
CORES = os.cpu_count()


def cpu_seconds(pid):
    """user and system time of a whole process, as getrusage gives it to the process itself"""
    return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of another process, clock_getcpuclockid(3)


def load(url, streams, requests, tokens, *more, prompt=("--prompt-words", "32")):
    """one run of the load generator -> its report; every request must succeed"""
    command = [
        harness.PANGEA,
        "bench",
        "serve",
        "--url",
        url,
        "--api",
        "completions",
        "--requests",
        requests,
        "--concurrency",
        streams,
        "--max-tokens",
        tokens,
        "--ignore-eos",
        "--temperature",
        "0",
        "--timeout",
        "600",
        "--json",
        *prompt,
        *more,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["succeeded"] == requests, (done.returncode, report, done.stderr[-500:])
    return report


def metrics(server):
    """{name{labels}: value} of /metrics"""
    status, raw = server.call("GET", "/metrics")
    assert status == 200, status
    found = {}
    for line in raw.decode().splitlines():
        if m := re.fullmatch(r"([a-z_:]+(?:\{.*\})?) (\S+)", line):
            found[m[1]] = float(m[2])
    return found


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def quantile_of_buckets(before, after, name, share):
    """the upper bound of the bucket of a Prometheus histogram in which the quantile of what came between two scrapes lies"""
    bounds = {}
    for key, value in after.items():
        if m := re.fullmatch(re.escape(name) + r'_bucket\{(?:.*,)?le="([^"]+)".*\}', key):
            bounds[float(m[1])] = value - before.get(key, 0)
    total = max(bounds.values(), default=0)
    assert total > 0, f"nothing was counted in {name}"
    return min(bound for bound, count in bounds.items() if count >= share * total), int(total)


class Stream(threading.Thread):
    """One streamed completion; marks are the times at which its texts came. Reads bytes and parses none, to be light."""

    def __init__(self, server, body):
        super().__init__(daemon=True)
        self.server, self.body, self.marks, self.began, self.error = server, {**body, "stream": True}, [], None, None

    def run(self):
        try:
            self.began = time.perf_counter()
            connection, answer = self.server.open("POST", "/v1/completions", self.body, timeout=600)
            assert answer.status == 200, (answer.status, answer.read())
            for line in answer:
                if line.startswith(b"data: {") and b'"choices":[{' in line and b'"finish_reason":null' in line:
                    self.marks.append(time.perf_counter())
            connection.close()
        except Exception as error:  # shown by whoever joins
            self.error = error

    def end(self):
        self.join()
        if self.error:
            raise self.error
        return self.marks


class Table:
    """Rows of one experiment: what, figure, bound, whether it holds. A figure beyond its bound makes the run fail at its end."""

    missed = []

    def __init__(self, title):
        print(f"\n## {title}", flush=True)

    def note(self, text):
        print(f"   {text}", flush=True)

    def row(self, what, value, unit="", most=None, least=None, digits=2):
        ok = (most is None or value <= most) and (least is None or value >= least)
        bound = f"at most {most}{unit}" if most is not None else f"at least {least}{unit}" if least is not None else ""
        print(
            f"{'   ' if most is None and least is None else 'ok ' if ok else 'NO '} {what:66} {value:10.{digits}f}{unit:4} {bound}",
            flush=True,
        )
        if not ok:
            Table.missed.append(what)


def median(rows):
    """median of numbers, or of each column of tuples"""
    return statistics.median(rows) if not isinstance(rows[0], tuple) else tuple(map(statistics.median, zip(*rows)))
