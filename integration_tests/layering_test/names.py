#!/usr/bin/env python3
"""names.py ROOT: no two files define a type of the same name in the same namespace, and what is for tests is named so.

All rooms are linked into one executable, so such a pair breaks the one-definition rule, and no compiler or linker says so: one room's
destructor runs on the other's object. Types inside an unnamed namespace, and nested ones, are free. Nor may a double stand in for a class
by defining its members once more.

A double is fake_X.{h,cc}, what helps tests X_test_util.{h,cc} (docs/contributing.md).
"""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from include_table import SOURCES, is_test, tracked  # noqa: E402
from sizes import blank  # noqa: E402

SCOPE = re.compile(r"\b(?:inline\s+)?namespace\b\s*([\w:]*)\s*$")
TYPE = re.compile(
    r"(?:^|[;}>])\s*(?:class|struct|union|enum(?:\s+(?:class|struct))?)\s+(?:\[\[\w+\]\]\s*)*([A-Za-z_]\w*)\s*(?:final\b\s*)?(?::[^:;].*)?$",
    re.S,
)


def types(text):
    """(namespace, name, line) of every type defined at namespace level, outside unnamed namespaces"""
    code = re.sub(r"(?m)^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m[0]), blank(text))
    scopes, head, line = [], "", 1
    for c in code:
        if c == "{":
            if m := SCOPE.search(head):
                scopes.append(m[1] or None)
            else:
                found = TYPE.search(re.sub(r"template\s*<[^{};]*>", "", head))
                if found and all(isinstance(s, str) and s != "" for s in scopes):
                    yield "::".join(scopes), found[1], line
                scopes.append("")  # a type's or a function's own braces
            head = ""
        elif c == "}":
            if scopes:
                scopes.pop()
            head = ""
        elif c == ";":
            head = ""
        else:
            head += c
        if c == "\n":
            line += 1


def breaches(root, names):
    seen = {}
    for name in names:
        if pathlib.PurePath(name).suffix in SOURCES:
            for namespace, type_, line in types((root / name).read_text(errors="replace")):
                seen.setdefault((namespace, type_), []).append((name, line))
    for (namespace, type_), places in sorted(seen.items()):
        files = sorted({f for f, _ in places})
        if len(files) > 1 and not all(map(is_test, files)):
            yield f"{namespace}::{type_} is defined in " + " and ".join(f"{f}:{next(line for g, line in places if g == f)}" for f in files)


# Other words for a double, or for what helps tests.
OTHER_WORDS = re.compile(r"(^|_)(fakes|mock|mocks|stub|stubs|dummy|double|fixture|fixtures|testing|testutil|test_helpers?)(_|$)|^test_")
# Of the formatter's lines only definitions begin at the margin.
MEMBER = re.compile(r"^(?:\w[\w:<>,&*\[\] ]*[ &*])?(\w+)::(~?\w+)\(", re.M)


def test_breaches(root, names):
    """what is for tests and has another name, and members that a test's file defines once more"""
    members = {}
    for name in names:
        if pathlib.PurePath(name).suffix not in SOURCES or name.startswith("integration_tests/"):
            continue
        text = (root / name).read_text(errors="replace")
        if OTHER_WORDS.search(pathlib.PurePath(name).stem):
            yield f"{name}: a double is fake_X, and what helps tests X_test_util"
        elif not is_test(name) and re.search(r'#include\s*["<]gtest/', text):
            yield f"{name}: includes GoogleTest, and is named neither X_test nor X_test_util"
        for m in MEMBER.finditer(blank(text)):
            members.setdefault((m[1], m[2]), set()).add(name)
    for (type_, member), files in sorted(members.items()):
        doubles, real = sorted(filter(is_test, files)), sorted(f for f in files if not is_test(f))
        if doubles and real:
            yield f"{type_}::{member} is defined in {real[0]} and once more in {doubles[0]}: a double is a class of its own"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    names = tracked(root)
    found = [*breaches(root, names), *test_breaches(root, names)]
    print(*found, sep="\n", end="\n" if found else "")
    count = sum(1 for n in names if pathlib.PurePath(n).suffix in SOURCES)
    print(f"names: {count} files, {len(found)} breaches")
    sys.exit(bool(found) or not count)


if __name__ == "__main__":
    main()
