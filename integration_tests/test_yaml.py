"""Bad deployment files: exit code 78 before anything starts, with the line and the key in the message, all faults at once."""

import os
import re
import socket

import pytest
from harness import CONFIG_ERROR, ROOT, STORIES, layout, run, serve

GOOD = f"""model: {STORIES}
name: tiny
parallel: {{pipeline: 2, tensor: 2}}
agents: {{device: cpu, threads: 1}}
cache: {{memory: 16MiB, block_tokens: 16, type: f16}}
limits: {{queue: 64}}
rest: {{listen: "127.0.0.1:0"}}
grpc: {{listen: "127.0.0.1:0"}}
"""
# A level refers nine times to the one below: 9^9 nodes when expanded.
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))

# (name, text of the file, what the message must match)
ROWS = [
    ("unknown key", GOOD + "paralel: {pipeline: 1}\n", r":9:1: .*paralel.*parallel"),
    ("unknown nested key", GOOD.replace("threads: 1", "thread: 1"), r":4:\d+: .*agents\.thread\b.*threads"),
    ("no model", GOOD.split("\n", 1)[1], r"model"),
    ("model of wrong type", "model: [a, b]\n", r":1:\d+: .*model"),
    ("a word for a number", GOOD.replace("pipeline: 2", "pipeline: two"), r":3:\d+: .*parallel\.pipeline"),
    ("a fraction for a number", GOOD.replace("pipeline: 2", "pipeline: 1.5"), r":3:\d+: .*parallel\.pipeline"),
    ("a number over 2^63", GOOD.replace("queue: 64", "queue: 99999999999999999999"), r":6:\d+: .*limits\.queue"),
    ("a list for a map", GOOD.replace("{queue: 64}", "[queue, 64]"), r":6:\d+: .*limits"),
    ("a size without sense", GOOD.replace("16MiB", "16 parsecs"), r":5:\d+: .*cache\.memory"),
    ("a negative size", GOOD.replace("16MiB", "-16MiB"), r":5:\d+: .*cache\.memory"),
    ("an unknown cache type", GOOD.replace("type: f16", "type: f15"), r"cache\.type.*f16"),
    ("an unknown device", GOOD.replace("device: cpu", "device: tpu"), r"agents\.device.*cpu"),
    ("tensor 0", GOOD.replace("tensor: 2", "tensor: 0"), r"parallel\.tensor"),
    ("tensor -1", GOOD.replace("tensor: 2", "tensor: -1"), r"parallel\.tensor"),
    ("more ranks than the model allows", GOOD.replace("tensor: 2", "tensor: 9"), r"parallel\.tensor.*8"),
    ("more stages than layers", GOOD.replace("pipeline: 2", "pipeline: 6"), r"parallel\.pipeline.*5"),
    ("stages beyond sense", GOOD.replace("pipeline: 2", "pipeline: 2000000000"), r"parallel\.pipeline"),
    ("blocks of no tokens", GOOD.replace("block_tokens: 16", "block_tokens: 0"), r"cache\.block_tokens"),
    ("blocks of 17 tokens", GOOD.replace("block_tokens: 16", "block_tokens: 17"), r"cache\.block_tokens.*16"),
    ("no threads", GOOD.replace("threads: 1", "threads: 0"), r"agents\.threads"),
    ("a cache that holds nothing", GOOD.replace("16MiB", "1KiB"), r"cache\.memory"),
    ("port 70000", GOOD.replace("127.0.0.1:0", "127.0.0.1:70000", 1), r":7:\d+: rest\.listen.*65535"),
    ("no port", GOOD.replace("127.0.0.1:0", "127.0.0.1", 1), r"rest\.listen"),
    ("a port that is a word", GOOD.replace("127.0.0.1:0", "127.0.0.1:http", 1), r"rest\.listen"),
    ("one entry for four agents", GOOD.replace("{device: cpu, threads: 1}", "[{device: cpu}]"), r"agents.*4"),
    ("a variable that is not set", GOOD.replace("tiny", "${PANGEA_NOT_SET_ANYWHERE}"), r":2:\d+: .*PANGEA_NOT_SET_ANYWHERE"),
    ("a variable without an end", GOOD.replace("tiny", '"${HOME"'), r":2:\d+:"),
    ("a key twice", GOOD + "name: other\n", r":9:\d+: .*name"),
    ("a nested key twice", GOOD.replace("{queue: 64}", "{queue: 64, queue: 65}"), r":6:\d+: .*queue"),
    ("a tab", "model: x\nlimits:\n\tqueue: 64\n", r":3:\d+:"),
    ("an alias bomb", BOMB + GOOD, r"alias|anchor"),
    ("a cycle", "model: &x [*x]\n", r"alias|anchor|:1:\d+:"),
    ("a merge key", "base: &b {queue: 1}\nmodel: x\nlimits: {<<: *b}\n", r"alias|anchor|merge|base"),
    ("a Python object", GOOD + "log: !!python/object:os.system [x]\n", r":9:\d+:.*tag|tag.*:9:\d+:"),
    ("CVE-2017-11692", "!2", r":1:\d+:"),
    ("depth 100,000", "model: " + "[" * 100_000, r"deep|depth|nest"),
    ("depth 100,000 of blocks", "\n".join(" " * i + "a:" for i in range(2_000)), r"deep|depth|nest"),
    ("a NUL", GOOD + 'log: "a\x00b"\n', r":9:\d+:|NUL|control"),
    ("not UTF-8", None, r"UTF-8"),
    ("empty", "", r"model"),
    ("a scalar", "hello\n", r":1:\d+:|map"),
    ("a list", "- model: x\n", r":1:\d+:|map"),
    ("two documents", GOOD + "---\n" + GOOD, r":9:\d+:|:10:\d+:|document"),
    ("a broken flow", "model: {a: [}\n", r":1:\d+:"),
    ("a model that is not there", "model: /nonexistent/../etc/model\n", r"model.*/nonexistent"),
    ("a model that is no model", "model: /etc/passwd\n", r"model|/etc/passwd"),
]


def write(tmp_path, text):
    path = tmp_path / "deployment.yaml"
    path.write_bytes(b'model: "\xff\xfe"\n' if text is None else text.encode())
    return path


def refused(r, pattern):
    assert r.returncode == CONFIG_ERROR, (r.returncode, r.stdout[-500:], r.stderr[-1500:])
    assert re.search(pattern, r.stderr + r.stdout, re.I), r.stderr[-1500:] + r.stdout[-500:]


def test_the_good_file_is_good(tmp_path):
    r = run("check", write(tmp_path, GOOD))
    assert r.returncode == 0, r.stderr
    assert "token" in r.stdout and r.stdout.count("\n") > 4


@pytest.mark.parametrize("name,text,pattern", ROWS, ids=[r[0] for r in ROWS])
def test_row(tmp_path, name, text, pattern):
    path = write(tmp_path, text)
    refused(run("check", path, timeout=20), pattern)
    refused(run("serve", path, timeout=20), pattern)


def test_all_faults_at_once(tmp_path):
    bad = GOOD.replace("pipeline: 2", "pipeline: 6").replace("tensor: 2", "tensor: 9").replace("type: f16", "type: f15") + "wobble: 1\n"
    r = run("check", write(tmp_path, bad))
    for pattern in (r"wobble", r"cache\.type"):
        refused(r, pattern)
    two = GOOD.replace("pipeline: 2", "pipeline: 6").replace("tensor: 2", "tensor: 9")
    for pattern in (r"parallel\.pipeline", r"parallel\.tensor"):
        refused(run("check", write(tmp_path, two)), pattern)


def test_a_file_of_1_gb(tmp_path):
    path = write(tmp_path, GOOD)
    os.truncate(path, 1 << 30)
    refused(run("check", path, timeout=20), r"large|size|limit|bytes")


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        for door in ("rest", "grpc"):
            lines = [line if not line.startswith(door) else f'{door}: {{listen: "127.0.0.1:{port}"}}' for line in GOOD.splitlines()]
            r = run("serve", write(tmp_path, "\n".join(lines) + "\n"), timeout=30)
            assert r.returncode not in (0, None) and r.returncode > 0 and str(port) in r.stderr, r


def test_settings_override_the_file_and_are_checked(tmp_path):
    path = write(tmp_path, GOOD)
    assert run("check", path, "--set", "parallel.pipeline=5", "--set", "parallel.tensor=1").returncode == 0
    refused(run("check", path, "--set", "parallel.pipeline=6"), r"parallel\.pipeline")
    refused(run("check", path, "--set", "wobble=1"), r"wobble")
    refused(run("check", path, "--set", "limits.queu=1"), r"limits\.queu.*queue")


def test_environment_is_expanded(tmp_path):
    path = write(tmp_path, GOOD.replace("tiny", '"${PANGEA_TEST_NAME}"'))
    with serve(path, *layout("1x1"), env={"PANGEA_TEST_NAME": "from-the-environment"}) as s:
        assert s.model() == "from-the-environment"


def test_wrong_command_lines():
    assert run("serve").returncode not in (0, CONFIG_ERROR)
    assert run("nope").returncode != 0 and "serve" in run("nope").stderr
    assert run("serve", STORIES, "--wobble").returncode != 0
    for command in (["serve"], ["agent"], ["check"], ["chat"], ["generate"], ["bench"], ["bench", "serve"]):
        r = run(*command, "--help")
        assert r.returncode == 0 and len(r.stdout) > 100 and not r.stderr, command


@pytest.mark.parametrize("path", sorted(p.name for p in (ROOT / "configs").glob("*.yaml")))
def test_every_example_passes_the_check(path, tmp_path):
    model = next(
        (
            line.split("#")[0].split(":", 1)[1].strip()
            for line in (ROOT / "configs" / path).read_text().splitlines()
            if line.startswith("model:")
        ),
        "",
    )
    if not (ROOT / model).exists():
        pytest.skip(f"{model} is not there; tools/get_model.sh")
    text = (ROOT / "configs" / path).read_text()
    if "token_file:" in text:  # a secret of the operator's, and the model's place on another host
        (tmp_path / "token").write_text("a-secret-of-the-test\n")
        (tmp_path / "token").chmod(0o600)
        extra = ["--set", f"control.token_file={tmp_path / 'token'}"]
    else:
        extra = []
    r = run("check", ROOT / "configs" / path, *extra, cwd=ROOT)
    assert r.returncode == 0, r.stderr
