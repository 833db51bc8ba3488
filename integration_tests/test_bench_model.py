"""pangea bench model: the agents of a deployment, measured without doors and sockets. What is tested is that it runs and adds up."""

import json
import pathlib
import subprocess
import sys

import pytest
from harness import PANGEA, ROOT, STORIES, layout, run, settings

FAKE_CUDA = pathlib.Path(PANGEA).resolve().parent / "fake_cuda"


def measured(*args, model=STORIES):
    done = run("bench", "model", model, *args, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def of(rows, what):
    return [row for row in rows if row["what"] == what]


@pytest.mark.parametrize("shape", ["1x1", "2x2"])
@pytest.mark.parametrize("device", ["cpu", "cuda_on_cpu"])
def test_what_it_measures(device, shape):
    rows = measured(*layout(shape), "--device", device, "--batch", "1,3", "--steps", "4", "--prompt", "20", "--context", "30")
    [read], [prefill], decode = of(rows, "read"), of(rows, "prefill"), of(rows, "decode")
    assert read["bytes_per_second"] > 1e8
    assert prefill["tokens"] == 20
    matrix = of(rows, "matrix")
    assert len(matrix) == (device == "cpu")
    if matrix:
        assert 0 < prefill["of_matrix_rate"] < 1
    assert [d["batch"] for d in decode] == [1, 3]
    for row in decode:
        assert row["tokens_per_second"] == pytest.approx(row["batch"] / row["step_seconds"])
        assert row["of_read_bandwidth"] == pytest.approx(row["bytes_per_second"] / read["bytes_per_second"])
        assert (row["kernels_a_step"] > 50) == (device == "cuda_on_cpu")
    # A row has as many multiply-adds whoever shares its step; a prompt's rows are rows.
    work = [row["flops_per_second"] * row["step_seconds"] / row["batch"] for row in decode]
    assert work[0] == pytest.approx(work[1])
    assert prefill["flops_per_second"] * prefill["seconds"] / 20 == pytest.approx(work[0])


# A model's shape without its weights, which are made up where they lie; on a GPU, with products of a library, by a driver that
# stands in for the real one.
@pytest.mark.parametrize("device", ["cpu", "cuda_on_cpu", "cuda"])
def test_made_up_weights(device, tmp_path, monkeypatch):
    if device == "cuda" and not (FAKE_CUDA / "libcuda.so.1").exists():
        pytest.skip("no fake driver beside this executable")
    subprocess.run([sys.executable, ROOT / "tools/make_shape.py", "tiny", tmp_path / "tiny"], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(FAKE_CUDA))
    monkeypatch.setenv("PANGEA_FAKE_GPU_MEMORY", str(96 << 20))
    args = ["--device", device, "--made-weights", "--batch", "1,2", "--steps", "3", "--prompt", "9", "--context", "200"]
    if device == "cuda":
        args += settings(kernels__exact="false", cache__memory="4MiB")
    rows = measured(*args, model=tmp_path / "tiny")
    assert [row["batch"] for row in of(rows, "decode")] == [1, 2]
    assert all(row["tokens_per_second"] > 0 for row in of(rows, "decode"))
    assert len(of(rows, "matrix")) == (device != "cuda_on_cpu")


# Which algorithm was the fastest is kept in a file: a library that names none any more then does.
def test_choices_among_a_librarys_products_are_kept(tmp_path, monkeypatch):
    if not (FAKE_CUDA / "libcuda.so.1").exists():
        pytest.skip("no fake driver beside this executable")
    subprocess.run([sys.executable, ROOT / "tools/make_shape.py", "tiny", tmp_path / "tiny"], check=True)
    for name, value in {"LD_LIBRARY_PATH": FAKE_CUDA, "PANGEA_FAKE_GPU_MEMORY": 96 << 20, "HOME": tmp_path / "home"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "home").mkdir()
    args = ["--device", "cuda", "--made-weights", "--batch", "9", "--steps", "4", "--prompt", "9", "--context", "20"]
    args += settings(kernels__exact="false", cache__memory="4MiB")
    measured(*args, model=tmp_path / "tiny")
    (kept,) = (tmp_path / "home/.cache/pangea").iterdir()
    first, *choices = kept.read_text().splitlines()
    assert "a fake GPU, driver 13000, cuBLASLt 130100" in first and len(choices) > 4
    monkeypatch.setenv("PANGEA_FAKE_NO_ALGORITHMS", "1")
    measured(*args, model=tmp_path / "tiny")
    kept.write_text(first.replace("13000", "12000") + "\n" + "\n".join(choices))
    done = run("bench", "model", tmp_path / "tiny", *args)
    assert done.returncode != 0 and "cuBLASLt has no way to compute" in done.stderr


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
