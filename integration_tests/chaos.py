#!/usr/bin/env python3
"""chaos.py [--faults 1000] [--layout 2x2] [--streams 8] …: harms agents of a server under load, one after the other, and checks the history.

--kind (harms.py has them): KILL, STOP, SEGV: a signal to a random agent. RESTART: `pangea admin restart-agents`. RELAYOUT: `pangea admin
relayout` to a random layout of --layouts. GONE: a remote agent is killed for good, so that the layout shrinks; the next time it comes back.
WALL: an agent dies, stops or lingers right before or after a wall of configs/failpoint.h. STARVE: a process gets no more descriptors, memory
or room in files for a while, and an agent dies. CUT: the link of an agent's host (a network namespace) is cut for a while, both ways or one.
PROXY: an agent's connection with its master is held up, closed, or closed one way.

Every stream must end once, whole, and with the bytes of the same request undisturbed. Prints what was lost (nothing may be), and how long
it took to find each fault and to go on. Exit code 1: something was lost, or differed.
"""

import argparse
import contextlib
import pathlib
import random
import re
import statistics
import sys
import tempfile
import threading
import time

import harms
import harness
import namespaces

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
    """n different ones: lengths, seeds and temperatures mixed; some ask for more than one choice, log-probabilities, penalties, an echo,
    or a text to stop at"""
    more = [
        dict(n=2),
        dict(logprobs=2),
        dict(presence_penalty=0.7, frequency_penalty=0.4),
        dict(echo=True, logprobs=1),
        dict(stop=["xyzzy", " garden"]),
    ]
    made = []
    for i in range(n):
        words = " ".join(rng.choices(WORDS, k=rng.randint(3, 60)))
        body = dict(prompt=words, max_tokens=rng.randint(tokens // 2, tokens), seed=i, ignore_eos=True)
        body["temperature"] = rng.choice([0, 0.7, 1.3])
        if i % 2:
            body |= more[i // 2 % len(more)]
        made.append(body)
    return made


def whole(server, body, each=None):
    """what it is answered: of every choice its text, ids, finish reason and log-probabilities; and the numbers of tokens"""
    choices, usage = server.complete(stream=True, each=each, model=server.name, **body)
    return choices, usage["prompt_tokens"], usage["completion_tokens"]


class Client(threading.Thread):
    """asks one request after the other until it is told to stop, and checks every answer"""

    def __init__(self, server, asked, expected, seed):
        super().__init__(daemon=True)
        self.server, self.asked, self.expected, self.rng = server, asked, expected, random.Random(seed)
        self.marks = []  # (when something was asked or came, by time.time(); whether it was asked)
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
        self.marks.append((time.time(), True))
        return whole(self.server, self.asked[i], each=lambda: self.marks.append((time.time(), False)))

    def came_after(self, moment):
        return bool(self.marks) and self.marks[-1][0] > moment


def undisturbed(server, asked):
    return [whole(server, body) for body in asked]


def pause(clients, at, until):
    """the longest that a stream stood still across this moment, from one piece to the next; requests that wait for their first do not count"""
    longest = 0
    for client in clients:
        marks = [m for m in list(client.marks) if at - 30 < m[0] < until]
        pairs = [(a, b) for (a, asked), (b, anew) in zip(marks, marks[1:]) if not asked and not anew]
        longest = max([longest, *(b - a for a, b in pairs if b > at and a < at + 0.2)])
    return longest


def epoch_of(server):
    """which one serves, or did; 0: it does not say"""
    try:
        found = re.search(rb"^pangea_epoch (\d+)$", server.call("GET", "/metrics")[1], re.MULTILINE)
        return int(found[1]) if found else 0
    except OSError:
        return 0


def found_at(log, after):
    """when the master said that an epoch is over, first after this moment; both by time.time()"""
    midnight = after - (after % 86400)
    for hours, minutes, seconds, why in OVER.findall(log):
        told = midnight + int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        if told > after - 0.002:
            return told, why
    return None, None


def run(server, faults, streams=8, tokens=60, harm=None, rest=(0.2, 1.2), seed=1, say=print, patience=60):
    """-> dict of what happened"""
    rng = random.Random(seed)
    harm = harm or harms.Signals(server)
    server.name = server.model()
    asked = requests(2 * streams, tokens, rng)
    expected = undisturbed(server, asked)
    clients = [Client(server, asked, expected, seed * 1000 + i) for i in range(streams)]
    for client in clients:
        client.start()
    found, pauses, unnamed = [], [], []
    begun = time.monotonic()
    for n in range(faults):
        time.sleep(rng.uniform(*rest))
        epoch = epoch_of(server)
        at = time.time()
        last = harm(rng)
        if last is None:
            say(f"fault {n + 1} could not be done")
            break
        if harm.ends_the_epoch:
            harness.until(lambda: server.proc.poll() is not None or epoch_of(server) > epoch, patience)
        whole = harness.until(lambda: server.proc.poll() is not None or all(c.came_after(last + 0.05) for c in clients), patience)
        if server.proc.poll() is not None or not whole:
            say(f"fault {n + 1}: {'the server ended' if server.proc.poll() is not None else 'no client gets on'}")
            break
        told, why = found_at(server.log, at)
        if not harm.names_its_victim:
            pass
        elif told is None:
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


def arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--layout", default="2x2", help="stages x ranks")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=60, help="of an answer, at most")
    kinds = ["KILL", "STOP", "SEGV", "RESTART", "RELAYOUT", "GONE", "WALL", "STARVE", "CUT", "PROXY"]
    parser.add_argument("--kind", default="KILL", choices=kinds)
    parser.add_argument("--layouts", default="2x2,1x3,4x1", help="of RELAYOUT")
    parser.add_argument("--double", type=float, default=0, help="share of faults with a second one during their recovery")
    parser.add_argument("--spares", type=int, default=0, help="control.spare_agents")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=pathlib.Path, default=harness.SMOLLM2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the deployment")
    return parser.parse_args(words)


@contextlib.contextmanager
def harmed(o):
    """-> (the server, what harms it) of these options"""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        token, port = folder / "token", harness.free_port()
        token.write_text("a-token-of-chaos\n")
        token.chmod(0o600)
        agents = o.layout.split("x")
        agents = int(agents[0]) * int(agents[1])
        master, remote, proxy, hosts, env = "127.0.0.1", None, None, [], {}
        keys = dict(control__recovery_attempts=1000000, control__spare_agents=o.spares, control__token_file=token)
        if o.kind == "CUT":
            master, hosts = stack.enter_context(namespaces.hosts(agents))
            remote = harms.RemoteAgents(f"{master}:{port}", token, [host.within() for host in hosts], tended=True)
        elif o.kind == "PROXY":
            proxy = harms.Proxy(port)
            stack.callback(proxy.stop)
            remote = harms.RemoteAgents(proxy.address, token, [[]] * agents, tended=True)
        elif o.kind == "GONE":
            remote = harms.RemoteAgents(f"127.0.0.1:{port}", token, [[]] * agents)
            keys |= dict(control__shrink_seconds=0.5)
        elif o.kind == "WALL":
            harness.PANGEA = str(pathlib.Path(harness.PANGEA).with_name("pangea_failpoints"))
            (folder / "walls").mkdir()
            env = dict(PANGEA_FAILPOINTS=str(folder / "walls"))
        if remote:
            stack.callback(remote.stop)
            keys |= dict(agents__launch="remote")
        keys |= dict(control__listen=f"{master}:{port}")
        more = [*harness.settings(**keys), *(x for pair in o.set for x in ("--set", pair))]
        begin = (lambda _: remote.start()) if remote else None
        server = stack.enter_context(harness.serve(o.model, *harness.layout(o.layout), *more, on_started=begin, env=env))
        to = ("--master", f"{master}:{port}", "--token-file", token)
        made = dict(
            RESTART=lambda: harms.Administrator(to),
            RELAYOUT=lambda: harms.Administrator(to, o.layouts.split(",")),
            GONE=lambda: remote,
            WALL=lambda: harms.Walls(server, folder / "walls"),
            STARVE=lambda: harms.Starvation(server),
            CUT=lambda: harms.Cuts(hosts),
            PROXY=lambda: proxy,
        )
        yield server, made.get(o.kind, lambda: harms.Signals(server, o.kind, o.double, o.spares))()


def main():
    o = arguments()
    with harmed(o) as (server, harm):
        # A layout that has grown back has to last for a second, or the next time comes later.
        rest = (1.2, 2.2) if o.kind == "GONE" else (0.2, 1.2)
        r = run(server, o.faults, o.streams, o.tokens, harm, rest, seed=o.seed)
        log = server.log
    print(f"{o.kind}: {r['faults']} of {r['wanted']} faults, {o.layout}, {o.streams} streams, {o.model.name}: {r['seconds']:.0f} s")
    print(f"requests: {r['requests']} ended, {len(r['lost'])} lost, {len(r['different'])} with other bytes")
    if r["found"] or r["unnamed"]:
        p50, p99 = (quantile(r["found"], share) * 1e3 for share in (0.5, 0.99))
        print(f"found after: p50 {p50:.0f} ms, p99 {p99:.0f} ms; {len(r['unnamed'])} not told")
    print(
        f"streams stood still: p50 {quantile(r['pauses'], 0.5):.2f} s, p99 {quantile(r['pauses'], 0.99):.2f} s, at most {max(r['pauses'], default=0):.2f} s"
    )
    for line in (r["lost"] + r["different"])[:5]:
        print(" ", line[:300])
    if missed := getattr(harm, "missed", []):
        print("nobody came by:", *missed)
    wrong = missed or r["lost"] or r["different"] or r["faults"] < r["wanted"]
    if wrong:
        print(log[-3000:])
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
