#!/usr/bin/env python3
"""gpu_peers.py speed SHAPE | logits MODEL PANGEA: what PyTorch does with the same model on the same GPU. Prints JSON.

speed: a plain loop (merged q|k|v and gate|up, static cache, scaled_dot_product_attention, a step as one CUDA graph) and, where it is
installed, Transformers with a static cache, compiled; weights of SHAPE's config.json made up on the device, bf16.
logits: log-probabilities that PANGEA serves of a prompt of MODEL (a folder of Hugging Face's), in float32 and in bf16, against PyTorch's
in float32 and, for bf16, also in bf16. Exit status 1 where they are further apart than they should be.
"""

import argparse, json, os, pathlib, shutil, struct, subprocess, sys, tempfile, time, urllib.request

import torch
import torch.nn.functional as F

TYPES = {"F32": torch.float32, "BF16": torch.bfloat16}


class Llama:
    """Llama as its authors' papers have it, for whole steps of [batch, rows] ids at the same positions."""

    def __init__(self, config, weights, dtype, device):
        self.c, self.dtype, self.device = config, dtype, device
        self.heads, self.kv = config["num_attention_heads"], config["num_key_value_heads"]
        self.dim = config["hidden_size"] // self.heads
        take = lambda name: weights(name).to(device=device, dtype=dtype)  # noqa: E731
        self.embed = take("model.embed_tokens.weight")
        self.norm = take("model.norm.weight")
        self.head = self.embed if config["tie_word_embeddings"] else take("lm_head.weight")
        self.layers = []
        for i in range(config["num_hidden_layers"]):
            at = f"model.layers.{i}."
            self.layers.append(
                {
                    "norm1": take(at + "input_layernorm.weight"),
                    "qkv": torch.cat([take(f"{at}self_attn.{x}_proj.weight") for x in "qkv"]),
                    "o": take(at + "self_attn.o_proj.weight"),
                    "norm2": take(at + "post_attention_layernorm.weight"),
                    "gate_up": torch.cat([take(f"{at}mlp.{x}_proj.weight") for x in ("gate", "up")]),
                    "down": take(at + "mlp.down_proj.weight"),
                }
            )
        self.frequencies = config["rope_theta"] ** -(torch.arange(0, self.dim, 2, device=device).float() / self.dim)

    def cache(self, batch, positions):
        shape = (len(self.layers), 2, batch, self.kv, positions, self.dim)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def rms(self, x, weight):
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"])).to(self.dtype) * weight

    def rotate(self, x, cos, sin):  # of [batch, heads, rows, dim]
        a, b = x.float().chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(self.dtype)

    def forward(self, ids, cache, start):
        """Logits of the last row, or of all where there is no cache; start: a tensor with one number."""
        batch, rows = ids.shape
        at = start + torch.arange(rows, device=self.device)
        angles = at.float()[:, None] * self.frequencies
        cos, sin = angles.cos(), angles.sin()
        mask = None
        if cache is not None and rows == 1:
            mask = (torch.arange(cache.shape[4], device=self.device) <= at[0])[None, None, None, :]
        x = F.embedding(ids, self.embed)
        for i, layer in enumerate(self.layers):
            q, k, v = (
                F.linear(self.rms(x, layer["norm1"]), layer["qkv"])
                .view(batch, rows, -1, self.dim)
                .transpose(1, 2)
                .split([self.heads, self.kv, self.kv], 1)
            )
            q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
            if cache is None:
                k, v = k.to(self.pages).to(self.dtype), v.to(self.pages).to(self.dtype)
            else:
                cache[i, 0].index_copy_(2, at, k)
                cache[i, 1].index_copy_(2, at, v)
                if rows == 1:
                    k, v = cache[i, 0], cache[i, 1]
            h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=rows > 1, enable_gqa=True)
            x = x + F.linear(h.transpose(1, 2).reshape(batch, rows, -1), layer["o"])
            gate, up = F.linear(self.rms(x, layer["norm2"]), layer["gate_up"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer["down"])
        return F.linear(self.rms(x if cache is None else x[:, -1:], self.norm), self.head).float()


def made_up(config, device):
    shapes = {"embed_tokens": (config["vocab_size"], config["hidden_size"]), "lm_head": (config["vocab_size"], config["hidden_size"])}
    d, f = config["hidden_size"], config["intermediate_size"]
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes |= {
        "q_proj": (d, d),
        "k_proj": (kv, d),
        "v_proj": (kv, d),
        "o_proj": (d, d),
        "gate_proj": (f, d),
        "up_proj": (f, d),
        "down_proj": (d, f),
    }

    def weights(name):
        shape = shapes.get(name.split(".")[-2])
        return torch.ones(d, device=device) if shape is None else torch.randn(shape, device=device, dtype=torch.bfloat16) * 0.02

    return weights


def seconds(work, device, rounds):
    """The median of some rounds of `work`."""
    took = []
    for _ in range(rounds):
        if device == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - begin)
    return sorted(took)[len(took) // 2]


def speed(options):
    config = json.loads((pathlib.Path(options.model) / "config.json").read_text())
    device, rows = options.device, []
    model = Llama(config, made_up(config, device), torch.bfloat16, device)

    def say(**row):
        rows.append(row)
        print(row, file=sys.stderr)

    for batch in options.batch:
        cache = model.cache(batch, options.context + options.steps)
        ids = torch.ones((batch, 1), dtype=torch.long, device=device)
        at = torch.full((1,), options.context, dtype=torch.long, device=device)

        def step(cache=cache, ids=ids, at=at):
            ids.copy_(model.forward(ids, cache, at).argmax(-1))
            at.add_(1)

        step()
        work = step
        if device == "cuda":
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                step()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            work = graph.replay

        def steps(work=work, at=at):
            at.fill_(options.context)
            for _ in range(options.steps):
                work()

        say(
            what="decode",
            by="pytorch",
            graphs=device == "cuda",
            batch=batch,
            context=options.context,
            seconds=seconds(steps, device, 5) / options.steps,
        )
        del work, cache
    ids = torch.ones((1, options.prompt), dtype=torch.long, device=device)
    cache, zero = model.cache(1, options.prompt), torch.zeros(1, dtype=torch.long, device=device)
    model.forward(ids, cache, zero)
    say(what="prefill", by="pytorch", prompt=options.prompt, seconds=seconds(lambda: model.forward(ids, cache, zero), device, 5))
    del model, cache
    try:
        import transformers
    except ImportError:
        say(what="decode", by="transformers", error="not installed")
        return rows
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.from_pretrained(options.model), attn_implementation="sdpa"
        ).eval()
    torch.set_default_dtype(torch.float32)
    compiled = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True) if device == "cuda" else model.forward
    batch = options.batch[0]
    cache = transformers.StaticCache(
        config=model.config, max_batch_size=batch, max_cache_len=options.context + options.steps, device=device, dtype=torch.bfloat16
    )
    one = torch.ones((batch, 1), dtype=torch.long, device=device)

    def steps(n=options.steps):
        ids = one
        for i in range(n):
            at = torch.tensor([options.context + i], device=device)
            ids = (
                compiled(ids.clone(), cache_position=at, position_ids=at[None], past_key_values=cache, use_cache=True)
                .logits[:, -1:]
                .argmax(-1)
            )

    steps(4)
    say(
        what="decode",
        by="transformers",
        compiled=device == "cuda",
        batch=batch,
        context=options.context,
        seconds=seconds(steps, device, 3) / options.steps,
    )
    return rows


def read_safetensors(path):
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    header = {k: v for k, v in json.loads(data[8 : 8 + n]).items() if k != "__metadata__"}
    take = lambda t: torch.frombuffer(
        bytearray(data[8 + n + t["data_offsets"][0] : 8 + n + t["data_offsets"][1]]), dtype=TYPES[t["dtype"]]
    ).view(t["shape"])  # noqa: E731
    return {name: take(t) for name, t in header.items()}


def copy_in_bf16(folder, to):
    shutil.copytree(folder, to)
    header, blobs, end = {}, [], 0
    for name, tensor in read_safetensors(folder / "model.safetensors").items():
        blob = tensor.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [end, end + len(blob)]}
        end += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    (to / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def served(options, folder, ids, *more):
    """The log-probability of each id but the first, from `pangea serve`."""
    with tempfile.TemporaryDirectory() as home:
        server = subprocess.Popen(
            [options.pangea, "serve", folder, "--port", "0", "--name", "m", "--device", options.pangea_device, *more],
            stdout=subprocess.PIPE, text=True, env=os.environ | {"XDG_CACHE_HOME": home},
        )  # fmt: skip
        try:
            line = server.stdout.readline()
            if "rest=" not in line:
                sys.exit(f"pangea did not come up: {line}")
            body = json.dumps({"model": "m", "prompt": ids, "echo": True, "logprobs": 0, "max_tokens": 1, "temperature": 0}).encode()
            url = line.split("rest=")[1].split()[0] + "/v1/completions"
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            answer = json.load(urllib.request.urlopen(request, timeout=120))
            return answer["choices"][0]["logprobs"]["token_logprobs"][1 : len(ids)]
        finally:
            server.terminate()
            server.wait()


def logits(options):
    rows, held = [], True
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(options.model)
        copy_in_bf16(folder, pathlib.Path(scratch) / "bf16")
        config = json.loads((folder / "config.json").read_text())
        ids = [(i * 37 + 5) % config["vocab_size"] for i in range(160)]

        def of(folder, dtype, pages=torch.float16):  # pages of f16, as are served
            model = Llama(config, read_safetensors(folder / "model.safetensors").__getitem__, dtype, options.device)
            model.pages = pages
            given = torch.tensor([ids], device=options.device)
            logprobs = model.forward(given, None, torch.zeros(1, dtype=torch.long, device=options.device))[0].log_softmax(-1)
            return [logprobs[i, ids[i + 1]].item() for i in range(len(ids) - 1)]

        apart = lambda a, b: sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a)  # noqa: E731
        exact = of(folder, torch.float32)
        ours = apart(served(options, folder, ids), exact)
        # The order of sums, and the last bits of exp and of angles, are all that differs; through them, now and then, how a
        # key or value rounds to f16. So it is far less than that rounding itself changes.
        bound = apart(of(folder, torch.float32, torch.float32), exact) / 2
        rows.append({"what": "logits", "weights": "f32", "apart": ours, "bound": bound})
        held &= ours < bound
        bf16 = pathlib.Path(scratch) / "bf16"
        exact = of(bf16, torch.float32)
        theirs = apart(of(bf16, torch.bfloat16), exact)
        for fast in ("true", "false"):
            ours = apart(served(options, bf16, ids, "--set", f"kernels.exact={fast}"), exact)
            # Every value that PyTorch rounds to bf16 is float32 here, or rounded as often at most.
            rows.append({"what": "logits", "weights": "bf16", "exact": fast, "apart": ours, "pytorch_apart": theirs})
            held &= ours < theirs
    return rows, held


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "logits"])
    parser.add_argument("model")
    parser.add_argument("pangea", nargs="?")
    parser.add_argument("--device", default="cuda", help="PyTorch's")
    parser.add_argument("--pangea-device", default="cuda")
    parser.add_argument("--batch", type=lambda text: [int(x) for x in text.split(",")], default=[1, 64])
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=8192)
    options = parser.parse_args()
    torch.manual_seed(1)
    rows, held = (speed(options), True) if options.what == "speed" else logits(options)
    print(json.dumps(rows, indent=1))
    sys.exit(not held)


if __name__ == "__main__":
    main()
