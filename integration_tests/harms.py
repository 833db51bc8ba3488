"""What chaos.py does to a server. A harm is called with a random generator, does its worst, and says when it was last done (time.time());
None: it could not be done."""

import contextlib
import os
import pathlib
import resource
import signal
import socket
import subprocess
import threading
import time

import harness


class Harm:
    names_its_victim = False  # the master is to tell at once who is lost
    ends_the_epoch = True  # else it may go unnoticed

    def stop(self):
        """on the way out"""


class Signals(Harm):
    """a signal to a random agent; double: the share of them that are followed by another one while they are recovered from; spares: so many
    of the newest processes stand by, and are left alone"""

    names_its_victim = True

    def __init__(self, server, kind="KILL", double=0, spares=0):
        self.server, self.signal, self.double, self.spares = server, getattr(signal, f"SIG{kind}"), double, spares

    def __call__(self, rng):
        agents = self.server.agents()
        victim = rng.choice(agents[: len(agents) - self.spares])
        os.kill(victim, self.signal)
        if rng.random() < self.double:
            time.sleep(rng.uniform(0, 0.15))
            others = [a for a in agents[: len(agents) - self.spares] if a != victim]
            os.kill(rng.choice(others), self.signal)
        return time.time()


class Walls(Harm):
    """an agent dies, stops or lingers right before or after a wall of configs/failpoint.h; serves pangea_failpoints, with
    PANGEA_FAILPOINTS=folder"""

    AT_A_START = ("join", "load", "form")
    OF_A_STEP = ("step", "collective", "page_write", "sample", "result", "commit")
    KINDS = ("KILL", "STOP", "sleep")

    def __init__(self, server, folder):
        every = [(wall, side, kind) for wall in (*self.AT_A_START, *self.OF_A_STEP) for side in ("before", "after") for kind in self.KINDS]
        self.server, self.folder, self.every, self.todo = server, folder, every, []
        self.missed = []  # walls that nobody has reached

    def __call__(self, rng):
        if not self.todo:
            self.todo = rng.sample(self.every, len(self.every))
        wall, side, kind = self.todo.pop()
        agents = self.server.agents()
        if kind == "sleep":
            what = f"sleep {rng.randrange(20, 300)}"
        else:
            what = f"{int(getattr(signal, f'SIG{kind}'))} {rng.choice(agents) if wall == 'commit' else 0}"
        (self.folder / "new").write_text(what)
        (self.folder / "new").rename(self.folder / f"{wall}.{side}")
        if wall in self.AT_A_START:
            os.kill(rng.choice(agents), signal.SIGKILL)
        if not harness.until(lambda: not (self.folder / f"{wall}.{side}").exists(), 30):
            self.missed.append(f"{wall}.{side}")
        self.ends_the_epoch = kind != "sleep" or wall in self.AT_A_START
        return time.time()


class Starvation(Harm):
    """a random process gets no more descriptors, memory or room in files; an agent dies; a little later there is enough again"""

    LIMITS = ("NOFILE", "AS", "FSIZE")

    def __init__(self, server, seconds=1.5):
        self.server, self.seconds, self.todo = server, seconds, []

    def __call__(self, rng):
        if not self.todo:
            # A master that cannot allocate ends, and its deployment with it: that is no fault of an agent.
            every = [(limit, who) for limit in self.LIMITS for who in ("master", "agent") if (limit, who) != ("AS", "master")]
            self.todo = rng.sample(every, len(every))
        name, who = self.todo.pop()
        agents = self.server.agents()
        hungry = self.server.proc.pid if who == "master" else rng.choice(agents)
        limit = getattr(resource, f"RLIMIT_{name}")
        before = resource.prlimit(hungry, limit)
        resource.prlimit(hungry, limit, (self.has(hungry, name), before[1]))
        os.kill(rng.choice([a for a in agents if a != hungry]), signal.SIGKILL)
        time.sleep(self.seconds)
        with contextlib.suppress(ProcessLookupError):  # it has died of it
            resource.prlimit(hungry, limit, before)
        return time.time()

    @staticmethod
    def has(pid, limit):
        """what the process has of it now"""
        if limit == "NOFILE":
            return max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1
        if limit == "AS":
            return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
        return 0  # and no file becomes longer


class Administrator(Harm):
    """restarts all agents, or changes the layout to a random one of these"""

    def __init__(self, to, layouts=()):
        self.to, self.layouts, self.now = to, list(layouts), None

    def __call__(self, rng):
        words = ["restart-agents"]
        if self.layouts:
            self.now = rng.choice([x for x in self.layouts if x != self.now])
            words = ["relayout", *harness.layout(self.now)]
        at = time.time()
        done = harness.run("admin", *words, *self.to, timeout=120)
        if done.returncode != 0:
            print(done.stdout + done.stderr)
        return at if done.returncode == 0 else None


class RemoteAgents(Harm):
    """agents that the master has not started: one is killed and does not come back; the next time it does. prefixes: what runs each of
    them. tended: those that end are started again, as by systemd"""

    def __init__(self, master, token, prefixes, tended=False):
        words = [harness.PANGEA, "agent", "--master", master, "--token-file", str(token)]
        self.commands = [[*prefix, *words] for prefix in prefixes]
        self.running = {}  # by index
        self.tending = threading.Thread(target=self.tend, daemon=True) if tended else None
        self.stopping = threading.Event()

    def start(self):
        for i, command in enumerate(self.commands):
            if i not in self.running or self.running[i].poll() is not None:
                self.running[i] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if self.tending and not self.tending.is_alive():
            self.tending.start()

    def tend(self):
        while not self.stopping.wait(0.1):
            self.start()

    def __call__(self, rng):
        if len(self.running) < len(self.commands):
            self.start()
        else:
            victim = self.running.pop(rng.choice(list(self.running)))
            victim.kill()
            victim.wait()
        return time.time()

    def stop(self):
        self.stopping.set()
        if self.tending and self.tending.is_alive():
            self.tending.join()
        for agent in self.running.values():
            agent.kill()
            agent.wait()


class Cuts(Harm):
    """the link of a host is cut, both ways or one, and is there again a little later"""

    ends_the_epoch = False
    SECONDS = (0.05, 4)

    def __init__(self, hosts):
        self.hosts = hosts

    def __call__(self, rng):
        host = rng.choice(self.hosts)
        host.cut(rng.choice(["both", "in", "out"]))
        time.sleep(rng.uniform(*self.SECONDS))
        host.mend()
        return time.time()


class Proxy(Harm):
    """stands between agents and their master: a connection is held up, one way or both, or closed, or closed one way"""

    ends_the_epoch = False
    SECONDS = (0.05, 4)

    def __init__(self, port):
        self.port = port
        self.connections = []  # (agent's socket, master's socket, ways that flow: to the master, to the agent)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                agent, _ = self.listener.accept()
                try:
                    master = socket.create_connection(("127.0.0.1", self.port))
                except OSError:
                    agent.close()
                    continue
                flows = [threading.Event(), threading.Event()]
                for a, b, flow in ((agent, master, flows[0]), (master, agent, flows[1])):
                    flow.set()
                    a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self.pump, args=(a, b, flow), daemon=True).start()
                self.connections = [c for c in self.connections if c[0].fileno() >= 0] + [(agent, master, flows)]

    @staticmethod
    def pump(a, b, flow):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                flow.wait()
                b.sendall(data)
        for end in (a, b):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def __call__(self, rng):
        agent, master, flows = rng.choice(self.connections)
        how = rng.choice(["hold", "hold", "close", "half"])
        with contextlib.suppress(OSError):
            if how == "hold":
                held = rng.choice([flows, flows[:1], flows[1:]])
                for flow in held:
                    flow.clear()
                time.sleep(rng.uniform(*self.SECONDS))
                for flow in held:
                    flow.set()
            elif how == "half":
                rng.choice([agent, master]).shutdown(socket.SHUT_WR)
            else:
                agent.close()
        return time.time()

    def stop(self):
        self.listener.close()
        for agent, master, flows in self.connections:
            for flow in flows:
                flow.set()
            for end in (agent, master):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
