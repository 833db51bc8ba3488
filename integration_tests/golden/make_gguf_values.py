#!/usr/bin/env python3
"""make_gguf_values.py OUT.json FILE.gguf…: SHA-256 of every tensor's values in float32, as the PyPI package gguf dequantises them.

Written with gguf 0.19. pipeline/checkpoint/gguf_values_test.cc reads the same files and must find the same values, every one.
"""

import hashlib, json, pathlib, sys
import gguf

out = {}
for path in map(pathlib.Path, sys.argv[2:]):
    out[path.name] = values = {}
    for t in gguf.GGUFReader(path).tensors:
        digest = hashlib.sha256()
        rows = t.data.reshape(-1, t.data.shape[-1])
        for first in range(0, len(rows), 4096):
            digest.update(gguf.quants.dequantize(rows[first : first + 4096], t.tensor_type).astype("<f4").tobytes())
        values[t.name] = f"{t.tensor_type.name} {digest.hexdigest()}"
pathlib.Path(sys.argv[1]).write_text(json.dumps(out, indent=0) + "\n")
