"""GGUF files as they are found in the wild: in parts, of version 2, under any name, with vocabularies that name too few ends."""

import dataclasses
import struct

import pytest
from harness import CONFIG_ERROR, run, serve
from test_golden import GGUF, agrees, answers

WHOLE = GGUF / "llama3-q8_0.gguf"
U32, I32, F32, STRING, ARRAY, U16 = 4, 5, 6, 8, 9, 2
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def text(s):
    raw = s.encode()
    return struct.pack("<Q", len(raw)) + raw


def number(kind, form, value):
    return struct.pack("<I" + form, kind, value)


def array(kind, items):
    return struct.pack("<IIQ", ARRAY, kind, len(items)) + b"".join(items)


@dataclasses.dataclass
class File:
    keys: dict  # name -> type and value as bytes
    tensors: list  # (name, sizes, type, bytes)

    def bytes(self, version=3):
        head = struct.pack("<4sIQQ", b"GGUF", version, len(self.tensors), len(self.keys))
        head += b"".join(text(k) + v for k, v in self.keys.items())
        data = bytearray()
        for name, sizes, kind, raw in self.tensors:
            head += text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, len(data))
            data += raw + bytes(-len(raw) % 32)
        return head + bytes(-len(head) % 32) + bytes(data)


def read(path):
    raw, at = path.read_bytes(), 24
    tensors, keys = struct.unpack_from("<QQ", raw, 8)

    def string():
        nonlocal at
        size = struct.unpack_from("<Q", raw, at)[0]
        at += 8 + size
        return raw[at - size : at].decode()

    def value(kind):
        nonlocal at
        if kind == STRING:
            string()
        elif kind == ARRAY:
            inner, count = struct.unpack_from("<IQ", raw, at)
            at += 12
            for _ in range(count):
                value(inner)
        else:
            at += WIDTHS[kind]

    file = File({}, [])
    for _ in range(keys):
        name = string()
        begin = at
        at += 4
        value(struct.unpack_from("<I", raw, begin)[0])
        file.keys[name] = raw[begin:at]
    found = []
    for _ in range(tensors):
        name = string()
        dims = struct.unpack_from("<I", raw, at)[0]
        *sizes, kind, offset = struct.unpack_from(f"<{dims}QIQ", raw, at + 4)
        at += 4 + 8 * dims + 12
        found.append((name, sizes, kind, offset))
    data = at + -at % 32
    ends = sorted(f[3] for f in found) + [len(raw) - data]
    for name, sizes, kind, offset in found:
        file.tensors.append((name, sizes, kind, raw[data + offset : data + ends[ends.index(offset) + 1]]))
    return file


def split(folder, file, names):
    """names: of the tensors of each part after the first, which has the keys and the other tensors -> the parts' paths"""
    parts = [File(dict(file.keys), [t for t in file.tensors if not any(t[0] in more for more in names)])]
    parts += [File({}, [t for t in file.tensors if t[0] in more]) for more in names]
    paths = [folder / f"tiny-{i + 1:05}-of-{len(parts):05}.gguf" for i in range(len(parts))]
    for i, (part, path) in enumerate(zip(parts, paths, strict=True)):
        part.keys["split.no"] = number(U16, "H", i)
        part.keys["split.count"] = number(U16, "H", len(parts))
        part.keys["split.tensors.count"] = number(I32, "i", len(file.tensors))
        path.write_bytes(part.bytes())
    return paths


@pytest.mark.parametrize("shape", ["1x1", "2x2"])
@pytest.mark.parametrize("given", [0, 2])
def test_a_split_file_gives_the_numbers_of_the_whole(tmp_path, given, shape):
    # Without its last part the model would have a tied head, and other numbers.
    file = read(WHOLE)
    layer = [t[0] for t in file.tensors if t[0].startswith("blk.1.")]
    path = split(tmp_path, file, [layer, ["output.weight"]])[given]
    path.with_suffix(".json").write_bytes(WHOLE.with_suffix(".json").read_bytes())
    agrees(path, shape)
    assert answers(str(path), "--pipeline", "1", "--tensor", "1") == answers(str(WHOLE), "--pipeline", "1", "--tensor", "1")


def test_a_part_that_is_missing_is_named(tmp_path):
    paths = split(tmp_path, read(WHOLE), [["output.weight"], ["output_norm.weight"]])
    paths[1].unlink()
    for target in (paths[0], paths[2]):
        done = run("check", target)
        assert done.returncode == CONFIG_ERROR
        assert f"{paths[1].name}: no such file: it is part 2 of 3" in done.stderr


def test_every_fault_at_once_of_tensors_keys_and_text(tmp_path):
    file = read(WHOLE)
    at = next(i for i, t in enumerate(file.tensors) if t[0] == "blk.0.attn_q.weight")
    file.tensors[at] = (*file.tensors[at][:2], 10, file.tensors[at][3])
    file.keys["llama.expert_count"] = number(U32, "I", 8)
    file.keys["tokenizer.ggml.pre"] = struct.pack("<I", STRING) + text("klingon")
    path = tmp_path / "odd.gguf"
    path.write_bytes(file.bytes())
    done = run("check", path)
    assert done.returncode == CONFIG_ERROR
    lines = done.stderr.strip().split("\n")
    assert [line.removeprefix(f"{path}: ")[:28] for line in lines] == [
        "tensors of type Q2_K (10): n",
        "llama.expert_count: mixtures",
        'tokenizer.ggml.pre: is "klin',
    ]


@pytest.mark.parametrize("version", [2, 3])
def test_a_file_is_known_by_its_content(tmp_path, version):
    path = tmp_path / "sha256-3f2a0b"
    path.write_bytes(read(WHOLE).bytes(version))
    with serve(path) as s:
        assert s.model() == path.name
    config = tmp_path / "d.yaml"
    config.write_text(f"model: {path}\n")
    assert run("check", config).returncode == 0


def chat_file(path, end, kind):
    """The model with a vocabulary by scores in which `end` is the last token, and </s> the only end by key."""
    file = read(WHOLE)
    rows = next(t for t in file.tensors if t[0] == "token_embd.weight")[1][1]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tokens = (tokens + [f"word{i}" for i in range(rows)])[: rows - 2] + ["", end]
    types = [2, 3, 3] + [6] * 256 + [1] * rows
    keys = {k: v for k, v in file.keys.items() if not k.startswith("tokenizer.ggml.")}
    keys["tokenizer.ggml.model"] = struct.pack("<I", STRING) + text("llama")
    keys["tokenizer.ggml.tokens"] = array(STRING, [text(t) for t in tokens])
    keys["tokenizer.ggml.scores"] = array(F32, [struct.pack("<f", -i) for i in range(rows)])
    keys["tokenizer.ggml.token_type"] = array(I32, [struct.pack("<i", t) for t in types[: rows - 1] + [kind]])
    for name in ("padding", "seperator"):
        keys[f"tokenizer.ggml.{name}_token_id"] = number(U32, "I", 0xFFFFFFFF)
    keys["tokenizer.chat_template"] = struct.pack("<I", STRING) + text("{% for m in messages %}{{ m.content }}" + end + "{% endfor %}")
    path.write_bytes(File(keys, file.tensors).bytes())
    return rows - 1


@pytest.mark.parametrize("end,kind", [("<|im_end|>", 4), ("<|eom_id|>", 3), ("<end_of_turn>", 1)])
def test_a_generation_ends_at_a_token_that_is_spelled_as_an_end(tmp_path, end, kind):
    last = chat_file(tmp_path / "chat.gguf", end, kind)
    with serve(tmp_path / "chat.gguf") as s:
        assert "padding_token_id" in s.log and "seperator_token_id" in s.log
        (choice,), usage = s.complete(prompt="a", max_tokens=5, temperature=0, logit_bias={str(last): 100})
        assert (choice["finish"], usage["completion_tokens"], choice["text"]) == ("stop", 1, "")
        status, got = s.post("/tokenize", {"model": s.model(), "messages": [{"role": "user", "content": f"x{end}"}]})
        assert status == 200 and got["tokens"].count(last) == 1, "the template's, not the message's"
