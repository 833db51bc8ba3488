#!/usr/bin/env python3
"""Tiny random PanGu-alpha checkpoints, named as the published Hugging Face port names them, and their numbers in float64.

Written with numpy 2.4, safetensors 0.8, tokenizers 0.23: make_pangu_golden.py OUT_DIR

Arithmetic: word and position embeddings; pre-norm layers with residuals; the final norm; the query layer, whose query is the raw row of
a third table at the token's own position; tied head without norm or bias. `after_query` (the order of the 200B model) puts the final
norm behind the query layer. Masks and a second copy of the head are stored as the published files store them; they mean nothing.
expected.json has the fields of make_golden.py.
"""

import json, math, pathlib, sys
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, decoders, trainers

OUT = pathlib.Path(sys.argv[1])
VOCAB, POSITIONS = 1000, 192
CASES = {  # activation_function, place of the final norm, heads, size of a head, layers
    "pangu-erf": ("gelu", "before_query", 3, 20, 4),
    "pangu-tanh-after": ("gelu_new", "after_query", 4, 16, 3),
    "pangu-quick": ("quick_gelu", "before_query", 5, 12, 3),
}
erf = np.vectorize(math.erf)
GELU = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
}


def weights(rng, d, layers):
    t = {}
    rand = lambda *shape, std=0.12: (rng.standard_normal(shape) * std).astype(np.float16)
    t["wte.weight"], t["wpe.weight"], t["wqe.weight"] = rand(VOCAB, d), rand(POSITIONS, d), rand(POSITIONS, d, std=0.5)

    def linear(key, n, k):
        t[key + ".weight"], t[key + ".bias"] = rand(n, k), rand(n)

    def norm(key):
        t[key + ".weight"], t[key + ".bias"] = (1 + rand(d).astype(np.float32)).astype(np.float16), rand(d)

    for i in range(layers):
        norm(f"h.{i}.ln_1")
        norm(f"h.{i}.ln_2")
        for p in ("q_proj", "k_proj", "v_proj", "c_proj"):
            linear(f"h.{i}.attn.{p}", d, d)
        linear(f"h.{i}.mlp.c_fc", 4 * d, d)
        linear(f"h.{i}.mlp.c_proj", d, 4 * d)
    norm("ln_f")
    return t


class Model:
    def __init__(self, tensors, activation, place, heads, head_dim, layers):
        self.w = {k: v.astype(np.float64) for k, v in tensors.items()}
        self.gelu, self.place, self.heads, self.head_dim, self.layers = GELU[activation], place, heads, head_dim, layers

    def lin(self, x, key):
        return x @ self.w[key + ".weight"].T + self.w[key + ".bias"]

    def ln(self, x, key):
        m = x - x.mean(-1, keepdims=True)
        return m / np.sqrt((m * m).mean(-1, keepdims=True) + 1e-5) * self.w[key + ".weight"] + self.w[key + ".bias"]

    def layer(self, x, i, query=None):
        n, h = len(x), f"h.{i}."
        split = lambda y: y.reshape(n, self.heads, self.head_dim).transpose(1, 0, 2)
        a = self.ln(x, h + "ln_1")
        q = split(self.lin(a if query is None else query, h + "attn.q_proj"))
        k, v = split(self.lin(a, h + "attn.k_proj")), split(self.lin(a, h + "attn.v_proj"))
        s = np.where(np.tril(np.ones((n, n))) > 0, q @ k.transpose(0, 2, 1) / math.sqrt(self.head_dim), -np.inf)
        p = np.exp(s - s.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        x = x + self.lin((p @ v).transpose(1, 0, 2).reshape(n, -1), h + "attn.c_proj")
        return x + self.lin(self.gelu(self.lin(self.ln(x, h + "ln_2"), h + "mlp.c_fc")), h + "mlp.c_proj")

    def logits(self, ids):
        x = self.w["wte.weight"][ids] + self.w["wpe.weight"][: len(ids)]
        for i in range(self.layers - 1):
            x = self.layer(x, i)
        if self.place == "before_query":
            x = self.ln(x, "ln_f")
        x = self.layer(x, self.layers - 1, query=self.w["wqe.weight"][: len(ids)])
        if self.place == "after_query":
            x = self.ln(x, "ln_f")
        return x @ self.w["wte.weight"].T


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def cases(model, rng):
    out = []
    for length in (1, 9, 40, 130):
        ids = rng.integers(10, VOCAB, length)
        lp = log_softmax(model.logits(ids))
        top = np.argsort(-lp[-1])[:5]
        seq, greedy, margin = list(ids), [], []
        for _ in range(24):
            row = model.logits(np.array(seq))[-1]
            k = np.argsort(-row)[:2]
            greedy.append(int(k[0]))
            margin.append(round(float(row[k[0]] - row[k[1]]), 5))
            seq.append(int(k[0]))
        out.append(
            dict(
                prompt=[int(i) for i in ids],
                logprob=[round(float(lp[i, ids[i + 1]]), 6) for i in range(length - 1)],
                top=[[int(a), round(float(lp[-1, a]), 6)] for a in top],
                greedy=greedy,
                margin=margin,
            )
        )
    return out


def tokenizer(folder):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    text = [
        f"{a} {b} {c} {(i * 37) % 1000}"
        for i, (a, b, c) in enumerate(
            (x, y, z)
            for x in "the a one some this that each no".split()
            for y in "river stone light house winter bread".split()
            for z in "runs falls grows sings breaks waits".split()
        )
    ]
    tok.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=VOCAB,
            special_tokens=["<unk>", "<s>", "</s>", "<a>", "<b>", "<sep>", "<pad>", "<mask>", "<eod>", "<eot>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tok.add_tokens([f"<x{i}>" for i in range(VOCAB - tok.get_vocab_size())])
    tok.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(dict(tokenizer_class="PreTrainedTokenizerFast", pad_token="<pad>", eos_token="<eot>"))
    )


for number, (name, shape) in enumerate(CASES.items()):
    activation, place, heads, head_dim, layers = shape
    rng = np.random.default_rng(2718 + number)
    tensors = weights(rng, heads * head_dim, layers)
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    made = cases(Model(tensors, *shape), rng)
    stored = {"transformer." + k: v for k, v in tensors.items()}
    if name == "pangu-erf":
        stored["lm_head.weight"] = tensors["wte.weight"].copy()
        for i in range(layers):
            stored[f"transformer.h.{i}.attn.bias"] = np.tril(np.ones((1, 1, POSITIONS, POSITIONS), dtype=np.uint8))
            stored[f"transformer.h.{i}.attn.masked_bias"] = np.array(-1e4, dtype=np.float32)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(
        json.dumps(
            dict(
                architectures=["GPTPanguForCausalLM"],
                model_type="gpt_pangu",
                vocab_size=VOCAB,
                hidden_size=heads * head_dim,
                num_layers=layers,
                num_heads=heads,
                intermediate_size=None,
                activation_function=activation,
                final_norm_position=place,
                layer_norm_epsilon=1e-5,
                max_position_embeddings=POSITIONS,
                scale_attn_weights=True,
                bos_token_id=6,
                eos_token_id=9,
                pad_token_id=6,
                torch_dtype="float16",
                tie_word_embeddings=True,
            ),
            indent=1,
        )
    )
    tokenizer(folder)
    (folder / "expected.json").write_text(json.dumps(dict(dtype="float16", reference="float64", numpy=np.__version__, cases=made)))
    print(
        name,
        sum(v.size for v in tensors.values()),
        "parameters, least margin",
        min(min(c["margin"]) for c in made),
        "distinct greedy",
        len(set(made[-1]["greedy"])),
    )
