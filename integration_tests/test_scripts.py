"""The scripts of tools/ explain themselves, and do nothing when they are called wrongly."""

import pathlib
import subprocess

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
