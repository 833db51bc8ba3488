"""What people type, and what they are told: help, version, exit codes, near names, addresses, and text that is not UTF-8."""

import os
import re
import shutil
import socket
import subprocess
import time

import pytest
from harness import CONFIG_ERROR, HERE, PANGEA, ROOT, STORIES, NotReady, free_port, run, serve, settings, start

USAGE = 64
SUBCOMMANDS = ["serve", "check", "simulate", "agent", "admin", "key", "chat", "generate", "bench", "version", "help"]


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_explains_itself(name):
    asked = [run(name, "--help"), run(name, "-h"), run("help", name)]
    for r in asked:
        assert r.returncode == 0 and not r.stderr and "usage" in r.stdout.lower(), (name, r)
        assert r.stdout == asked[0].stdout
    assert f"  {name} " in run("help").stdout


def test_help_of_the_whole():
    assert run("--help").stdout == run("-h").stdout == run("help").stdout == run("help", "help").stdout
    assert run().returncode == USAGE and "serve" in run().stderr and not run().stdout
    assert run("help", "bench", "serve").stdout == run("bench", "serve", "--help").stdout != run("help", "bench").stdout
    for command in ("serve", "check"):
        short, whole = run(command, "--help").stdout, run(command, "--help-all").stdout
        assert short.count("\n") <= 24 and max(map(len, short.splitlines())) <= 80
        assert whole.startswith(short) and "limits.queue_seconds" in whole and "limits.queue_seconds" not in short


def test_version():
    r = run("version")
    assert r.returncode == 0 and run("--version").stdout == r.stdout
    lines = dict(line.split(maxsplit=1) for line in r.stdout.splitlines())
    assert re.fullmatch(r"\d+\.\d+\.\d+", lines["pangea"]) and lines["ISA"].split()[0] in ("reference", "avx2", "avx512", "amx")
    assert "compiler" in lines["build"]
    commit = lines["commit"].removesuffix("-dirty")
    if (ROOT / ".git").exists():  # the build may be some commits old
        git = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "cat-file", "-t", commit]
        assert subprocess.run(git, capture_output=True, text=True, check=False).stdout == "commit\n", commit
    else:
        assert re.fullmatch("unknown|[0-9a-f]{7,}", commit)
    assert run("version", "7").returncode == USAGE


def test_the_commit_of_a_build_from_an_archive_is_not_known(tmp_path):
    out = tmp_path / "commit.cc"
    command = ["cmake", f"-DSOURCE={tmp_path}", "-DBUILD_TYPE=Release", f"-DOUT={out}", "-P", ROOT / "tools/commit.cmake"]
    subprocess.run(command, check=True)
    first = out.stat().st_mtime_ns
    assert '"unknown"' in out.read_text() and '"Release"' in out.read_text()
    time.sleep(0.05)
    subprocess.run(command, check=True)
    assert out.stat().st_mtime_ns == first, "written anew though nothing differs: the program would be linked at every build"


@pytest.mark.parametrize(
    "words,hint",
    [
        (["serv"], "did you mean serve"),
        (["models/x.gguf"], "pangea serve models/x.gguf"),
        (["frobnicate"], "unknown subcommand"),
        (["help", "chek"], "did you mean check"),
        (["serve"], "a target is expected"),
        (["serve", STORIES, "--prot", "1"], "did you mean --port"),
        (["serve", STORIES, "--port", "x"], "0 to 65535"),
        (["serve", STORIES, "--host", "a b"], "an address"),
        (["check", STORIES, STORIES], "one target"),
        (["agent"], "--master"),
        (["agent", "--master", "127.0.0.1:1", "--wobble", "2"], "--wobble"),
        (["agent", "--master", "127.0.0.1:1"], "no join token"),
        (["agent", "--master", "nowhere", "--token-file", "x"], "--master"),
        (["simulate", STORIES], "--rate"),
        (["key"], "NAME"),
        (["version", "x"], "version"),
    ],
)
def test_a_wrong_command_line_is_64_everywhere(words, hint):
    r = run(*words)
    assert r.returncode == USAGE and hint in r.stderr and not r.stdout, r


# Subcommand, words that are right, an option that takes a value, a value that it does not take, a switch.
LINES = [
    (["serve"], [STORIES], "--port", "x", "--help-all"),
    (["check"], [STORIES], "--port", "65536", "--help-all"),
    (["simulate"], [STORIES, "--streams", "1"], "--seed", "-1", "--json"),
    (["agent"], ["--master", "127.0.0.1:1", "--token-file", "x"], "--agent", "-1", "--launched"),
    (["key"], ["alice"], "--weight", "0", None),
    (["chat"], [], "--timeout", "0", "--no-history"),
    (["generate"], ["hello"], "--max-tokens", "1.5", "--json"),
    (["bench", "serve"], [], "--rate", "fast", "--ignore-eos"),
    (["version"], [], None, None, None),
]


@pytest.mark.parametrize("command,words,option,bad,switch", LINES, ids=[" ".join(line[0]) for line in LINES])
def test_every_subcommand_takes_words_alike(command, words, option, bad, switch):
    def refused(*more):
        r = run(*command, *words, *more, timeout=20)
        assert r.returncode == USAGE and not r.stdout and r.stderr.count("\n") == 1, (more, r)
        assert r.stderr.startswith(f"pangea {' '.join(command)}: "), r
        return r.stderr.removeprefix(f"pangea {' '.join(command)}: ").strip()

    assert refused("--wobble-wobble") == refused("--wobble-wobble=1") == "unknown option --wobble-wobble; see --help"
    assert refused("--hlp") == "unknown option --hlp; did you mean --help?"
    if option:
        assert refused(option) == refused(option, "") == refused(f"{option}=") == f"{option} needs a value; see --help"
        assert refused(option[:-1], "1").endswith(f"; did you mean {option}?")
        for form in ([option, bad], [f"{option}={bad}"]):
            assert refused(*form).startswith(f"{option}: "), form
        assert refused(option, "1", f"{option}=1") == f"{option} is given twice"
    if switch:
        assert refused(f"{switch}=1") == f"{switch} takes no value; see --help"
        assert refused(switch, switch) == f"{switch} is given twice"
    if command[0] not in ("serve", "check", "simulate"):  # these expect one target
        assert refused("--", "one", "--two").startswith(("unexpected", "one prompt is expected"))
    assert run(*command, *words, "--help", "--wobble-wobble").returncode == 0


@pytest.mark.parametrize("script", ["quickstart.sh", "test.sh", "build.sh"])
def test_the_scripts_explain_themselves(script):
    for word in ("--help", "-h"):
        r = subprocess.run([ROOT / "tools" / script, word], capture_output=True, text=True, timeout=20)
        assert r.returncode == 0 and script in r.stdout, r
    if script != "build.sh":  # whose first word is a preset
        r = subprocess.run([ROOT / "tools" / script, "--wobble"], capture_output=True, text=True, timeout=20)
        assert r.returncode == USAGE, r


def test_host_port_name_and_keys(tmp_path):
    made = run("key", "alice").stdout.splitlines()
    keys = tmp_path / "my keys: all"  # meant as it stands, not as YAML
    keys.write_text(made[1] + "\n")
    keys.chmod(0o600)
    words = ["--host", "localhost", "--port", "0", "--name", "my model: v2", "--api-key-file", str(keys)]
    server = start(STORIES, *words, default_ports=False)
    try:
        assert server.call("GET", "/v1/models")[0] == 401
        status, models = server.call("GET", "/v1/models", headers={"Authorization": f"Bearer {made[0]}"})
        assert status == 200 and models["data"][0]["id"] == "my model: v2"
        assert server.stop() == 0
    finally:
        server.proc.kill()
        shutil.rmtree(server.folder, ignore_errors=True)


def test_grpc_takes_the_port_after_rests():
    for _ in range(20):  # two free ports in a row
        port = free_port()
        try:
            server = start(STORIES, "--port", port, default_ports=False)
        except NotReady as e:
            assert "cannot listen" in str(e), e
            continue
        try:
            assert server.rest == f"http://127.0.0.1:{port}" and server.grpc == f"127.0.0.1:{port + 1}"
            assert server.stop() == 0
        finally:
            server.proc.kill()
            shutil.rmtree(server.folder, ignore_errors=True)
        return
    pytest.fail("no two free ports in a row")


# --- Targets.


def test_a_folder_with_one_gguf_file_is_served(tmp_path):
    gguf, other = (HERE / f"golden/gguf/{name}.gguf" for name in ("llama3-q8_0", "qwen2-f32"))
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(gguf, folder / "one.gguf")
    with serve(folder) as s:
        assert s.model() == "one"
        assert s.complete(prompt=[1], max_tokens=3, ignore_eos=True)[1]["completion_tokens"] == 3
    shutil.copy(other, folder / "two.gguf")
    r = run("check", folder)
    assert r.returncode == CONFIG_ERROR and "one.gguf" in r.stderr and "two.gguf" in r.stderr
    assert run("check", folder / "one.gguf").returncode == 0


@pytest.mark.parametrize(
    "target,hint",
    [
        ("configs/smollm2-2x2.yml", "configs/smollm2-2x2.yaml"),
        ("models/stories260", "models/stories260k"),
        ("model/stories260k", "models/stories260k"),
        ("https://huggingface.co/Qwen/Qwen3-0.6B", "this server opens local files"),
        ("Qwen/Qwen3-0.6B", "this server opens local files"),
        ("llama3:8b", "this server opens local files"),
        ("configs", "sim-4x2.yaml"),
        ("docs", "neither a config.json nor a .gguf file"),
        ("models/stories260k/config.json", "give the folder"),
        ("README.md", "expected a deployment file"),
    ],
)
def test_a_missing_target_is_told_with_what_was_probably_meant(target, hint):
    for command in ("check", "serve"):
        r = run(command, target, cwd=ROOT, timeout=20)
        assert r.returncode == CONFIG_ERROR and hint in r.stderr and len(r.stderr.splitlines()) == 1, r


def test_the_model_of_a_file_is_looked_for_too(tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    (tmp_path / "d.yaml").write_text("name: x\nmodel: tinny\n")
    r = run("check", "d.yaml", cwd=tmp_path)
    assert r.returncode == CONFIG_ERROR
    assert r.stderr.startswith("d.yaml:2:8: model: tinny: no such file or folder; did you mean tiny?") and r.stderr.count("\n") == 1


# --- Faults are told once, with their places.


def test_a_fault_is_told_once_and_with_its_place(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text(f"model: {STORIES}\nparallel: {{pipeline: 1, tensor: 2}}\nagents: [{{threads: 1}}, {{threads: 1}}, {{threads: 1}}]\n")
    r = run("check", path)
    assert r.returncode == CONFIG_ERROR
    assert r.stderr.splitlines() == [f"{path}:3:1: agents: the list has 3 entries, but parallel asks for 1 stages of 2 ranks: 2"]
    path.write_text(f"model: {STORIES}\nparallel:\n  pipeline: 9\ncontext: 100000\n")
    r = run("check", path, "--set", "parallel.tensor=99")
    places = [line.split(": ")[0] + ": " + line.split(": ")[1] for line in r.stderr.splitlines()]
    assert sorted(places) == sorted(
        [f"{path}:3:13: parallel.pipeline", f"{path}:4:10: context", "--set parallel.tensor=99: parallel.tensor"]
    ), r.stderr


def test_no_key_is_told_twice(tmp_path):
    """whoever finds it out: the file's rules, the plan, the addresses, or the files that are named"""
    path = tmp_path / "d.yaml"
    head = f"model: {STORIES}\n"
    files = {
        "cache: {memory: lots, block_tokens: 2000, type: fp4}\nparallel: {pipeline: 9, transport: mpi}\nagents: {device: gpu}": {
            "cache.memory": 2, "cache.block_tokens": 2, "cache.type": 2, "parallel.pipeline": 3, "parallel.transport": 3, "agents.device": 4
        },
        "context: 100000\nparallel: {tensor: 99}\nkeys: {file: /none}\ncontrol: {token_file: /none}\nchat: {template_file: /none}": {
            "context": 2, "parallel.tensor": 3, "keys.file": 4, "control.token_file": 5, "chat.template_file": 6
        },
        # Only one of two that clash is set.
        "rest: {listen: localhost:8001}": {"grpc.listen": 2},
        "context: 512\ncache: {memory: 64KiB}": {"cache.memory": 3},
        "limits: {bodies: 1MiB}": {"limits.body": 2},
        "agents: {launch: remote}\ncontrol: {listen: '127.0.0.1:7000'}": {"control.token_file": 2},
        # The default in the place of what cannot be read clashes, and is nobody's fault.
        "grpc: {listen: x}\nrest: {listen: localhost:8001}": {"grpc.listen": 2},
        "cache: {memory: lots, block_tokens: 1024}\ncontext: 512\nparallel: {tensor: no}\nagents: [{}, {}]": {
            "cache.memory": 2, "parallel.tensor": 4
        },
    }  # fmt: skip
    for text, places in files.items():
        path.write_text(head + text + "\n")
        r = run("check", path)
        assert r.returncode == CONFIG_ERROR and not r.stdout, r
        told = [re.match(rf"{re.escape(str(path))}:(\d+):\d+: ([^ ]+): ", line) for line in r.stderr.splitlines()]
        assert all(told), r.stderr
        assert sorted((m[2], int(m[1])) for m in told) == sorted(places.items()), r.stderr


def test_a_token_is_refused_alike_by_master_and_agent(tmp_path):
    for content in ("short", "two words in it", "x" * 5000):
        token = tmp_path / "token"
        token.write_text(content)
        token.chmod(0o600)
        agent = run("agent", "--master", f"127.0.0.1:{free_port()}", "--token-file", token)
        master = run("check", STORIES, "--set", f"control.token_file={token}")
        assert agent.returncode == master.returncode == CONFIG_ERROR, (agent, master)
        reason = agent.stderr.strip().split("--token-file: ")[1]
        assert reason and reason in master.stderr and content not in master.stderr
        environment = run("agent", "--master", f"127.0.0.1:{free_port()}", env={"PANGEA_AGENT_TOKEN": content})
        assert environment.returncode == CONFIG_ERROR and reason.split(": ")[-1] in environment.stderr
    r = run("check", STORIES, "--set", "control.token_file=/nonexistent")
    assert r.stderr.startswith("--set control.token_file=/nonexistent: control.token_file: /nonexistent: No such file"), r.stderr


# --- Addresses.


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


@pytest.mark.parametrize(
    "rest,grpc,collide",
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("localhost", "127.0.0.1", True),
        ("127.0.0.1", "[::ffff:127.0.0.1]", True),
        ("[::1]", "[::]", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("[::1]", "127.0.0.1", False),
    ],
)
def test_check_finds_addresses_that_collide_as_serve_would(rest, grpc, collide):
    if ":" in rest + grpc and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    port = free_port()
    words = ["--set", f'rest.listen="{rest}:{port}"', "--set", f'grpc.listen="{grpc}:{port}"']
    r = run("check", STORIES, *words)
    assert r.returncode == (CONFIG_ERROR if collide else 0), r
    if collide:
        assert "grpc.listen" in r.stderr and "rest.listen" in r.stderr
        assert run("serve", STORIES, *words, timeout=30).returncode == CONFIG_ERROR
    else:
        with serve(STORIES, *words, default_ports=False):
            pass


@pytest.mark.parametrize("door", ["rest", "grpc", "control"])
def test_a_busy_port_is_78_with_the_systems_reason(door):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        words = settings(rest__listen="127.0.0.1:0", grpc__listen="127.0.0.1:0") + settings(**{f"{door}__listen": f"127.0.0.1:{port}"})
        r = run("serve", STORIES, *words, timeout=30)
    assert r.returncode == CONFIG_ERROR and not r.stdout, r
    assert re.search(rf"{door}\.listen: cannot listen on 127\.0\.0\.1:{port}: Address already in use", r.stderr), r.stderr
    assert ".cc" not in r.stderr, "a library's own lines"


# --- Text that is not UTF-8.

LATIN = os.fsdecode(b"caf\xe9")


def latin_copy(tmp_path):
    folder = tmp_path / LATIN
    shutil.copytree(STORIES, folder)
    return folder


def test_a_model_path_that_is_not_utf8_is_refused_at_once(tmp_path):
    folder = latin_copy(tmp_path)
    for command in ("check", "serve"):
        begin = time.monotonic()
        r = run(command, folder)
        assert r.returncode == CONFIG_ERROR and "caf\\xe9" in r.stderr and "not UTF-8" in r.stderr, r
        assert time.monotonic() - begin < 30  # it was two minutes
    r = run("serve", STORIES, "--name", LATIN)
    assert r.returncode == CONFIG_ERROR and "not UTF-8" in r.stderr
    r = run("check", STORIES, "--set", "name=${LATIN_NAME}", env={"LATIN_NAME": LATIN})
    assert r.returncode == CONFIG_ERROR and "name" in r.stderr and "not UTF-8" in r.stderr
    r = run("check", tmp_path / (LATIN + ".gguf"))
    assert r.returncode == CONFIG_ERROR and "caf\\xe9.gguf: no such file" in r.stderr


def test_a_folder_that_is_not_utf8_may_be_worked_in(tmp_path, monkeypatch):
    folder = latin_copy(tmp_path)
    shutil.copytree(STORIES, folder / "tiny")
    monkeypatch.chdir(folder)
    r = run("check", ".")  # the name that clients would ask for is the folder's
    assert r.returncode == CONFIG_ERROR and re.search(r"name: .*not UTF-8", r.stderr), r
    for target, more in ((".", ["--name", "x"]), ("tiny", [])):
        with serve(target, *more) as s:
            assert s.complete(prompt=[1], max_tokens=3)[1]["completion_tokens"] == 3


def test_an_agents_own_path_that_is_not_utf8(tmp_path):
    """it is served; and when it is not there, the master says so at once"""
    folder = latin_copy(tmp_path)
    token = tmp_path / "token"
    token.write_text("a-secret-of-the-test\n")
    token.chmod(0o600)
    for model, good in ((folder, True), (tmp_path / (LATIN + "2"), False)):
        port = free_port()
        words = ["--set", "agents.launch=remote", "--set", f"control.listen=127.0.0.1:{port}", "--set", f"control.token_file={token}"]
        started = []

        def join(_folder, port=port, model=model, started=started):
            command = [PANGEA, "agent", "--master", f"127.0.0.1:{port}", "--token-file", str(token), "--model", str(model)]
            started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True))

        try:
            if good:
                with serve(STORIES, *words, on_started=join) as s:
                    assert s.complete(prompt=[1], max_tokens=3)[1]["completion_tokens"] == 3
            else:
                with pytest.raises(NotReady, match=r"giving up: agent 0 .*caf\\xe92: no such file or folder"):
                    start(STORIES, *words, on_started=join)
        finally:
            for p in started:
                p.kill()
                p.wait(10)


def test_a_plan_that_this_host_has_no_memory_for_is_refused():
    # As much as the block numbers reach: 320 GiB of pages.
    with open("/proc/meminfo") as f:
        if int(re.search(r"MemAvailable: +(\d+)", f.read())[1]) > 300 << 20:
            pytest.skip("this host has room for the largest cache")
    for command in ("check", "serve"):
        r = run(command, STORIES, *settings(cache__memory="900TiB", cache__swap="900TiB"))
        assert r.returncode == CONFIG_ERROR, r
        assert re.search(
            r"^memory: 1 agent of this host needs 3\d\d.* GiB, .* are available \(.*\): .* GiB are missing; ", r.stderr, re.M
        ), r.stderr
    advice = re.search(r"; cache.swap: 0 (?:and cache.memory: (\d+)MiB )?fits", r.stderr)
    # What it advises is accepted, but for what other processes have taken since.
    memory = "900TiB" if advice[1] is None else int(advice[1]) * 9 // 10 << 20
    assert run("check", STORIES, *settings(cache__memory=memory)).returncode == 0, r.stderr
