"""One model in the folders in which it may be found: saved as a base model, as a part of a larger one, with tensors of trainers
and quantisers beside it. All must give the numbers of the plain folder; what is wrong is told whole, with the folder named once a line.
"""

import json
import shutil
import struct

import pytest
from harness import run
from test_golden import CASES, answers


def read(folder):
    """-> {name: (dtype, shape, bytes)}"""
    raw = (folder / "model.safetensors").read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + n])
    header.pop("__metadata__", None)
    cut = lambda v: raw[8 + n + v["data_offsets"][0] : 8 + n + v["data_offsets"][1]]  # noqa: E731
    return {name: (v["dtype"], v["shape"], cut(v)) for name, v in header.items()}


def write(folder, tensors):
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # keeps the weights aligned
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def copy(arch, folder, rename=lambda name: name, extra=None, config=lambda c: c):
    shutil.copytree(CASES / arch, folder)
    write(folder, {rename(k): v for k, v in read(folder).items()} | (extra or {}))
    path = folder / "config.json"
    path.write_text(json.dumps(config(json.loads(path.read_text()))))
    return folder


def same_numbers(arch, folder):
    assert answers(str(folder)) == answers(str(CASES / arch))
    return run("check", folder).stderr


@pytest.mark.parametrize("arch", ["llama2", "qwen2-tied", "gpt2", "pangu-erf"])
def test_a_base_model_has_no_prefix(arch, tmp_path):
    bare = lambda name: name.removeprefix("model.").removeprefix("transformer.")  # noqa: E731
    assert same_numbers(arch, copy(arch, tmp_path / "m", bare)) == ""


@pytest.mark.parametrize("prefix, head", [("language_model.model.", "language_model."), ("model.language_model.", "")])
@pytest.mark.parametrize("arch, whole", [("llama2", "llava"), ("mistral-window", "mistral3"), ("qwen3", "internvl")])
def test_the_language_model_of_a_larger_one(arch, whole, prefix, head, tmp_path):
    def rename(name):
        return prefix + name.removeprefix("model.") if name.startswith("model.") else head + name

    vision = {f"vision_tower.blocks.{i}.weight": ("F32", [2], b"\0" * 8) for i in range(5)}
    folder = copy(arch, tmp_path / "m", rename, vision, lambda c: {"model_type": whole, "text_config": c, "vision_config": {}})
    warnings = same_numbers(arch, folder)
    assert f"config.json: model_type: of {whole} only the language model" in warnings
    assert f"5 tensors are left out: parts of {whole} beside its language model" in warnings


def test_known_surplus_is_a_warning_and_unknown_surplus_a_fault(tmp_path):
    surplus = {
        "v_head.summary.weight": ("F32", [1, 2], b"\0" * 8),
        "model.layers.0.self_attn.k_scale": ("F64", [1], b"\0" * 8),
        "model.layers.0.self_attn.q_proj.lora_A.weight": ("F8_E4M3", [2], b"\0" * 2),
        "model.rotary_emb.inv_freq": ("F32", [2], b"\0" * 8),
    }
    warnings = same_numbers("llama2", copy("llama2", tmp_path / "m", extra=surplus))
    assert len(warnings.splitlines()) == 3
    for name in list(surplus)[:3]:
        assert name in warnings
    unknown = copy("llama2", tmp_path / "u", extra={"model.layers.0.mystery": ("F32", [1], b"\0" * 4)})
    refused = run("check", unknown)
    assert refused.returncode == 78
    assert refused.stderr == "tensor model.layers.0.mystery: is surplus: the model (llama) has no such tensor\n"


def test_a_generation_config_of_another_vocabulary(tmp_path):
    folder = copy("gpt2", tmp_path / "m", config=lambda c: c | {"bos_token_id": 50256, "eos_token_id": 50256})
    (folder / "generation_config.json").write_text('{"eos_token_id": 50256, "bos_token_id": 50256}')
    warnings = same_numbers("gpt2", folder)
    assert "config.json: eos_token_id: 50256 is left out: the vocabulary has 512 ids, from 0" in warnings
    assert "generation_config.json: eos_token_id: 50256 is left out" in warnings


def test_all_faults_at_once_the_architecture_first(tmp_path):
    folder = copy("llama2", tmp_path / "m", config=lambda c: c | {"model_type": "mamba"})
    (folder / "model.safetensors").write_bytes(b"rubbish")
    (folder / "tokenizer.json").write_text("[")
    refused = run("check", folder)
    assert refused.returncode == 78
    lines = refused.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(folder)] * 3
    assert [line.count(str(folder)) for line in lines] == [1] * 3
    assert lines[0].startswith(f'{folder}: config.json: model_type: "mamba" is not known')
    assert "model.safetensors: has 7 bytes" in lines[1]
    assert lines[2] == f"{folder}: tokenizer.json: not a JSON object"
