"""pangea bench model: the agents of a deployment, measured without doors and sockets. What is tested is that it runs and adds up."""

import json

import pytest
from harness import STORIES, layout, run, settings


def measured(*args):
    done = run("bench", "model", STORIES, *args, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("shape", ["1x1", "2x2"])
@pytest.mark.parametrize("device", ["cpu", "cuda_on_cpu"])
def test_what_it_measures(device, shape):
    read, prefill, *decode = measured(
        *layout(shape), "--device", device, "--batch", "1,3", "--steps", "4", "--prompt", "20", "--context", "30"
    )
    assert read["what"] == "read" and read["bytes_per_second"] > 1e8
    assert prefill["what"] == "prefill" and prefill["tokens"] == 20
    assert [d["batch"] for d in decode] == [1, 3]
    for row in decode:
        assert row["tokens_per_second"] == pytest.approx(row["batch"] / row["step_seconds"])
        assert row["of_read_bandwidth"] == pytest.approx(row["bytes_per_second"] / read["bytes_per_second"])
        assert (row["kernels_a_step"] > 50) == (device == "cuda_on_cpu")
    # A row has as many multiply-adds whoever shares its step; a prompt's rows are rows.
    work = [row["flops_per_second"] * row["step_seconds"] / row["batch"] for row in decode]
    assert work[0] == pytest.approx(work[1])
    assert prefill["flops_per_second"] * prefill["seconds"] / 20 == pytest.approx(work[0])


def test_levels_of_fusion():
    _, *rows = measured("--fusion", "all", "--batch", "1", "--steps", "2", "--context", "8")
    levels = [r for r in rows if r["what"] == "fusion"]
    assert [r["level"] for r in levels] == [0, 1, 2, 3] and levels[0]["gain"] == 1


@pytest.mark.parametrize(
    "args, code, said",
    [
        (["--batch", "0"], 64, "numbers from 1 to 64 (schedule.max_sequences and max_batch_tokens)"),
        (["--batch", "1,x"], 64, "numbers from 1 to 64"),
        (["--batch", "65"], 64, "numbers from 1 to 64"),
        (["--batch", "33", *settings(schedule__max_batch_tokens=32)], 64, "numbers from 1 to 32"),
        (["--context", "479"], 78, "come to 513 positions; the deployment's context is 512"),
        (["--context", "90", *settings(context=100)], 78, "the deployment's context is 100"),
        (["--batch", "8", "--context", "300", *settings(cache__memory="700KiB")], 1, "does not fit"),
        (["--tensor", "99"], 78, "parallel.tensor"),
    ],
)
def test_what_it_refuses(args, code, said):
    done = run("bench", "model", STORIES, *args)
    assert done.returncode == code and said in done.stderr, done.stderr
