"""kill -9 of one process in mid-stream, beside llama.cpp's server with its RPC back end: two processes hold half of the layers each."""

from common import *
from versus import PEER, NoProcess

RPC = PEER.with_name("ggml-rpc-server")
STREAMS = 4
TOKENS = 200


def body(server, i):
    return dict(model=server.name, prompt=f"Once upon a time, in village number {i},", max_tokens=TOKENS, temperature=0, ignore_eos=True)


class Watched(threading.Thread):
    """one streamed completion: its text, and the longest that it waited"""

    def __init__(self, server, i):
        super().__init__(daemon=True)
        self.server, self.i, self.text, self.whole, self.marks = server, i, "", False, []
        self.start()

    def run(self):
        with contextlib.suppress(Exception):  # whatever it was: the text is not whole
            for event in self.server.events("/v1/completions", body(self.server, self.i), timeout=60):
                if event == "[DONE]":
                    self.whole = True
                elif "error" in event:
                    break
                elif event["choices"]:
                    self.text += event["choices"][0].get("text") or ""
                    self.marks.append(time.monotonic())


@contextlib.contextmanager
def peer():
    """-> (server, process of the server, the processes that hold the layers)"""
    ports = [harness.free_port() for _ in range(3)]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    halves = [subprocess.Popen([RPC, "-H", "127.0.0.1", "-p", str(port), "-t", "1"], **quiet) for port in ports[:2]]
    time.sleep(1)
    words = ["-m", MODEL, "--host", "127.0.0.1", "--port", ports[2], "--rpc", ",".join(f"127.0.0.1:{port}" for port in ports[:2])]
    words += ["-ngl", 99, "-ts", "1,1", "-np", STREAMS, "-c", 1024 * STREAMS, "--no-webui"]
    proc = subprocess.Popen([PEER, *map(str, words)], **quiet)
    server = harness.Server(NoProcess(), f"http://127.0.0.1:{ports[2]}", "127.0.0.1:0", None, [])
    try:
        assert harness.until(lambda: answers(server, 2), 120, every=0.2), "the peer did not get ready"
        yield server, proc, [half.pid for half in halves]
    finally:
        for process in (proc, *halves):
            process.kill()
            process.wait()


@contextlib.contextmanager
def ours():
    with harness.serve(MODEL, *harness.layout("2x1")) as server:
        yield server, server.proc, server.agents()


def answers(server, patience):
    """whether it serves a request of one token"""
    try:
        server.name = server.model()
        return server.post("/v1/completions", {**body(server, 0), "max_tokens": 1}, timeout=patience)[0] == 200
    except (OSError, KeyError, TypeError, ValueError, http.client.HTTPException):
        return False


def kill(rounds):
    table = Table(f"kill -9 of one of two processes, {STREAMS} streams of {TOKENS} tokens, {MODEL.stem}, {CORES} cores, {rounds} rounds")
    candidates = {"pangea 2x1": ours}
    if RPC.exists():
        candidates["llama.cpp with two rpc-servers"] = peer
    else:
        table.note(f"left out: there is no {RPC}; bench/serving/peer.sh makes it")
    for name, context in candidates.items():
        whole, same, pauses, back, lives = 0, 0, [], [], 0
        for r in range(rounds):
            with context() as (server, proc, pids):
                assert answers(server, 60)
                alone = [Watched(server, i) for i in range(STREAMS)]
                for stream in alone:
                    stream.join()
                assert all(stream.whole for stream in alone)
                streams = [Watched(server, i) for i in range(STREAMS)]
                assert harness.until(lambda: all(len(s.marks) > 20 for s in streams), 60)
                os.kill(pids[r % 2], signal.SIGKILL)
                at = time.monotonic()
                if harness.until(lambda: answers(server, 5), 30, every=0.05):
                    back.append(time.monotonic() - at)
                for stream in streams:
                    stream.join()
                whole += sum(s.whole for s in streams)
                same += sum(s.whole and s.text == a.text for s, a in zip(streams, alone))
                marks = [[m for m in (at, *s.marks) if m >= at] for s in streams if s.whole]
                pauses += [max(b - a for a, b in zip(m, m[1:])) for m in marks if len(m) > 1]
                lives += proc.poll() is None
        table.row(f"{name}: streams that ended whole", whole, f"/{rounds * STREAMS}", digits=0)
        table.row(f"{name}: with the text of the undisturbed run", same, f"/{rounds * STREAMS}", digits=0)
        table.row(f"{name}: its server lives", lives, f"/{rounds}", digits=0)
        table.note(f"longest wait of a stream: {max(pauses):.2f} s" if pauses else "no stream went on")
        table.note(f"answers anew after {median(back):.2f} s (median)" if back else "answers nothing any more within 30 s")
