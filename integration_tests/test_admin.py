"""pangea admin: an administrator looks at the agents of a running master, replaces them, pauses its requests."""

import os
import re
import resource
import socket
import threading
import time

import chaos
import harms
import pytest
from harness import STORIES, free_port, layout, run, serve, settings, until
from test_grpc import Door
from test_lifecycle import LONG, NO_HURRY, Stream


@pytest.fixture
def control(tmp_path):
    token = tmp_path / "token"
    token.write_text("a-token-of-this-test\n")
    token.chmod(0o600)
    port = free_port()
    return settings(control__listen=f"127.0.0.1:{port}", control__token_file=token), (
        "--master",
        f"127.0.0.1:{port}",
        "--token-file",
        token,
    )


def test_status_tells_where_every_agent_is(control):
    keys, to = control
    with serve(STORIES, *layout("2x2"), *keys, *NO_HURRY) as s:
        r = run("admin", "status", *to)
        assert r.returncode == 0, r
        lines = r.stdout.splitlines()
        assert re.fullmatch(r"serving, epoch 1, for \d+\.\d s", lines[0]), r.stdout
        assert lines[1] == "2 stages x 2 ranks; agents that stand by: 0"
        assert lines[2] == "requests: 0 running, 0 waiting; recoveries that count: 0"
        found = [re.match(r" +(\d) +(\d) +(\d) +(\d+)  127\.0\.0\.1 +formed", line).groups() for line in lines[4:]]
        assert [x[:3] for x in found] == [("0", "0", "0"), ("1", "0", "1"), ("2", "1", "0"), ("3", "1", "1")]
        assert sorted(int(x[3]) for x in found) == s.agents()
        s.complete(prompt=[1], max_tokens=20)
        assert until(
            lambda: len(re.findall(r"nothing: step \d+, layer -?\d+, collective \d+", run("admin", "status", *to).stdout)) == 4, 10
        )


def test_rolling_restarts_fail_no_request(control):
    keys, to = control
    with serve(STORIES, *layout("2x2"), *keys, *settings(control__recovery_attempts=0)) as s:
        before = s.agents()
        s.name = s.model()
        asked = chaos.requests(8, 200, chaos.random.Random(1))
        expected = chaos.undisturbed(s, asked)
        clients = [chaos.Client(s, asked, expected, i) for i in range(6)]
        for client in clients:
            client.start()
        for _ in range(2):
            r = run("admin", "restart-agents", "--rolling", *to, timeout=120)
            assert r.returncode == 0 and len(re.findall(r"agent \d is replaced, after \d+\.\d\d s", r.stdout)) == 4, r
        for client in clients:
            client.stopping = True
        for client in clients:
            client.join(60)
            assert not client.is_alive() and not client.lost and not client.different, (client.lost, client.different)
        assert sum(client.ended for client in clients) > 0
        assert not set(before) & set(s.agents()), "all of them are others"


def test_drain_and_resume(control):
    keys, to = control
    with serve(STORIES, *layout("1x1"), *keys) as s:
        stream = Stream(s, {**LONG, "n": 16})
        assert stream.begun.wait(30)
        assert run("admin", "drain", *to).returncode == 0
        status, answer = s.call("GET", "/health/ready")
        assert status == 503 and answer["error"]["code"] == "paused", answer
        status, answer = s.post("/v1/completions", LONG)
        assert status == 503 and "no new requests are taken" in answer["error"]["message"], answer
        assert "no new ones are taken" in run("admin", "status", *to).stdout
        stream.join(60)
        assert stream.done, "what is open goes on"
        assert run("admin", "resume", *to).returncode == 0
        assert s.call("GET", "/health/ready") == (200, {"status": "ready"})
        s.complete(prompt=[1], max_tokens=2)


def test_whoever_may_not_is_refused(control, tmp_path):
    keys, to = control
    wrong = tmp_path / "wrong"
    wrong.write_text("some-other-token")
    wrong.chmod(0o600)
    with serve(STORIES, *layout("1x2"), *keys) as s:
        agents = s.agents()
        for words in (["status"], ["restart-agent", "0"], ["drain"]):
            r = run("admin", *words, *to[:2], "--token-file", wrong)
            assert r.returncode == 1 and "the join token is wrong" in r.stderr and not r.stdout, r
        r = run("admin", "restart-agent", "2", *to)
        assert r.returncode == 1 and "agent 2 is not one of the 2" in r.stderr, r
        assert s.agents() == agents and s.call("GET", "/health/ready")[0] == 200
        assert "some-other-token" not in s.log
    r = run("admin", "status", *to)
    assert r.returncode == 1 and r.stderr.startswith("pangea admin: "), r


@pytest.mark.parametrize(
    "words,told",
    [
        ([], "what is to be done"),
        (["stop"], "cannot do stop"),
        (["restart-agent"], "which one?"),
        (["restart-agent", "first"], "first is no number"),
        (["status", "0"], "takes no more words"),
    ],
)
def test_wrong_words(control, words, told):
    r = run("admin", *words, *control[1])
    assert r.returncode == 64 and told in r.stderr, r


def test_two_who_ask_at_once(control):
    """one of them may be told that no epoch serves now; nothing hangs, and the server goes on"""
    keys, to = control
    with serve(STORIES, *layout("2x1"), *keys) as s:
        answers = []
        threads = [threading.Thread(target=lambda i=i: answers.append(run("admin", "restart-agent", i, *to))) for i in (0, 1, 0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(answers) == 4 and any(r.returncode == 0 for r in answers), answers
        assert all(r.returncode == 0 or "no epoch serves now" in r.stderr for r in answers), answers
        s.complete(prompt=[1], max_tokens=5)


def test_another_layout_under_load_fails_no_request(control):
    keys, to = control
    with serve(STORIES, *layout("2x2"), *keys) as s:
        harm = harms.Administrator(to, ["1x3", "4x1", "2x2", "1x1"])
        r = chaos.run(s, faults=6, tokens=200, harm=harm, rest=(0.3, 0.6))
        assert r["faults"] == 6 and not r["lost"] and not r["different"], (r, s.log[-3000:])
        stages, ranks = map(int, harm.now.split("x"))
        assert len(s.agents()) == stages * ranks
        _, answer = s.post("/v1/completions", dict(model=s.model(), prompt=[1], max_tokens=1))
        assert answer["system_fingerprint"].split("-")[1] == harm.now


def test_an_edited_file_changes_the_layout(control, tmp_path):
    keys, to = control
    edited = tmp_path / "edited.yaml"
    with serve(STORIES, *layout("1x1"), *keys) as s:
        edited.write_text(f"model: {STORIES}\nparallel: {{pipeline: 2}}\nagents: {{threads: 2}}\n")
        r = run("admin", "relayout", "--deployment", edited, *to)
        assert r.returncode == 0 and re.match(r"the layout is 2 stages x 1 rank, after \d+\.\d\d s", r.stdout), r
        assert len(s.agents()) == 2
        edited.write_text(f"model: {STORIES}\nagents: {{model: /no/such/model}}\n")  # on the agents' hosts, which only they know
        r = run("admin", "relayout", "--deployment", edited, *to)
        assert r.returncode == 1 and "the layout before it does again (2 stages x 1 rank)" in r.stderr and "/no/such/model" in r.stderr, r
        s.complete(prompt=[1], max_tokens=1)
        edited.write_text("parallel: {pipeline: two}\n")
        r = run("admin", "relayout", "--deployment", edited, *to)
        assert r.returncode == 1 and "parallel.pipeline" in r.stderr, r


@pytest.mark.parametrize(
    "words, code, told",
    [
        (["--pipeline", 99, "--tensor", 1], 1, "parallel.pipeline"),
        (["--pipeline", 4096, "--tensor", 4096], 1, "at most 4096 agents"),
        (["--pipeline", 2], 64, "give --pipeline and --tensor, or --deployment"),
        (["--deployment", "/no/such/file"], 1, "/no/such/file"),
    ],
)
def test_a_layout_that_cannot_be_changes_nothing(control, words, code, told):
    keys, to = control
    with serve(STORIES, *layout("1x1"), *keys) as s:
        before = s.agents()
        r = run("admin", "relayout", *words, *to)
        assert r.returncode == code and told in r.stderr, r
        s.complete(prompt=[1], max_tokens=1)
        assert s.agents() == before


def test_who_comes_while_there_are_no_descriptors_gets_in_later(control):
    """at every door: gRPC's own sockets would never accept again"""
    keys, to = control
    with serve(STORIES, *layout("1x1"), *keys) as s:
        doors = [s.rest.removeprefix("http://"), s.grpc, to[1]]
        limit = resource.prlimit(s.proc.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(s.proc.pid, resource.RLIMIT_NOFILE, (max(map(int, os.listdir(f"/proc/{s.proc.pid}/fd"))) + 1, limit[1]))
        waiting = [socket.create_connection(door.rsplit(":", 1)) for door in doors for _ in range(64)]  # more than there are holes
        time.sleep(0.5)
        resource.prlimit(s.proc.pid, resource.RLIMIT_NOFILE, limit)
        for connection in waiting:
            connection.close()
        s.complete(prompt=[1], max_tokens=2)
        assert len(Door(s.grpc).call("ListModels", {})["data"]) == 1
        assert run("admin", "status", *to).stdout.startswith("serving")
