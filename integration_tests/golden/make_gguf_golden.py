#!/usr/bin/env python3
"""Tiny GGUF files, one per tensor type and more, written by the PyPI package gguf, and their numbers in float64.

Written with gguf 0.19, numpy 2.4, safetensors 0.8: make_gguf_golden.py CASES_DIR OUT_DIR

Each file is one of the checkpoints of make_golden.py under the names and in the layout of llama.cpp's converters (Llama's query and key
rows permuted for adjacent RoPE pairs; Llama 3's scaling as rope_freqs.weight). NAME.json beside NAME.gguf has the fields of
make_golden.py's expected.json; the reference runs in float64 on the values that the file's own blocks stand for. Files of F32, F16
and BF16 have two fields more: `paged`, the log-probabilities with keys and values rounded to float16, as the server's pages hold them,
and `rounded`, those with the activations of every product rounded to bfloat16 besides, which a server must not give. Files of Q5_0, Q5_1
and the types of BLOCKS have `wrong`: those of weights that are read wrong in one part.

The files of BLOCKS are random blocks, as nothing in Python writes these types; their widths are the multiples of 256 that these ask for.
"""

import json, math, pathlib, sys
import gguf, numpy as np
from gguf import GGMLQuantizationType as T
from safetensors import safe_open

CASES, OUT = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
FILES = {
    "qwen2-f32": ("qwen2-tied", T.F32),
    "qwen2-f16": ("qwen2-tied", T.F16),
    "qwen2-bf16": ("qwen2-tied", T.BF16),
    "qwen2-q8_0": ("qwen2-tied", T.Q8_0),
    "qwen2-q4_0": ("qwen2-tied", T.Q4_0),
    "qwen2-q4_1": ("qwen2-tied", T.Q4_1),
    "qwen2-q5_0": ("qwen2-tied", T.Q5_0),
    "qwen2-q5_1": ("qwen2-tied", T.Q5_1),
    "llama3-q8_0": ("llama3", T.Q8_0),
    "qwen3-f16": ("qwen3", T.F16),
    "gpt2-f32": ("gpt2", T.F32),
    "gpt2-f16": ("gpt2", T.F16),
    "gpt2-bf16": ("gpt2", T.BF16),
    "llama3-bf16": ("llama3", T.BF16),
}
# With the vocabulary and the prompts of llama3. Two leaves along K in attention, and in the first file's feed-forward part.
BLOCKS = {"llama-q4_k": (T.Q4_K, 512, True), "llama-q5_k": (T.Q5_K, 256, True), "llama-q6_k": (T.Q6_K, 256, False)}  # type, ffn, tied
# Where a block has its f16 d and minimum, and how many of these minima balance the numbers that they belong to.
HALVES = {T.Q4_K: (0, 2, 7.5), T.Q5_K: (0, 2, 15.5), T.Q6_K: (208, None, 0)}
# The bytes of a block whose bits `mask` a wrong reader would forget: the upper bits of weights, or of the later scales.
WRONG = {T.Q5_0: (2, 6, 0), T.Q5_1: (4, 8, 0), T.Q4_K: (4, 12, 0x3F), T.Q5_K: (16, 48, 0), T.Q6_K: (128, 192, 0)}


def load(folder):
    """The stored values in float32; bfloat16, which numpy lacks, by its bits."""
    raw = (folder / "model.safetensors").read_bytes()
    n = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8 : 8 + n])
    out = {}
    for name, t in head.items():
        if name == "__metadata__":
            continue
        a, b = t["data_offsets"]
        data = raw[8 + n + a : 8 + n + b]
        if t["dtype"] == "BF16":
            v = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            v = np.frombuffer(data, dict(F32=np.float32, F16=np.float16)[t["dtype"]]).astype(np.float32)
        out[name] = v.reshape(t["shape"])
    return out


def adjacent(w, heads):
    """llama.cpp's permutation: rows i and i + d/2 of a head become 2i and 2i + 1."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def names(cfg, w):
    """-> {GGUF name: values}, HF values for the reference come back from these"""
    out, arch = {}, cfg["model_type"]
    if arch == "gpt2":
        p = "transformer."
        out["token_embd.weight"], out["position_embd.weight"] = w[p + "wte.weight"], w[p + "wpe.weight"]
        for i in range(cfg["n_layer"]):
            for hf, g, turn in (
                ("ln_1", "attn_norm", 0),
                ("attn.c_attn", "attn_qkv", 1),
                ("attn.c_proj", "attn_output", 1),
                ("ln_2", "ffn_norm", 0),
                ("mlp.c_fc", "ffn_up", 1),
                ("mlp.c_proj", "ffn_down", 1),
            ):
                v = w[f"{p}h.{i}.{hf}.weight"]
                out[f"blk.{i}.{g}.weight"] = np.ascontiguousarray(v.T) if turn else v
                out[f"blk.{i}.{g}.bias"] = w[f"{p}h.{i}.{hf}.bias"]
        out["output_norm.weight"], out["output_norm.bias"] = w[p + "ln_f.weight"], w[p + "ln_f.bias"]
        return out
    out["token_embd.weight"], out["output_norm.weight"] = w["model.embed_tokens.weight"], w["model.norm.weight"]
    if not cfg["tie_word_embeddings"]:
        out["output.weight"] = w["lm_head.weight"]
    heads, kv = cfg["num_attention_heads"], cfg["num_key_value_heads"]
    for i in range(cfg["num_hidden_layers"]):
        for hf, g in (
            ("input_layernorm", "attn_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.q_norm", "attn_q_norm"),
            ("self_attn.k_norm", "attn_k_norm"),
            ("self_attn.o_proj", "attn_output"),
            ("post_attention_layernorm", "ffn_norm"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
        ):
            for part in ("weight", "bias"):
                v = w.get(f"model.layers.{i}.{hf}.{part}")
                if v is None:
                    continue
                if arch == "llama" and g in ("attn_q", "attn_k"):
                    v = adjacent(v, heads if g == "attn_q" else kv)
                out[f"blk.{i}.{g}.{part}"] = v
    return out


def random_blocks(rng, n, k, kind, deviation):
    """[n][bytes of a row], whose values have that standard deviation"""
    size, (d, m, balance) = gguf.GGML_QUANT_SIZES[kind][1], HALVES[kind]
    blocks = rng.integers(0, 256, (n * k // 256, size), dtype=np.uint8)
    scale = rng.uniform(0.5, 1.5, len(blocks)) * rng.choice([-1, 1], len(blocks))

    def put(unit):
        for at, factor in ((d, 1), (m, balance)):
            if at is not None:
                blocks[:, at : at + 2] = (scale * factor * unit).astype(np.float16).view(np.uint8).reshape(-1, 2)

    put(2**-10)
    put(2**-10 * deviation / gguf.quants.dequantize(blocks, kind).std())
    return blocks.reshape(n, -1)


def block_model(kind, ffn, tied):
    """-> a small Llama's configuration, and its tensors: vectors as values, matrices as (blocks, type)"""
    cfg = json.loads((CASES / "llama3/config.json").read_text())
    hidden, heads, kv, d, vocab, layers = 256, 16, 2, 32, cfg["vocab_size"], 3
    cfg |= dict(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv, head_dim=d, num_hidden_layers=layers)
    cfg |= dict(intermediate_size=ffn, tie_word_embeddings=tied, rope_scaling=None)
    rng, out = np.random.default_rng(kind.value), {}
    norm = lambda: (1 + 0.3 * rng.standard_normal(hidden)).astype(np.float32)
    matrix = lambda n, k, deviation, t=kind: (random_blocks(rng, n, k, t, deviation), t)
    out["token_embd.weight"] = matrix(vocab, hidden, 0.12, T.Q6_K)  # as files of all these types have it
    for i in range(layers):
        b = f"blk.{i}."
        out[b + "attn_norm.weight"], out[b + "ffn_norm.weight"] = norm(), norm()
        for name, n, k, deviation in (
            ("attn_q", heads * d, hidden, 0.1),
            ("attn_k", kv * d, hidden, 0.1),
            ("attn_v", kv * d, hidden, 0.07),
            ("attn_output", hidden, heads * d, 0.05),
            ("ffn_gate", ffn, hidden, 0.07),
            ("ffn_up", ffn, hidden, 0.07),
            ("ffn_down", hidden, ffn, 0.07),
        ):
            out[f"{b}{name}.weight"] = matrix(n, k, deviation)
    out["output_norm.weight"] = norm()
    if not tied:
        out["output.weight"] = matrix(vocab, hidden, 0.07)
    return cfg, out


def rope_factors(cfg):
    s = cfg.get("rope_scaling")
    if not s:
        return None
    d = cfg["head_dim"]
    f = 1 / cfg["rope_theta"] ** (np.arange(0, d, 2) / d)
    wave = 2 * np.pi / f
    old, low, high = s["original_max_position_embeddings"], s["low_freq_factor"], s["high_freq_factor"]
    smooth = (old / wave - low) / (high - low)
    out = np.where(wave < old / high, 1.0, np.where(wave > old / low, s["factor"], 1 / ((1 - smooth) / s["factor"] + smooth)))
    return out.astype(np.float32)


def write(path, cfg, tensors, kind, folder):
    arch = cfg["model_type"]
    w = gguf.GGUFWriter(path, arch)
    get = lambda *keys: next(cfg[k] for k in keys if k in cfg)
    heads, hidden = get("num_attention_heads", "n_head"), get("hidden_size", "n_embd")
    w.add_name(path.stem)
    w.add_block_count(get("num_hidden_layers", "n_layer"))
    w.add_context_length(get("max_position_embeddings", "n_positions"))
    w.add_embedding_length(hidden)
    w.add_feed_forward_length(cfg.get("intermediate_size") or 4 * hidden)
    w.add_head_count(heads)
    if arch == "gpt2":
        w.add_layer_norm_eps(cfg["layer_norm_epsilon"])
    else:
        d = cfg.get("head_dim", hidden // heads)
        w.add_head_count_kv(cfg["num_key_value_heads"])
        w.add_layer_norm_rms_eps(cfg["rms_norm_eps"])
        w.add_rope_freq_base(cfg["rope_theta"])
        w.add_key_length(d)
        w.add_value_length(d)
        if arch == "llama":
            w.add_rope_dimension_count(d)
    tok = json.loads((folder / "tokenizer.json").read_text())
    vocab = {**tok["model"]["vocab"], **{t["content"]: t["id"] for t in tok["added_tokens"]}}
    special = {t["id"] for t in tok["added_tokens"] if t["special"]}
    added = {t["id"] for t in tok["added_tokens"]} - special
    tokens = [t for t, _ in sorted(vocab.items(), key=lambda x: x[1])]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([3 if i in special else 4 if i in added else 1 for i in range(len(tokens))])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tok["model"]["merges"]])
    w.add_bos_token_id(cfg["bos_token_id"])
    w.add_eos_token_id(cfg["eos_token_id"])
    w.add_add_bos_token(False)
    w.add_chat_template(json.loads((folder / "tokenizer_config.json").read_text())["chat_template"])
    kept, wrong = {}, {}
    for name, v in tensors.items():
        if isinstance(v, tuple):
            data, t = v
            w.add_tensor(name, data, raw_dtype=t)
            kept[name], wrong[name] = values(data, t), values(forget(data, t), t)
            continue
        t = kind if v.ndim == 2 and name != "position_embd.weight" and v.shape[1] % 32 == 0 else T.F32
        if kind in (T.F16, T.BF16) and v.ndim == 2:
            t = kind
        data = gguf.quants.quantize(v, t)
        w.add_tensor(name, data, raw_dtype=t)
        kept[name] = values(data, t).reshape(v.shape)
        wrong[name] = values(forget(data, t), t).reshape(v.shape)
    factors = rope_factors(cfg)
    if factors is not None:
        w.add_tensor("rope_freqs.weight", factors)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return kept, wrong, factors


def values(data, kind):
    return gguf.quants.dequantize(data, kind).astype(np.float64)


def forget(data, kind):
    """the blocks without the bits that WRONG names"""
    if kind not in WRONG:
        return data
    first, last, mask = WRONG[kind]
    blocks = data.reshape(-1, gguf.GGML_QUANT_SIZES[kind][1]).copy()
    blocks[:, first:last] &= mask
    return blocks.reshape(data.shape)


def float16(x):
    return x.astype(np.float16).astype(np.float64)


def bfloat16(x):
    """float64 values rounded to bfloat16, nearest even"""
    u = x.astype(np.float32).view(np.uint32)
    return ((u + 0x7FFF + (u >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


class Model:
    """Forward pass in float64 on the file's own tensors (adjacent pairs for llama); `page` is applied to keys and values, `take` to
    what a product takes."""

    def __init__(self, cfg, w, factors, page=lambda x: x, take=lambda x: x):
        self.page, self.take = page, take
        self.c, self.w, self.arch = cfg, w, cfg["model_type"]
        self.heads = cfg.get("num_attention_heads", cfg.get("n_head"))
        self.kv = cfg.get("num_key_value_heads", self.heads)
        self.d = cfg.get("head_dim", cfg.get("hidden_size", cfg.get("n_embd")) // self.heads)
        self.layers = cfg.get("num_hidden_layers", cfg.get("n_layer"))
        if self.arch != "gpt2":
            self.freq = 1 / cfg["rope_theta"] ** (np.arange(0, self.d, 2) / self.d)
            if factors is not None:
                self.freq = self.freq / factors

    def norm(self, x, key):
        if self.arch == "gpt2":
            m = x - x.mean(-1, keepdims=True)
            return (
                m / np.sqrt((m * m).mean(-1, keepdims=True) + self.c["layer_norm_epsilon"]) * self.w[key + ".weight"]
                + self.w[key + ".bias"]
            )
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.c["rms_norm_eps"]) * self.w[key + ".weight"]

    def lin(self, x, key):
        return self.take(x) @ self.w[key + ".weight"].T + self.w.get(key + ".bias", 0)

    def rope(self, x):
        a = np.arange(len(x))[:, None] * self.freq
        c, s = np.cos(a)[:, None], np.sin(a)[:, None]
        out = np.empty_like(x)
        one, two = (np.s_[..., 0::2], np.s_[..., 1::2]) if self.arch == "llama" else (np.s_[..., : self.d // 2], np.s_[..., self.d // 2 :])
        out[one], out[two] = x[one] * c - x[two] * s, x[two] * c + x[one] * s
        return out

    def logits(self, ids):
        n = len(ids)
        x = self.w["token_embd.weight"][ids]
        if self.arch == "gpt2":
            x = x + self.w["position_embd.weight"][:n]
        for i in range(self.layers):
            b = f"blk.{i}."
            a = self.norm(x, b + "attn_norm")
            if self.arch == "gpt2":
                q, k, v = np.split(self.lin(a, b + "attn_qkv"), 3, -1)
            else:
                q, k, v = (self.lin(a, b + "attn_" + p) for p in "qkv")
            q, k, v = q.reshape(n, self.heads, self.d), k.reshape(n, self.kv, self.d), v.reshape(n, self.kv, self.d)
            if b + "attn_q_norm.weight" in self.w:
                q, k = self.norm(q, b + "attn_q_norm"), self.norm(k, b + "attn_k_norm")
            if self.arch != "gpt2":
                q, k = self.rope(q), self.rope(k)
            k, v = self.page(k), self.page(v)
            o = np.empty_like(q)
            for h in range(self.heads):
                g = h // (self.heads // self.kv)
                s = np.where(np.tril(np.ones((n, n))) > 0, q[:, h] @ k[:, g].T / math.sqrt(self.d), -np.inf)
                p = np.exp(s - s.max(-1, keepdims=True))
                o[:, h] = p / p.sum(-1, keepdims=True) @ v[:, g]
            x = x + self.lin(o.reshape(n, -1), b + "attn_output")
            a = self.norm(x, b + "ffn_norm")
            u = self.lin(a, b + "ffn_up")
            if self.arch == "gpt2":
                u = 0.5 * u * (1 + np.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))
            else:
                g = self.lin(a, b + "ffn_gate")
                u = g / (1 + np.exp(-g)) * u
            x = x + self.lin(u, b + "ffn_down")
        return self.take(self.norm(x, "output_norm")) @ self.w.get("output.weight", self.w["token_embd.weight"]).T


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def of_prompt(lp, ids):
    return [round(float(lp[i, ids[i + 1]]), 6) for i in range(len(ids) - 1)]


OUT.mkdir(parents=True, exist_ok=True)
sources = {}
for name, (case, kind) in FILES.items():
    folder = CASES / case
    cfg = json.loads((folder / "config.json").read_text())
    sources[name] = kind, folder, cfg, names(cfg, load(folder))
for name, (kind, ffn, tied) in BLOCKS.items():
    sources[name] = kind, CASES / "llama3", *block_model(kind, ffn, tied)
for name, (kind, folder, cfg, tensors) in sources.items():
    kept, wrong, factors = write(OUT / f"{name}.gguf", cfg, tensors, kind, folder)
    model, made = Model(cfg, kept, factors), []
    source = json.loads((folder / "expected.json").read_text())["cases"]
    for c in source:
        ids = c["prompt"]
        lp = log_softmax(model.logits(np.array(ids)))
        seq, greedy, margin = list(ids), [], []
        for _ in range(24):
            row = model.logits(np.array(seq))[-1]
            k = np.argsort(-row)[:2]
            greedy.append(int(k[0]))
            margin.append(round(float(row[k[0]] - row[k[1]]), 5))
            seq.append(int(k[0]))
        top = np.argsort(-lp[-1])[:5]
        made.append(
            dict(
                prompt=ids,
                logprob=of_prompt(lp, ids),
                top=[[int(a), round(float(lp[-1, a]), 6)] for a in top],
                greedy=greedy,
                margin=margin,
            )
        )
    others = {}
    if kind in (T.F32, T.F16, T.BF16):
        others = {field: Model(cfg, kept, factors, float16, take) for field, take in (("paged", lambda x: x), ("rounded", bfloat16))}
    if kind in WRONG:
        others = dict(wrong=Model(cfg, wrong, factors))
    for field, other in others.items():
        for c in made:
            c[field] = of_prompt(log_softmax(other.logits(np.array(c["prompt"]))), c["prompt"])
    # Where the file holds the checkpoint's own values, the reference must give Transformers' numbers.
    far = max(abs(a - b) for x, y in zip(source, made) for a, b in zip(x["logprob"], y["logprob"])) if name in FILES else math.nan
    (OUT / f"{name}.json").write_text(json.dumps(dict(dtype=kind.name.lower(), reference="float64", gguf="0.19.0", cases=made)))
    print(f"{name}: {(OUT / f'{name}.gguf').stat().st_size} bytes, worst distance from the unquantised checkpoint {far:.6f}")
