#!/usr/bin/env python3
"""Converts llama2.c's stories260K into the Hugging Face layout: make_stories260k.py STORIES260K.BIN TOK512.BIN OUT_FOLDER

Needs nothing but Python. Sources: karpathy/tinyllamas on the Hugging Face hub (stories260K/, MIT); the formats are those of
llama2.c's export.py (version 0) and tokenizer.py. What is written is what Transformers' LlamaTokenizer conversion writes: BPE with
byte fallback, merges ordered by score; RoPE pairs (i, i + d/2) instead of llama2.c's (2i, 2i + 1).
"""

import array, json, pathlib, struct, sys

SPACE = "\u2581"  # SentencePiece's visible space


def read_model(path):
    data = path.read_bytes()
    dim, ffn, layers, heads, kv_heads, vocab, positions = struct.unpack_from("7i", data)
    assert vocab > 0, "an untied head is not expected"
    values = array.array("f")
    values.frombytes(data[28:])
    at = 0

    def take(*shape):
        nonlocal at
        count = 1
        for n in shape:
            count *= n
        part = values[at : at + count]
        assert len(part) == count, "the file ends early"
        at += count
        return part

    head = dim // heads
    t = {"model.embed_tokens.weight": ((vocab, dim), take(vocab, dim))}

    def each_layer(name, *shape):
        for i in range(layers):
            t[f"model.layers.{i}.{name}.weight"] = (shape, take(*shape))

    each_layer("input_layernorm", dim)
    each_layer("self_attn.q_proj", heads * head, dim)
    each_layer("self_attn.k_proj", kv_heads * head, dim)
    each_layer("self_attn.v_proj", kv_heads * head, dim)
    each_layer("self_attn.o_proj", dim, heads * head)
    each_layer("post_attention_layernorm", dim)
    each_layer("mlp.gate_proj", ffn, dim)
    each_layer("mlp.down_proj", dim, ffn)
    each_layer("mlp.up_proj", ffn, dim)
    t["model.norm.weight"] = ((dim,), take(dim))
    at += positions * head  # RoPE tables of older exports: cos and sin, head/2 each
    assert at == len(values), f"{len(values) - at} values are left over"
    for name, (shape, rows) in t.items():
        if "q_proj" in name or "k_proj" in name:
            t[name] = (shape, halves(rows, shape[0] // head, head, dim))
    config = dict(
        architectures=["LlamaForCausalLM"],
        model_type="llama",
        hidden_size=dim,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocab,
        max_position_embeddings=positions,
        hidden_act="silu",
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        attention_bias=False,
        mlp_bias=False,
        bos_token_id=1,
        eos_token_id=2,
        torch_dtype="float32",
    )
    return config, t


def halves(rows, heads, head, width):
    """Row 2i of each head goes to i, row 2i + 1 to i + head/2."""
    out = array.array("f")
    for h in range(heads):
        for parity in (0, 1):
            for i in range(head // 2):
                start = (h * head + 2 * i + parity) * width
                out.extend(rows[start : start + width])
    return out


def write_safetensors(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        shape, values = tensors[name]
        header[name] = dict(dtype="F32", shape=list(shape), data_offsets=[offset, offset + 4 * len(values)])
        offset += 4 * len(values)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(tensors):
            f.write(tensors[name][1].tobytes())


def read_pieces(path):
    data, at, pieces = path.read_bytes(), 4, []
    while at < len(data):
        score, length = struct.unpack_from("fI", data, at)
        pieces.append((data[at + 8 : at + 8 + length].decode(), score))
        at += 8 + length
    return pieces


def tokenizer(pieces):
    """The BPE model of the pieces: ids as they stand, merges by the score of what they make, best first."""
    names = ["<unk>", "<s>", "</s>"] + [text for text, _ in pieces[3:259]]
    names += [text.replace(" ", SPACE) for text, _ in pieces[259:]]
    vocab = {name: i for i, name in enumerate(names)}
    assert len(vocab) == len(pieces), "two pieces are spelled alike"
    merges = []
    for name in names[259:]:
        found = [(name[:i], name[i:]) for i in range(1, len(name)) if name[:i] in vocab and name[i:] in vocab]
        found.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        merges += [(pieces[vocab[name]][1], pair) for pair in found]
    merges.sort(key=lambda item: item[0], reverse=True)  # stable: equal scores keep the order of ids
    special = [
        dict(id=i, content=names[i], single_word=False, lstrip=False, rstrip=False, normalized=False, special=True) for i in range(3)
    ]
    template = lambda *parts: [
        ({"SpecialToken": {"id": "<s>", "type_id": n}} if p == "<s>" else {"Sequence": {"id": p, "type_id": n}}) for p, n in parts
    ]
    return dict(
        version="1.0",
        truncation=None,
        padding=None,
        added_tokens=special,
        normalizer={
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": SPACE}, {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}],
        },
        pre_tokenizer=None,
        post_processor={
            "type": "TemplateProcessing",
            "single": template(("<s>", 0), ("A", 0)),
            "pair": template(("<s>", 0), ("A", 0), ("<s>", 1), ("B", 1)),
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        decoder={
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        model={
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [f"{a} {b}" for _, (a, b) in merges],
        },
    )


def main():
    model, pieces, folder = (pathlib.Path(a) for a in sys.argv[1:4])
    folder.mkdir(parents=True, exist_ok=True)
    config, tensors = read_model(model)
    dump = lambda name, value: (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    dump("config.json", config)
    write_safetensors(folder / "model.safetensors", tensors)
    dump("tokenizer.json", tokenizer(read_pieces(pieces)))
    dump(
        "tokenizer_config.json",
        dict(
            tokenizer_class="LlamaTokenizer",
            add_bos_token=True,
            add_eos_token=False,
            legacy=True,
            bos_token="<s>",
            eos_token="</s>",
            unk_token="<unk>",
            clean_up_tokenization_spaces=False,
            model_max_length=config["max_position_embeddings"],
        ),
    )
    print(f"{folder}: {len(tensors)} tensors, {sum(len(v) for _, v in tensors.values())} values, {config['vocab_size']} pieces")


main()
