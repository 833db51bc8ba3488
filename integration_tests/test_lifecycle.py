"""How a server ends: nothing is left, every stream is told, and it never lives on as a liar."""

import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest
from harness import PANGEA, STORIES, Refused, alive, descendants, layout, serve, until

LONG = dict(model="stories260k", prompt=[1], max_tokens=500, temperature=0, ignore_eos=True)
# Two sequences at a time: not over while a test runs, however late it comes to its next line.
ENDLESS = {**LONG, "n": 100}
TWO_AT_A_TIME = ("--set", "schedule.max_batch_tokens=4", "--set", "schedule.max_sequences=2", "--set", "limits.n=100")
NO_RECOVERY = ("--set", "control.recovery_attempts=0")
NO_HURRY = ("--set", "control.silence_seconds=3600")  # a stopped agent is waited for
AS_LONG_AS_IT_TAKES = ("--set", "drain_seconds=3600")  # what runs may finish, however busy the machine is


class Stream(threading.Thread):
    """an open stream that notes how it ended"""

    def __init__(self, server, body=LONG):
        super().__init__(daemon=True)
        self.server, self.body = server, body
        self.texts, self.times = {}, []  # text by choice; when events came
        self.error = self.finish = self.ended = None
        self.done = False
        self.begun = threading.Event()
        self.start()

    @property
    def text(self):
        return "".join(self.texts.values())

    def run(self):
        try:
            for e in self.server.events("/v1/completions", self.body, timeout=60):
                self.times.append(time.monotonic())
                if e == "[DONE]":
                    self.done = True
                elif "error" in e:
                    self.error = e["error"]
                else:
                    for c in e["choices"]:
                        self.texts[c["index"]] = self.texts.get(c["index"], "") + c["text"]
                        self.finish = c["finish_reason"] or self.finish
                self.begun.set()
        except Refused as e:  # it had not begun
            self.error = json.loads(e.raw)["error"] if e.status in (500, 503) else repr(e)
        except Exception as e:  # noqa: BLE001 a broken connection is one of the ends looked for
            self.error = self.error or repr(e)
        self.ended = time.monotonic()
        self.begun.set()


def slow_streams(server, n):
    """n streams that have begun: each has hundreds of tokens to come"""
    streams = [Stream(server) for _ in range(n)]
    assert all(s.begun.wait(30) for s in streams)
    return streams


def have_arrived(server, requests):
    """all of so many ENDLESS requests have reached the server's queue"""

    def choices():  # that run, wait or have ended
        page = server.call("GET", "/metrics")[1].decode()
        return sum(float(x) for x in re.findall(r"^pangea_requests_(?:running|waiting|total\{.*?\}) (\S+)$", page, re.MULTILINE))

    return until(lambda: choices() == requests * ENDLESS["n"], 60)


@pytest.mark.smoke
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_a_signal_under_load_lets_requests_finish(sig):
    with serve(STORIES, *layout("2x2"), *AS_LONG_AS_IT_TAKES, clean_exit=False) as s:
        agents = s.agents()
        assert len(agents) == 4, agents
        streams = slow_streams(s, 4)
        assert s.stop(sig) == 0, s.log[-2000:]
        for stream in streams:
            stream.join(30)
            assert stream.finish == "length" and stream.done, (stream.error, stream.finish)
        assert s.leftovers() == []


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_a_signal_to_the_whole_process_group(sig):
    """Ctrl-C reaches the agents too; it is the master that says when they end, so running requests finish all the same"""
    with serve(STORIES, *layout("2x2"), *AS_LONG_AS_IT_TAKES, clean_exit=False) as s:
        streams = slow_streams(s, 2)
        os.killpg(s.proc.pid, sig)
        assert s.wait() == 0, s.log[-2000:]
        for stream in streams:
            stream.join(30)
            assert stream.finish == "length" and stream.done, (stream.error, stream.finish)
        assert s.leftovers() == []


def test_killed_master_leaves_nothing():
    with serve(STORIES, *layout("2x2"), clean_exit=False) as s:
        agents = s.agents()
        slow_streams(s, 4)
        s.proc.send_signal(signal.SIGKILL)
        s.proc.wait(10)
        assert until(lambda: not any(map(alive, agents)), 30), "agents end by themselves; how fast is not asked of a busy machine"
        assert s.leftovers() == []


def test_readiness_goes_first():
    """draining: not ready and no new work, while what runs is finished"""
    with serve(STORIES, *layout("1x1"), *TWO_AT_A_TIME, *AS_LONG_AS_IT_TAKES, clean_exit=False) as s:
        streams = [Stream(s, ENDLESS) for _ in range(3)]
        assert have_arrived(s, len(streams)) and until(lambda: any(x.begun.is_set() for x in streams), 30)
        s.proc.send_signal(signal.SIGTERM)
        assert until(lambda: s.call("GET", "/health/ready", timeout=30)[0] == 503, 30), "not ready, and it says so"
        status, body = s.post("/v1/completions", LONG)
        assert status == 503 and body["error"]["message"], (status, body)
        assert not any(x.ended for x in streams), "what runs goes on meanwhile"
        s.proc.send_signal(signal.SIGTERM)  # they would take minutes
        assert s.wait() == 0
        for stream in streams:
            stream.join(30)
            assert isinstance(stream.error, dict) and stream.error["message"], f"{stream.error}: a stream that ended without a word"


def test_a_second_signal_means_now():
    with serve(STORIES, *layout("2x1"), *TWO_AT_A_TIME, *AS_LONG_AS_IT_TAKES, clean_exit=False) as s:
        streams = [Stream(s, ENDLESS) for _ in range(12)]
        assert have_arrived(s, len(streams)) and until(lambda: any(x.begun.is_set() for x in streams), 30)
        s.proc.send_signal(signal.SIGTERM)
        assert until(lambda: s.call("GET", "/health/ready", timeout=30)[0] == 503, 30)
        assert s.proc.poll() is None and not any(x.ended for x in streams), "the first signal lets them run"
        s.proc.send_signal(signal.SIGTERM)
        assert s.wait(60) == 0, "an hour early"
        for stream in streams:
            stream.join(30)
            assert not stream.done and isinstance(stream.error, dict) and stream.error["message"], (stream.error, stream.text[-40:])
        assert s.leftovers() == []


@pytest.mark.parametrize("victim", range(4))
def test_a_killed_agent_ends_every_stream_with_an_error(victim):
    """where it is not to be replaced: hanging or lying is not allowed"""
    with serve(STORIES, *layout("2x2"), *TWO_AT_A_TIME, *NO_RECOVERY, clean_exit=False) as s:
        streams = [Stream(s, ENDLESS) for _ in range(8)]
        assert have_arrived(s, len(streams)) and until(lambda: any(x.begun.is_set() for x in streams), 30)
        assert not any(x.ended for x in streams)
        os.kill(s.agents()[victim], signal.SIGKILL)
        killed = time.monotonic()
        code = s.wait(50)
        assert code not in (0, None) and code > 0, f"exit code {code}"
        for stream in streams:
            stream.join(30)
            assert isinstance(stream.error, dict) and stream.error["message"] and stream.error["type"], (
                f"{stream.error} after {stream.text[-40:]!r}"
            )
            # Found by the death itself, and not by control.step_seconds, a minute later.
            assert not stream.done and stream.ended - killed < 50, f"told after {stream.ended - killed:.2f} s"
        assert s.leftovers() == []
        assert "agent" in s.log


def test_unary_and_grpc_requests_are_told_too():
    import grpc
    from test_grpc import Door

    with serve(STORIES, *layout("2x1"), *TWO_AT_A_TIME, *NO_RECOVERY, clean_exit=False) as s:
        got, door = {}, Door(s.grpc)

        def rest():
            try:
                got["rest"] = s.post("/v1/completions", ENDLESS)
            except Exception as e:  # noqa: BLE001
                got["rest"] = repr(e)

        def rpc():
            try:
                got["grpc"] = door.call("Completion", ENDLESS)
            except grpc.RpcError as e:
                got["grpc"] = e.code().name

        threads = [threading.Thread(target=f) for f in (rest, rpc, rest, rpc)]
        for t in threads:
            t.start()
        assert have_arrived(s, len(threads))
        os.kill(s.agents()[1], signal.SIGKILL)
        for t in threads:
            t.join(60)
        assert s.wait(60) > 0
        assert got["rest"][0] in (500, 503) and got["rest"][1]["error"]["message"], got
        assert got["grpc"] in ("UNAVAILABLE", "INTERNAL"), got


@pytest.mark.parametrize("rank", range(4))
def test_every_rank_is_needed(rank):
    """a stopped rank stalls the stream: nobody computes in its place; let go, the stream ends as if nothing had been"""
    request = {**LONG, "n": 12}
    with serve(STORIES, *layout("2x2"), *TWO_AT_A_TIME, *NO_HURRY) as s:
        whole, _ = s.complete(**{k: v for k, v in request.items() if k != "model"})
        pid = s.agents()[rank]
        os.kill(pid, signal.SIGSTOP)  # before it is asked: however slow we are, the stream cannot end before that
        try:
            stream = Stream(s, request)
            assert until(lambda: b"pangea_requests_running 0" not in s.call("GET", "/metrics")[1], 60), "it does not begin"
            time.sleep(1)
            assert not any(stream.texts.values()) and stream.ended is None, "tokens come without this rank"
        finally:
            os.kill(pid, signal.SIGCONT)
        stream.join(120)
        assert stream.done and sorted(stream.texts.values()) == sorted(c["text"] for c in whole)


def test_stopping_while_it_starts():
    """SIGTERM at any moment of the start leaves nothing"""
    for delay in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4):
        proc = subprocess.Popen(
            [PANGEA, "serve", str(STORIES), *layout("2x2"), "--set", "rest.listen=127.0.0.1:0", "--set", "grpc.listen=127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        time.sleep(delay)
        below = descendants(proc.pid)
        proc.send_signal(signal.SIGTERM)
        try:
            out, err = proc.communicate(timeout=30)
        finally:
            proc.kill()
        assert proc.returncode in (0, -signal.SIGTERM), (delay, proc.returncode, err[-1000:])
        until(lambda: not any(map(alive, below)), 30)
        assert not [p for p in below if alive(p)], delay


def test_an_agent_that_never_joins(tmp_path):
    """the start has an end: a remote place that nobody takes"""
    (tmp_path / "token").write_text("a-secret-of-the-test\n")
    (tmp_path / "token").chmod(0o600)
    config = dict(
        model=str(STORIES),
        agents=[dict(device="cpu", launch="remote")],
        control=dict(listen="127.0.0.1:0", token_file=str(tmp_path / "token"), join_seconds=2),
        parallel=dict(transport="gloo"),
        rest=dict(listen="127.0.0.1:0"),
        grpc=dict(listen="127.0.0.1:0"),
    )
    (tmp_path / "never.yaml").write_text(json.dumps(config))  # JSON is YAML
    r = subprocess.run([PANGEA, "serve", str(tmp_path / "never.yaml")], capture_output=True, text=True, timeout=40)
    assert r.returncode > 0 and r.returncode != 78 and "join" in r.stderr.lower(), r
