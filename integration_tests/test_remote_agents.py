"""Agents that were started elsewhere: `pangea agent --master HOST:PORT --token-file F`, tensors by Gloo, also across network namespaces."""

import contextlib
import json
import os
import socket
import subprocess
import time

import namespaces
import pytest
from harness import PANGEA, SLOW, STORIES, alive, free_port, serve, settings, until

ASK = dict(prompt=[1], max_tokens=60, temperature=0, ignore_eos=True, logprobs=2)


@pytest.fixture(scope="module")
def local_answer():
    with serve(STORIES) as s:
        return s.complete(**ASK)[0]


def deployment(tmp_path, entries, stages, ranks, listen, transport="gloo", **more):
    """-> (file, file of the token)"""
    token = tmp_path / "token"
    token.write_text("a-secret-of-the-test\n")
    token.chmod(0o600)
    config = dict(
        model=str(STORIES),
        name="tiny",
        parallel=dict(pipeline=stages, tensor=ranks, transport=transport),
        agents=entries,
        control=dict(listen=listen, token_file=str(token), join_seconds=30),
        **more,
    )
    path = tmp_path / "deployment.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path, token


@contextlib.contextmanager
def agents(commands, log):
    """the processes of remote agents; killed on the way out when they still run"""
    started = []

    def begin(_folder=None):
        for prefix, args in commands:
            started.append(
                subprocess.Popen(
                    [*prefix, PANGEA, "agent", *map(str, args)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            )

    try:
        yield begin, started
    finally:
        for p in started:
            if p.poll() is None:
                p.kill()
            p.wait(10)


def test_remote_agents_join_and_serve(tmp_path, local_answer):
    port = free_port()
    path, token = deployment(tmp_path, [dict(device="cpu", launch="remote", host="127.0.0.1")] * 4, 2, 2, f"127.0.0.1:{port}")
    with (
        open(tmp_path / "agents.log", "w") as log,
        agents([([], ["--master", f"127.0.0.1:{port}", "--token-file", token])] * 4, log) as (begin, started),
    ):
        with serve(path, on_started=begin) as s:
            assert s.agents() == [], "the master started agents of its own"
            assert s.complete(**ASK)[0] == local_answer
        for p in started:
            assert p.wait(10 * SLOW) == 0, "an agent that was told to stop ends well"


def test_local_and_remote_agents_mix(tmp_path, local_answer):
    port = free_port()
    path, token = deployment(
        tmp_path, [dict(device="cpu"), dict(device="cpu", launch="remote", host="127.0.0.1")], 1, 2, f"127.0.0.1:{port}"
    )
    with (
        open(tmp_path / "agents.log", "w") as log,
        agents([([], ["--master", f"127.0.0.1:{port}", "--token-file", token])], log) as (begin, _),
    ):
        with serve(path, on_started=begin) as s:
            assert len(s.agents()) == 1
            assert s.complete(**ASK)[0] == local_answer


def test_a_wrong_token_is_refused(tmp_path, local_answer):
    """the intruder is turned away with a reason and the right agent still joins"""
    port = free_port()
    path, token = deployment(tmp_path, [dict(device="cpu", launch="remote", host="127.0.0.1")], 1, 1, f"127.0.0.1:{port}")
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-secret\n")

    def intrude_then_join(_):
        r = None
        for _ in range(50):  # until the master listens
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        r = subprocess.run(
            [PANGEA, "agent", "--master", f"127.0.0.1:{port}", "--token-file", str(wrong)],
            capture_output=True,
            text=True,
            timeout=30 * SLOW,
        )
        assert r.returncode not in (0, None) and "token" in (r.stderr + r.stdout).lower(), r
        assert "not-the-secret" not in r.stderr + r.stdout
        begin()

    with (
        open(tmp_path / "agents.log", "w") as log,
        agents([([], ["--master", f"127.0.0.1:{port}", "--token-file", token])], log) as (begin, _),
    ):
        with serve(path, on_started=intrude_then_join) as s:
            assert s.complete(**ASK)[0] == local_answer
            assert "a-secret-of-the-test" not in s.log and "not-the-secret" not in s.log


def test_noise_on_the_control_port(tmp_path, local_answer):
    """random bytes, HTTP, a TLS hello and a port scan on the agents' port disturb nobody"""
    port = free_port()
    path, token = deployment(tmp_path, [dict(device="cpu")], 1, 1, f"127.0.0.1:{port}")
    with serve(path) as s:
        for noise in (
            b"",
            os.urandom(4096),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            bytes.fromhex("16030100c8010000c4030300") + bytes(64),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(500),
        ):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as k:
                k.sendall(noise)
        # An agent too many, with the right token: every place is taken.
        r = subprocess.run(
            [PANGEA, "agent", "--master", f"127.0.0.1:{port}", "--token-file", str(token)],
            capture_output=True,
            text=True,
            timeout=30 * SLOW,
        )
        assert r.returncode not in (0, None)
        assert s.complete(**ASK)[0] == local_answer


def test_no_master_no_token():
    for args in (["--master", f"127.0.0.1:{free_port()}"], ["--token-file", "/nonexistent"], []):
        env = {k: v for k, v in os.environ.items() if k != "PANGEA_AGENT_TOKEN"}
        r = subprocess.run([PANGEA, "agent", *args], capture_output=True, text=True, timeout=60 * SLOW, env=env)
        assert r.returncode not in (0, None) and r.stderr, args


def test_a_dead_master_stops_its_remote_agents(tmp_path):
    port = free_port()
    path, token = deployment(tmp_path, [dict(device="cpu", launch="remote", host="127.0.0.1")] * 2, 2, 1, f"127.0.0.1:{port}")
    with (
        open(tmp_path / "agents.log", "w") as log,
        agents([([], ["--master", f"127.0.0.1:{port}", "--token-file", token])] * 2, log) as (begin, started),
    ):
        with serve(path, on_started=begin, clean_exit=False) as s:
            s.proc.kill()
            s.proc.wait(10)
            dead = time.monotonic()
            until(lambda: all(p.poll() is not None for p in started), 5)
            assert time.monotonic() - dead < 2.5 and all(p.poll() not in (0, None) for p in started), [p.poll() for p in started]
            assert s.leftovers() == []


# --- Two hosts, as two network namespaces behind a bridge.


@pytest.fixture
def two_hosts():
    """-> (the master's address, the two)"""
    try:
        with namespaces.hosts(2) as made:
            yield made
    except namespaces.Unavailable as why:
        pytest.skip(str(why))


def test_agents_in_two_network_namespaces(tmp_path, local_answer, two_hosts):
    master, hosts = two_hosts
    entries = [dict(device="cpu", launch="remote", host=host.address) for host in hosts for _ in range(2)]
    path, token = deployment(tmp_path, entries, 2, 2, f"{master}:7431")
    commands = [(host.within(), ["--master", f"{master}:7431", "--token-file", token]) for host in hosts for _ in range(2)]
    with open(tmp_path / "agents.log", "w") as log, agents(commands, log) as (begin, started):
        with serve(path, on_started=begin) as s:
            assert s.complete(**ASK)[0] == local_answer
            assert s.complete(**ASK, stream=True)[0] == local_answer
        assert all(p.wait(10 * SLOW) == 0 for p in started)


@pytest.mark.parametrize("shrink", [True, False])
def test_a_host_that_is_cut_off(tmp_path, two_hosts, shrink):
    """its link goes down in mid-stream: the other host goes on alone; where it may not, every stream ends with an error, and the server ends"""
    master, hosts = two_hosts
    entries = [dict(device="cpu", launch="remote", host=host.address) for host in hosts]
    path, token = deployment(tmp_path, entries, 2, 1, f"{master}:7431")
    commands = [(host.within(), ["--master", f"{master}:7431", "--token-file", token]) for host in hosts]
    keys = settings(control__step_seconds=2, control__shrink_seconds=0.5 if shrink else 0)
    asked = dict(model="tiny", prompt=[1], max_tokens=500, temperature=0, ignore_eos=True)
    with open(tmp_path / "agents.log", "w") as log, agents(commands, log) as (begin, started):
        with serve(path, *keys, on_started=begin, clean_exit=shrink) as s:
            _, whole = s.post("/v1/completions", asked)
            events = s.events("/v1/completions", asked)
            text = next(events)["choices"][0]["text"]
            namespaces.ip("link", "set", "eth0", "down", namespace=hosts[1].name)
            last = None
            for e in events:
                if shrink and e != "[DONE]":
                    assert "error" not in e, e
                    text += e["choices"][0]["text"]
                last = e
            if shrink:
                assert last == "[DONE]" and text == whole["choices"][0]["text"]
                assert "the layout is 1 stage x 1 rank from now on" in s.log
            else:
                assert isinstance(last, dict) and last.get("error"), last
                assert s.wait(30) > 0
        until(lambda: not any(alive(p.pid) for p in started), 20)
        assert not [p.pid for p in started if p.poll() is None], "a cut-off agent lives on"
