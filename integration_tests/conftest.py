import json
import os
import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import harness  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "smoke: the few tests that also run under the sanitizers")
    config.addinivalue_line("markers", "long: left out by tools/test.sh --quick")


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_a_terminal():
    """what started the tests may ignore signals (nohup, a shell's `&`), and programs would inherit that"""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def no_choices_of_the_user(tmp_path_factory):
    """what agents keep below ~/.cache (docs/cuda.md) is neither read nor written"""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def executable():
    if not pathlib.Path(harness.PANGEA).exists():
        pytest.exit(f"{harness.PANGEA} is not built; tools/build.sh", returncode=2)


@pytest.fixture(scope="module")
def stories():
    """stories260K on two stages of two ranks, with a chat template, for the tests of one file"""
    args = [*harness.layout("2x2"), "--set", f"chat.template_file={harness.CHAT_TEMPLATE}"]
    with harness.serve(harness.STORIES, *args) as server:
        yield server


@pytest.fixture(scope="session")
def expected_story():
    return (harness.DATA / "stories260k/EXPECTED.txt").read_text().split("\n", 1)[1].rstrip("\n")


@pytest.fixture(scope="session")
def smollm2():
    if not harness.SMOLLM2.exists():
        pytest.skip(f"{harness.SMOLLM2.relative_to(harness.ROOT)} is not there; tools/get_model.sh")
    return harness.SMOLLM2


@pytest.fixture(scope="session")
def smollm2_cases():
    return json.loads((harness.DATA / "smollm2/EXPECTED.json").read_text())["cases"]
