"""Weights of F8_E4M3 as they are published, with scales beside them, and pages of fp8.

A product with such weights is that of value times scale, rounded to float32 once. So a model whose leaves (docs/exactness.md, section 2)
do not depend on the type must give the very numbers of its copy in F32, on every layout and device; the numbers of the format are written
down here once more, from OCP's definition.
"""

import array
import json
import math
import random
import shutil
import struct

import pytest
from harness import layout, run, serve, settings
from test_folders import write
from test_golden import CASES

VALUES = [
    math.copysign(m / 512 if e == 0 else (8 + m) * 2.0 ** (e - 10), 1 - 2 * s) for s in (0, 1) for e in range(16) for m in range(8)
]  # but for the last of each half, which is NaN
NUMBERS = bytes(i for i in range(256) if i & 127 != 127)
HIDDEN, HEADS, KV_HEADS, HEAD, FFN, VOCAB = 200, 16, 8, 64, 2048, 512
MATRICES = {
    "self_attn.q_proj": (HEADS * HEAD, HIDDEN),
    "self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
    "self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
    "mlp.gate_proj": (FFN, HIDDEN),
    "mlp.up_proj": (FFN, HIDDEN),
    "mlp.down_proj": (HIDDEN, FFN),
}
CONFIG = dict(
    model_type="llama", num_hidden_layers=2, hidden_size=HIDDEN, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD,
    intermediate_size=FFN, vocab_size=VOCAB, max_position_embeddings=512, torch_dtype="bfloat16",
)  # fmt: skip
# Who writes it: what config.json says, the scales' ending and type, and how many of them a matrix [n][k] has.
WRITERS = {
    "deepseek": (dict(quant_method="fp8", fmt="e4m3", weight_block_size=[128, 128]), "_scale_inv", "F32", lambda n, k: [-(-n // 128), -(-k // 128)]),
    "llm-compressor": (
        dict(
            quant_method="compressed-tensors", format="float-quantized", ignore=[],
            config_groups=dict(group_0=dict(targets=["Linear"], weights=dict(num_bits=8, type="float", strategy="channel"))),
        ), "_scale", "BF16", lambda n, k: [n, 1],
    ),
    "autofp8": (dict(quant_method="fp8", activation_scheme="static"), "_scale", "F32", lambda n, k: []),
}  # fmt: skip
PROMPT = list(range(3, 63))


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def bf16(x):
    return struct.unpack("<f", b"\0\0" + struct.pack("<f", x)[2:])[0]


def to_bf16(values):
    words = array.array("I", values)
    return array.array("H", [(w + 0x7FFF + (w >> 16 & 1)) >> 16 for w in words]).tobytes()


def models(folder, writer, seed=1):
    """writes folder/f8, its copy folder/f32, and folder/bf16, whose weights are those rounded"""
    quantization, ending, kind, shape_of = WRITERS[writer]
    r = random.Random(seed)
    noise = lambda *shape: ("F32", list(shape), array.array("f", [r.gauss(0, 0.1) for _ in range(math.prod(shape))]).tobytes())  # noqa: E731
    ones = ("F32", [HIDDEN], array.array("f", [1.0] * HIDDEN).tobytes())
    plain = {"model.embed_tokens.weight": noise(VOCAB, HIDDEN), "model.norm.weight": ones}
    matrices = {}
    for layer in range(CONFIG["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        plain |= {at + f"{norm}.weight": ones for norm in ("input_layernorm", "post_attention_layernorm")}
        matrices |= {at + name: shape for name, shape in MATRICES.items()}
    if quantization.get("ignore") == []:
        matrices["lm_head"] = (VOCAB, HIDDEN)
    else:
        plain["lm_head.weight"] = noise(VOCAB, HIDDEN)
        left_out = "model.layers.1.mlp.up_proj"
        plain[left_out + ".weight"] = noise(*matrices.pop(left_out))
    small, wide = {}, {}
    for name, (n, k) in matrices.items():
        shape = shape_of(n, k)
        scales = [f32(bf16(r.uniform(0.5, 2) / 50 / math.sqrt(k))) for _ in range(math.prod(shape))]
        numbers = bytes(r.choices(NUMBERS, k=n * k))
        if "weight_block_size" in quantization:
            scale_of = lambda j, i, s=scales, w=shape[1]: s[j // 128 * w + i // 128]  # noqa: E731
        else:
            scale_of = lambda j, i, s=scales: s[j if len(s) > 1 else 0]  # noqa: E731
        small[name + ".weight"] = ("F8_E4M3", [n, k], numbers)
        packed = [struct.pack("<f", s)[2 if kind == "BF16" else 0 :] for s in scales]
        small[name + ".weight" + ending] = (kind, shape, b"".join(packed))
        values = array.array("f")
        for j in range(n):
            for i in range(0, k, 128):
                scale = scale_of(j, i)
                values.extend(VALUES[q] * scale for q in numbers[j * k + i : j * k + min(k, i + 128)])
        wide[name + ".weight"] = ("F32", [n, k], values.tobytes())
    rounded = {name: ("BF16", shape, to_bf16(values)) for name, (_, shape, values) in wide.items()}
    for name, tensors, config in (("f8", small, dict(quantization_config=quantization)), ("f32", wide, {}), ("bf16", rounded, {})):
        shutil.copytree(CASES / "llama2", folder / name)  # for its tokenizer
        (folder / name / "config.json").write_text(json.dumps(CONFIG | config))
        write(folder / name, plain | tensors)
    return folder / "f8", folder / "f32", folder / "bf16"


def numbers(path, *args):
    """log-probabilities of a prompt and of what is drawn after it, greedily and not"""
    with serve(path, *args) as s:
        return [
            s.complete(prompt=PROMPT, max_tokens=12, logprobs=4, echo=True, ignore_eos=True, **how)[0]
            for how in (dict(temperature=0), dict(seed=7, top_p=0.9))
        ]


def distance(got, want):
    """of the prompt's log-probabilities, in the mean"""
    of = lambda answers: answers[0][0]["logprobs"]["token_logprobs"][1 : len(PROMPT)]  # noqa: E731
    return sum(abs(x - y) for x, y in zip(of(got), of(want), strict=True)) / (len(PROMPT) - 1)


def negate(path, tensor, count=None):
    """the scales of a tensor, or the first ones of it"""
    raw = bytearray(path.read_bytes())
    (n,) = struct.unpack("<Q", raw[:8])
    scale = json.loads(raw[8 : 8 + n])[tensor]
    width = 2 if scale["dtype"] == "BF16" else 4
    begin, end = scale["data_offsets"]
    for at in list(range(8 + n + begin, 8 + n + end, width))[:count]:
        raw[at + width - 1] ^= 0x80
    path.write_bytes(raw)


@pytest.mark.parametrize("writer", WRITERS)
def test_weights_of_f8_give_the_numbers_of_their_float32_copy(writer, tmp_path):
    small, wide, rounded = models(tmp_path, writer)
    assert "f8_e4m3" in run("check", small).stdout
    want = numbers(wide)
    for shape in ("1x1", "1x2", "2x3"):
        assert numbers(small, *layout(shape)) == want, shape
    assert numbers(small, *layout("1x2"), *settings(agents__device="cuda_on_cpu")) == want
    # In any order of sums, activations rounded to bf16 (and weights, for the library): other numbers, as far off as those of
    # the copy whose weights are bf16.
    fast = [*layout("1x2"), *settings(agents__device="cuda_on_cpu", kernels__exact="false")]
    usual = distance(numbers(rounded, *fast), want)
    assert 0 < distance(numbers(small, *fast), want) < 2 * usual
    benched = run("bench", "model", small, "--batch", 1, "--steps", 2, "--prompt", 8)
    assert benched.returncode == 0, benched.stderr
    # One wrong scale is seen; and those of one matrix of 14 by the tolerance, too.
    scales = "model.layers.1.self_attn.v_proj.weight" + WRITERS[writer][1]
    negate(small / "model.safetensors", scales, 1)
    assert numbers(small) != want
    negate(small / "model.safetensors", scales, 1)
    negate(small / "model.safetensors", scales)
    assert distance(numbers(small, *fast), want) > 2 * usual


def test_pages_of_fp8_give_the_same_bytes_on_every_layout_and_device(tmp_path):
    wide = models(tmp_path, "autofp8")[1]
    fp8 = settings(cache__type="fp8")
    want = numbers(wide, *fp8)
    assert numbers(wide, *layout("2x2"), *fp8, *settings(schedule__max_batch_tokens=7, schedule__max_sequences=2)) == want
    assert numbers(wide, *layout("1x2"), *fp8, *settings(agents__device="cuda_on_cpu")) == want
    assert numbers(wide) != want, "pages of f16 are other ones"
