"""The CUDA agent without a GPU: its step loop, its words and the text of its kernels, on the CPU (agents.device: cuda_on_cpu).

Its kernels add in the order that docs/exactness.md lays down, so what is asked of it is the CPU agent's own bytes, and where others computed
the answer, theirs.
"""

import pathlib
import re
import shutil

import chaos
import harms
import pytest
from exact_workloads import Grpc, Plan, run_model
from harness import PANGEA, STORIES, free_port, layout, run, serve, settings
from test_golden import ARCHITECTURES, CASES, FILES, GGUF, agrees, answers, ask, expected
from test_recovery import ANY_NUMBER
from test_remote_agents import agents, deployment

ON_CPU = settings(agents__device="cuda_on_cpu")
BY_THEMSELVES = "and from device to device"


@pytest.mark.parametrize("shape", ["1x1", "2x1", "1x2", "2x2"])
def test_stories_to_the_letter_over_both_doors(shape, expected_story):
    ask = dict(prompt=[1], max_tokens=200, temperature=0, ignore_eos=True)
    with serve(STORIES, *layout(shape), *ON_CPU) as s:
        for stream in (False, True):
            (choice,), usage = s.complete(stream=stream, **ask)
            assert choice["text"].strip().startswith(expected_story)
            assert usage["completion_tokens"] == len(choice["ids"]) == 200
        choices, *_ = Grpc(s, s.model()).ask("completion", ask, True)
        assert choices[0]["text"].strip().startswith(expected_story)
        assert (BY_THEMSELVES in s.log) == (shape != "1x1")


def test_hosts_exchange_where_devices_cannot(expected_story):
    """over Gloo, as between hosts"""
    with serve(STORIES, *layout("2x2"), *ON_CPU, *settings(parallel__transport="gloo")) as s:
        (choice,), _ = s.complete(prompt=[1], max_tokens=60, temperature=0, ignore_eos=True)
        assert expected_story.startswith(choice["text"].strip()) and len(choice["ids"]) == 60
        assert BY_THEMSELVES not in s.log


@pytest.mark.parametrize(
    "model, shape",
    [(CASES / a, "2x2") for a in ARCHITECTURES] + [(GGUF / f"{f}.gguf", "1x1") for f in FILES],
    ids=lambda x: getattr(x, "stem", x),
)
def test_golden_checkpoints(model, shape):
    """within tolerance of the reference, and the very numbers of the CPU agent on 1x1"""
    agrees(model, shape, agents__device="cuda_on_cpu")


def test_random_workloads_give_the_bytes_of_the_cpu():
    report = run_model(Plan("stories", 10, 2, settings=dict(agents__device="cuda_on_cpu")))
    assert not report.differences, f"{len(report.differences)} differ, the first: {report.differences[0]}"
    assert report.requests > 30 and report.chunked and report.cancelled, report.text()


def test_killed_agents_lose_and_change_nothing():
    with serve(STORIES, *layout("2x2"), *ON_CPU, *ANY_NUMBER) as s:
        r = chaos.run(s, faults=4, tokens=40, harm=harms.Signals(s, double=0.3), rest=(0.3, 0.6))
        assert r["faults"] == 4, s.log[-3000:]
        assert not r["lost"] and not r["different"] and not r["unnamed"] and r["requests"] > 0, r


# ---- agents.device: cuda, with a driver that has no GPU (kernels/cuda/fake_driver.cc) where the system finds libcuda.so.1

FAKE = pathlib.Path(PANGEA).resolve().parent / "fake_cuda"
ON_GPU = settings(agents__device="cuda")
ANYWHERE = settings(rest__listen="127.0.0.1:0", grpc__listen="127.0.0.1:0")


@pytest.fixture
def fake_driver(monkeypatch):
    if not (FAKE / "libcuda.so.1").exists():
        pytest.skip("no fake driver beside this executable")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(FAKE))
    return monkeypatch


def test_gpus_are_taken_in_order_and_by_name(fake_driver, expected_story):
    ask = dict(prompt=[1], max_tokens=60, temperature=0, ignore_eos=True)
    with serve(STORIES, *layout("2x2"), *ON_GPU, *settings(cache__memory="4MiB")) as s:
        (choice,), _ = s.complete(**ask)
        assert expected_story.startswith(choice["text"].strip()) and len(choice["ids"]) == 60
        assert all(f"on GPU {i}, a fake GPU" in s.log for i in range(4)), s.log
        assert BY_THEMSELVES in s.log and "through the host's memory" not in s.log
    fake_driver.setenv("PANGEA_FAKE_GPU_ALONE", "1")  # none reaches another's memory
    with serve(STORIES, *layout("2x2"), *ON_GPU, *settings(cache__memory="4MiB")) as s:
        assert s.complete(**ask)[0] == [choice]
        assert "and from device to device through the host's memory" in s.log
    fake_driver.delenv("PANGEA_FAKE_GPU_ALONE")
    with serve(STORIES, *layout("1x1"), *settings(cache__memory="4MiB", agents__device="cuda:2")) as s:
        assert s.complete(**ask)[0] == [choice]
        assert "on GPU 2, a fake GPU" in s.log and "GPU 0" not in s.log


def test_nccl_between_gpus(fake_driver, expected_story):
    """with a library that stands for it (kernels/cuda/fake_nccl.cc): the same bytes, also when agents are killed meanwhile"""
    ask = dict(prompt=[1], max_tokens=60, temperature=0, ignore_eos=True)
    sampled = dict(prompt=[1], max_tokens=60, seed=5, top_p=0.9, logprobs=2, ignore_eos=True)
    with serve(STORIES, *layout("1x1"), *settings(agents__device="cuda_on_cpu")) as s:
        want = s.complete(**sampled)[0]
    by_nccl = settings(cache__memory="4MiB", parallel__transport="nccl")
    for shape in ("1x3", "2x2"):
        with serve(STORIES, *layout(shape), *ON_GPU, *by_nccl, *ANY_NUMBER) as s:
            # Of one token first: its id, which no step names, is waited for by nobody.
            assert s.complete(**ask | dict(max_tokens=1))[1]["completion_tokens"] == 1
            (choice,), _ = s.complete(**ask)
            assert expected_story.startswith(choice["text"].strip()) and len(choice["ids"]) == 60
            assert s.complete(**sampled)[0] == want
            if shape == "1x3":
                continue
            r = chaos.run(s, faults=2, tokens=40, harm=harms.Signals(s, double=0.3), rest=(0.3, 0.6))
            assert r["faults"] == 2 and r["requests"] > 0, s.log[-3000:]
            assert not r["lost"] and not r["different"] and not r["unnamed"], r
            assert s.complete(**sampled)[0] == want
            assert len(set(re.findall(r"epoch (\d+): group of .* formed over nccl", s.log))) > 1, s.log[-3000:]


def test_gpus_of_several_hosts_exchange_by_nccl(fake_driver, expected_story, tmp_path):
    """what parallel.transport: auto means there"""
    port = free_port()
    entry = dict(launch="remote", host="127.0.0.1")
    entries = [entry | dict(device="cuda:0"), entry | dict(device="cuda:1")]
    path, token = deployment(tmp_path, entries, 2, 1, f"127.0.0.1:{port}", cache=dict(memory="4MiB"), transport="auto")
    commands = [([], ["--master", f"127.0.0.1:{port}", "--token-file", token])] * 2
    with open(tmp_path / "agents.log", "w") as log, agents(commands, log) as (begin, _), serve(path, on_started=begin) as s:
        (choice,), _ = s.complete(prompt=[1], max_tokens=60, temperature=0, ignore_eos=True)
        assert expected_story.startswith(choice["text"].strip()) and len(choice["ids"]) == 60
    assert "formed over nccl" in (tmp_path / "agents.log").read_text()


@pytest.mark.parametrize(
    "environment, options, said",
    [
        (dict(LD_LIBRARY_PATH="/nowhere"), {}, "no CUDA driver: libcuda.so.1 was looked for"),
        (dict(PANGEA_FAKE_GPUS="1"), {}, "GPU 1 is not there: the driver has 1"),
        (dict(PANGEA_FAKE_GPUS="2"), dict(agents__device="cuda:7"), "GPU 7 is not there: the driver has 2"),
        (dict(PANGEA_FAKE_GPU_MEMORY=str(64 << 20)), dict(cache__memory="100MiB"), "a fake GPU, less 8.0 MiB for its driver): "),
        (dict(LD_LIBRARY_PATH="$ALONE"), dict(kernels__exact="false"), "no cuBLASLt: libcublasLt.so.13 and .12 were looked for"),
        (dict(LD_LIBRARY_PATH="$ALONE"), dict(parallel__transport="nccl"), "no NCCL: libnccl.so.2 was looked for"),
    ],
    ids=["no driver", "too few", "not that one", "no room", "no library", "no nccl"],
)
def test_what_cannot_be_had_is_named(fake_driver, environment, options, said, tmp_path):
    shutil.copy(FAKE / "libcuda.so.1", tmp_path)  # and no library of products beside it
    for name, value in environment.items():
        fake_driver.setenv(name, value.replace("$ALONE", str(tmp_path)))
    done = run(
        "serve",
        STORIES,
        *layout("1x2"),
        *settings(**{"agents__device": "cuda", **options}),
        *ANYWHERE,
    )
    assert done.returncode != 0 and said in done.stderr, done.stderr[-2000:]


def test_gpus_may_be_named_one_by_one(tmp_path):
    def said(*devices):
        path = tmp_path / "d.yaml"
        path.write_text(f"model: {STORIES}\nparallel: {{tensor: 2}}\nagents: [{', '.join('{device: ' + d + '}' for d in devices)}]\n")
        done = run("check", path)
        return done.returncode, done.stderr

    assert said('"cuda:1"', '"cuda:0"')[0] == 0 and said("cuda", '"cuda:0"')[0] == 0
    code, text = said('"cuda:1"', '"cuda:1"')
    assert code == 78 and "agents[1].device: another agent of this host has that GPU" in text
    code, text = said("cuda", "cpu")
    assert code == 78 and "all agents must have the same kind of device" in text


def test_a_gpu_deployment_is_planned_without_one():
    done = run("check", STORIES, *layout("2x2"), *ON_GPU)
    assert done.returncode == 0 and "4 agents" in done.stdout, done.stderr


def test_the_nearest_cache_that_fits_does(fake_driver):
    fake_driver.setenv("PANGEA_FAKE_GPU_MEMORY", str(64 << 20))
    done = run("serve", STORIES, *ON_GPU, *settings(cache__memory="100MiB"), *ANYWHERE)
    fits = re.search(r"cache.memory: (\d+MiB) fits", done.stderr)
    assert fits, done.stderr[-2000:]
    with serve(STORIES, *ON_GPU, *settings(cache__memory=fits[1])) as s:
        assert s.complete(prompt=[1], max_tokens=4)[1]["completion_tokens"] == 4


def test_the_fastest_products_of_a_library(fake_driver):
    """kernels.exact: false, with a library that computes as the plain loop which stands for it on the CPU"""
    model = GGUF / "llama3-bf16.gguf"
    both = []
    for device in ("cuda", "cuda_on_cpu"):
        with serve(model, *settings(agents__device=device, kernels__exact="false", cache__memory="4MiB")) as s:
            both.append([ask(s, c) for c in expected(model)["cases"]])
    assert both[0] == both[1]
    assert both[0] != answers(str(model)), "activations of 16 bits, so other numbers than the exact ones"
