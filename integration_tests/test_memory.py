"""Each agent holds its slice and nothing more: resident bytes against what the layout says, on a random checkpoint of 1 GB."""

import json
import pathlib
import random
import shutil
import struct

import pytest
from harness import STORIES, layout, serve, settings

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 1536, 8192, 12, 12, 4, 128, 512
KV = KV_HEADS * HEAD_DIM
LAYER_BYTES = 2 * (HIDDEN * HIDDEN * 2 + 2 * HIDDEN * KV + 3 * HIDDEN * FFN)  # q, o; k, v; gate, up, down; bf16


def tensor_list():
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (HIDDEN,)
        yield p + "post_attention_layernorm.weight", (HIDDEN,)
        yield p + "self_attn.q_proj.weight", (HIDDEN, HIDDEN)
        yield p + "self_attn.k_proj.weight", (KV, HIDDEN)
        yield p + "self_attn.v_proj.weight", (KV, HIDDEN)
        yield p + "self_attn.o_proj.weight", (HIDDEN, HIDDEN)
        yield p + "mlp.gate_proj.weight", (FFN, HIDDEN)
        yield p + "mlp.up_proj.weight", (FFN, HIDDEN)
        yield p + "mlp.down_proj.weight", (HIDDEN, FFN)
    yield "model.norm.weight", (HIDDEN,)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("big")
    config = dict(
        architectures=["LlamaForCausalLM"],
        model_type="llama",
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        vocab_size=VOCAB,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        hidden_act="silu",
        torch_dtype="bfloat16",
        bos_token_id=1,
        eos_token_id=2,
    )
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (STORIES / name).exists():
            shutil.copy(STORIES / name, folder)
    header, at, sizes = {}, 0, []
    for name, shape in tensor_list():
        size = 2
        for n in shape:
            size *= n
        header[name] = dict(dtype="BF16", shape=shape, data_offsets=[at, at + size])
        at, sizes = at + size, sizes + [size]
    # bf16 values of magnitude 2^-6 to 2^-5, either sign: one random megabyte, repeated
    rng = random.Random(1)
    block = b"".join(struct.pack("<H", 0x3C80 | rng.getrandbits(7) | (rng.getrandbits(1) << 15)) for _ in range(1 << 19))
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with open(folder / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(raw)) + raw)
        for size in sizes:
            while size > 0:
                f.write(block[:size])
                size -= min(size, len(block))
    assert at > 900 << 20
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def resident(pid):
    """RSS without what several processes share as code: proportional share of every mapping, but own and file pages in full"""
    fields = {
        line.split(":")[0]: int(line.split()[1]) << 10 for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    }
    return fields["Rss"]


ARGS = settings(cache__memory="16MiB", schedule__max_batch_tokens=16)


def residents(target, shape):
    with serve(target, *layout(shape), *ARGS, timeout=300) as s:
        s.complete(prompt=[1, 5, 9], max_tokens=2, temperature=0, ignore_eos=True)
        return [resident(p) for p in s.agents()]


@pytest.mark.long
@pytest.mark.parametrize("shape", ["1x1", "2x1", "1x2", "2x2"])
def test_an_agent_holds_its_slice(checkpoint, shape):
    stages, ranks = map(int, shape.split("x"))
    base = residents(STORIES, shape)  # the same processes with a model of 1 MB: code, libraries, stacks, pages
    got = sorted(b - a for a, b in zip(base, residents(checkpoint, shape)))
    # Everything divides evenly here but the embedding (first and last stage, at most 1.5 MB) and the norms.
    share = LAYER_BYTES * LAYERS / stages / ranks
    for bytes_ in got:
        assert 0.95 * share <= bytes_ <= 1.05 * share + 2 * 2 * VOCAB * HIDDEN, (
            f"{bytes_ / 2**20:.1f} MB for a slice of {share / 2**20:.1f} MB"
        )
