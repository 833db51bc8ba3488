#!/usr/bin/env python3
"""The exactness contract on random workloads: whatever a request meets, its bytes are those that it gets alone, on one agent.

    build/venv/bin/python integration_tests/exact_workloads.py --stories 1000 --smollm2 50 [--seed N]

A workload is a crowd of random requests that share a server for a moment with neighbours that are cancelled half way. The servers differ
in stages, ranks (uneven ones too), threads, transport, step size, cache size (so small that sequences are preempted), prefix cache and
whatever other switch exists. Each request goes through a random door (REST or gRPC, streamed or not) and is compared with the answer that
the same request got alone from a 1x1 server over REST: ids, text, log-probabilities to the last digit, finish_reason, and usage but for
cached_tokens. Everything follows from the seed; a difference is printed with all that is needed to ask again.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import http.client
import json
import random
import re
import sys
import threading
import time

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from harness import CHAT_TEMPLATE, DATA, JSON_HEADERS, SLOW, SMOLLM2, STORIES, layout, run, serve, settings

DOORS = ("rest", "rest stream", "grpc", "grpc stream")
STEMS = [
    "Once upon a time there was a little girl named Lily She loved to play outside in the park One day she saw a big red ball",
    "Tom and his dog went to the beach The sun was hot and the sand was warm They wanted to swim in the sea but the water was cold",
    "The old man lived alone in a small house at the end of the road Every morning he fed the birds and sang a song for them",
]
WORDS = sorted({w for stem in STEMS for w in stem.split()})


# --- Requests


def sampling(rng):
    draw = rng.random
    return rng.choice(
        [
            lambda: dict(temperature=0),
            lambda: dict(temperature=0, repetition_penalty=1.3),
            lambda: dict(temperature=0.8, top_p=0.9),
            lambda: dict(temperature=round(0.2 + 1.6 * draw(), 3), top_k=rng.choice([1, 2, 40, 200]), min_p=rng.choice([0, 0.02])),
            lambda: dict(
                temperature=1.0,
                min_p=round(0.1 * draw(), 3),
                presence_penalty=round(2 * draw(), 2),
                frequency_penalty=round(2 * draw() - 1, 2),
            ),
            lambda: dict(
                temperature=1.2, logit_bias={str(rng.randrange(3, 500)): rng.choice([-100, -2.5, 3, 8]) for _ in range(rng.choice([1, 20]))}
            ),
        ]
    )()


def random_request(rng, size):
    """-> (completion or chat, body without the model). size: about how many words a long prompt has"""
    stem = " ".join((rng.choice(STEMS).split() * 8)[: rng.choice([0, 8, size // 2, size])])
    words = lambda: " ".join(filter(None, [stem, " ".join(rng.choice(WORDS) for _ in range(rng.choice([1, 3, 12])))]))
    body = dict(seed=rng.randrange(1 << 31), max_tokens=rng.choice([1, 5, 17, 40, 2 * size]), return_token_ids=True, **sampling(rng))
    if rng.random() < 0.3:
        body["n"] = rng.choice([2, 3])
    if rng.random() < 0.3:
        body["stop"] = rng.sample(["the", ".", " a", "and ", "Lily", "e w", "\n"], rng.choice([1, 2]))
    if rng.random() < 0.4:
        body["ignore_eos"] = True
    if rng.random() < 0.15:
        body["min_tokens"] = min(4, body["max_tokens"])
    if rng.random() < 0.1:
        body["stop_token_ids"] = [rng.randrange(3, 500) for _ in range(3)]
    if rng.random() < 0.1:
        body["skip_special_tokens"] = False
    if rng.random() < 0.5:
        body["priority"] = rng.randrange(-2, 3)
    if rng.random() < 0.2:
        if rng.random() < 0.5:
            body |= dict(logprobs=True, top_logprobs=rng.choice([0, 2, 20]))
        history = [dict(role=r, content=" ".join(rng.sample(WORDS, 4))) for r in ("user", "assistant")[: rng.choice([0, 2])]]
        return "chat", dict(messages=[*history, dict(role="user", content=words())], **body)
    prompt = rng.choice(
        [words, words, lambda: [rng.randrange(3, 500) for _ in range(rng.choice([1, 7, 30]))], lambda: [words(), words()]]
    )()
    if rng.random() < 0.5:
        body["logprobs"] = rng.choice([0, 1, 5])
    if rng.random() < 0.2:
        body["echo"] = True
    return "completion", dict(prompt=prompt, **body)


# --- Doors. Each gives {choice: {text, finish, ids, logprobs}} and the usage; REST's numbers stay the texts that were sent.


def add_logprobs(kind, into, found):
    if found and kind == "chat":
        into.setdefault("content", []).extend(found.get("content") or [])
    for key, value in found.items() if found and kind != "chat" else ():
        into.setdefault(key, []).extend(value or [])


def collect(kind, documents):
    """documents: one answer, or the chunks of a stream"""
    choices, usage = {}, None
    for document in documents:
        assert "error" not in document, document
        usage = document.get("usage") or usage
        for c in document.get("choices", []):
            at = choices.setdefault(int(c.get("index", 0)), dict(text="", finish=None, ids=[], logprobs={}))
            at["text"] += c.get("text", "") if kind == "completion" else (c.get("delta") or c.get("message") or {}).get("content") or ""
            at["ids"] += map(int, c.get("token_ids") or [])
            add_logprobs(kind, at["logprobs"], c.get("logprobs"))
            at["finish"] = c.get("finish_reason") or at["finish"]
    numbers = {k: int(v) for k, v in usage.items() if not isinstance(v, dict)}
    return choices, numbers, int(usage.get("prompt_tokens_details", {}).get("cached_tokens", 0))


class Rest:
    def __init__(self, server, model):
        self.server, self.model = server, model

    def open(self, kind, body, stream):
        path = "/v1/completions" if kind == "completion" else "/v1/chat/completions"
        more = dict(stream=True, stream_options=dict(include_usage=True)) if stream else {}
        c = http.client.HTTPConnection(self.server.host, self.server.port, timeout=300 * SLOW)
        c.request("POST", path, json.dumps(dict(model=self.model, **body, **more)).encode(), JSON_HEADERS)
        return c, c.getresponse()

    def ask(self, kind, body, stream):
        c, r = self.open(kind, body, stream)
        loads = lambda text: json.loads(text, parse_float=str)
        raw = r.read()
        c.close()
        assert r.status == 200, (r.status, raw)
        if not stream:
            return collect(kind, [loads(raw)])
        events = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ")]
        assert events.pop() == b"[DONE]"
        return collect(kind, map(loads, events))

    def abandon(self, kind, body, events):
        """a neighbour whose client goes after so many events"""
        c, r = self.open(kind, body, True)
        for _ in zip(range(events), r):
            pass
        # Closed without reading on: the server sees a reset.
        r.close()
        c.close()


class Grpc:
    def __init__(self, server, model):
        self.model, self.channel = model, grpc.insecure_channel(server.grpc)
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        self.stubs = {}
        for method in pool.FindServiceByName("pangea.v1.Generation").methods:
            request, answer = (message_factory.GetMessageClass(d) for d in (method.input_type, method.output_type))
            kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
            self.stubs[method.name] = (
                request,
                kind(
                    f"/pangea.v1.Generation/{method.name}",
                    request_serializer=request.SerializeToString,
                    response_deserializer=answer.FromString,
                ),
            )

    def ask(self, kind, body, stream):
        request, call = self.stubs[("Completion" if kind == "completion" else "ChatCompletion") + ("Stream" if stream else "")]
        more = dict(stream_options=dict(include_usage=True)) if stream else {}
        answer = call(json_format.ParseDict(dict(model=self.model, **body, **more), request()), timeout=300 * SLOW)
        return collect(kind, [json_format.MessageToDict(d, preserving_proto_field_name=True) for d in (answer if stream else [answer])])

    def close(self):
        self.channel.close()


def as_numbers(value):
    """JSON with every number as the double that it stands for: gRPC sends doubles, and leaves out what is zero or empty"""
    if isinstance(value, dict):
        return {k: as_numbers(v) for k, v in value.items() if v not in (None, [], "", 0, "0.0", 0.0)}
    if isinstance(value, list):
        return [as_numbers(v) for v in value]
    if isinstance(value, str) and re.fullmatch(r"-?\d+\.?\d*(e[-+]?\d+)?", value):
        return float(value)
    return float(value) if isinstance(value, int) else value


def same(base, got, door):
    """byte for byte; over gRPC, whose numbers are doubles, double for double"""
    if door.startswith("grpc"):
        base, got = ([{str(k): v for k, v in a[0].items()}, a[1]] for a in (base, got))
        return as_numbers(base) == as_numbers(got)
    return base[:2] == got[:2]


# --- Servers


@dataclasses.dataclass
class Shape:
    stages_x_ranks: str
    options: dict

    def args(self):
        return [*layout(self.stages_x_ranks), *settings(**self.options)]


def key_exists(**key):
    return run("check", STORIES, *settings(**key)).returncode == 0


def cache_of(target, plan, tokens):
    """bytes an agent that hold so many tokens, as the plan counts them"""
    page = run("check", target, *layout(plan), *settings(cache__memory=16 << 20)).stdout
    return max(64 << 10, (16 << 20) * (tokens + 32) // int(re.search(r"= (\d+) tokens", page)[1]))


def shapes(rng, which, target, plans, count):
    """count servers over the plans, each with switches of its own"""
    options = options_of(LONGEST[which])
    drawn = [Shape(plans[i % len(plans)], {k: rng.choice(v) for k, v in options.items()}) for i in range(count)]
    for shape in drawn:
        shape.options["cache__memory"] = cache_of(target, shape.stages_x_ranks, shape.options["cache__memory"])
    return drawn


def options_of(longest):
    # The small caches hold any one request, and not a crowd.
    options = dict(
        cache__memory=[20000, longest, longest, longest * 3 // 2],
        cache__prefix=["true", "false"],
        cache__block_tokens=[16, 16, 32],
        schedule__max_batch_tokens=[512, 64, 19, 5],
        schedule__max_sequences=[64, 64, 12, 3],
        agents__threads=[1, 1, 2],
        parallel__transport=["shm", "shm", "gloo"],
    )
    for key, value in dict(schedule__run_ahead="false", cache__swap="8MiB").items():
        if key_exists(**{key: value}):
            options[key] = [value, "true" if value == "false" else "0"]
    return options


def counters(server):
    """the server's own account of what its requests met"""
    status, page = server.call("GET", "/metrics")
    assert status == 200, "no /metrics"
    found = collections.Counter()
    for name, value in re.findall(r"^(pangea_\w+)(?:\{[^}]*\})? (\S+)$", page.decode(), re.M):
        found[name] += float(value)
    return found


@dataclasses.dataclass
class Report:
    workloads: int = 0
    requests: int = 0
    cancelled: int = 0
    choices: int = 0
    cached_tokens: int = 0
    chunked: int = 0  # requests whose prompts cannot fit one step
    met: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    differences: list = dataclasses.field(default_factory=list)
    seconds: float = 0

    def count(self, got, door, shape):
        choices, usage, cached = got
        self.requests += 1
        self.choices += len(choices)
        self.cached_tokens += cached
        self.chunked += usage["prompt_tokens"] > 2 * shape.options["schedule__max_batch_tokens"]
        self.met[door] += 1

    def text(self):
        doors = ", ".join(f"{self.met[d]} by {d}" for d in DOORS)
        events = ", ".join(f"{v:.0f} {k.removeprefix('pangea_')}" for k, v in sorted(self.met.items()) if k.startswith("pangea_"))
        return (
            f"{self.workloads} workloads, {self.requests} requests ({self.choices} choices; {doors}), {self.cancelled} cancelled neighbours, "
            f"{self.chunked} prompts in chunks, {self.cached_tokens} cached tokens, {events}: {len(self.differences)} differences in {self.seconds:.0f} s"
        )


class Alone:
    """one agent, one request at a time; every answer is asked for once"""

    def __init__(self, server, model):
        self.rest, self.lock, self.answers = Rest(server, model), threading.Lock(), {}

    def ask(self, kind, body):
        key = json.dumps([kind, body])
        with self.lock:
            if key not in self.answers:
                self.answers[key] = self.rest.ask(kind, body, False)
            return self.answers[key]


def workload(rng, size, crowd):
    """-> [(kind, body, door, delay)], [(kind, body, events, delay)]"""
    requests = [
        (*random_request(rng, size), rng.choice(DOORS), rng.choice([0, 0, 0.02 * rng.random()])) for _ in range(rng.randint(1, crowd))
    ]
    gone = []
    for _ in range(rng.choice([0, 0, 1, 3])):
        kind, body = random_request(rng, size)
        gone.append((kind, {**body, "max_tokens": 2 * size, "ignore_eos": True, "stop": []}, rng.randrange(0, 40), 0.02 * rng.random()))
    return requests, gone


@dataclasses.dataclass
class Model:
    target: object  # the checkpoint
    name: str  # as it is served
    alone: Alone
    size: int  # about how many words a long prompt has
    crowd: int  # requests at once at most


def run_shape(shape, rngs, model, report, say):
    """workloads, each drawn from (number, random generator), on a server of this shape"""
    with serve(model.target, *shape.args(), "--set", f"chat.template_file={CHAT_TEMPLATE}", timeout=120) as server:
        doors = dict(rest=Rest(server, model.name), grpc=Grpc(server, model.name))

        def ask(item):
            kind, body, door, delay = item
            time.sleep(delay)
            return doors[door.split()[0]].ask(kind, body, door.endswith("stream"))

        def leave(item):
            time.sleep(item[3])
            doors["rest"].abandon(*item[:3])

        with concurrent.futures.ThreadPoolExecutor(model.crowd + 4) as pool:
            for number, rng in rngs:
                requests, gone = workload(rng, model.size, model.crowd)
                leaving = [pool.submit(leave, g) for g in gone]
                asked = [pool.submit(ask, r) for r in requests]
                for (kind, body, door, _), future in zip(requests, asked):
                    got, base = future.result(), model.alone.ask(kind, body)
                    report.count(got, door, shape)
                    if not same(base, got, door):
                        report.differences.append(
                            dict(
                                workload=number,
                                shape=shape.stages_x_ranks,
                                options=shape.options,
                                door=door,
                                kind=kind,
                                body=body,
                                alone=base,
                                got=got,
                            )
                        )
                        say(f"DIFFERENT: {json.dumps(report.differences[-1])[:4000]}")
                for future in leaving:
                    future.result()
                report.workloads += 1
                report.cancelled += len(gone)
        doors["grpc"].close()
        report.met += collections.Counter({k: v for k, v in counters(server).items() if k in EVENTS})


EVENTS = (
    "pangea_preemptions_total",
    "pangea_preemptions_swapped_total",
    "pangea_steps_total",
    "pangea_generated_tokens_total",
    "pangea_prefix_cache_hits_total",
)
STORIES_PLANS = [
    "1x2",
    "2x1",
    "1x1",
    "5x1",
    "1x4",
    "3x2",
    "1x8",
    "2x2",
    "1x3",
    "4x1",
    "2x4",
    "1x5",
    "3x1",
    "5x2",
    "1x7",
    "2x3",
    "1x6",
    "2x8",
    "4x2",
    "5x4",
]
SMOLLM2_PLANS = ["1x2", "2x1", "1x3", "2x2", "3x1", "1x1"]
LONGEST = dict(stories=352, smollm2=192)  # tokens that a request may come to


@dataclasses.dataclass
class Plan:
    which: str  # stories, smollm2
    workloads: int
    shapes: int  # servers that they are spread over
    seed: int = 1
    # Settings of the servers beside their shapes. Those that change bytes are for the comparison's own test: it must say so.
    settings: dict = dataclasses.field(default_factory=dict)


def check_base(which, rest):
    """what stands for "alone on 1x1" is itself what others computed: see data/"""
    if which == "stories":
        expected = (DATA / "stories260k/EXPECTED.txt").read_text().split("\n", 1)[1].rstrip("\n")
        choices, *_ = rest.ask("completion", dict(prompt=[1], max_tokens=200, temperature=0, ignore_eos=True), False)
        assert choices[0]["text"].strip().startswith(expected)
        return
    for case in json.loads((DATA / "smollm2/EXPECTED.json").read_text())["cases"]:
        body = dict(prompt=case["prompt_ids"], max_tokens=len(case["greedy"]), temperature=0, return_token_ids=True)
        choices, *_ = rest.ask("completion", body, False)
        # An id may differ where the two best logits are within rounding of each other; what follows has another history.
        off = next((k for k, (x, y) in enumerate(zip(choices[0]["ids"], case["greedy"], strict=True)) if x != y), None)
        assert off is None or case["margin"][off] < 0.05, (case["question"], off)


def run_model(plan, say=print):
    """-> Report over random workloads, spread over servers of random shapes"""
    target, plans, size, crowd = (STORIES, STORIES_PLANS, 40, 12) if plan.which == "stories" else (SMOLLM2, SMOLLM2_PLANS, 40, 8)
    begun, report = time.monotonic(), Report()
    drawn = shapes(random.Random(f"{plan.seed} {plan.which}"), plan.which, target, plans, min(plan.shapes, plan.workloads))
    with serve(target, *layout("1x1"), "--set", f"chat.template_file={CHAT_TEMPLATE}", timeout=120) as server:
        model = Model(target, server.model(), Alone(server, server.model()), size, crowd)
        check_base(plan.which, model.alone.rest)
        for i, shape in enumerate(drawn):
            shape.options |= plan.settings
            mine = [(n, random.Random(f"{plan.seed} {plan.which} {n}")) for n in range(i, plan.workloads, len(drawn))]
            run_shape(shape, mine, model, report, say)
            report.seconds = time.monotonic() - begun
            say(f"{plan.which} {i + 1}/{len(drawn)} {shape.stages_x_ranks} {shape.options}: so far {report.text()}")
    return report


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--stories", type=int, default=1000, help="workloads on stories260K")
    options.add_argument("--smollm2", type=int, default=50, help="workloads on SmolLM2-135M-Instruct")
    options.add_argument("--shapes", type=int, default=20, help="servers that they are spread over")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--device", default="cpu", help="of the servers' agents; what each answer is compared with is the CPU's")
    args = options.parse_args()
    say = lambda text: print(text, flush=True)
    wanted = [("stories", args.stories), ("smollm2", args.smollm2)]
    device = dict(agents__device=args.device)
    reports = {which: run_model(Plan(which, count, args.shapes, args.seed, device), say) for which, count in wanted if count}
    for which, report in reports.items():
        say(f"{which}, seed {args.seed}: {report.text()}")
    sys.exit(any(r.differences for r in reports.values()))


if __name__ == "__main__":
    main()
