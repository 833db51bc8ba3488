"""Agents die, stop and are replaced under load; a client sees a pause and nothing else."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import chaos
import harms
import harness
import namespaces
import pytest
from harness import PANGEA, SLOW, STORIES, Refused, alive, free_port, layout, serve, settings, until
from test_lifecycle import ENDLESS, LONG, TWO_AT_A_TIME, Stream, have_arrived

ANY_NUMBER = ("--set", "control.recovery_attempts=1000000")


def number(server, name):
    """the value of a metric without labels"""
    return float(re.search(rf"^{name} (\S+)$", server.call("GET", "/metrics")[1].decode(), re.MULTILINE)[1])


def replaced(server, victim, n):
    """the agents, once there are n without this one"""
    return until(lambda: len(found := server.agents()) == n and victim not in found and found, 60)


@pytest.mark.smoke
@pytest.mark.parametrize("transport", ["shm", "gloo"])
def test_killed_agents_lose_and_change_nothing(transport):
    with serve(STORIES, *layout("2x2"), "--set", f"parallel.transport={transport}", *ANY_NUMBER) as s:
        before = number(s, "pangea_agent_restarts_total")
        r = chaos.run(s, faults=20, tokens=200, harm=harms.Signals(s, double=0.3), rest=(0.3, 0.6))
        assert r["faults"] == 20, s.log[-3000:]
        assert not r["lost"] and not r["different"] and not r["unnamed"], r
        assert r["requests"] > 0
        assert number(s, "pangea_agent_restarts_total") - before >= 20
        assert number(s, "pangea_recovery_seconds_count") > 0
        assert "(packed before)" in s.log, "a successor packs nothing"
        assert s.call("GET", "/health/ready") == (200, {"status": "ready"})


@pytest.mark.parametrize("changed", ["nothing", "ids", "text", "logprobs", "usage"])
def test_another_answer_would_be_seen(changed):
    """the control: chaos.py with one expected thing changed"""
    with serve(STORIES, *layout("1x1")) as s:
        s.name = s.model()
        asked = [body for body in chaos.requests(8, 40, chaos.random.Random(1)) if "logprobs" in body][:1]
        [([choice], prompt, generated)] = chaos.undisturbed(s, asked)
        if changed == "ids":
            choice["ids"][-1] += 1
        elif changed == "text":
            choice["text"] += "."
        elif changed == "logprobs":
            choice["logprobs"]["token_logprobs"][-1] -= 1e-6
        client = chaos.Client(s, asked, [([choice], prompt, generated + (changed == "usage"))], 1)
        client.start()
        assert until(lambda: client.ended > 0, 30)
        client.stopping = True
        client.join(30)
        assert not client.lost and bool(client.different) == (changed != "nothing"), client.different


def test_another_executable_packs_its_own_weights(tmp_path, monkeypatch):
    """a newer build that takes over may lay weights out otherwise"""
    binary = tmp_path / "pangea"

    def install():
        shutil.copy(PANGEA, tmp_path / "new")
        (tmp_path / "new").rename(binary)

    install()
    monkeypatch.setattr(harness, "PANGEA", str(binary))
    with serve(STORIES, *layout("1x1"), *ANY_NUMBER) as s:
        for again, loads in ((False, 1), (True, 1)):
            if again:
                install()
            [victim] = s.agents()
            os.kill(victim, signal.SIGKILL)
            assert replaced(s, victim, 1)
            assert until(lambda: s.log.count("(packed before)") == loads and s.log.count("loaded layers") == 2 + again, 30), s.log[-2000:]
        s.complete(prompt=[1], max_tokens=3)


@pytest.mark.parametrize("how", ["KILL", "STOP", "SEGV"])
def test_kv_pages_outlive_a_process_that_did_not_end_by_itself(how):
    """a successor finds what committed steps have written, and nothing is computed again but the rows of steps that were under way"""
    with serve(STORIES, *layout("2x2"), *settings(control__silence_seconds=0.5), *ANY_NUMBER) as s:
        whole, _ = s.complete(prompt=[1], max_tokens=400, temperature=0, ignore_eos=True)
        body = dict(model=s.model(), prompt=[1, 2], max_tokens=400, temperature=0.9, seed=3, ignore_eos=True)
        undisturbed, _ = s.complete(**body)
        ids, first = [], s.agents()
        for event in s.events("/v1/completions", {**body, "return_token_ids": True}):
            if event == "[DONE]":
                break
            ids += event["choices"][0].get("token_ids") or []
            if len(ids) >= 100 and s.agents() == first:  # long before the last id: the server does not wait for this reader
                os.kill(first[1], getattr(signal, f"SIG{how}"))
                assert replaced(s, first[1], 4)
        assert ids == undisturbed[0]["ids"]
        kept = how != "SEGV"  # what it has done before may be anything
        assert ("with the KV pages that they had" in s.log) == kept, s.log[-2000:]
        assert (number(s, "pangea_rows_lost_total") < 8) == kept, number(s, "pangea_rows_lost_total")
        assert s.complete(prompt=[1], max_tokens=400, temperature=0, ignore_eos=True)[0] == whole, "from cached pages"


def test_new_pages_are_not_taken_for_those_that_were_lost(monkeypatch):
    """one agent fails, so that its pages are lost, and another is killed; a successor dies before the groups are formed"""
    monkeypatch.setattr(harness, "PANGEA", str(pathlib.Path(PANGEA).with_name("pangea_failpoints")))
    with tempfile.TemporaryDirectory() as walls, serve(STORIES, *layout("2x1"), *ANY_NUMBER, env=dict(PANGEA_FAILPOINTS=walls)) as s:
        body = dict(model=s.model(), prompt=[1, 2], max_tokens=400, temperature=0.9, seed=3, ignore_eos=True)
        [undisturbed], _ = s.complete(**body)
        for _ in range(4):
            ids, harmed = [], False
            for event in s.events("/v1/completions", {**body, "return_token_ids": True}):
                if event == "[DONE]":
                    break
                ids += event["choices"][0].get("token_ids") or []
                if len(ids) >= 100 and not harmed:
                    harmed = True
                    (pathlib.Path(walls) / "load.after").write_text("9 0")
                    first, second = s.agents()
                    os.kill(first, signal.SIGSEGV)
                    os.kill(second, signal.SIGKILL)
            assert ids == undisturbed["ids"]
            assert not os.listdir(walls), "nobody came by"


def test_a_frozen_agent_is_replaced():
    """SIGSTOP: its process lives and its connections stand; that it tells nothing while a step is under way gives it away"""
    with serve(STORIES, *layout("2x2"), *settings(control__silence_seconds=0.5), *ANY_NUMBER) as s:
        r = chaos.run(s, faults=4, harm=harms.Signals(s, "STOP"), rest=(0.3, 0.6))
        assert r["faults"] == 4, s.log[-3000:]
        assert not r["lost"] and not r["different"] and not r["unnamed"], r
        assert re.search(
            r"epoch \d+ is over: agent \d \(stage \d, rank \d, pid \d+\) has told nothing( since step \d+, layer \d+, collective \d+)? while step \d+",
            s.log,
        ), s.log[-3000:]


def test_everything_that_a_request_may_ask_for_survives():
    """several choices, stop strings, echo, log-probabilities, penalties, usage; unary, streamed and over gRPC"""
    import grpc
    from test_grpc import Door

    bodies = [
        dict(prompt="One day", max_tokens=300, n=3, temperature=1.1, seed=5, logprobs=2),
        dict(prompt="Lily saw", max_tokens=300, temperature=0, stop=["xyzzy", " the end of it all"], presence_penalty=0.7),
        dict(prompt="Tom had a ball", max_tokens=300, temperature=0.9, seed=8, echo=True, logprobs=1, frequency_penalty=0.4),
        dict(prompt=[1], max_tokens=300, temperature=0.8, seed=9, min_tokens=250, ignore_eos=True),
    ]
    with serve(STORIES, *layout("2x1"), *settings(cache__memory="1MiB", schedule__max_batch_tokens=16), *ANY_NUMBER) as s:
        door = Door(s.grpc)

        def ask(i, how):
            if how == "grpc":
                return door.call("Completion", {"model": "stories260k", **bodies[i]})
            choices, usage = s.complete(stream=how == "stream", **bodies[i])
            return choices, usage["prompt_tokens"], usage["completion_tokens"]

        ways = [(i, how) for i in range(len(bodies)) for how in ("unary", "stream", "grpc")]
        whole = {way: ask(*way) for way in ways}
        got = {}

        def note(way):
            try:
                got[way] = ask(*way)
            except (AssertionError, Refused, OSError, grpc.RpcError) as error:
                got[way] = repr(error)

        restarts = number(s, "pangea_agent_restarts_total")
        threads = [threading.Thread(target=note, args=(way,)) for way in ways]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            victim = s.agents()[-1]
            os.kill(victim, signal.SIGKILL)
            assert replaced(s, victim, 2), s.log[-2000:]
            for thread in threads:
                thread.join(0.05)
        assert number(s, "pangea_agent_restarts_total") > restarts
        for way in ways:
            mine, undisturbed = got[way], whole[way]
            if way[1] == "grpc":
                assert not isinstance(mine, str), mine
                for answer in (mine, undisturbed):
                    for field in ("id", "created"):
                        answer.pop(field, None)
            assert mine == undisturbed, way


def test_a_server_that_cannot_recover_says_so_and_ends():
    with serve(STORIES, *layout("2x1"), *TWO_AT_A_TIME, *settings(control__recovery_attempts=3), clean_exit=False) as s:
        streams = [Stream(s, ENDLESS) for _ in range(4)]
        assert have_arrived(s, len(streams)) and until(lambda: any(x.begun.is_set() for x in streams), 30)
        end = time.monotonic() + 60 * SLOW
        while s.proc.poll() is None and time.monotonic() < end:
            for pid in s.agents():  # whoever is there, as fast as it goes
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        assert s.wait(10) > 0
        for stream in streams:
            stream.join(30)
            assert not stream.done and isinstance(stream.error, dict) and stream.error["message"], stream.error
        assert "it is the end of 3 recoveries (control.recovery_attempts)" in s.log
        assert s.leftovers() == []


def agent_of(port, token, index):
    return subprocess.Popen(
        [PANGEA, "agent", "--master", f"127.0.0.1:{port}", "--token-file", str(token), "--agent", str(index)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("ready", [True, False])
def test_a_remote_place_waits_for_its_next_agent(tmp_path, ready):
    """meanwhile requests queue, and health tells what is missing"""
    token, port = tmp_path / "token", free_port()
    token.write_text("a-token-of-this-test")
    token.chmod(0o600)
    agents = []
    keys = dict(control__listen=f"127.0.0.1:{port}", control__token_file=token, parallel__transport="gloo")
    keys |= dict(agents__launch="remote", health__ready_while_recovering=str(ready).lower())
    try:
        with serve(
            STORIES, *layout("1x2"), *settings(**keys), on_started=lambda _: agents.extend(agent_of(port, token, i) for i in range(2))
        ) as s:
            whole, _ = s.complete(**{k: v for k, v in LONG.items() if k != "model"})
            stream = Stream(s, LONG)
            assert stream.begun.wait(30 * SLOW)
            agents[1].kill()
            agents[1].wait()

            def told():
                status, answer = s.call("GET", "/health/ready")
                return (status, answer) if answer != {"status": "ready"} else None

            status, answer = until(told, 30)
            if ready:
                assert status == 200 and answer["status"] == "recovering", answer
                message = answer["message"]
            else:
                assert status == 503 and answer["error"]["code"] == "recovering", answer
                message = answer["error"]["message"]
            assert re.search(r"for \d+\.\d s, since agent 1 \(stage 0, rank 1, pid \d+\)", message), message
            assert s.call("GET", "/health/live")[0] == 200
            late = Stream(s, LONG)
            assert until(lambda: number(s, "pangea_requests_waiting") + number(s, "pangea_requests_running") >= 2, 30), "it is taken"
            assert stream.ended is None and late.ended is None
            agents.append(agent_of(port, token, 1))
            for x in (stream, late):
                x.join(60 * SLOW)
                assert x.done and x.text == whole[0]["text"], (x.error, x.text)
            assert s.call("GET", "/health/ready") == (200, {"status": "ready"})
    finally:
        for agent in agents:
            agent.kill()
            agent.wait()
    assert not any(alive(agent.pid) for agent in agents)


def test_places_gone_for_good_lose_and_change_nothing(tmp_path):
    """the layout shrinks to the agents that are left, and grows back when one returns"""
    token, port = tmp_path / "token", free_port()
    token.write_text("a-token-of-this-test")
    token.chmod(0o600)
    remote = harms.RemoteAgents(f"127.0.0.1:{port}", token, [[]] * 3)
    keys = dict(control__listen=f"127.0.0.1:{port}", control__token_file=token, agents__launch="remote", control__shrink_seconds=0.3)
    try:
        with serve(STORIES, *layout("3x1"), *settings(**keys), *ANY_NUMBER, on_started=lambda _: remote.start()) as s:
            r = chaos.run(s, faults=4, tokens=200, harm=remote, rest=(0.3, 0.6))
            assert r["faults"] == 4 and not r["lost"] and not r["different"], (r, s.log[-3000:])
            assert s.log.count("the layout is 1 stage x 2 ranks from now on") == 2, s.log[-3000:]
            assert s.log.count("the layout is 3 stages x 1 rank from now on") == 2
            assert number(s, "pangea_agents_up") == 3
    finally:
        remote.stop()


def test_a_spare_takes_over():
    with serve(STORIES, *layout("2x1"), *settings(control__spare_agents=1), *ANY_NUMBER) as s:
        for _ in range(3):
            assert until(lambda: number(s, "pangea_agents_spare") == 1, 30)
            agents = s.agents()
            os.kill(agents[0], signal.SIGKILL)
            assert replaced(s, agents[0], 3), "another one stands by"
            assert until(lambda: number(s, "pangea_agents_up") == 2, 30)
            s.complete(prompt=[1], max_tokens=3)
        assert s.log.count("goes to a spare") >= 2, s.log[-3000:]


def test_a_frozen_spare_takes_no_place_for_long():
    """nobody asks spares whether they are well; the one that gets a place has to tell that it loads"""
    with serve(STORIES, *layout("2x1"), *settings(control__spare_agents=1, control__silence_seconds=0.5), *ANY_NUMBER) as s:
        assert until(lambda: number(s, "pangea_agents_spare") == 1, 30)
        agents = s.agents()
        os.kill(agents[-1], signal.SIGSTOP)
        os.kill(agents[0], signal.SIGKILL)
        begun = time.monotonic()
        assert until(lambda: number(s, "pangea_epoch") == 2, 60), s.log[-3000:]
        assert time.monotonic() - begun < 30 * harness.SLOW, "control.join_seconds would be two minutes"
        assert f"pid {agents[-1]}) has told nothing while it loads for 10 s" in s.log, s.log[-3000:]
        s.complete(prompt=[1], max_tokens=3)


def harm(kind, faults, monkeypatch, *more, tokens=200, **keys):
    """the tiny model on 2x2, harmed that often -> what chaos.run says, with the log"""
    monkeypatch.setattr(harness, "PANGEA", PANGEA)  # chaos may choose another one
    o = chaos.arguments(["--kind", kind, "--model", str(STORIES), *more, *(x for k, v in keys.items() for x in ("--set", f"{k}={v}"))])
    try:
        with chaos.harmed(o) as (server, how):
            r = chaos.run(server, faults, tokens=tokens, harm=how, rest=(0.1, 0.4))
            assert r["faults"] == faults, server.log[-3000:]
            assert not r["lost"] and not r["different"] and r["requests"] > 0, (r, server.log[-3000:])
            assert not getattr(how, "missed", []), how.missed
            return server.log
    except namespaces.Unavailable as why:
        pytest.skip(str(why))


def test_death_and_delay_at_every_wall(monkeypatch):
    """before and after a join, a load, the forming of groups, a step, a collective, a write into pages, a sample, a result, its commit"""
    monkeypatch.setattr(harms.Walls, "KINDS", ("KILL", "sleep"))
    log = harm("WALL", 36, monkeypatch)
    assert log.count("was killed by signal 9") >= 18


def test_a_process_stops_at_any_wall(monkeypatch):
    monkeypatch.setattr(harms.Walls, "KINDS", ("STOP",))
    harm("WALL", 6, monkeypatch, **{"control.silence_seconds": 0.5})
    monkeypatch.setattr(harms.Walls, "OF_A_STEP", ())  # while a process joins, loads, forms: all of those
    log = harm("WALL", 6, monkeypatch, **{"control.silence_seconds": 0.5})
    assert re.search(r"has not joined for 10 s|has told nothing while it loads", log), log[-3000:]


def test_processes_that_are_short_of_everything(monkeypatch):
    """descriptors, memory, room in files; of the master too, but for memory"""
    log = harm("STARVE", 5, monkeypatch)
    assert re.search("Too many open files|Cannot allocate memory|cannot be started|bad_alloc|File too large", log), (
        "nobody was short of anything"
    )


def test_links_that_are_cut(monkeypatch):
    """of hosts, both ways and one, for longer and for shorter than a silence"""
    monkeypatch.setattr(harms.Cuts, "SECONDS", (0.05, 2))
    log = harm("CUT", 6, monkeypatch, **{"control.silence_seconds": 0.5})
    assert " is over: " in log, "nobody has noticed"


def test_connections_with_the_master_that_are_held_up_or_closed(monkeypatch):
    monkeypatch.setattr(harms.Proxy, "SECONDS", (0.05, 2))
    log = harm("PROXY", 8, monkeypatch, **{"control.silence_seconds": 0.5})
    assert " is over: " in log, "nobody has noticed"


def test_a_log_that_nobody_takes():
    """standard error is a pipe, full from the start: nobody waits for it, and agents are still replaced"""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(1 << 16))
    os.set_blocking(writer, True)
    wrapper = ["bash", "-c", f'exec "$@" 2>&{writer}', "full"]
    os.set_inheritable(writer, True)
    try:
        with serve(STORIES, *layout("2x2"), *ANY_NUMBER, prefix=wrapper, pass_fds=(writer,)) as s:
            r = chaos.run(s, faults=3, tokens=200, harm=harms.Signals(s), rest=(0.1, 0.4))
            assert r["faults"] == 3 and not r["lost"] and not r["different"] and r["requests"] > 0, r
            assert s.log == "", "its standard error is the pipe"
    finally:
        os.close(reader)
        os.close(writer)
