#!/usr/bin/env python3
"""chaos.py [--faults 1000] [--layout 2x2] [--streams 8] …: harms agents of a server under load, one after the other, and checks the history.

Every stream must end once, whole, and with the bytes of the same request undisturbed. Prints what was lost (nothing may be), and how long
it took to find each fault and to go on. Exit code 1: something was lost, or differed.
"""

import argparse
import os
import pathlib
import random
import re
import signal
import statistics
import sys
import threading
import time

import harness

WORDS = [
    "the",
    "sea",
    "a",
    "river",
    "time",
    "light",
    "stone",
    "memory",
    "engine",
    "garden",
    "winter",
    "music",
    "letter",
    "forest",
    "bridge",
    "window",
    "paper",
    "island",
]
OVER = re.compile(r"^\S+ (\d\d):(\d\d):(\d\d\.\d+) W \S*\] epoch \d+ is over: (.*)$", re.MULTILINE)


def requests(n, tokens, rng):
    """n different ones: lengths, seeds and temperatures mixed"""
    made = []
    for i in range(n):
        words = " ".join(rng.choices(WORDS, k=rng.randint(3, 60)))
        body = dict(prompt=words, max_tokens=rng.randint(tokens // 2, tokens), seed=i, ignore_eos=True)
        body["temperature"] = rng.choice([0, 0.7, 1.3])
        made.append(body)
    return made


class Client(threading.Thread):
    """asks one request after the other until it is told to stop, and checks every answer"""

    def __init__(self, server, asked, expected, seed):
        super().__init__(daemon=True)
        self.server, self.asked, self.expected, self.rng = server, asked, expected, random.Random(seed)
        self.marks = []  # when something was asked or came, by time.time()
        self.ended, self.lost, self.different = 0, [], []
        self.stopping = False

    def run(self):
        while not self.stopping:
            i = self.rng.randrange(len(self.asked))
            try:
                answer = self.ask(i)
            except Exception as error:  # noqa: BLE001 whatever it was, the request was lost
                self.lost.append(f"request {i}: {error!r}")
                continue
            self.ended += 1
            if answer != self.expected[i]:
                self.different.append(f"request {i}: {answer} in the place of {self.expected[i]}")

    def ask(self, i):
        self.marks.append(time.time())
        ids, finish, done = [], None, False
        body = dict(model=self.server.name, return_token_ids=True, **self.asked[i])
        for event in self.server.events("/v1/completions", body):
            assert not done, "something after [DONE]"
            if event == "[DONE]":
                done = True
                continue
            assert "error" not in event, event
            choice = event["choices"][0]
            self.marks.append(time.time())
            ids += choice.get("token_ids") or []
            assert finish is None, "something after the end"
            finish = choice["finish_reason"]
        assert done, "it broke off"
        return ids, finish

    def came_after(self, moment):
        return bool(self.marks) and self.marks[-1] > moment


def undisturbed(server, asked):
    answers = []
    for body in asked:
        choices, _ = server.complete(**body)
        answers.append((choices[0]["ids"], choices[0]["finish"]))
    return answers


def pause(clients, at, until):
    """the longest that a client waited across this moment"""
    longest = 0
    for client in clients:
        marks = [m for m in list(client.marks) if at - 30 < m < until]
        longest = max([longest, *(b - a for a, b in zip(marks, marks[1:]) if b > at and a < at + 0.2)])
    return longest


def found_at(log, after):
    """when the master said that an epoch is over, first after this moment; both by time.time()"""
    midnight = after - (after % 86400)
    for hours, minutes, seconds, why in OVER.findall(log):
        told = midnight + int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        if told > after - 0.002:
            return told, why
    return None, None


def run(server, faults, streams=8, tokens=60, kind="KILL", double=0, rest=(0.2, 1.2), seed=1, say=print, patience=60):
    """-> dict of what happened. double: the share of faults that are followed by another one while they are recovered from."""
    rng = random.Random(seed)
    server.name = server.model()
    asked = requests(2 * streams, tokens, rng)
    expected = undisturbed(server, asked)
    clients = [Client(server, asked, expected, seed * 1000 + i) for i in range(streams)]
    for client in clients:
        client.start()
    found, pauses, unnamed = [], [], []
    harm = getattr(signal, f"SIG{kind}")
    begun = time.monotonic()
    for n in range(faults):
        time.sleep(rng.uniform(*rest))
        agents = server.agents()
        victim = rng.choice(agents)
        at = time.time()
        os.kill(victim, harm)
        last = at
        if rng.random() < double:
            time.sleep(rng.uniform(0, 0.15))
            others = [a for a in server.agents() if a != victim]
            last = time.time()
            os.kill(rng.choice(others), harm)
        whole = harness.until(lambda: server.proc.poll() is not None or all(c.came_after(last + 0.05) for c in clients), patience)
        if server.proc.poll() is not None or not whole:
            say(f"fault {n + 1}: {'the server ended' if server.proc.poll() is not None else 'no client gets on'}")
            break
        told, why = found_at(server.log, at)
        if told is None:
            unnamed.append(n)
        else:
            found.append(told - at)
        pauses.append(pause(clients, at, time.time()))
        if (n + 1) % max(1, faults // 10) == 0:
            say(f"{n + 1} of {faults} faults, {sum(c.ended for c in clients)} requests, pause {statistics.median(pauses):.2f} s")
    for client in clients:
        client.stopping = True
    for client in clients:
        client.join(patience * harness.SLOW)
    return dict(
        faults=len(pauses),
        wanted=faults,
        requests=sum(c.ended for c in clients),
        lost=[x for c in clients for x in c.lost] + ["a client hangs" for c in clients if c.is_alive()],
        different=[x for c in clients for x in c.different],
        found=found,
        unnamed=unnamed,
        pauses=pauses,
        seconds=time.monotonic() - begun,
    )


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--layout", default="2x2", help="stages x ranks")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=60, help="of an answer, at most")
    parser.add_argument("--kind", default="KILL", choices=["KILL", "STOP", "SEGV"])
    parser.add_argument("--double", type=float, default=0, help="share of faults with a second one during their recovery")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=pathlib.Path, default=harness.SMOLLM2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the deployment")
    o = parser.parse_args()
    more = [x for pair in ["control.recovery_attempts=1000000", *o.set] for x in ("--set", pair)]
    with harness.serve(o.model, *harness.layout(o.layout), *more) as server:
        r = run(server, o.faults, o.streams, o.tokens, o.kind, o.double, seed=o.seed)
        log = server.log
    print(
        f"{o.kind} of {r['faults']} of {r['wanted']} random agents, {o.layout}, {o.streams} streams, {o.model.name}: {r['seconds']:.0f} s"
    )
    print(f"requests: {r['requests']} ended, {len(r['lost'])} lost, {len(r['different'])} with other bytes")
    print(
        f"found after: p50 {quantile(r['found'], 0.5) * 1e3:.0f} ms, p99 {quantile(r['found'], 0.99) * 1e3:.0f} ms; {len(r['unnamed'])} not told"
    )
    print(
        f"clients waited: p50 {quantile(r['pauses'], 0.5):.2f} s, p99 {quantile(r['pauses'], 0.99):.2f} s, at most {max(r['pauses'], default=0):.2f} s"
    )
    for line in (r["lost"] + r["different"])[:5]:
        print(" ", line[:300])
    wrong = r["lost"] or r["different"] or r["faults"] < r["wanted"]
    if wrong:
        print(log[-3000:])
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
