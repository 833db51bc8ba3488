#!/usr/bin/env python3
"""thread_safety.py ROOT BUILD: clang's thread-safety analysis over every file that takes a lock, and no lock that it cannot see.

What a mutex guards is said where it is declared (configs/mutex.h), so a line that touches it without the lock is an error. BUILD: a
build folder, for the headers that protoc made. Prints each breach as FILE:LINE and exits 1.
"""

import collections
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from include_table import is_test, tracked  # noqa: E402

WRAPPER = "configs/mutex.h"
UNSEEN = re.compile(r"\b(std::(\w*mutex|lock_guard|\w+_lock|condition_variable\w*)|absl::(Mutex(Lock)?|CondVar))\b")
# Its library's header does not go with Abseil's; it takes no lock.
ALONE = ("master/text/sentencepiece_shim.cc",)
TAKES = re.compile(r"\bMutex(Lock)?\b")


def unseen_locks(root, names):
    for name in names:
        if name == WRAPPER or is_test(name) or pathlib.PurePath(name).suffix not in {".h", ".cc"}:
            continue
        for number, line in enumerate((root / name).read_text(errors="replace").splitlines(), 1):
            if m := UNSEEN.search(line.split("//")[0]):
                yield f"{name}:{number}: {m[0]} is a lock that the analysis cannot see; take those of {WRAPPER}"


def rooms(root, names):
    """{folder: its sources and the headers that have locks}, of folders that have any: a source that names no lock may still touch what
    one guards. As in a unity build, the files of a folder can be one translation unit."""
    found, locked = collections.defaultdict(list), set()
    for name in names:
        folder, suffix = str(pathlib.PurePath(name).parent), pathlib.PurePath(name).suffix
        if suffix not in {".h", ".cc"} or is_test(name) or name in (WRAPPER, *ALONE):
            continue
        takes = TAKES.search((root / name).read_text(errors="replace"))
        if takes:
            locked.add(folder)
        if takes or suffix == ".cc":
            found[folder].append(name)
    return {folder: files for folder, files in found.items() if folder in locked}


def analyse(root, build, files):
    with tempfile.NamedTemporaryFile("w", suffix=".cc") as unit:
        unit.write("".join(f'#include "{root / f}"\n' for f in files))
        unit.flush()
        flags = ["-std=c++20", "-fsyntax-only", "-Wno-everything", "-Wthread-safety", "-Werror", f"-I{root}", f"-I{build}"]
        run = subprocess.run(["clang++-16", *flags, unit.name], capture_output=True, text=True)
    return run.stderr.replace(f"{root}/", "") if run.returncode else ""


def main():
    root, build = (pathlib.Path(a).resolve() for a in sys.argv[1:3])
    names = tracked(root)
    found = list(unseen_locks(root, names))
    units = rooms(root, names)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found += filter(None, pool.map(lambda files: analyse(root, build, files), units.values()))
    print(*found, sep="\n", end="\n" if found else "")
    print(f"thread safety: {sum(map(len, units.values()))} files in {len(units)} rooms, {len(found)} with breaches")
    sys.exit(bool(found) or not units)


if __name__ == "__main__":
    main()
