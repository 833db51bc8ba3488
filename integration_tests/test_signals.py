"""Signals beside SIGTERM and SIGINT: a terminal that is closed, a file that has reached its limit; and agents of one's own."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
from harness import PANGEA, STORIES, free_port, layout, serve, until
from test_lifecycle import AS_LONG_AS_IT_TAKES, LONG, Stream, slow_streams


def mask(pid, field):
    """SigIgn, SigBlk or SigCgt of a process, as a number; 0 when it is gone"""
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
        return next(int(line.split()[1], 16) for line in text.splitlines() if line.startswith(field + ":"))
    except OSError:
        return 0


def minds(pid, sig):
    """it has said what this signal means to it"""
    return (mask(pid, "SigBlk") | mask(pid, "SigIgn")) >> (sig - 1) & 1


# --- SIGHUP: a closed terminal ends serving as SIGTERM does; nohup keeps it.


@pytest.mark.parametrize("whole_group", [False, True], ids=["master", "terminal"])
def test_a_closed_terminal_ends_serving_in_order(whole_group):
    with serve(STORIES, *layout("2x1"), *AS_LONG_AS_IT_TAKES, clean_exit=False) as s:
        streams = slow_streams(s, 2)
        for _ in range(2):  # the shell and the kernel may both say it: that is not "once more to stop now"
            os.killpg(s.proc.pid, signal.SIGHUP) if whole_group else s.proc.send_signal(signal.SIGHUP)
            assert until(lambda: "draining" in s.log, 60)
        assert s.wait() == 0, s.log[-2000:]
        for stream in streams:
            stream.join(30)
            assert stream.finish == "length" and stream.done, (stream.error, stream.finish)
        assert "stopping now" not in s.log and s.leftovers() == []


def test_under_nohup_a_closed_terminal_changes_nothing():
    with serve(STORIES, *layout("2x1"), prefix=("nohup",)) as s:
        (stream,) = slow_streams(s, 1)
        os.killpg(s.proc.pid, signal.SIGHUP)
        stream.join(60)
        assert stream.finish == "length" and stream.done, stream.error
        assert s.complete(prompt=[1], max_tokens=3)[1]["completion_tokens"] == 3
        assert "draining" not in s.log


# --- SIGXFSZ: what cannot be written any more is lost, and nothing else.

LIMITED = ("bash", "-c", 'ulimit -f "$0" && exec "$@"')  # the argument before the command: KiB


def test_a_log_that_has_reached_its_limit():
    with serve(STORIES, "--set", "log=debug", prefix=(*LIMITED, "1")) as s:
        assert until(lambda: len(s.log) == 1024, 60), "the log is not full: the test shows nothing"
        for _ in range(3):
            assert s.complete(prompt=[1], max_tokens=20, ignore_eos=True)[1]["completion_tokens"] == 20
        assert s.call("GET", "/health")[0] == 200 and s.agents()
    # serve() has seen it stop with 0


def test_a_timeline_that_has_reached_its_limit(tmp_path):
    path = tmp_path / "timeline.json"
    with serve(STORIES, "--timeline", str(path), prefix=(*LIMITED, "16")) as s:
        for _ in range(3):
            assert s.complete(prompt=[1], max_tokens=100, ignore_eos=True)[1]["completion_tokens"] == 100
        assert until(lambda: "File too large" in s.log, 60), s.log[-2000:]
        assert path.stat().st_size <= 16 * 1024
        assert s.complete(prompt=[1], max_tokens=20, ignore_eos=True)[1]["completion_tokens"] == 20


def test_agents_ignore_the_file_size_limit_too():
    """they write to the same log; several stages, whose shared memory counts as a file of its own"""
    with serve(STORIES, *layout("2x1"), "--set", "log=debug", prefix=(*LIMITED, str(64 * 1024))) as s:
        for pid in [s.proc.pid, *s.agents()]:
            assert mask(pid, "SigIgn") >> (signal.SIGXFSZ - 1) & 1, f"process {pid} would be killed"
        assert s.complete(prompt=[1], max_tokens=20, ignore_eos=True)[1]["completion_tokens"] == 20


# --- An agent that was started by hand obeys, wherever its token comes from.


@pytest.mark.parametrize("source", ["environment", "file"])
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda s: s.name)
def test_an_agent_started_by_hand_obeys_signals(tmp_path, source, sig):
    token = tmp_path / "token"
    token.write_text("a-secret-of-the-test\n")
    words = ["--token-file", str(token)] if source == "file" else []
    env = {**os.environ, "PANGEA_AGENT_TOKEN": "a-secret-of-the-test"} if source == "environment" else None
    command = [PANGEA, "agent", "--master", f"127.0.0.1:{free_port()}", *words]
    agent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert until(lambda: minds(agent.pid, sig), 20)
        agent.send_signal(sig)
        begin = time.monotonic()
        _, log = agent.communicate(timeout=30)
        assert agent.returncode == 1 and "ended by" in log, (agent.returncode, log)
        assert time.monotonic() - begin < 20  # not: until no master is found, a minute later
    finally:
        agent.kill()
        agent.wait()


def test_an_agent_under_nohup_lives_on():
    env = {**os.environ, "PANGEA_AGENT_TOKEN": "a-secret-of-the-test"}
    agent = subprocess.Popen(
        ["nohup", PANGEA, "agent", "--master", f"127.0.0.1:{free_port()}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env
    )
    try:
        assert until(lambda: minds(agent.pid, signal.SIGTERM), 20)
        agent.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            agent.wait(1)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 1
    finally:
        agent.kill()
        agent.communicate()


def test_an_agent_with_its_token_in_the_environment_leaves_a_running_deployment():
    """as a service manager stops it: the master is told why it lost its agent, and ends when none may take its place"""
    port = free_port()
    token = "a-secret-of-the-test"
    path = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"token-{os.getpid()}"
    path.write_text(token + "\n")
    path.chmod(0o600)
    words = ["--set", "agents.launch=remote", "--set", f"control.listen=127.0.0.1:{port}", "--set", f"control.token_file={path}"]
    words += ["--set", "control.recovery_attempts=0"]
    started = []

    def join(_folder):
        env = {**os.environ, "PANGEA_AGENT_TOKEN": token}
        started.append(subprocess.Popen([PANGEA, "agent", "--master", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL, env=env))

    try:
        with serve(STORIES, *words, on_started=join, clean_exit=False) as s:
            stream = Stream(s, {**LONG, "model": s.model()})
            assert stream.begun.wait(30)
            started[0].send_signal(signal.SIGTERM)
            assert started[0].wait(20) == 1
            assert s.wait(20) == 1 and "ended by Terminated" in s.log, s.log[-2000:]
    finally:
        path.unlink()
        for p in started:
            p.kill()
            p.wait()
