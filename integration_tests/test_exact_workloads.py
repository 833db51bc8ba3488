"""Random workloads on random servers, each request byte for byte as it is alone on 1x1: a sample of the run that docs/exactness.md tells of.

exact_workloads.py says what a workload is; run by itself it does a thousand.
"""

import copy

import pytest
from exact_workloads import DOORS, Plan, run_model, same

SAMPLE = [
    [
        {
            0: dict(
                text="a b",
                finish="stop",
                ids=[1, 2],
                logprobs=dict(token_logprobs=["-0.5", "-1.25e-05"], top_logprobs=[{"a": "-0.5"}, {"b": "-1"}]),
            ),
            1: dict(text="", finish="length", ids=[], logprobs={}),
        },
        dict(prompt_tokens=3, completion_tokens=2),
        0,
    ]
]


def as_grpc(answer):
    """the same answer as gRPC's JSON mapping gives it"""
    answer = copy.deepcopy(answer)
    answer[0][0]["logprobs"] = dict(token_logprobs=[-0.5, -1.25e-05], top_logprobs=[{"a": -0.5}, {"b": -1.0}])
    return answer


CHANGES = {
    "text": lambda a: a[0][0].update(text="a  b"),
    "no text": lambda a: a[0][0].update(text=""),
    "finish": lambda a: a[0][1].update(finish="stop"),
    "an id": lambda a: a[0][0]["ids"].__setitem__(1, 3),
    "an id more": lambda a: a[0][1]["ids"].append(0),
    "a last digit": lambda a: a[0][0]["logprobs"]["token_logprobs"].__setitem__(1, "-1.26e-05"),
    "a best token": lambda a: a[0][0]["logprobs"]["top_logprobs"].__setitem__(0, {"c": "-0.5"}),
    "no log-probabilities": lambda a: a[0][0].update(logprobs={}),
    "a choice less": lambda a: a[0].pop(1),
    "usage": lambda a: a[1].update(completion_tokens=3),
}


@pytest.mark.parametrize("door", DOORS)
def test_the_comparison_sees_every_field(door):
    (base,) = SAMPLE
    got = as_grpc(base) if door.startswith("grpc") else copy.deepcopy(base)
    assert same(base, got, door)
    got = [*got[:2], 16]  # cached tokens are what may differ
    assert same(base, got, door)
    for name, change in CHANGES.items():
        other = copy.deepcopy(got)
        change(other)
        assert not same(base, other, door), name


def quiet(_):
    pass


def test_stories():
    report = run_model(Plan("stories", 60, 6))
    assert not report.differences, f"{len(report.differences)} differ, the first: {report.differences[0]}"
    assert report.requests > 200 and report.cancelled > 20 and all(report.met[d] > 20 for d in DOORS), report.text()
    # They really met what they are said to have met.
    assert report.chunked and report.cached_tokens and report.met["pangea_preemptions_total"], report.text()
    assert report.met["pangea_generated_tokens_total"] > report.met["pangea_steps_total"], f"no step was shared: {report.text()}"


def test_a_server_that_rounds_otherwise_is_found_out():
    """another type of cached keys and values: ids seldom differ, log-probabilities do"""
    report = run_model(Plan("stories", 20, 2, settings=dict(cache__type="int8")), quiet)
    assert {d["door"] for d in report.differences} == set(DOORS), report.text()


def test_smollm2(smollm2):
    report = run_model(Plan("smollm2", 6, 3))
    assert not report.differences, f"{len(report.differences)} differ, the first: {report.differences[0]}"
    assert report.requests > 10, report.text()


@pytest.mark.long
def test_eight_bit_activations_are_found_out(smollm2):
    report = run_model(Plan("smollm2", 3, 1, settings=dict(kernels__activations=8)), quiet)
    assert report.differences, report.text()
