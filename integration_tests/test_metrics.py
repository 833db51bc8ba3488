"""What /metrics says, read by Prometheus' own parser and held against what was asked; and where the agents' time goes."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter

import pytest
from harness import SLOW, STORIES, at_once, free_port, layout, serve, settings, start, until
from prometheus_client.parser import text_string_to_metric_families
from test_grpc import Door

REPORT = 1.0  # seconds between two reports of an agent
ACTIVITIES = ("wait", "busy", "communication", "bubble")
STORY = dict(model="stories260k", prompt=[1], temperature=0, ignore_eos=True)


class Page:
    """one answer of /metrics"""

    def __init__(self, host, port):
        c = http.client.HTTPConnection(host, port, timeout=30 * SLOW)
        c.request("GET", "/metrics")
        r = c.getresponse()
        assert r.status == 200
        assert r.getheader("content-type") == "text/plain; version=0.0.4; charset=utf-8"
        self.text = r.read().decode()
        c.close()
        self.at = time.monotonic()
        self.families = {f.name: f for f in text_string_to_metric_families(self.text)}
        self.samples = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in self.families.values() for s in f.samples}

    def __call__(self, name, **labels):
        return self.samples[f"pangea_{name}", tuple(sorted(labels.items()))]

    def spent(self, stage, rank):
        """seconds of one agent by activity, and since it was loaded"""
        at = dict(stage=str(stage), rank=str(rank))
        return {a: self(f"stage_{a}_seconds_total", **at) for a in ACTIVITIES}, self("agent_uptime_seconds", **at)


def page(server):
    return Page(server.host, server.port)


def test_the_page_is_what_prometheus_reads(stories):
    p = page(stories)
    for name, family in p.families.items():
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), name
        assert name.startswith(("pangea_", "process_")), name
        assert family.samples, name
        if family.type == "counter":
            assert all(s.name.endswith("_total") for s in family.samples), name
        if family.type == "histogram":
            buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
            assert buckets == sorted(buckets) and buckets[-1][0] == float("inf")
            assert [v for _, v in buckets] == sorted(v for _, v in buckets)
            assert buckets[-1][1] == next(s.value for s in family.samples if s.name.endswith("_count"))
    assert stories.open("HEAD", "/metrics")[1].status == 200
    assert stories.post("/metrics", {})[0] == 405


def test_every_number_of_the_contract_is_there(stories):
    families = set(page(stories).families)
    wanted = {
        f"pangea_{x}"
        for x in """requests queue_depth queue_oldest_seconds requests_running requests_waiting prompt_tokens generated_tokens kv_usage_ratio
        prefix_cache_queries prefix_cache_hits preemptions time_to_first_token_seconds inter_token_latency_seconds request_latency_seconds stage_busy_seconds
        stage_bubble_seconds stage_communication_seconds stage_wait_seconds agents_up epoch agent_restarts recovery_seconds rejected steps rows step_seconds
        cancel_seconds cancel_steps""".split()
    } | {"process_cpu_seconds", "process_resident_memory_bytes"}
    assert wanted <= families, wanted - families


@pytest.mark.smoke
def test_counts_are_what_was_asked_and_gauges_return():
    """by both doors, streamed or not, n > 1, stop strings: the sums of all usage are the counters"""
    with serve(STORIES, *layout("2x1")) as s:
        door = Door(s.grpc)
        used, finishes, lock = Counter(), Counter(), threading.Lock()

        def ask(i):
            body = dict(
                prompt="Once upon a time" if i % 2 else "Lily",
                max_tokens=5 + i,
                temperature=0.9,
                seed=i,
                n=1 + i % 3,
                ignore_eos=i % 4 == 0,
            )
            if i % 5 == 0:
                body["stop"] = ["a", "the"]
            if i % 6 == 5:
                answer = door.call("Completion", {"model": "stories260k", **body})
                usage, found = answer["usage"], [c["finish_reason"] for c in answer["choices"]]
            else:
                choices, usage = s.complete(stream=i % 2 == 0, **body)
                found = [c["finish"] for c in choices]
            with lock:
                finishes.update(found)
                used.update(prompt=int(usage["prompt_tokens"]), generated=int(usage["completion_tokens"]))

        at_once(8, ask, range(24))
        p = page(s)
        assert p("prompt_tokens_total") == used["prompt"]
        assert p("generated_tokens_total") == used["generated"]
        choices = sum(finishes.values())
        assert choices == sum(1 + i % 3 for i in range(24)) and finishes["stop"] and finishes["length"]
        for reason in ("stop", "length", "abort", "error"):
            assert p("requests_total", finished_reason=reason) == finishes[reason], reason
        assert (
            p("request_latency_seconds_count") == p("time_to_first_token_seconds_count") == p("request_generated_tokens_count") == choices
        )
        assert p("inter_token_latency_seconds_count") == used["generated"] - choices
        assert p("request_prompt_tokens_count") == 24 and p("request_prompt_tokens_sum") == used["prompt"]
        assert 0 < p("time_to_first_token_seconds_sum") < p("request_latency_seconds_sum")

        assert until(lambda: page(s)("steps_in_flight") == 0, 30)
        p = page(s)
        for gauge in ("requests_running", "requests_waiting", "queue_depth", "queue_oldest_seconds", "kv_usage_ratio"):
            assert p(gauge) == 0, gauge
        assert p("kv_blocks_free") == p("kv_blocks") > 0
        assert p("agents") == p("agents_up") == 2 and p("epoch") == 1 and p("agent_restarts_total") == 0
        assert p("steps_total") == p("step_seconds_count") == p("step_rows_count") > 0
        assert p("rows_total") == p("step_rows_sum") >= used["generated"] - choices
        door.channel.close()


def test_the_gauges_move_while_requests_run():
    with serve(STORIES, *layout("1x1"), *settings(schedule__max_sequences=2)) as s:
        threads = [threading.Thread(target=s.complete, kwargs={**STORY, "max_tokens": 500, "n": 6}, daemon=True) for _ in range(4)]
        for t in threads:
            t.start()
        p = until(lambda: (found := page(s))("queue_depth") >= 1 and found, 30)
        assert p, "nobody ever queued"
        assert p("requests_running") == 2 and p("requests_waiting") >= p("queue_depth") and p("kv_usage_ratio") > 0
        waited = until(lambda: (found := page(s))("queue_oldest_seconds") > p("queue_oldest_seconds") or found("queue_depth") == 0, 30)
        assert waited
        for t in threads:
            t.join()
        assert page(s)("queue_oldest_seconds") == 0


def test_a_client_that_goes_away_is_seen_and_its_blocks_come_back():
    with serve(STORIES, *layout("2x1")) as s:
        assert page(s)("cancel_seconds_count") == 0
        for gone in (1, 2, 3):
            agent = s.agents()[0]
            os.kill(agent, signal.SIGSTOP)  # the answer cannot end before its client has gone, however slow we are
            c = http.client.HTTPConnection(s.host, s.port, timeout=60 * SLOW)
            body = json.dumps({**STORY, "max_tokens": 500, "stream": True})
            c.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            assert until(lambda: page(s)("requests_running") == 1, 60)
            c.close()
            os.kill(agent, signal.SIGCONT)
            assert until(lambda: page(s)("cancel_seconds_count") == gone, 60), page(s).text
        p = page(s)
        assert p("requests_total", finished_reason="abort") == 3
        assert p("cancel_steps_count") == 3
        # Two stages: three steps may be under way that name it.
        assert p("cancel_steps_bucket", le="3") == 3
        assert until(lambda: page(s)("kv_blocks_free") == p("kv_blocks"), 30)


def test_what_a_limit_ends_is_counted_by_its_name():
    limits = dict(
        limits__n=2,
        limits__body="4KiB",
        limits__header_bytes="1KiB",
        limits__max_prompt_tokens=8,
        limits__max_tokens=50,
        limits__json_depth=8,
        limits__queue=1,
        schedule__max_sequences=1,
    )
    with serve(STORIES, *layout("1x1"), *settings(**limits)) as s:
        asked = {
            "n": (dict(n=3), 400),
            "max_tokens": (dict(max_tokens=51), 400),
            "max_prompt_tokens": (dict(prompt=[1] * 9), 400),
            "body": (dict(user="x" * 5000), 413),
            "json_depth": (dict(metadata=[[[[[[[[[]]]]]]]]]), 400),
        }
        for body, status in asked.values():
            got = s.post("/v1/completions", {"model": "stories260k", "prompt": [1], "max_tokens": 1, **body})
            assert got[0] == status, got
        statuses = at_once(12, lambda i: s.post("/v1/completions", {**STORY, "max_tokens": 50})[0], range(12))
        refused = statuses.count(429)
        assert refused > 0 and refused + statuses.count(200) == 12
        p = page(s)
        for limit in asked:
            assert p("rejected_total", limit=limit) == 1, limit
        assert p("rejected_total", limit="queue") == refused
        assert sum(v for (name, _), v in p.samples.items() if name == "pangea_rejected_total") == len(asked) + refused
        # A refused request is no request that ended.
        assert sum(v for (name, _), v in p.samples.items() if name == "pangea_requests_total") == 12 - refused


def test_vllms_names_when_asked_for():
    name = 'a "quoted" \\ name'
    with serve(STORIES, *layout("1x1"), *settings(metrics__vllm_names="true"), "--set", f"name='{name}'") as s:
        s.complete(**{**STORY, "model": name, "max_tokens": 7})
        p = page(s)
        labels = tuple(sorted(dict(model_name=name, engine="0").items()))
        for vllm, ours in [
            ("prompt_tokens_total", "prompt_tokens_total"),
            ("generation_tokens_total", "generated_tokens_total"),
            ("num_requests_running", "requests_running"),
            ("num_requests_waiting", "requests_waiting"),
            ("kv_cache_usage_perc", "kv_usage_ratio"),
            ("num_preemptions_total", "preemptions_total"),
            ("prefix_cache_queries_total", "prefix_cache_queries_total"),
            ("time_to_first_token_seconds_count", "time_to_first_token_seconds_count"),
            ("inter_token_latency_seconds_sum", "inter_token_latency_seconds_sum"),
            ("time_per_output_token_seconds_sum", "inter_token_latency_seconds_sum"),
            ("e2e_request_latency_seconds_count", "request_latency_seconds_count"),
        ]:
            assert p.samples[f"vllm:{vllm}", labels] == p(ours), vllm
        assert p("generated_tokens_total") == 7
        assert p.samples["vllm:request_success_total", tuple(sorted([*labels, ("finished_reason", "length")]))] == 1


def test_it_answers_while_the_model_loads(tmp_path):
    """agents that never come: the server loads for ever, and says so"""
    port, token, seen = free_port(), tmp_path / "token", {}
    token.write_text("a-token-of-some-length")
    token.chmod(0o600)

    class Enough(Exception):
        pass

    def look(folder):
        with socket.socket() as k:
            assert until(lambda: k.connect_ex(("127.0.0.1", port)) == 0, 30)
        seen["page"] = until(lambda: "pangea_agents_up" in (p := Page("127.0.0.1", port)).text and p, 30)  # the fleet comes after the door
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        c.request("GET", "/health")
        seen["health"] = c.getresponse().status
        raise Enough

    with pytest.raises(Enough):
        start(
            STORIES,
            *settings(
                rest__listen=f"127.0.0.1:{port}",
                grpc__listen="127.0.0.1:0",
                agents__launch="remote",
                agents__host="127.0.0.1",
                control__token_file=token,
            ),
            default_ports=False,
            on_started=look,
        )
    assert seen["health"] == 503
    assert seen["page"]("requests_running") == 0 and seen["page"]("agents_up") == 0


def test_it_answers_when_there_is_room_for_nobody_else():
    """no connection left, the queue full: health and metrics are still served, and nothing else"""
    with serve(STORIES, *layout("1x1"), *settings(limits__connections=2, limits__queue=1, schedule__max_sequences=1)) as s:
        held = [s.open("POST", "/v1/completions", {**STORY, "max_tokens": 500, "stream": True}) for _ in range(2)]
        assert page(s)("requests_running") <= 1
        assert s.call("GET", "/health")[0] == 200
        status, answer = s.post("/v1/completions", {**STORY, "max_tokens": 1})
        assert status == 503 and answer["error"]["code"] == "connection_limit"
        assert page(s)("rejected_total", limit="connections") == 1
        for c, _ in held:
            c.close()
        assert until(lambda: s.post("/v1/completions", {**STORY, "max_tokens": 1})[0] == 200, 30)


# ---- where the agents' time goes


def under_load(server, seconds, during=lambda: None):
    """pages before and after a time of constant load, with something done in between"""
    stop = threading.Event()

    def load():
        while not stop.is_set():
            server.complete(**{**STORY, "max_tokens": 100})

    threads = [threading.Thread(target=load) for _ in range(4)]
    for t in threads:
        t.start()
    server.complete(**{**STORY, "max_tokens": 3})
    time.sleep(REPORT * 1.5)  # every agent has reported its life under load
    before = page(server)
    during()
    time.sleep(seconds)
    after = page(server)
    stop.set()
    for t in threads:
        t.join()
    return before, after


def spent_between(before, after, stage, rank):
    (a, a_up), (b, b_up) = before.spent(stage, rank), after.spent(stage, rank)
    return {k: b[k] - a[k] for k in ACTIVITIES}, b_up - a_up


@pytest.mark.parametrize("shape", ["2x1", "1x2"])
def test_the_four_kinds_of_time_are_all_the_time(shape):
    stages, ranks = map(int, shape.split("x"))
    with serve(STORIES, *layout(shape)) as s:
        before, after = under_load(s, 6)
        for stage in range(stages):
            for rank in range(ranks):
                spent, up = spent_between(before, after, stage, rank)
                assert sum(spent.values()) == pytest.approx(up, rel=1e-6), (stage, rank)
                # Against our own clock: each page is at most a report old, and a report may be late on a busy machine.
                assert up == pytest.approx(after.at - before.at, abs=2.5 * REPORT * SLOW), (stage, rank)
                assert all(v >= 0 for v in spent.values())
                assert spent["busy"] > 0, spent
                if ranks > 1:
                    assert spent["communication"] > 0, spent
                    assert spent["bubble"] == 0, spent  # there is one stage
                if stages > 1:
                    assert spent["bubble"] > 0, spent
        idle = page(s)
        time.sleep(REPORT * 2.5)
        for stage in range(stages):
            for rank in range(ranks):
                spent, up = spent_between(idle, page(s), stage, rank)
                assert spent["wait"] > 0.5 * up > 0, spent  # up to a report before the end of the load


@pytest.mark.parametrize("shape,stopped,kind", [("1x2", 1, "communication"), ("2x1", 0, "bubble"), ("2x1", 1, "bubble")])
def test_a_rank_that_stops_is_seen_in_the_time_of_the_others(shape, stopped, kind):
    """the negative control: whoever stands still, the others wait for it, and not with nothing to do"""
    with serve(STORIES, *layout(shape), "--set", "control.silence_seconds=3600") as s:
        agents = s.agents()
        assert len(agents) == 2
        hold = 4 * SLOW

        def freeze():
            os.kill(agents[stopped], signal.SIGSTOP)
            time.sleep(hold)
            freeze.page = page(s)
            os.kill(agents[stopped], signal.SIGCONT)

        before, after = under_load(s, REPORT * 2, freeze)
        other = (0, 1 - stopped) if shape == "1x2" else (1 - stopped, 0)
        spent, up = spent_between(before, freeze.page, *other)
        if (shape, stopped) == ("2x1", 1):  # the first stage runs out of steps: the master sends no more than may be under way
            assert spent["wait"] + spent["bubble"] + spent["communication"] > 0.6 * hold, spent
        else:
            assert spent[kind] > 0.6 * hold, spent
        assert spent["busy"] < 0.3 * up, spent
        frozen = freeze.page.spent(*((0, stopped) if shape == "1x2" else (stopped, 0)))[1]
        assert frozen < after.spent(*((0, stopped) if shape == "1x2" else (stopped, 0)))[1]
        assert s.complete(**{**STORY, "max_tokens": 5})
