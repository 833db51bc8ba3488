"""Beside llama.cpp's server, and beside a former build: the same weights, prompts and cores, rounds in alternation."""

from common import *

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "Water boils at",
    "The three laws of motion are",
    "My favourite recipe for bread begins with",
    "def fibonacci(n):",
    "The history of the Roman Empire",
    "Dear Sir or Madam,",
    "To be or not to be,",
    "The sun is a star that",
    "A list of the planets:",
    "In 1969, the first",
]
LAYOUTS = None  # of versus; None: all
PEER = ROOT / "build/peer/llama.cpp/build/bin/llama-server"


class NoProcess:
    """stands for the process of a server that the harness did not start"""

    pid = os.getpid()


@contextlib.contextmanager
def peer_server(binary, streams):
    port = harness.free_port()
    command = [
        binary,
        "-m",
        MODEL,
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "-t",
        CORES,
        "-np",
        streams,
        "-c",
        1024 * streams,
        "--no-cache-prompt",
        "--no-webui",
    ]
    proc = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    server = harness.Server(NoProcess(), f"http://127.0.0.1:{port}", "127.0.0.1:0", None, [])

    def ready():
        assert proc.poll() is None, f"{binary} ended with {proc.returncode}"
        try:
            return server.call("GET", "/health", timeout=2)[0] == 200
        except OSError:
            return False

    try:
        assert harness.until(ready, 120, every=0.2), "the peer did not get ready"
        yield server
    finally:
        os.killpg(proc.pid, signal.SIGTERM)
        proc.wait()


def greedy(server, model, ignored):
    """the greedy continuation of every prompt, 48 tokens each"""
    texts = []
    for prompt in PROMPTS:
        status, answer = server.post("/v1/completions", dict(model=model, prompt=prompt, max_tokens=48, temperature=0, **ignored))
        assert status == 200, answer
        texts.append(answer["choices"][0]["text"])
    return texts


def rates(server, streams, tokens):
    """-> tokens/s, first token ms, between texts ms, their p99 ms"""
    load(server.rest, streams, streams, 8)
    r = load(server.rest, streams, max(2, streams), tokens)
    between = r["inter_token_seconds"]
    return r["tokens_per_second"], r["time_to_first_token_seconds"]["p50"] * 1e3, between["p50"] * 1e3, between["p99"] * 1e3


def prompt_rate(server, tokens=512):
    """rows/s of one prompt read alone"""
    r = load(server.rest, 1, 4, 1, prompt=("--prompt-tokens", tokens))
    return tokens / r["time_to_first_token_seconds"]["p50"]


def versus(rounds, binary=PEER, tokens=64):
    table = Table(
        f"Beside llama.cpp's server: {MODEL.stem}, {CORES} cores, prompts of 32 words, {tokens} tokens each, medians of {rounds} rounds"
    )
    if not pathlib.Path(binary).exists():
        table.note(f"left out: there is no {binary}; bench/serving/peer.sh makes it")
        return
    found, texts = {}, {}
    same = ("--set", "cache.prefix=false")  # as the peer: every prompt is computed
    layouts = {
        "pangea 1x1": ("--set", f"agents.threads={CORES}", *same),
        f"pangea 1x{CORES}": ("--tensor", CORES, *same),
        f"pangea {CORES}x1": ("--pipeline", CORES, *same),
    }
    layouts = {name: args for name, args in layouts.items() if LAYOUTS is None or name.split()[1] in LAYOUTS}
    for _ in range(rounds):
        for streams in (1, 8, 32):
            contexts = {"llama.cpp": peer_server(binary, streams), **{name: harness.serve(MODEL, *args) for name, args in layouts.items()}}
            for name, context in contexts.items():
                with context as s:
                    found.setdefault((streams, name), []).append(rates(s, streams, tokens))
                    if streams == 1:
                        found.setdefault(("prompt", name), []).append(prompt_rate(s))
                    if streams == 1 and name in ("llama.cpp", "pangea 1x1") and name not in texts:
                        texts[name] = greedy(s, s.model(), {})
    for streams in (1, 8, 32):
        theirs = median(found[streams, "llama.cpp"])[0]
        for name in ("llama.cpp", *layouts):
            rate, first, between, p99 = median(found[streams, name])
            table.row(f"{streams:2} streams, {name}: throughput over llama.cpp's", rate / theirs, "x")
            table.note(f"{rate:.0f} tokens/s, first token {first:.0f} ms, between texts {between:.1f} ms, p99 {p99:.1f} ms")
    for name in layouts:
        table.row(
            f"a prompt of 512 tokens, {name}: rows/s over llama.cpp's",
            median(found["prompt", name]) / median(found["prompt", "llama.cpp"]),
            "x",
        )
    alike = sum(a == b for a, b in zip(texts["pangea 1x1"], texts["llama.cpp"]))
    table.note(f"greedy texts of 48 tokens: {alike} of {len(PROMPTS)} are the same to the byte")
    for prompt, ours, other in zip(PROMPTS, texts["pangea 1x1"], texts["llama.cpp"]):
        common = len(os.path.commonprefix([ours, other]))
        if ours != other:
            table.note(f"  {prompt!r}: alike for {common} of {len(ours)} characters")


def former(rounds, tokens=96):
    """the same server as it was: the executable that the environment variable FORMER names, in alternation"""
    before = os.environ.get("FORMER", "")
    table = Table(f"Beside {before or 'a former build'}: {MODEL.stem}, {CORES} threads, {tokens} tokens each, medians of {rounds} rounds")
    if not before:
        table.note("left out: FORMER names no executable")
        return
    found, now = {}, harness.PANGEA
    for isa in ("auto", "avx2"):
        for _ in range(rounds):
            for name, executable in (("now", now), ("before", before)):
                harness.PANGEA = executable
                with harness.serve(
                    MODEL, *harness.settings(agents__threads=CORES, cache__prefix="false", cache__memory="1GiB", kernels__isa=isa)
                ) as s:
                    harness.PANGEA = now  # one load generator for both
                    for streams in (1, 8, 32):
                        found.setdefault((isa, f"{streams} streams", name), []).append(rates(s, streams, tokens)[0])
                    found.setdefault((isa, "a prompt of 512", name), []).append(prompt_rate(s))
    for isa, what, name in found:
        if name == "now":
            ours, theirs = found[isa, what, "now"], found[isa, what, "before"]
            ratio = median([a / b for a, b in zip(ours, theirs)])
            table.row(f"{isa}, {what}: now / before", ratio, "x", least=0.98)
            table.note(f"{median(ours):.1f} and {median(theirs):.1f} tokens/s")
