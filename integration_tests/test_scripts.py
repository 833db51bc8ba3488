"""The scripts of tools/ explain themselves, and do nothing when they are called wrongly."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPTS = sorted(p.name for p in (ROOT / "tools").glob("*.sh") if p.name != "lib.sh")  # which is sourced, never run


def run(script, word):
    return subprocess.run([ROOT / "tools" / script, word], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
    done = run(script, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.strip() and not done.stdout.startswith("#")


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_option(script):
    done = run(script, "--nonsense")
    assert done.returncode == 64 and done.stdout == ""
    assert "--nonsense" in done.stderr and "--help" in done.stderr


PTXAS = """ptxas info    : Compiling entry function 'PangeaAdd' for 'sm_80'
ptxas info    : Function properties for PangeaAdd
    0 bytes stack frame, {spilled} bytes spill stores, 0 bytes spill loads
ptxas info    : Used {registers} registers, used 0 barriers
"""


@pytest.mark.parametrize(
    "compiler, values, said",
    [
        ("1.2", dict(spilled=0, registers=999), ""),  # another compiler's numbers are its own
        ("1.2", dict(spilled=8, registers=10), "Add on sm_80 spills 8 bytes"),
        ("13.0.88", dict(spilled=0, registers=999), "is now: Add              sm_80    999"),
    ],
    ids=["another compiler", "a spill", "another number"],
)
def test_what_kernels_take_is_compared(tmp_path, compiler, values, said):
    (tmp_path / "x.ptxas").write_text(PTXAS.format(**values))
    done = subprocess.run(
        [sys.executable, ROOT / "tools/cuda_resources.py", tmp_path, "--compiler", compiler], capture_output=True, text=True
    )
    assert done.returncode == bool(said) and said in done.stdout, done.stdout
