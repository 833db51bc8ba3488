#!/usr/bin/env python3
"""make_shape.py SHAPE FOLDER: a checkpoint of a model's shape without its weights, for `pangea bench model FOLDER --made-weights`.

SHAPE: llama-3-8b, llama-3.2-1b, or tiny. config.json and one model.safetensors in bfloat16: a header and, behind it, nothing (a file
with a hole), but for the norms, which are ones.
"""

import argparse
import json
import pathlib
import struct

SHAPES = {
    "llama-3-8b": {"hidden": 4096, "ffn": 14336, "layers": 32, "heads": 32, "kv_heads": 8, "vocab": 128256, "context": 8192, "tied": False},
    "llama-3.2-1b": {
        "hidden": 2048,
        "ffn": 8192,
        "layers": 16,
        "heads": 32,
        "kv_heads": 8,
        "vocab": 128256,
        "context": 131072,
        "tied": True,
    },
    "tiny": {"hidden": 64, "ffn": 160, "layers": 2, "heads": 4, "kv_heads": 2, "vocab": 512, "context": 512, "tied": True},
}


def tensors(shape):
    """Name and shape of each, as Transformers names them."""
    d, f = shape["hidden"], shape["ffn"]
    kv = d // shape["heads"] * shape["kv_heads"]
    yield "model.embed_tokens.weight", [shape["vocab"], d]
    for i in range(shape["layers"]):
        at = f"model.layers.{i}."
        yield at + "input_layernorm.weight", [d]
        yield at + "self_attn.q_proj.weight", [d, d]
        yield at + "self_attn.k_proj.weight", [kv, d]
        yield at + "self_attn.v_proj.weight", [kv, d]
        yield at + "self_attn.o_proj.weight", [d, d]
        yield at + "post_attention_layernorm.weight", [d]
        yield at + "mlp.gate_proj.weight", [f, d]
        yield at + "mlp.up_proj.weight", [f, d]
        yield at + "mlp.down_proj.weight", [d, f]
    yield "model.norm.weight", [d]
    if not shape["tied"]:
        yield "lm_head.weight", [shape["vocab"], d]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    options.folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape["hidden"],
        "intermediate_size": shape["ffn"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["kv_heads"],
        "vocab_size": shape["vocab"],
        "max_position_embeddings": shape["context"],
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": shape["tied"],
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (options.folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    header, end, norms = {}, 0, []
    for name, dimensions in tensors(shape):
        size = 2
        for n in dimensions:
            size *= n
        header[name] = {"dtype": "BF16", "shape": dimensions, "data_offsets": [end, end + size]}
        if len(dimensions) == 1:
            norms.append((end, dimensions[0]))
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(options.folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        begin = file.tell()
        for offset, n in norms:
            file.seek(begin + offset)
            file.write(b"\x80\x3f" * n)
        file.truncate(begin + end)


if __name__ == "__main__":
    main()
