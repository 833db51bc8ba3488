"""The default model requantised to the mixtures that people have, Q4_K_M and Q6_K, by llama.cpp's own quantiser.

The weights are those of the Q4_1 file, dequantised; what each tensor becomes is llama.cpp's choice for this model (llama-quant.cpp:
rows of 576 are no multiple of 256 and fall back, so one layer mixes Q4_K, Q5_0, Q6_K and Q8_0). What is served is compared with a copy
of the file in F32, of the values that llama.cpp takes from its blocks.
"""

import ctypes
import functools
import importlib.util
import math

import pytest
from harness import SMOLLM2, layout, serve
from test_gguf_files import File, read
from test_smollm2 import MEAN, WORST

F32, Q4_1, Q5_0, Q8_0, Q4_K, Q6_K = 0, 3, 6, 8, 12, 14
DEQUANTISE = {
    kind: f"dequantize_row_{name}" for kind, name in ((Q4_1, "q4_1"), (Q5_0, "q5_0"), (Q8_0, "q8_0"), (Q4_K, "q4_K"), (Q6_K, "q6_K"))
}
LAYERS = 30


@functools.cache
def ggml():
    """llama.cpp's library, which this package carries whole"""
    library = ctypes.CDLL(importlib.util.find_spec("xllamacpp").submodule_search_locations[0] + "/xllamacpp.abi3.so")
    library.ggml_quantize_chunk.restype = library.ggml_row_size.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    library.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    for name in DEQUANTISE.values():
        getattr(library, name).argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64]
    return library


def q6_k(name, width):
    return Q6_K if width % 256 == 0 else Q8_0


def q4_k_m(name, width):
    layer = int(name.split(".")[1])
    more = layer < LAYERS // 8 or layer >= 7 * LAYERS // 8 or (layer - LAYERS // 8) % 3 == 2
    if more and name.endswith(("attn_v.weight", "ffn_down.weight")):
        return q6_k(name, width)
    return Q4_K if width % 256 == 0 else Q5_0


def values(kind, raw, count):
    out = (ctypes.c_float * count)()
    getattr(ggml(), DEQUANTISE[kind])(raw, out, count)
    return out


def requantise(folder, choose):
    """writes the model with the types that choose(name, width of a row) says, and its copy in F32 -> types of its tensors"""
    file = read(SMOLLM2)
    copy = File(file.keys, [])
    for i, (name, (width, *rest), kind, raw) in enumerate(file.tensors):
        rows = math.prod(rest)
        if kind == Q4_1:
            target = choose(name, width)
            out = ctypes.create_string_buffer(rows * ggml().ggml_row_size(target, width))
            source = values(kind, raw, rows * width)
            assert ggml().ggml_quantize_chunk(target, source, out, 0, rows, width, None) == len(out)
            kind, raw = target, out.raw
        file.tensors[i] = (name, [width, *rest], kind, raw)
        copy.tensors.append((name, [width, *rest], F32, raw if kind == F32 else bytes(values(kind, raw, rows * width))))
    (folder / "smollm2.gguf").write_bytes(file.bytes())
    (folder / "f32.gguf").write_bytes(copy.bytes())
    return {t[2] for t in file.tensors if len(t[1]) > 1}


def answers(path, cases, shape):
    """-> per case: log-probabilities of the prompt, chat"""
    got = []
    with serve(path, *layout(shape)) as s:
        for c in cases:
            (echoed,), _ = s.complete(prompt=c["prompt_ids"], echo=True, logprobs=1, max_tokens=1, temperature=0)
            prompt = echoed["logprobs"]["token_logprobs"][1 : len(c["prompt_ids"])]
            got.append((prompt, s.chat(messages=[dict(role="user", content=c["question"])], max_tokens=len(c["greedy"]), temperature=0)))
    return got


@pytest.fixture(scope="module", params=["q4_k_m", "q6_k"])
def model(request, smollm2, smollm2_cases, tmp_path_factory):
    """-> the file, and the answers of its copy"""
    folder = tmp_path_factory.mktemp(request.param)
    types = requantise(folder, globals()[request.param])
    assert types == {"q4_k_m": {Q4_K, Q5_0, Q6_K, Q8_0}, "q6_k": {Q6_K, Q8_0}}[request.param]
    exact = answers(folder / "f32.gguf", smollm2_cases, "1x1")
    (folder / "f32.gguf").unlink()
    return folder / "smollm2.gguf", exact


def distance(got, exact):
    off = [abs(x - y) for (one, _), (other, _) in zip(got, exact, strict=True) for x, y in zip(one, other, strict=True)]
    return max(off), sum(off) / len(off)


def test_answers_the_chats(model, smollm2_cases):
    path, exact = model
    got = answers(path, smollm2_cases, "1x1")
    far, average = distance(got, exact)
    assert far <= WORST and average <= MEAN, (far, average)
    # A model this small, quantised to four bits twice, says other things than it did; but what its weights say.
    texts = [chat[0][1] for _, chat in got]
    assert texts == [chat[0][1] for _, chat in exact]
    assert all(len(text) > 10 for text in texts) and "5. 5" in texts[3], texts
    assert answers(path, smollm2_cases, "2x2") == got, "another layout, other bytes"


def test_weights_read_wrong_in_one_part_would_be_seen(model, smollm2_cases, tmp_path):
    path, exact = model
    file = read(path)
    for i, (tensor, sizes, kind, raw) in enumerate(file.tensors):
        if kind == Q6_K:  # one of two upper bits of two weights a byte
            blocks = bytearray(raw)
            for at in range(128, 192):
                blocks[at::210] = bytes(b ^ 0x11 for b in blocks[at::210])
            file.tensors[i] = (tensor, sizes, kind, bytes(blocks))
    spoiled = tmp_path / "spoiled.gguf"
    spoiled.write_bytes(file.bytes())
    far, average = distance(answers(spoiled, smollm2_cases, "1x1"), exact)
    assert far > 3 * WORST and average > 3 * MEAN
