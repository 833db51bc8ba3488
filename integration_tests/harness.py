"""Starts `pangea serve` on ports that the system picks, speaks to it, and checks that nothing is left when it has gone.

PANGEA names the executable (default build/release/pangea). Everything a server writes goes to a folder of its own, which is also its
TMPDIR, so that a forgotten file or socket is seen.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
DATA = HERE / "data"
PANGEA = str(pathlib.Path(os.environ.get("PANGEA", ROOT / "build/release/pangea")).resolve())
STORIES = ROOT / "models/stories260k"
SMOLLM2 = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
CHAT_TEMPLATE = DATA / "chat_template.jinja"
SLOW = float(os.environ.get("PANGEA_SLOW", "1"))  # sanitizers: every time limit times this
JSON_HEADERS = {"Content-Type": "application/json"}
CONFIG_ERROR = 78  # EX_CONFIG


class NotReady(RuntimeError):
    """The server ended, or did not get ready in time."""


class Refused(AssertionError):
    """A request was answered by a status other than 200."""

    def __init__(self, status, raw):
        super().__init__(f"{status} {raw[:500]!r}")
        self.status, self.raw = status, raw


def stat_of(pid):
    """(state, parent) of a process, or None when there is none"""
    try:
        state, ppid = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:2]
        return state, int(ppid)
    except (OSError, ValueError):
        return None


def alive(pid):
    found = stat_of(pid)
    return found is not None and found[0] not in "ZX"


def descendants(pid):
    """pids of every process below pid"""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := stat_of(entry)):
            children.setdefault(found[1], []).append(int(entry))
    below, todo = [], [pid]
    while todo:
        new = children.get(todo.pop(), [])
        below += new
        todo += new
    return below


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def in_use_shared_memory():
    """names in /dev/shm that a living process maps or holds open"""
    used = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            used |= set(re.findall(r"/dev/shm/(\S+)", pathlib.Path(f"/proc/{entry}/maps").read_text()))
            for fd in os.listdir(f"/proc/{entry}/fd"):
                used |= set(re.findall(r"^/dev/shm/(\S+)", os.readlink(f"/proc/{entry}/fd/{fd}")))
        except OSError:
            continue
    return used


def until(condition, seconds, every=0.01):
    """Waits for condition() to be true; returns its last value."""
    end = time.monotonic() + seconds * SLOW
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(every)
    return value


class Server:
    def __init__(self, proc, rest, grpc, folder, lines):
        self.proc, self.rest, self.grpc, self.folder, self.lines = proc, rest, grpc, folder, lines
        url = urllib.parse.urlparse(rest)
        self.host, self.port = url.hostname, url.port
        self.seen = set()  # every pid that ever belonged to this server
        self.agents()

    @property
    def log(self):
        return (self.folder / "stderr.log").read_text(errors="replace")

    def agents(self):
        """pids of the agent processes, in the order they were started"""
        below = descendants(self.proc.pid)
        self.seen |= set(below)
        return sorted(p for p in below if "agent" in command_line(p)[1:2])

    def open(self, method, path, body=None, headers=None, timeout=120):
        c = http.client.HTTPConnection(self.host, self.port, timeout=timeout * SLOW)
        raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        c.request(method, path, raw, {**JSON_HEADERS, **(headers or {})})
        return c, c.getresponse()

    def call(self, method, path, body=None, **kw):
        """-> (status, parsed JSON, or the bytes when they are none)"""
        c, r = self.open(method, path, body, **kw)
        raw = r.read()
        c.close()
        try:
            return r.status, json.loads(raw)
        except ValueError:
            return r.status, raw

    def post(self, path, body, **kw):
        return self.call("POST", path, body, **kw)

    def model(self):
        return self.call("GET", "/v1/models")[1]["data"][0]["id"]

    def events(self, path, body, **kw):
        """the events of one SSE answer as they come; the last may be the string [DONE]"""
        c, r = self.open("POST", path, {**body, "stream": True}, **kw)
        try:
            if r.status != 200:
                raise Refused(r.status, r.read())
            assert r.getheader("content-type", "").startswith("text/event-stream"), r.getheaders()
            for line in r:
                if line.startswith(b"data: "):
                    data = line[6:].strip()
                    yield "[DONE]" if data == b"[DONE]" else json.loads(data)
                else:
                    assert not line.startswith(b"id:"), "an id: field breaks the official Python client"
        finally:
            c.close()

    def complete(self, stream=False, each=None, **body):
        """one completion -> dict(text, finish, ids, usage), the same for unary and streamed; raises AssertionError on any error. each is
        called for every piece"""
        body = {"model": body.get("model") or self.model(), "return_token_ids": True, **body}
        if not stream:
            status, r = self.post("/v1/completions", body)
            assert status == 200, (status, r)
            return [
                dict(text=c["text"], finish=c["finish_reason"], ids=c["token_ids"], logprobs=c.get("logprobs")) for c in r["choices"]
            ], r["usage"]
        found, usage, done = {}, None, False
        for e in self.events("/v1/completions", {**body, "stream_options": {"include_usage": True}}):
            assert not done, "something after [DONE]"
            if e == "[DONE]":
                done = True
                continue
            assert "error" not in e, e
            usage = e.get("usage") or usage
            if each and e["choices"]:
                each()
            for c in e["choices"]:
                at = found.setdefault(c["index"], dict(text="", finish=None, ids=[], logprobs=None))
                at["text"] += c["text"]
                at["ids"] += c.get("token_ids") or []
                if c.get("logprobs"):
                    at["logprobs"] = at["logprobs"] or {}
                    for key, value in c["logprobs"].items():
                        at["logprobs"].setdefault(key, []).extend(value or [])
                if c["finish_reason"]:
                    assert at["finish"] is None, "two finish reasons"
                    at["finish"] = c["finish_reason"]
        assert done, "no [DONE]"
        return [found[i] for i in sorted(found)], usage

    def chat(self, stream=False, **body):
        """one chat -> list of (finish_reason, text)"""
        body = {"model": self.model(), **body}
        if not stream:
            status, r = self.post("/v1/chat/completions", body)
            assert status == 200, (status, r)
            return [(c["finish_reason"], c["message"]["content"]) for c in r["choices"]]
        found, done = {}, False
        for e in self.events("/v1/chat/completions", body):
            if e == "[DONE]":
                done = True
                continue
            assert "error" not in e, e
            for c in e["choices"]:
                finish, text = found.get(c["index"], (None, ""))
                found[c["index"]] = (c["finish_reason"] or finish, text + (c["delta"].get("content") or ""))
        assert done, "no [DONE]"
        return [found[i] for i in sorted(found)]

    def raw(self, data, timeout=20):
        """sends bytes as they are -> (status, answer); status 0: closed without an answer, -1: nothing in time"""
        k = socket.create_connection((self.host, self.port), timeout=timeout * SLOW)
        out = b""
        try:
            with contextlib.suppress(ConnectionError):
                k.sendall(data)
            while True:
                d = k.recv(65536)
                if not d:
                    break
                out += d
                head, _, body = out.partition(b"\r\n\r\n")
                length = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                if length and len(body) >= length[0]:
                    break
        except socket.timeout:
            return -1, b"no answer in time"
        except ConnectionError:
            pass
        finally:
            k.close()
        return (int(out.split()[1]) if out.startswith(b"HTTP/") else 0), out

    def memory_kb(self):
        total = 0
        for pid in [self.proc.pid, *self.agents()]:
            with contextlib.suppress(OSError):
                total += next((int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS")), 0)
        return total

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.proc.pid}/fd"))

    def stop(self, sig=signal.SIGTERM, timeout=60):
        """-> exit code; negative: the signal that ended it"""
        self.agents()
        if self.proc.poll() is None:
            self.proc.send_signal(sig)
        return self.wait(timeout)

    def wait(self, timeout=60):
        try:
            return self.proc.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server still runs after {timeout} s\n{self.log[-2000:]}") from None

    def leftovers(self, seconds=5):
        """what is still there of this server, after a grace in which orphans may notice; [] when nothing"""
        until(lambda: not [p for p in self.seen if alive(p)], seconds)
        found = [f"process {p} {' '.join(command_line(p))}" for p in sorted(self.seen) if alive(p)]
        new = set(os.listdir("/dev/shm")) - self.shm_before
        found += [f"/dev/shm/{name}" for name in sorted(new - in_use_shared_memory())] if new else []
        found += [f"file {p}" for p in sorted((self.folder / "tmp").rglob("*"))]
        with contextlib.suppress(OSError):
            for address in (f"{self.host}:{self.port}", self.grpc):
                host, _, port = address.rpartition(":")
                with socket.create_connection((host.strip("[]"), int(port)), timeout=1):
                    found.append(f"port {port} still answers")
        return found


def argument_list(target, args, folder):
    ports = ["--set", "rest.listen=127.0.0.1:0", "--set", "grpc.listen=127.0.0.1:0"]
    return [PANGEA, "serve", str(target), *ports, *map(str, args)]


def start(target, *args, timeout=60, env=None, on_started=None, prefix=(), default_ports=True, pass_fds=()):
    """Starts a server and waits until it is ready. The caller stops it; `serve` does both. on_started(folder) runs before the wait."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pangea-it-"))
    (folder / "tmp").mkdir()
    shm_before = set(os.listdir("/dev/shm"))
    command = argument_list(target, args, folder) if default_ports else [PANGEA, "serve", str(target), *map(str, args)]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), **(env or {})}
    with open(folder / "stderr.log", "w") as log:
        proc = subprocess.Popen(
            [*prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            env=environment,
            pass_fds=pass_fds,
        )
    lines = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in proc.stdout] + [lines.put(None)], daemon=True).start()
    kept = []
    try:
        if on_started:
            on_started(folder)
        end = time.monotonic() + timeout * SLOW
        while time.monotonic() < end:
            try:
                line = lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if line is None:
                break
            kept.append(line)
            if m := re.fullmatch(r"ready rest=(http://\S+) grpc=(\S+)\n", line):
                server = Server(proc, m[1], m[2], folder, kept)
                server.shm_before = shm_before
                return server
        log = (folder / "stderr.log").read_text(errors="replace")
        raise NotReady(f"{' '.join(command)}\nexit code {proc.poll()}, standard output {kept}\n{log[-3000:]}")
    except BaseException:
        end_group(proc)
        shutil.rmtree(folder, ignore_errors=True)
        raise


def end_group(proc):
    """kills what is left of a server's session; the tests start each in a session of its own"""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(proc.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        proc.wait(10)


@contextlib.contextmanager
def serve(target, *args, clean_exit=True, **kw):
    """A running server. On the way out it is told to stop: it must exit 0 and leave nothing, unless the test says otherwise."""
    server = start(target, *args, **kw)
    try:
        yield server
        if clean_exit:
            assert server.proc.poll() is None, f"the server ended by itself, exit code {server.proc.returncode}\n{server.log[-3000:]}"
            code = server.stop()
            assert code == 0, f"exit code {code}\n{server.log[-3000:]}"
            assert server.leftovers() == [], server.log[-1000:]
    except BaseException:
        print(f"--- the server's log ---\n{server.log[-3000:]}")
        raise
    finally:
        server.agents()
        end_group(server.proc)
        for pid in server.seen:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if alive(pid) and "agent" in command_line(pid):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(server.folder, ignore_errors=True)


def layout(text):
    """'2x3' -> the arguments for 2 stages of 3 ranks"""
    stages, ranks = text.split("x")
    return "--pipeline", stages, "--tensor", ranks


def settings(**keys):
    """settings(schedule__max_batch_tokens=16) -> --set schedule.max_batch_tokens=16"""
    return [x for key, value in keys.items() for x in ("--set", f"{key.replace('__', '.')}={value}")]


def run(*args, timeout=60, env=None, stdin="", **kw):
    """runs pangea to its end -> CompletedProcess with text"""
    return subprocess.run(
        [PANGEA, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout * SLOW,
        input=stdin,
        env={**os.environ, **(env or {})},
        **kw,
    )


def at_once(workers, f, items):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(f, items))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
