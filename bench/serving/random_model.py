#!/usr/bin/env python3
"""random_model.py TYPE OUT: a GGUF of Llama 3.2 1B's shape with random weights in the mixture TYPE (q4_k_m or q6_k), for run.py --model.

Speed depends on shapes and types alone. Tokenizer and template are SmolLM2's (tools/get_model.sh); llama.cpp's own quantiser makes the
blocks. Rows repeat after 256, so that it takes seconds.
"""

import ctypes
import math
import pathlib
import random
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "integration_tests"))
import test_gguf_files as gguf  # noqa: E402
import test_requantised as quant  # noqa: E402
from harness import SMOLLM2  # noqa: E402

WIDTH, LAYERS, INNER, HEADS, KV_HEADS, HEAD = 2048, 16, 8192, 32, 8, 64
SOME = 256  # rows that differ

kind, out = sys.argv[1:]
choose = getattr(quant, kind)
quant.LAYERS = LAYERS
file = gguf.read(SMOLLM2)
shape = dict(embedding_length=WIDTH, block_count=LAYERS, feed_forward_length=INNER)
shape |= {"attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "rope.dimension_count": HEAD}
for name, value in shape.items():
    file.keys[f"llama.{name}"] = gguf.number(gguf.U32, "I", value)
vocab = next(sizes[1] for name, sizes, *_ in file.tensors if name == "token_embd.weight")
rng = random.Random(1)


def product(name, width, rows, type_):
    row = quant.ggml().ggml_row_size(type_, width)
    some = min(rows, SOME)
    values = (ctypes.c_float * (some * width))(*(rng.uniform(-1, 1) / math.sqrt(width) for _ in range(some * width)))
    raw = ctypes.create_string_buffer(some * row)
    assert quant.ggml().ggml_quantize_chunk(type_, values, raw, 0, some, width, None) == some * row
    return name, [width, rows], type_, (raw.raw * math.ceil(rows / some))[: rows * row]


def norm(name):
    return name, [WIDTH], quant.F32, struct.pack("<f", 1) * WIDTH


file.tensors = [product("token_embd.weight", WIDTH, vocab, quant.Q6_K), norm("output_norm.weight")]
for layer in range(LAYERS):
    sizes = dict(attn_q=(WIDTH, HEADS * HEAD), attn_k=(WIDTH, KV_HEADS * HEAD), attn_v=(WIDTH, KV_HEADS * HEAD))
    sizes |= dict(attn_output=(HEADS * HEAD, WIDTH), ffn_gate=(WIDTH, INNER), ffn_up=(WIDTH, INNER), ffn_down=(INNER, WIDTH))
    for part, (width, rows) in sizes.items():
        name = f"blk.{layer}.{part}.weight"
        file.tensors.append(product(name, width, rows, choose(name, width)))
    file.tensors += [norm(f"blk.{layer}.attn_norm.weight"), norm(f"blk.{layer}.ffn_norm.weight")]
    print(f"layer {layer + 1} of {LAYERS}", file=sys.stderr)
pathlib.Path(out).write_bytes(file.bytes())
